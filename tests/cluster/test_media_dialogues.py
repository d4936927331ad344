"""Calls through media nodes whose phones are at different registrars: whichever hears of a call knows it."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.cluster.case import ClusterCase
from tests.interop.media_case import SoundPhone
from tests.interop.media_talk import Talking
from tests.interop.process import wait_until
from tools.laboratory.lab import Lab
from tools.laboratory.node import Node


class DialogueTests(ClusterCase, Talking):
    """Alice is at the first of two registrars, Bob at the second; there is one rtpengine."""

    registrars = 2

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = TemporaryDirectory()
        cls.lab = Lab(Path(cls._folder.name), cls.registrars, sections="[auth]\nrequired = false\n", media=1)
        cls.lab.start()
        for node in cls.lab.registrars:
            wait_until(partial(cls._nodes_at, node), f"media nodes at {node.name}")

    def setUp(self) -> None:
        self.alice, self.bob = (self._phone(name, place) for place, name in enumerate(("alice", "bob")))

    @property
    def host(self) -> str:
        """See Talking."""
        return self.lab.media.nodes[0].host

    def wait_no_calls(self) -> None:
        """See Talking."""
        (node,) = self.lab.media.nodes
        wait_until(lambda: b"5:callsle" in node.ask(b"d7:command4:liste") or None, "end of all calls at the node")

    def test_both_ways(self) -> None:
        """Bob's re-INVITE, UPDATE and BYE come to a registrar that has not set the call up, and pass like Alice's."""
        self.call()
        self.check_sound()
        self.offers(self.from_bob("INVITE", 1, self.bob.sdp("sendonly")), self.bob, self.alice)
        self.bob.send(self.from_bob("ACK", 1))
        self.assertEqual(self.alice.request().method, "ACK")
        self.offers(self.from_bob("UPDATE", 2, self.bob.sdp()), self.bob, self.alice)
        self.offers(self.from_alice("UPDATE", 2, self.alice.sdp()), self.alice, self.bob)
        self.check_sound()
        self.bob.send(self.from_bob("BYE", 3))
        self.alice.answer(self.alice.request(), 200, tag="alice")
        self.assertEqual(self.bob.final().status, 200)
        self.wait_no_calls()
        for node in self.lab.registrars:
            wait_until(partial(self._has_no_call, node), f"end of the call at {node.name}")

    def test_late_offer(self) -> None:
        """An offer that Bob makes in his 200 is answered by an ACK that comes to another registrar than his."""
        self.invite = self.alice.invite("bob", b"")
        self.invited = self.bob.request()
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        self.assertEqual(self.alice.hears_of(self.ok), self.host)
        ack = self.alice.within("ACK", self.invite, self.ok, 1)
        self.alice.send(self._with(ack, self.alice, self.alice.sdp()))
        self.assertEqual(self.bob.hears_of(self.bob.request()), self.host)
        self.check_sound()
        self.hangs_up()

    @staticmethod
    def _nodes_at(node: Node) -> list[dict[str, Any]]:
        return list(node.get("/v1/media")["nodes"])

    def _has_no_call(self, node: Node) -> bool | None:
        return not any(each["calls"] for each in self._nodes_at(node)) or None

    def _phone(self, name: str, place: int) -> SoundPhone:
        phone = SoundPhone("TCP", self.lab.tcp[place], name, self.lab.domain)
        self.addCleanup(phone.close)
        self.assertEqual(phone.register().status, 200)
        return phone
