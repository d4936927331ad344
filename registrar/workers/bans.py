"""What the admin site of several workers says about bans: each worker counts what itself receives."""

import msgspec

from registrar.bans_api import BANS, LIFT, LiftWish, named
from registrar.workers.contacts import read_answer
from registrar.workers.nodes import ask_all
from registrar.workers.supervisor import Supervisor
from rollcall.ops.api import Call, Reply, Routes


class AllBans:
    """Answers as `registrar.bans_api` does, for all workers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(BANS, self.listed)
        routes.delete(BANS, self.lift_named)
        routes.post(LIFT, self.lift)

    async def listed(self, call: Call) -> Reply:
        """Answer the bans of all workers, each with its `worker`."""
        answers = await ask_all(self._supervisor, BANS)
        bans = [{**ban, "worker": index} for index, answer in answers.items() for ban in read_answer(answer)["bans"]]
        return Reply({"bans": sorted(bans, key=lambda ban: ban["seconds_left"])})

    async def lift(self, call: Call) -> Reply:
        """Lift bans at all workers; `lifted` is the sum."""
        call.body(LiftWish)
        return await self._lifted(call.content)

    async def lift_named(self, call: Call) -> Reply:
        """Do the same for `?who=`."""
        return await self._lifted(msgspec.json.encode(LiftWish(named(call))))

    async def _lifted(self, content: bytes) -> Reply:
        answers = await ask_all(self._supervisor, LIFT, content=content)
        return Reply({"lifted": sum(read_answer(answer)["lifted"] for answer in answers.values())})
