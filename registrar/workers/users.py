"""What the admin site of several workers does with users: one worker does it, and the others hear of it."""

from urllib.parse import quote

from registrar.subscribers_api import FORGET, ONE, PASSWORD, REMOVE, USERS
from registrar.workers.hub import NoAnswer
from registrar.workers.supervisor import Supervisor
from rollcall.ops.api import ApiError, Call, Reply, Routes

NOTHING = b"{}"


class AllUsers:
    """Answers as `registrar.subscribers_api` does."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.post(USERS, self.add)
        routes.get(ONE, self.show)
        routes.delete(ONE, self.remove)
        routes.post(ONE + REMOVE, self.remove)
        routes.add("PUT", ONE + PASSWORD, self.set_password)
        routes.post(ONE + PASSWORD, self.set_password)
        routes.post(ONE + FORGET, self.forget)

    async def add(self, call: Call) -> Reply:
        """Add a user."""
        return await self._ask(USERS, _json(call))

    async def show(self, call: Call) -> Reply:
        """Say whether there is such a user."""
        return await self._ask(_path(call), None)

    async def set_password(self, call: Call) -> Reply:
        """Give a user another password."""
        return await self._ask(_path(call) + PASSWORD, _json(call))

    async def remove(self, call: Call) -> Reply:
        """Remove a user."""
        return await self._ask(_path(call) + REMOVE, NOTHING)

    async def forget(self, call: Call) -> Reply:
        """Have all look up a user again."""
        return await self._ask(_path(call) + FORGET, NOTHING)

    async def _ask(self, path: str, content: bytes | None) -> Reply:
        """Return what the first worker answers that can be asked; whoever was asked to change something has the say."""
        for index in self._supervisor.workers:
            try:
                asked = self._supervisor.hub.ask(index, path, None, content)
            except NoAnswer:
                continue
            try:
                answer = await asked
            except NoAnswer as problem:
                raise ApiError(503, f"whether that was done is not known: {problem}") from problem
            return Reply(answer.content, answer.status, answer.content_type)
        raise ApiError(503, "no worker answers")


def _path(call: Call) -> str:
    return f"{USERS}/{quote(call.parts['name'], safe='')}"


def _json(call: Call) -> bytes:
    """Return the body, which a worker takes apart. Raises ApiError (400, 415)."""
    call.body(object)
    return call.content
