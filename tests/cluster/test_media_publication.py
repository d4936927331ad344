"""Two balancers and those who follow, over real Redis: whoever is killed or stopped, there is one master and no mix."""

import json
import os
import signal
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep, time
from typing import Any, ClassVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from balancer.standby import StandbyConfig
from rollcall.cluster.slots import slot_of
from rollcall.media.following import SNAPSHOTS
from tests.interop.process import Process, wait_until
from tools.laboratory.redis_servers import Kind, RedisServers

LEASE_SECONDS = StandbyConfig().lease_seconds
TAKEN_OVER_SECONDS = 2.0
"""Within so long of a master's death his standby has published."""
FOLLOWED_SECONDS = 0.7
"""What is published is applied by everybody within so long, on a machine that has other things to do, too."""
FAILOVER_SECONDS = 12.0


class Told:
    """A process, and what it has said."""

    def __init__(self, folder: Path, role: str, name: str, settings: dict[str, Any]) -> None:
        given = {"timeout_seconds": 0.5, "breaker_seconds": 0.3, **settings}
        arguments = [sys.executable, "-m", "tests.cluster.media_process", role, name, json.dumps(given)]
        self.process = Process(arguments, folder / f"{name}.log", folder=Path(__file__).parents[2])
        self.name = name

    def lines(self) -> list[dict[str, Any]]:
        """Return all that it has said, but for its log."""
        return [json.loads(line) for line in self.process.text().splitlines() if line.startswith('{"at"')]

    def signal(self, how: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.process.pid, how)

    @property
    def is_master(self) -> bool:
        """Whether it has said so last."""
        said = [line["is_master"] for line in self.lines() if "is_master" in line]
        return bool(said and said[-1])

    def told_by(self, name: str) -> list[int]:
        """Return the numbers of what it has heard from a balancer."""
        told = [line["told"].split() for line in self.lines() if "told" in line]
        return [int(number) for who, number in told if who == name]

    def snapshots(self) -> list[dict[str, Any]]:
        """Return what it has followed."""
        return [line for line in self.lines() if "version" in line]


class PublicationCase(SynchronousTestCase):
    """Servers of its own for each test; two balancers, of which the first is the master, and two who follow."""

    kind: ClassVar[Kind] = "single"
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.servers = self.enterContext(RedisServers(self.folder / "redis", self.kind))
        self.first = self.started("balancer", "b1")
        self.until(lambda: self.first.is_master, "first master")
        self.second = self.started("balancer", "b2")
        self.follower, self.other = self.started("follower", "f1"), self.started("follower", "f2")
        self.until(lambda: len(self.follower.snapshots()) > 3 and len(self.other.snapshots()) > 3, "snapshots")

    def started(self, role: str, name: str) -> Told:
        """Return a process that ends with the test."""
        told = Told(self.folder, role, name, self.servers.settings)
        self.addCleanup(told.process.end, signal.SIGKILL)
        told.process.wait_for_text('"started"')
        return told

    def until(self, look: Callable[[], object], what: str, seconds: float = 10.0) -> None:
        """Return once `look` finds something; it is looked often."""
        wait_until(lambda: look() or None, what, seconds)

    def first_from(self, name: str, since: float, seconds: float = FAILOVER_SECONDS) -> float:
        """Return after how many seconds a follower has had what this balancer has published."""

        def found() -> float | None:
            snapshots = self.follower.snapshots()
            return next((line["at"] for line in snapshots if line["who"] == name and line["at"] > since), None)

        return wait_until(found, f"snapshot of {name}", seconds) - since

    def check(self) -> None:
        """Check that nobody has ever had a mix, or gone back; and that both have the newest when no more comes."""
        for balancer in (self.first, self.second):
            balancer.process.end(signal.SIGKILL)
        self.until(lambda: self.follower.snapshots()[-1]["version"] == self.other.snapshots()[-1]["version"],
                   "same version at both")
        for follower in (self.follower, self.other):
            seen = follower.snapshots()
            self.assertEqual([line for line in seen if line["is_mixed"]], [])
            versions = [tuple(map(int, line["version"].split("-"))) for line in seen]
            self.assertEqual(versions, sorted(set(versions)), follower.name)

    def master_server(self) -> Any:
        """Return the server that has the stream."""
        if self.kind == "cluster":
            return self.servers.master_of(slot_of(SNAPSHOTS))
        return self.servers.master()

    def longest_gap(self, follower: Told, since: float, until: float) -> float:
        """Return the longest time without a snapshot."""
        moments = [since, *(line["at"] for line in follower.snapshots() if since < line["at"] < until), until]
        gap: float = max(later - earlier for earlier, later in pairwise(moments))
        return gap


class SingleTests(PublicationCase):
    """One server."""

    def test_master_killed(self) -> None:
        """The standby publishes within 2 s of the master's death by kill -9, and everybody follows it."""
        killed_at = time()
        self.first.process.end(signal.SIGKILL)
        seconds = self.first_from("b2", killed_at)
        self.record("figure", f"{self.kind}: snapshots of the standby came {seconds:.2f} s after kill -9 of the master")
        self.assertLess(seconds, TAKEN_OVER_SECONDS)
        self.assertTrue(self.second.is_master)
        self.check()

    @pytest.mark.long
    def test_telling(self) -> None:
        """What balancers tell everybody hears, in order and once, whoever is the master."""
        self.until(lambda: len(self.follower.told_by("b2")) > 20, "reports")
        for name in ("b1", "b2"):
            heard = self.follower.told_by(name)
            self.assertEqual(heard, list(range(heard[0], heard[0] + len(heard))), name)

    @pytest.mark.long
    def test_master_ends_in_order(self) -> None:
        """A master that ends in order gives its lease back: the standby need not wait for it to lapse."""
        ended_at = time()
        self.assertEqual(self.first.process.end(signal.SIGTERM), 0)
        seconds = self.first_from("b2", ended_at)
        self.record("figure", f"{self.kind}: snapshots of the standby came {seconds:.2f} s after the master ended")
        self.assertLess(seconds, LEASE_SECONDS)
        self.check()

    @pytest.mark.long
    def test_old_master_wakes_up(self) -> None:
        """A master that is stopped for longer than its lease publishes nothing when it wakes up, and stands by."""
        stopped_at = time()
        self.first.signal(signal.SIGSTOP)
        self.first_from("b2", stopped_at)
        sleep(LEASE_SECONDS)
        woken_at = time()
        self.first.signal(signal.SIGCONT)
        self.until(lambda: not self.first.is_master, "old master that stands by")
        sleep(1.0)
        self.assertTrue(self.second.is_master)
        since = {line["who"] for line in self.follower.snapshots() if line["at"] > woken_at}
        self.assertEqual(since, {"b2"})
        self.check()

    @pytest.mark.long
    def test_stalled_follower(self) -> None:
        """One who follows is stopped: the others get everything in time, and he has the newest when he goes on."""
        began = time()
        self.other.signal(signal.SIGSTOP)
        sleep(3.0)
        ended = time()
        self.other.signal(signal.SIGCONT)
        gap = self.longest_gap(self.follower, began, ended)
        self.record("figure", f"{self.kind}: while one follower was stopped for 3 s another waited {gap:.2f} s at most")
        self.assertLess(gap, FOLLOWED_SECONDS)
        behind = time()
        self.until(lambda: self.other.snapshots()[-1]["at"] > ended and self.other.snapshots()[-1]["took"] < 1.0,
                   "newest one at who was stopped")
        self.assertLess(time() - behind, 2.0)
        self.check()

    def test_redis_killed(self) -> None:
        """Redis dies by kill -9 and comes back: what was followed stays, the same fence or a later one goes on."""
        server = self.master_server()
        killed_at = time()
        self.servers.kill(server.pid)
        sleep(2 * LEASE_SECONDS)
        self.servers.restart(self.servers.servers.index(server))
        back_at = time()
        self.until(lambda: self.follower.snapshots()[-1]["at"] > back_at, "snapshots", FAILOVER_SECONDS)
        seconds = self.follower.snapshots()[-1]["at"] - back_at
        self.record("figure", f"{self.kind}: snapshots came again {seconds:.2f} s after Redis was back, "
                    f"{back_at - killed_at:.1f} s after its death")
        self.check()

    @pytest.mark.long
    def test_redis_emptied(self) -> None:
        """Redis that has lost everything gets a whole snapshot with the next change, and nobody sees an older one."""
        self.master_server().ask("FLUSHALL")
        lost_at = time()
        self.until(lambda: self.follower.snapshots()[-1]["at"] > lost_at + 0.5, "snapshots")
        self.assertLess(self.longest_gap(self.follower, lost_at, time()), 2.0)
        sleep(1.0)
        self.assertEqual([self.first.is_master, self.second.is_master].count(True), 1)
        self.check()


@pytest.mark.long
class SentinelTests(SingleTests):
    """A master that the Sentinels replace."""

    kind = "sentinel"

    def test_redis_killed(self) -> None:
        """When the master of Redis dies by kill -9 its replica goes on, and so do the balancers."""
        killed_at = time()
        self.servers.kill(self.master_server().pid)
        self.until(lambda: self.follower.snapshots()[-1]["at"] > killed_at + 1.0, "snapshots", FAILOVER_SECONDS)
        seconds = self.longest_gap(self.follower, killed_at, time())
        self.record("figure", f"{self.kind}: no snapshot for {seconds:.2f} s after kill -9 of the Redis master")
        self.check()

    def test_newest_entries_lost(self) -> None:
        """Entries that no replica had are lost with the master: nobody goes back to older ones, and all go on."""
        old = self.servers.master()
        self.servers.part(old)
        sleep(1.0)
        killed_at = time()
        self.servers.kill(old.pid)
        self.servers.rejoin(old)
        self.until(lambda: self.follower.snapshots()[-1]["at"] > killed_at + 1.0, "snapshots", FAILOVER_SECONDS)
        self.check()


@pytest.mark.long
class ClusterTests(SingleTests):
    """A Redis Cluster, of which one node has the stream and another may have the lease."""

    kind = "cluster"

    def test_redis_killed(self) -> None:
        """When the node that has the stream dies by kill -9 its replica goes on, and so do the balancers."""
        SentinelTests.test_redis_killed(self)  # type: ignore[arg-type]
