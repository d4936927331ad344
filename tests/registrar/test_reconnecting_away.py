"""Tests of calls that wait while nobody can say where their phone is, because Redis is away for a moment."""

from registrar import reconnecting
from rollcall.sip.transaction import cancellation
from tests.registrar.nodes import Call
from tests.registrar.test_reconnecting import WaitingCase


class AwayTests(WaitingCase):
    """The bindings cannot be looked up when the call comes, or a request of one that is there."""

    def away(self, is_away: bool = True) -> None:
        """Let Redis be away, or back."""
        self.nodes.location.down = is_away

    def test_comes_back(self) -> None:
        """The caller hears 100, and the phone rings as soon as it can be found."""
        self.away()
        self.call.invite()
        self.nodes.wait(3)
        self.assertEqual(self.alice.answers(), [100])
        self.away(False)
        self.nodes.wait(1)
        self.complete()
        self.assertEqual(self.outcomes(), {"found": 1})

    def test_phone_is_lost_meanwhile(self) -> None:
        """When it can be seen that the phone was lost, it is waited for as ever."""
        self.bob.lose()
        self.away()
        self.call.invite()
        self.nodes.wait(3)
        self.away(False)
        self.nodes.wait(2)
        self.bob.register("n3")
        self.nodes.wait(0.5)
        self.complete()
        self.assertEqual(self.outcomes(), {"found": 1, "returned": 1})

    def test_nobody(self) -> None:
        """Whoever is unknown is known to be so as soon as it can be seen."""
        self.away()
        self.call.invite("sip:carol@example.com")
        self.away(False)
        self.nodes.wait(0.5)
        self.assertEqual(self.alice.answers(), [100, 404])

    def test_stays_away(self) -> None:
        """After as long as a phone would be waited for the caller may try again later."""
        self.away()
        self.call.invite()
        self.nodes.wait(9)
        self.assertEqual(self.alice.answers(), [100])
        self.nodes.wait(2)
        answer = self.alice.last_answer()
        self.assertEqual((answer.status, bool(answer.get("Retry-After"))), (503, True))
        self.assertEqual(self.outcomes(), {"not_known": 1})

    def test_cancelled(self) -> None:
        """The caller may give up meanwhile; nobody rings afterwards."""
        self.away()
        self.call.invite()
        self.nodes.wait(1)
        self.alice.send(cancellation(self.call.invite_sent))
        self.assertEqual(self.alice.answers(), [100, 200, 487])
        self.away(False)
        self.nodes.wait(2)
        self.assertEqual((self.bob.heard(), self.alice.answers()), ([], []))

    def test_too_many(self) -> None:
        """No more wait than are allowed to: the next one is 503 at once."""
        self.patch(reconnecting, "MAX_WAITING_PER_RECORD", 1)
        self.away()
        Call(self.alice, self.bob, "call-2").invite()
        self.call.invite()
        self.assertEqual(self.alice.answers(), [100, 503])
        self.nodes.wait(11)

    def test_only_calls(self) -> None:
        """Nothing but an INVITE waits before a dialog has begun."""
        self.away()
        self.call.invite(method="MESSAGE")
        self.assertEqual(self.alice.answers(), [503])

    def test_in_dialog(self) -> None:
        """The end of a call waits until it can be seen where the other phone is now."""
        call = self.established(self.alice, self.bob)
        self.bob.lose()
        self.bob.register("n1")
        self.away()
        self.alice.send(call.request("BYE", self.alice))
        self.nodes.wait(1)
        self.assertEqual(self.alice.answers(), [])
        self.away(False)
        self.nodes.wait(1)
        self.assertEqual(self.bob.heard(), ["BYE"])
