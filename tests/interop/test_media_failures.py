"""Media nodes that die, hang or are full while calls are set up through them: no call fails for it."""

import time

from tests.interop.media_case import MediaCase, SoundPhone, talk
from tests.interop.media_nodes import LEFT_OUT_SECONDS
from tests.interop.process import wait_until

BOTH = [{"bob"}, {"alice"}]


class FailureCase(MediaCase):
    """Alice calls Bob through m1, as long as that takes calls."""

    def setUp(self) -> None:
        super().setUp()
        # What the test before has done to a node is forgotten.
        time.sleep(LEFT_OUT_SECONDS)
        self.alice, self.bob = self.a_phone("alice"), self.a_phone("bob")
        self.first, self.second = self.nodes
        self.addCleanup(self.first.resume)

    def call(self) -> None:
        """Let the call come to Bob."""
        self.invite = self.alice.invite("bob")
        self.invited = self.bob.request()
        self.bob.hears_of(self.invited)

    def answer(self) -> str:
        """Let Bob take it; return where Alice is told to send."""
        self.bob.takes(self.invited)
        self.ok = self.alice.final()
        host = self.alice.hears_of(self.ok)
        self.assertEqual(self.ok.status, 200)
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 1))
        self.assertEqual(self.bob.request().method, "ACK")
        return host

    def hang_up(self) -> None:
        """End the call."""
        self.alice.send(self.alice.within("BYE", self.invite, self.ok, 5000))
        bye = self.bob.request()
        self.assertEqual(bye.method, "BYE")
        self.bob.answer(bye, 200, tag="bob")
        self.assertEqual(self.alice.final().status, 200)
        self.wait_no_calls()


class FailureTests(FailureCase):
    """m1 is not what it was when the snapshot was made."""

    def test_killed_before_the_offer(self) -> None:
        """A node that was killed after the snapshot said that it lives: the call goes through the other, at once."""
        self.first.kill()
        self.call()
        self.assertEqual(self.answer(), self.second.host)
        self.assertEqual(talk(self.alice, self.bob), BOTH)
        self.hang_up()

    def test_hangs(self) -> None:
        """A node that does not answer is waited for half a second, and told that the call is not its any more."""
        self.first.pause()
        self.call()
        self.assertEqual(self.answer(), self.second.host)
        self.assertEqual(talk(self.alice, self.bob), BOTH)
        # It reads what came meanwhile, the end of the call, too.
        self.first.resume()
        self.hang_up()

    def test_killed_before_the_answer(self) -> None:
        """A node that dies while the phone rings: the caller gets another one's address, and the callee a re-INVITE."""
        self.call()
        self.first.kill()
        self.assertEqual(self.answer(), self.second.host)
        self.led_elsewhere(self.bob)
        self.led_elsewhere(self.alice)
        self.assertEqual(talk(self.alice, self.bob), BOTH)
        self.hang_up()

    def led_elsewhere(self, phone: SoundPhone) -> None:
        """Take the re-INVITE that comes in the other one's name."""
        again = phone.request()
        self.assertEqual((again.method, phone.hears_of(again)), ("INVITE", self.second.host))
        phone.takes(again)
        self.assertEqual(phone.request().method, "ACK")

    def test_offer_in_a_call_whose_node_is_dead(self) -> None:
        """Whoever offers something new while nobody knows yet that the node is dead leads the call elsewhere."""
        self.call()
        self.answer()
        self.first.kill()
        again = self.alice.within("INVITE", self.invite, self.ok, 2)
        again.add("Contact", f"<{self.alice.contact}>")
        again.add("Content-Type", "application/sdp")
        again.body = self.alice.sdp()
        self.alice.send(again)
        came = self.bob.request()
        self.assertEqual(self.bob.hears_of(came), self.second.host)
        self.bob.takes(came)
        final = self.alice.final()
        self.assertEqual(self.alice.hears_of(final), self.second.host)
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 2))
        self.assertEqual(self.bob.request().method, "ACK")
        self.assertEqual(talk(self.alice, self.bob), BOTH)
        self.hang_up()

    def test_all_are_dead(self) -> None:
        """Without any node phones send to each other."""
        for node in self.nodes:
            node.kill()
        self.call()
        self.assertEqual(self.answer(), "127.0.0.1")
        self.assertEqual(talk(self.alice, self.bob), BOTH)
        self.alice.send(self.alice.within("BYE", self.invite, self.ok, 3))
        self.bob.answer(self.bob.request(), 200, tag="bob")
        self.assertEqual(self.alice.final().status, 200)


class FullTests(FailureCase):
    """Each node takes one call and no more."""

    options = ("--max-sessions=1",)

    def test_full(self) -> None:
        """The second call goes through the other node; the third, which no node takes, goes its own way."""
        hosts = [self._another() for _ in range(3)]
        self.assertEqual(hosts, [self.first.host, self.second.host, "127.0.0.1"])
        wait_until(lambda: (self.calls_of(0), self.calls_of(1)) == (1, 1) or None, "one call at each node")

    def test_re_offer_when_full(self) -> None:
        """A call that runs through a full node may offer something new."""
        self.call()
        self.assertEqual(self.answer(), self.first.host)
        again = self.alice.within("INVITE", self.invite, self.ok, 2)
        again.add("Content-Type", "application/sdp")
        again.body = self.alice.sdp()
        self.alice.send(again)
        came = self.bob.request()
        self.assertEqual(self.bob.hears_of(came), self.first.host)
        self.bob.takes(came)
        self.assertEqual(self.alice.final().status, 200)
        self.alice.send(self.alice.within("ACK", self.invite, self.ok, 2))
        self.assertEqual(self.bob.request().method, "ACK")
        self.hang_up()

    def _another(self) -> str:
        invite = self.alice.invite("bob")
        invited = self.bob.request()
        host = self.bob.hears_of(invited)
        self.bob.takes(invited)
        ok = self.alice.final()
        self.alice.send(self.alice.within("ACK", invite, ok, 1))
        self.bob.request()
        return host
