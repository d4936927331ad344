"""kill -9 of the master balancer, of all balancers, of a media node and of Redis while calls are set up: none fails.

Everything is real: two balancers, two registrars, three rtpengines, Redis, and phones with audio.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.cluster.case import ClusterCase, spread
from tests.interop.process import InteropError
from tools.laboratory.balancer_node import BalancerNode
from tools.laboratory.lab import Lab
from tools.laboratory.media_call import MediaCall, State
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.media_servers import subscribers

PER_SECOND = 10.0
HOLD_SECONDS = (1.5, 3.0)
BEFORE_SECONDS, AFTER_SECONDS = 3.0, 6.0
"""How long calls are set up before something happens, and after it."""
TAKEOVER_SECONDS = 2.0
LOOK_SECONDS = 0.01


class MediaFailures(ClusterCase):
    """Half of the phones are connected to each registrar; all of them call each other from the beginning to the end."""

    registrars = 2
    users = 72
    phones: MediaPhones
    balancers: ClassVar[list[BalancerNode]]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = Lab(Path(cls._folder.name), cls.registrars, "single", cls.users, media=3, balancers=2)
        cls.lab.start()
        cls.balancers = cls.lab.media.balancers

    def setUp(self) -> None:
        self.everything_runs()
        self.phones = MediaPhones(self.lab.tcp[0], self.lab.domain, subscribers(self.lab.users))
        for phone in self.phones.phones:
            phone.proxy = self.lab.tcp[phone.number % self.registrars]
        self.phones.start()
        self.addCleanup(self.phones.stop)
        self.phones.register_all()

    def everything_runs(self) -> None:
        """Start what an earlier test has killed, and wait until registrars see three nodes."""
        for balancer in self.balancers:
            if not balancer.running:
                balancer.start()
        for node in self.lab.media.nodes:
            if not node.running:
                node.start()
        self.wait(self.are_up, "three nodes at all registrars", 30)

    def are_up(self) -> bool:
        """Say whether every registrar sees all nodes."""
        return all(sum(node["state"] == "up" for node in self.media_at(number)["nodes"]) == 3
                   for number in range(self.registrars))

    def media_at(self, number: int) -> Any:
        """Return what a registrar says of media nodes."""
        return self.lab.registrars[number].get("/v1/media")

    def versions(self) -> list[str]:
        """Return which snapshot each registrar has."""
        return [self.media_at(number)["snapshot"]["version"] for number in range(self.registrars)]

    def wait_for_new(self, versions: list[str]) -> float:
        """Return after how long every registrar had another snapshot than these."""
        return self.wait(lambda: all(new != old for new, old in zip(self.versions(), versions, strict=True)),
                         "new snapshots", 20)

    def wait(self, look: Callable[[], bool], what: str, seconds: float = 10.0) -> float:
        """Return after how long it was so."""
        began = time.monotonic()
        while not look():
            if time.monotonic() - began > seconds:
                raise InteropError(f"no {what} in {seconds} s")
            time.sleep(LOOK_SECONDS)
        return time.monotonic() - began

    def master(self) -> BalancerNode:
        """Return the balancer that publishes."""
        found: list[BalancerNode] = []

        def look() -> bool:
            found[:] = [each for each in self.balancers if each.running and is_master(each)]
            return len(found) == 1

        self.wait(look, "master")
        return found[0]

    # --- calls

    def call_while(self, happens: Callable[[], None]) -> list[MediaCall]:
        """Set calls up before, while and after something happens; return those that began since; none may fail."""
        self.phones.call_on(PER_SECOND, HOLD_SECONDS)
        time.sleep(BEFORE_SECONDS)
        before = set(self.phones.calls)
        self.happened_at = self.phones.loop.now()
        happens()
        time.sleep(AFTER_SECONDS)
        self.phones.call_on(0.0, HOLD_SECONDS)
        self.phones.wait_over()
        self.assertEqual([str(call) for call in self.phones.calls.values() if call.state is not State.ENDED], [])
        since = [call for call in self.phones.calls.values() if call.id not in before]
        self.assertGreater(len(since), PER_SECOND * AFTER_SECONDS / 2)
        self.assertTrue(all(call.node for call in since), [str(call) for call in since if not call.node])
        return since


class BalancerTests(MediaFailures):
    def test_master_is_killed(self) -> None:
        """Another one publishes within two seconds, and registrars follow it; the old one comes back as a standby."""
        old = self.master()
        new, = (each for each in self.balancers if each is not old)
        fence = new.get("/v1/state")["fence"]
        took: list[float] = []

        def happens() -> None:
            old.kill()
            took.append(self.wait(lambda: is_master(new), "new master"))
            took.append(took[0] + self.wait_for_new(self.versions()))

        calls = self.call_while(happens)
        self.figure(f"kill -9 of the master balancer: another is master after {took[0]:.2f} s, registrars follow it "
                    f"after {took[1]:.2f} s; {len(calls)} calls were set up since, none failed; answered "
                    f"{set_up_in(calls)}")
        self.assertLess(took[0], TAKEOVER_SECONDS)
        self.assertNotEqual(new.get("/v1/state")["fence"], fence)
        old.start()
        self.assertIs(self.master(), new)

    @pytest.mark.long
    def test_all_are_killed(self) -> None:
        """Without any balancer registrars go on by the last snapshot."""
        def happens() -> None:
            for balancer in self.balancers:
                balancer.kill()

        calls = self.call_while(happens)
        self.figure(f"kill -9 of all balancers: {len(calls)} calls were set up since, none failed; answered "
                    f"{set_up_in(calls)}")
        self.assertEqual(len({call.node for call in calls}), 3)


class NodeTests(MediaFailures):
    def test_node_is_killed(self) -> None:
        """New calls go to the other nodes at once, and running ones get another node."""
        node = self.lab.media.nodes[0]
        talking: list[MediaCall] = []

        def happens() -> None:
            talking.extend(call for call in self.phones.talking() if call.node == node.host)
            node.kill()

        calls = self.call_while(happens)
        self.assertGreater(len(talking), 0)
        moved = [call for call in talking if call.node != node.host]
        took = [call.nodes[-1][0] - self.happened_at for call in moved]
        silent = [call.longest_silence for call in moved]
        self.figure(f"kill -9 of a rtpengine: {len(calls)} calls were set up since, none failed; answered "
                    f"{set_up_in(calls)}; {len(moved)} of {len(talking)} running calls got another node, "
                    f"{spread(took)}; without audio {spread(silent)}")
        self.assertNotIn(node.host, {call.node for call in calls if call.begun_at > self.happened_at + 3})
        # The others had ended before anybody noticed.
        self.assertGreater(len(moved), 0)


class RedisTests(MediaFailures):
    def test_redis_is_killed(self) -> None:
        """Calls are set up by the last snapshot, and balancers and registrars go on when Redis is back."""
        server = self.lab.redis.servers[0]
        versions: list[str] = []

        def happens() -> None:
            self.lab.redis.kill(server.pid)
            time.sleep(AFTER_SECONDS / 2)
            self.lab.redis.restart(0)
            versions.extend(self.versions())

        calls = self.call_while(happens)
        self.wait_for_new(versions)
        within, across = ([call for call in calls if self.is_within_one(call) is wanted] for wanted in (True, False))
        self.figure(f"kill -9 of Redis, started again after {AFTER_SECONDS / 2:.0f} s: {len(calls)} calls were set up "
                    f"since it was killed, none failed; answered between phones of one registrar {set_up_in(within)}; "
                    f"to phones of the other, which only Redis knows, {set_up_in(across)}")
        # A call through media nodes by itself waits for nothing.
        self.assertLess(max(call.answered_at - call.begun_at for call in within), AFTER_SECONDS / 2)

    def is_within_one(self, call: MediaCall) -> bool:
        """Say whether both phones are connected to the same registrar."""
        return call.caller.proxy == call.callee.proxy


def set_up_in(calls: Iterable[MediaCall]) -> str:
    """Return how long calls took until they were answered."""
    return spread(call.answered_at - call.begun_at for call in calls)


def is_master(balancer: BalancerNode) -> bool:
    """Say whether a balancer says that it is the master."""
    return bool(balancer.get("/v1/state")["role"] == "master")
