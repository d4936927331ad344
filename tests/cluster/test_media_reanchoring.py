"""kill -9 of a real rtpengine with 20 running calls: their audio flows again, and they go on as if nothing had been."""

import os
import tempfile
import time
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.case import ClusterCase, spread
from tests.cluster.strict_calls import StrictCall, StrictPhones
from tools.laboratory.lab import Lab
from tools.laboratory.media_call import State
from tools.laboratory.media_servers import subscribers
from tools.laboratory.node import Node

CALLS = 20
HOLD_SECONDS = 300.0
AGAIN_SECONDS = 8.0
"""Within so long of the kill all calls have audio both ways again."""
PACKETS = 25
"""Half a second of audio: nobody would call less "flows"."""
SECTIONS = {"media": {"offer_seconds": 3.0}}
"""While calls are set up here there is one node: on a busy machine an offer that is late would send them around it."""
OWN_NET = f"127.{210 + os.getpid() % 40}.0.0/16"
"""No carrier of the lab: other tests may use those at the same time."""


class ReanchoringTests(ClusterCase):
    """Three rtpengines, a balancer, two registrars. Of each call's phones one is at each of them."""

    registrars = 2
    users = 2 * CALLS
    phones: StrictPhones

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = Lab(Path(cls._folder.name), cls.registrars, "single", cls.users, SECTIONS, media=3)
        cls.lab.start()

    def setUp(self) -> None:
        for node in self.lab.media.nodes:
            if not node.running:
                node.start()
        self.wait_for_nodes(3)
        self.phones = StrictPhones(self.lab.tcp, self.lab.domain, subscribers(self.lab.users, {"nobody": OWN_NET}))
        self.phones.start()
        self.addCleanup(self.phones.stop)
        self.phones.register_all()

    def wait_for_nodes(self, number: int) -> None:
        """Return once every registrar follows so many nodes that take calls."""
        def up() -> bool:
            return all(sum(node["state"] == "up" for node in each.get("/v1/media")["nodes"]) == number
                       for each in self.lab.registrars)

        deadline = time.monotonic() + 20
        while not up():
            if time.monotonic() > deadline:
                self.fail(f"{number} nodes are not up: {self.lab.registrars[0].get('/v1/media')}")
            time.sleep(0.1)

    def talking(self, number: int = CALLS) -> list[StrictCall]:
        """Return so many calls with audio, all of them through the first node."""
        balancer, (_, *others) = self.lab.media.balancers[0], self.lab.media.nodes
        for node in others:
            balancer.post(f"/v1/nodes/{node.name}/drain")
        self.wait_for_nodes(1)
        free = list(self.phones.phones)
        pairs = [(free[2 * index], free[2 * index + 1]) for index in range(number)]
        calls = [call for call in self.phones.call_pairs(pairs, 20, HOLD_SECONDS) if isinstance(call, StrictCall)]
        self.phones.wait_talking(calls)
        asked = [node.metrics().get("rollcall_media_requests_total", {}) for node in self.lab.registrars]
        self.assertEqual({call.node for call in calls}, {self.lab.media.nodes[0].host}, asked)
        for node in others:
            balancer.post(f"/v1/nodes/{node.name}/undrain")
        self.wait_for_nodes(3)
        return calls

    def moved(self) -> float:
        """Return how many calls both registrars have led through other nodes."""
        return sum(node.metric("rollcall_media_reanchored_total", outcome="moved") for node in self.lab.registrars)

    def wait_for_new_audio(self, calls: list[StrictCall], killed_at: float) -> list[float]:
        """Do the same where the new node may be the old one: it counts from the second re-INVITE on."""
        self.phones.wait(lambda: all(call.reinvited >= 2 for call in calls), "re-INVITEs", AGAIN_SECONDS)
        return self.wait_for_audio(calls, killed_at, "")

    def wait_for_audio(self, calls: list[StrictCall], killed_at: float, dead: str | None = None) -> list[float]:
        """Return after how long each call had half a second of audio both ways again, at another node."""
        dead = self.lab.media.nodes[0].host if dead is None else dead
        before: dict[str, tuple[int, int]] = {}
        back: dict[str, float] = {}
        while len(back) < len(calls):
            now = time.monotonic()
            for call in calls:
                if call.node == dead or call.id in back:
                    continue
                first, second = call.received()
                began = before.setdefault(call.id, (first, second))
                if first - began[0] >= PACKETS and second - began[1] >= PACKETS:
                    back[call.id] = now - killed_at
            if now > killed_at + AGAIN_SECONDS:
                left = [(str(call), call.node, call.received(), call.faults) for call in calls if call.id not in back]
                self.fail(f"{len(left)} calls have no audio {AGAIN_SECONDS} s after the kill: {left[:3]}")
            time.sleep(0.02)
        return sorted(back.values())

    def counted(self) -> float:
        """Return how many calls both registrars count."""
        return sum(self.calls_of(node) for node in self.lab.registrars)

    def end(self, calls: list[StrictCall]) -> None:
        """Let half the calls be ended by their caller, the others by their callee; nothing may be left of any."""
        for index, call in enumerate(calls):
            self.phones.loop.do(call.hang_up_by_callee if index % 2 else call.hang_up)
        self.phones.wait_over(calls, 20)
        self.assertEqual([str(call) for call in calls if call.state is not State.ENDED], [])
        self.assertEqual([fault for call in calls for fault in call.faults], [])
        deadline = time.monotonic() + 5
        while self.counted() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.counted(), 0.0)

    def test_killed(self) -> None:
        """RTP of 20 running calls flows again; then both sides re-INVITE, and both sides hang up."""
        calls = self.talking()
        self.assertEqual({call.node for call in calls}, {self.lab.media.nodes[0].host})
        self.assertEqual(self.counted(), CALLS)
        before = self.moved()
        killed_at = time.monotonic()
        self.lab.media.nodes[0].kill()
        took = self.wait_for_audio(calls, killed_at)
        self.figure(f"{CALLS} calls after kill -9 of their rtpengine: audio both ways again {spread(took)}")
        self.assertEqual([call.reinvited for call in calls], [2] * CALLS)
        for by_callee in (True, False):
            for call in calls:
                self.phones.loop.do(partial(call.reinvite, by_callee))
            time.sleep(1.0)
        self.assertEqual([call.answers.get("INVITE") for call in calls], [[200]] * CALLS)
        self.assertEqual([call.reinvited for call in calls], [4] * CALLS)
        self.wait_for_audio(calls, time.monotonic())
        self.assertEqual(self.moved() - before, CALLS)
        self.end(calls)

    @pytest.mark.long
    def test_started_again(self) -> None:
        """An rtpengine that is back before anybody has missed it has lost its calls all the same: they go on."""
        calls = self.talking()
        killed_at = time.monotonic()
        self.lab.media.nodes[0].kill()
        self.lab.media.nodes[0].start()
        took = self.wait_for_new_audio(calls, killed_at)
        self.figure(f"{CALLS} calls after a restart of their rtpengine: audio both ways again {spread(took)}")
        self.end(calls)

    @pytest.mark.long
    def test_killed_twice(self) -> None:
        """A call may outlive two nodes; both phones take what comes next for newer than all before."""
        calls = self.talking()
        first, *others = self.lab.media.nodes
        first.kill()
        self.wait_for_audio(calls, time.monotonic())
        second = max(others, key=lambda node: sum(call.node == node.host for call in calls))
        lost = [call for call in calls if call.node == second.host]
        self.assertGreater(len(lost), 0)
        killed_at = time.monotonic()
        second.kill()
        took = self.wait_for_audio(lost, killed_at, second.host)
        self.figure(f"{len(lost)} calls after their second rtpengine's death: audio both ways again {spread(took)}")
        self.assertEqual([call.reinvited for call in lost], [4] * len(lost))
        self.end(calls)

    @pytest.mark.long
    def test_hung_up_meanwhile(self) -> None:
        """Calls that are hung up while they get another node end at both sides; nobody counts them on.

        A BYE that was on its way when its peer heard of a higher number is refused, but the peer hears of another one.
        """
        calls = self.talking()
        for call in calls:
            call.may_be_told_later = True
        self.lab.media.nodes[0].kill()
        deadline = time.monotonic() + AGAIN_SECONDS
        while not any(call.reinvited for call in calls) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.end(calls)

    @pytest.mark.long
    def test_owner_dies(self) -> None:
        """Calls of a registrar that is killed are counted by the other one, and end with the BYE that comes to that."""
        owner, other = self.lab.registrars
        calls = self.talking()
        self.assertEqual(self.calls_of(owner), CALLS)
        owner.kill()
        killed_at = time.monotonic()
        try:
            self.wait_until_counted(other, CALLS)
            took = time.monotonic() - killed_at
            self.figure(f"{CALLS} calls have another owner {took:.1f} s after kill -9 of theirs")
            for call in calls:
                self.phones.loop.do(call.hang_up_by_callee)
            self.wait_until_counted(other, 0)
        finally:
            owner.start()

    def calls_of(self, node: Node) -> float:
        """Return how many calls a registrar counts."""
        return sum(node.metrics().get("rollcall_media_calls", {}).values())

    def wait_until_counted(self, node: Node, number: int) -> None:
        """Return once a registrar counts so many calls."""
        deadline = time.monotonic() + 20
        while self.calls_of(node) != number:
            if time.monotonic() > deadline:
                self.fail(f"{node.name} counts {self.calls_of(node)} calls instead of {number}")
            time.sleep(0.1)
