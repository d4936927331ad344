"""What all workers know alike, answered by the first that answers: how sites are, and what DNS tells of them."""

from registrar.workers.contacts import read_answer
from registrar.workers.nodes import ask_all
from registrar.workers.supervisor import Supervisor
from rollcall.ops.api import Call, Reply, Routes


class Alike:
    """Answers at a path as any worker does."""

    def __init__(self, supervisor: Supervisor, path: str) -> None:
        self._supervisor = supervisor
        self._path = path

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(self._path, self.answer)

    async def answer(self, call: Call) -> Reply:
        """Answer what the first worker says; a refusal is passed on, and 503 is answered when no worker answers."""
        answers = await ask_all(self._supervisor, self._path, dict(call.query))
        return Reply(read_answer(answers[min(answers)]))
