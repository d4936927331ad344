"""Media nodes join, drain, die and leave by word to one of two balancers; nobody is restarted for it."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.case import TROUBLE
from tests.interop.process import wait_until
from tools.laboratory.balancer_node import BalancerNode
from tools.laboratory.redis_servers import RedisServers
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

LEASE_SECONDS = 2.0
NODES = {"poll_seconds": 0.2, "again_seconds": 0.1, "drained_seconds": 1.0, "return_seconds": 0.5,
         "lease_seconds": LEASE_SECONDS, "forget_seconds": 2.0, "options_hosts": ["127.0.0.1"]}


class JoiningTests(SynchronousTestCase):
    """Two balancers that have one node in their configuration, and one that they have never heard of."""

    servers: ClassVar[RedisServers]
    balancers: ClassVar[list[BalancerNode]]
    media: ClassVar[list[RtpengineProcess]]
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""

    @classmethod
    def setUpClass(cls) -> None:
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        folder = Path(temporary.name)
        cls.servers = RedisServers(folder / "redis")
        cls.servers.start()
        cls.addClassCleanup(cls.servers.stop)
        cls.media = [RtpengineProcess(folder / name, name, host, number)
                     for number, (name, host) in enumerate(zip(("known", "new"), own_hosts(2), strict=True), 1)]
        sections: dict[str, Any] = {
            "node": [cls.media[0].as_node(capacity=10)], "nodes": NODES, "redis": cls.servers.settings,
            "publication": {"enabled": True, "publish_seconds": 0.1}}
        cls.balancers = [BalancerNode(folder / name, name, sections, "t0ken") for name in ("b1", "b2")]
        for each in cls.media:
            each.start()
            cls.addClassCleanup(each.kill)
        for balancer in cls.balancers:
            balancer.start()
            cls.addClassCleanup(balancer.stop)

    @classmethod
    def tearDownClass(cls) -> None:
        """Judge the logs: nothing may have gone wrong in silence."""
        for balancer in cls.balancers:
            trouble = [line for line in balancer.log().splitlines() if any(word in line for word in TROUBLE)]
            assert not trouble, balancer.log()[-5000:]

    def setUp(self) -> None:
        self.announced = self.media[1].as_node(capacity=10, region="DE")

    def announce(self, place: int = 0) -> Any:
        return self.balancers[place].post("/v1/nodes", self.announced)

    def states(self, name: str = "new") -> list[str]:
        """Return what each balancer says of a node, "gone" when it knows none."""
        found = []
        for balancer in self.balancers:
            rows = {row["id"]: row["state"] for row in balancer.get("/v1/nodes")["nodes"]}
            found.append(rows.get(name, "gone"))
        return found

    def wait_for(self, state: str, renewing: bool = True) -> float:
        """Return how long it took until both balancers said this of the new node, which renews its lease meanwhile."""
        begun_at = time.monotonic()

        def look() -> float | None:
            if renewing:
                self.announce()
            return time.monotonic() - begun_at if self.states() == [state] * 2 else None

        return wait_until(look, f"new node that is {state}", 15)

    def chosen(self, number: int = 8) -> set[str]:
        """Return where the balancers send calls."""
        names = set()
        for place in range(number):
            balancer = self.balancers[place % 2]
            answer = balancer.post("/v1/select", {"call_id": f"{time.monotonic_ns()}"})
            names.add(answer["node"])
            balancer.read(f"/v1/placements/{answer['placement']}", method="DELETE")
        return names

    def wait_until_chosen(self, *names: str) -> None:
        wait_until(lambda: (self.announce() and self.chosen() == set(names)) or None, f"calls at {names}")

    @pytest.mark.long
    def test_the_life_of_a_node(self) -> None:
        """It joins by word to one balancer and gets calls from both; drained at the other it gets none, and is empty.

        Without its lease it gets none either; killed it is down, and forgotten when its time is over. What was said of
        its draining outlives restarts of the balancers.
        """
        self.assertEqual(self.announce(), {"id": "new", "lease_seconds": LEASE_SECONDS})
        joined = self.wait_for("up")
        self.wait_until_chosen("known", "new")
        self.balancers[1].post("/v1/nodes/new/drain")
        drained = self.wait_for("draining: empty")
        self.wait_until_chosen("known")
        for balancer in self.balancers:
            balancer.restart()
        self.wait_for("draining: empty")
        self.balancers[0].post("/v1/nodes/new/undrain")
        self.wait_for("up")
        self.wait_until_chosen("known", "new")
        time.sleep(LEASE_SECONDS)
        self.wait_for("draining: empty", renewing=False)
        self.wait_for("up")
        self.media[1].kill()
        died = self.wait_for("down")
        self.wait_until_chosen("known")
        self.wait_for("gone", renewing=False)
        self.record("figure", f"a media node that joins is up at both balancers after {joined:.2f} s, one that drains "
                              f"empty after {drained:.2f} s (1 s of it silence), a killed one down after {died:.2f} s")

    def test_the_master_dies(self) -> None:
        """What was said to a balancer that is killed right afterwards is known to the other."""
        self.balancers[0].post("/v1/nodes/known/drain")
        time.sleep(1.0)
        self.balancers[0].kill()
        try:
            rows = self.balancers[1].get("/v1/nodes")["nodes"]
            self.assertIn("draining", next(row["state"] for row in rows if row["id"] == "known"))
        finally:
            self.balancers[1].post("/v1/nodes/known/undrain")
            self.balancers[0].start()
        wait_until(lambda: self.states("known") == ["up", "up"] or None, "a node that is up")
