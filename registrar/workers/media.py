"""What the admin site of several workers says about media nodes: all follow the same snapshots and count their own."""

from collections import Counter
from typing import Any

from registrar.media_api import MEDIA
from registrar.workers.contacts import read_answer
from registrar.workers.nodes import ask_all
from registrar.workers.supervisor import Supervisor
from rollcall.ops.api import Call, Reply, Routes


class AllMedia:
    """Answers as `registrar.media_api` does, with the calls of all workers."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(MEDIA, self.listed)

    async def listed(self, call: Call) -> Reply:
        """Answer what the first worker says, with the calls of all."""
        answers = [read_answer(answer) for answer in (await ask_all(self._supervisor, MEDIA)).values()]
        calls: Counter[str] = Counter()
        for answer in answers:
            calls.update({node["id"]: node["calls"] for node in answer["nodes"]})
        first: dict[str, Any] = answers[0]
        return Reply({**first, "nodes": [{**node, "calls": calls[node["id"]]} for node in first["nodes"]]})
