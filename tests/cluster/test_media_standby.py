"""Two balancers as operators run them: one is stopped for longer than its lease, the other takes over and stays."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any

import pytest
from twisted.trial.unittest import SynchronousTestCase

from balancer.standby import StandbyConfig
from tests.interop.process import wait_until
from tools.laboratory.balancer_node import BalancerNode
from tools.laboratory.redis_servers import RedisServers

LEASE_SECONDS = StandbyConfig().lease_seconds
TAKEN_OVER_SECONDS = 2.0
TOKEN = "t0p"


class StandbyTests(SynchronousTestCase):
    """They have no media nodes; what they publish is of nobody."""

    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""

    def setUp(self) -> None:
        folder = Path(self.enterContext(TemporaryDirectory()))
        redis = self.enterContext(RedisServers(folder / "redis"))
        sections = {"publication": {"enabled": True}, "redis": redis.settings}
        self.balancers = [BalancerNode(folder / name, name, sections, TOKEN) for name in ("b1", "b2")]
        for balancer in self.balancers:
            balancer.start()
            self.addCleanup(balancer.kill)
            self.wait_for(self.balancers[0], "master")

    def wait_for(self, balancer: BalancerNode, role: str) -> dict[str, Any]:
        """Return what a balancer says of itself once it has this role."""

        def look() -> dict[str, Any] | None:
            state: dict[str, Any] = balancer.get("/v1/state")
            return state if state["role"] == role else None

        return wait_until(look, f"{role} {balancer.name}")

    def test_stopped_and_woken(self) -> None:
        """Whoever was stopped finds another master when he wakes up, and stands by; the number only goes up."""
        old, new = self.balancers
        before = self.wait_for(old, "master")
        self.assertEqual(self.wait_for(new, "standby")["master"], "b1")
        old.pause()
        paused_at = monotonic()
        after = self.wait_for(new, "master")
        took = monotonic() - paused_at
        self.assertGreater(after["fence"], before["fence"])
        sleep(LEASE_SECONDS)
        old.resume()
        self.assertNotEqual(self.wait_for(old, "standby")["master"], "b1")
        sleep(LEASE_SECONDS)
        first, second = old.get("/v1/state"), new.get("/v1/state")
        self.assertEqual((first["role"], first["master"]), ("standby", "b2"))
        self.assertEqual((second["role"], second["fence"]), ("master", after["fence"]))
        self.assertTrue(second["version"].startswith(f"{after['fence']}-"), second)
        self.assertEqual(new.metric("rollcall_balancer_master"), 1.0)
        self.record("figure", f"a balancer was master {took:.2f} s after the other one was stopped")
        self.assertLess(took, TAKEN_OVER_SECONDS)

    @pytest.mark.long
    def test_said_to_the_standby(self) -> None:
        """What an operator says of a tenant to a balancer that stands by, the master knows a moment later, too."""
        master, standby = self.balancers
        standby.put("/v1/tenants/example.com", {"group": "gold"})
        self.assertEqual(standby.get("/v1/tenants")["tenants"], {"example.com": "gold"})
        wait_until(lambda: master.get("/v1/tenants")["tenants"].get("example.com"), "tenant at the master", 3)

    @pytest.mark.long
    def test_ends_in_order(self) -> None:
        """Both end in order, and leave no trouble in their logs."""
        for balancer in self.balancers:
            balancer.stop()
            self.assertNotIn("Traceback", balancer.log())
            self.assertNotRegex(balancer.log(), r"Z (warn|error|critical) ")
