"""One question, and all that may come of it."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.sites.asking import Asking, Unanswered
from registrar.sites.words import MOST_BODY_BYTES, Question
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.sip.message import Request
from rollcall.sip.replies import response_to
from tests.layers import Layer
from tests.registrar.sites.test_words import a_member_flow


class AskingTests(SynchronousTestCase):
    """A question to a node of ams that is reached when the test wants it."""

    def setUp(self) -> None:
        self.layer = Layer()
        self.flow = a_member_flow("a1")
        self.reached: list[tuple[tuple[str, str, int], Deferred[Flow]]] = []
        self.asking = Asking(self.reach, self.layer.transactions)

    async def reach(self, site: str, host: str, port: int) -> Flow:
        """Note where a connection is wanted."""
        waiting: Deferred[Flow] = Deferred()
        self.reached.append(((site, host, port), waiting))
        return await waiting

    def ask(self, connects: bool = True) -> Deferred[bytes]:
        """Ask who lives there, in half a second."""
        asked = Deferred.fromCoroutine(self.asking.ask("ams", ("192.0.2.7", 5070), Question(), 0.5))
        if connects:
            self.reached[-1][1].callback(self.flow)
        return asked

    def answer(self, status: int, body: bytes = b"") -> None:
        """Answer the question that came."""
        requests = [message for message in self.flow.take() if isinstance(message, Request)]
        response = response_to(requests[-1], status, to_tag="there")
        response.body = body
        self.layer.answer(response, self.flow)

    def test_answered(self) -> None:
        """The body of the answer is what comes back."""
        asked = self.ask()
        self.answer(200, b"{}")
        self.assertEqual(self.successResultOf(asked), b"{}")
        self.assertEqual(self.reached[0][0], ("ams", "192.0.2.7", 5070))
        self.assertEqual(len(self.layer.transactions), 0)

    def test_refused(self) -> None:
        """A refusal, and an answer that is too long, are none."""
        for status, body in ((503, b""), (200, b"x" * (MOST_BODY_BYTES + 1))):
            asked = self.ask()
            self.answer(status, body)
            self.assertFalse(self.failureResultOf(asked, Unanswered).value.is_silent)

    def test_nobody_there(self) -> None:
        """Where no connection can be had there is no answer, and that is known for certain."""
        asked = self.ask(connects=False)
        self.reached[-1][1].errback(ConnectFailed("refused"))
        self.assertFalse(self.failureResultOf(asked, Unanswered).value.is_silent)

    def test_broken(self) -> None:
        """A connection that ends before the answer is an answer, too: it is not waited for."""
        asked = self.ask()
        self.flow.close("reset")
        self.layer.transactions.flow_closed(self.flow)
        self.assertFalse(self.failureResultOf(asked, Unanswered).value.is_silent)

    def test_silence(self) -> None:
        """Nothing is waited for longer than was said, be it a connection or an answer; nothing is left of it."""
        for connects in (False, True):
            asked = self.ask(connects)
            self.layer.clock.advance(0.375)
            self.assertNoResult(asked)
            self.layer.clock.advance(0.25)
            self.assertTrue(self.failureResultOf(asked, Unanswered).value.is_silent)
            self.assertEqual(len(self.layer.transactions), 0)

    def test_late_connection(self) -> None:
        """Over a connection that comes too late nothing is asked any more."""
        asked = self.ask(connects=False)
        self.layer.clock.advance(0.625)
        self.failureResultOf(asked, Unanswered)
        self.reached[-1][1].callback(self.flow)
        self.assertEqual(self.flow.take(), [])
