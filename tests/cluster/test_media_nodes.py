"""Real rtpengines are looked after: who lives, who was started again, who is full, who is empty."""

import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from balancer.nodes.asking import AskingByKind, AskingByNg, AskingByOptions
from balancer.nodes.config import NodeConfig, NodesConfig
from balancer.nodes.polling import Polling
from balancer.nodes.registry import Happening, Nodes
from rollcall.media.ng import NgClient, NgRefused, NgUnreachable
from rollcall.media.snapshot import MediaNode, NodeState, is_another_life
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

reactor: Any = global_reactor

SDP = ("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
       "m=audio 9000 RTP/AVP 0\r\n")
LIMITS = NodesConfig(poll_seconds=0.25, again_seconds=0.1, return_seconds=1.0, drained_seconds=1.0,
                     options_hosts=("127.0.0.1",))


class MediaNodesTests(TestCase):
    """Two rtpengines, polled by what a balancer polls with; the second takes one call only."""

    timeout = 60

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.media = [
            RtpengineProcess(self.folder / f"m{number}", f"m{number}", host, number, options=options)
            for number, (host, options) in enumerate(zip(own_hosts(2), ((), ("--max-sessions=1",)), strict=True), 1)]
        for each in self.media:
            self.addCleanup(each.kill)
            each.start()
        self.ng = NgClient(reactor)
        self.addCleanup(self.ng.close)
        options = AskingByOptions(reactor, LIMITS.options_hosts)
        self.nodes = Nodes([NodeConfig(**each.as_node(capacity=50)) for each in self.media], LIMITS)
        self.happened: list[Happening] = []
        self.nodes.on_change.append(self.happened.append)
        polling = Polling(reactor, self.nodes, AskingByKind(AskingByNg(self.ng), options), lambda: 0.5)
        polling.startService()
        self.addCleanup(polling.stopService)

    def node(self, name: str = "m1") -> MediaNode:
        return self.nodes.nodes(reactor.seconds())[name]

    async def until(self, look: Callable[[], object], what: str, seconds: float = 10.0) -> float:
        """Return how long it took until `look` found something."""
        begun_at = reactor.seconds()
        while not look():
            if reactor.seconds() - begun_at > seconds:
                self.fail(f"no {what} in {seconds} s; {self.nodes.shown(reactor.seconds())}")
            await deferLater(reactor, 0.02)
        return float(reactor.seconds() - begun_at)

    async def until_state(self, state: NodeState, name: str = "m1") -> float:
        return await self.until(lambda: self.node(name).state is state, state.value)

    def offer(self, call_id: str, number: int = 1) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self.ng.ask(self.media[number - 1].address, "offer", {
            "call-id": call_id, "from-tag": "caller", "sdp": SDP, "supports": ["load limit"]}, 2.0))

    def delete(self, call_id: str) -> "Deferred[Any]":
        return Deferred.fromCoroutine(self.ng.ask(self.media[0].address, "delete", {
            "call-id": call_id, "from-tag": "caller", "delete-delay": 0}, 2.0))

    async def test_calls_are_counted(self) -> None:
        """An rtpengine's calls are known soon after its offers, and gone soon after its deletes."""
        await self.until_state(NodeState.UP)
        reply = await self.offer("c1")
        self.assertIn(b"m=audio", reply["sdp"])
        await self.offer("c2")
        await self.until(lambda: self.node().sessions == 2, "two calls")
        self.assertEqual(self.node().capacity, 50)
        await self.delete("c1")
        await self.until(lambda: self.node().sessions == 1, "one call")

    async def test_full(self) -> None:
        """An rtpengine at its own limit refuses further calls as full, keeps those it has, and is not dead."""
        await self.until_state(NodeState.UP, "m2")
        await self.offer("c1", 2)
        refused = await self.assertFailure(self.offer("c2", 2), NgRefused)
        self.assertTrue(refused.is_full)
        self.assertIn(b"m=audio", (await self.offer("c1", 2))["sdp"])
        await deferLater(reactor, 3 * LIMITS.poll_seconds)
        self.assertIs(self.node("m2").state, NodeState.UP)

    async def test_killed(self) -> None:
        """A killed one is known to be down with the next poll or two; an offer to it fails at once; it comes back."""
        await self.until_state(NodeState.UP)
        await deferLater(reactor, 1.5)  # so that it has lived for a second, which it counts
        before = self.node()
        self.media[0].kill()
        asked_at = reactor.seconds()
        await self.assertFailure(self.offer("c1"), NgUnreachable)
        self.assertLess(reactor.seconds() - asked_at, 0.5)
        self.assertLess(await self.until_state(NodeState.DOWN), 2.0)
        self.assertIs(self.node("m2").state, NodeState.UP)
        self.media[0].start()
        await self.until_state(NodeState.SUSPECT)
        self.assertGreater(await self.until_state(NodeState.UP), 0.5)
        self.assertGreater(self.node().started_at, before.started_at)

    async def test_hanging(self) -> None:
        """One that hangs is suspect, then down; when it goes on it is the same life, and its calls are there."""
        await self.until_state(NodeState.UP)
        await self.offer("c1")
        before = self.node()
        self.media[0].pause()
        await self.until_state(NodeState.SUSPECT)
        await self.until_state(NodeState.DOWN)
        self.media[0].resume()
        await self.until_state(NodeState.UP)
        self.assertFalse(is_another_life(before, self.node()))
        self.assertEqual(self.node().sessions, 1)
        self.assertNotIn("restarted", [each.kind for each in self.happened])

    async def test_started_again_between_two_polls(self) -> None:
        """One that was started again before anybody missed it is told as such: its calls are gone."""
        await self.until_state(NodeState.UP)
        await deferLater(reactor, 2.5)  # so that it has lived for seconds, which it counts
        before = self.node()
        self.media[0].kill()
        self.media[0].start()
        await self.until(lambda: "restarted" in [each.kind for each in self.happened], "news of its restart")
        self.assertTrue(is_another_life(before, self.node()))

    async def test_drained(self) -> None:
        """A draining one keeps its call, and is empty a second after the call has ended."""
        await self.until_state(NodeState.UP)
        await self.offer("c1")
        await self.until(lambda: self.node().sessions == 1, "a call")
        self.nodes.drain("m1", True, reactor.seconds())
        await deferLater(reactor, 1.5)
        self.assertIs(self.node().state, NodeState.DRAINING)
        await self.delete("c1")
        self.assertGreater(await self.until_state(NodeState.DRAINED), 0.9)

    async def test_joining(self) -> None:
        """One that announces itself is asked at once, and up."""
        third = RtpengineProcess(self.folder / "m3", "m3", own_hosts(3)[2], 3)
        self.addCleanup(third.kill)
        third.start()
        now = reactor.seconds()
        self.nodes.announce(NodeConfig(**third.as_node()), now + 60, now)
        await self.until_state(NodeState.UP, "m3")

    async def test_asked_by_many(self) -> None:
        """One whose statistics have become too long for a datagram, for many have asked it, is no dead one."""
        await self.until_state(NodeState.UP)
        host, _, port = self.media[0].address.rpartition(":")
        for number in range(1, 71):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind((f"127.250.250.{number}", 0))
                other.settimeout(5)
                other.sendto(b"c%d d7:command4:pinge" % number, (host, int(port)))
                other.recv(100)
        asked = Deferred.fromCoroutine(self.ng.ask(self.media[0].address, "statistics", {}, 0.5))
        await self.assertFailure(asked, NgUnreachable)
        begun_at = len(self.happened)
        await deferLater(reactor, 3.0)
        self.assertEqual(self.happened[begun_at:], [])
        self.assertIs(self.node().state, NodeState.UP)

    async def test_over_tcp(self) -> None:
        """The ng port may be asked over TCP, too."""
        host = own_hosts(4)[3]
        other = RtpengineProcess(self.folder / "m4", "m4", host, 4,
                                 options=(f"--listen-tcp-ng={host}:22223",))
        self.addCleanup(other.kill)
        other.start()
        now = reactor.seconds()
        self.nodes.announce(NodeConfig(id="m4", address=f"{host}:22223", transport="tcp"), now + 60, now)
        await self.until_state(NodeState.UP, "m4")
        other.kill()
        await self.until_state(NodeState.DOWN, "m4")
