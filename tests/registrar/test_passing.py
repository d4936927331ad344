"""Tests of branches whose request and answers are changed on their way by somebody who may take his time."""

from twisted.internet.defer import Deferred

from registrar.authorising import Refusal
from registrar.forking import Fork
from registrar.passing import MOST_WAITING
from registrar.sending import Attempt, Forwarded
from rollcall.net.transactions import ServerTransaction
from rollcall.sip.forwarding import loop_mark
from rollcall.sip.message import Response
from tests.flows import a_request
from tests.registrar.forks import CONFIG, ForkCase
from tests.registrar.network import Phone


class Marking:
    """A passage that marks what passes; it waits where a test wants that."""

    def __init__(self) -> None:
        self.refusal: Refusal | None = None
        self.problem: Exception | None = None
        self.gates: list[Deferred[None]] = []
        self.holds = False
        self.endings: list[int] = []
        self.transports: list[str] = []

    async def going(self, branch: object, attempt: Attempt, forwarded: Forwarded, transport: str) -> Forwarded:
        await self._gate()
        self.transports.append(transport)
        if self.refusal is not None:
            raise self.refusal
        return forwarded

    async def coming(self, branch: object, response: Response) -> Response:
        await self._gate()
        if self.problem is not None:
            raise self.problem
        response.set("Subject", "passed")
        return response

    def ended(self, status: int) -> None:
        self.endings.append(status)

    def open(self) -> None:
        """Let one who waits pass."""
        self.gates.pop(0).callback(None)

    async def _gate(self) -> None:
        if self.holds:
            gate: Deferred[None] = Deferred()
            self.gates.append(gate)
            await gate


class PassingTests(ForkCase):
    """Bob is called."""

    def setUp(self) -> None:
        super().setUp()
        self.passage = Marking()
        self.bob = self.network.phone("bob")

    def begin(self, *phones: Phone) -> ServerTransaction:
        """Call these phones at once."""
        server = self.layer.begin(a_request("INVITE"), self.caller)
        forwarded = Forwarded(server.request, self.caller, loop_mark(server.request), True, b"call-1", 60)
        Fork(server, forwarded, [[phone.attempt() for phone in phones]], self.network.sending,
             self.layer.transactions, CONFIG, self._end, passage=self.passage).start()
        self.assertEqual(self.hears(), [100])
        return server

    def test_passed(self) -> None:
        """What comes back has been changed, and the passage hears how it ended."""
        self.begin(self.bob)
        self.assertEqual((self.bob.heard(), self.passage.transports), (["INVITE"], ["TCP"]))
        self.bob.answer(200)
        (ok,) = self.responses()
        self.assertEqual((ok.status, ok.get("Subject"), self.passage.endings), (200, "passed", [200]))

    def test_order(self) -> None:
        """Whatever is answered first comes first, however long that takes."""
        self.begin(self.bob)
        self.bob.heard()
        self.passage.holds = True
        for status in (180, 183, 200):
            self.bob.answer(status)
        self.assertEqual((self.hears(), len(self.passage.gates)), ([], 1))
        for status in (180, 183, 200):
            self.passage.open()
            self.assertEqual(self.hears(), [status])

    def test_many(self) -> None:
        """A phone that says more than anybody can change in time fills no memory; its refusal is heard all the same."""
        self.begin(self.bob)
        self.bob.heard()
        self.passage.holds = True
        for _ in range(2 * MOST_WAITING):
            self.bob.answer(180)
        self.bob.answer(486)
        for _ in range(MOST_WAITING):
            self.passage.open()
        self.assertEqual(self.hears(), [180] * MOST_WAITING)
        self.passage.open()
        self.assertEqual((self.hears(), self.passage.gates), ([486], []))
        self.acknowledge()

    def test_taken_after_many(self) -> None:
        """The call that such a phone takes is taken, however often it says so."""
        self.begin(self.bob)
        self.bob.heard()
        self.passage.holds = True
        for status in [180] * 2 * MOST_WAITING + [200] * 3:
            self.bob.answer(status)
        for _ in range(MOST_WAITING):
            self.passage.open()
        self.assertEqual(self.hears(), [180] * (MOST_WAITING - 1) + [200])
        self.assertEqual(self.passage.gates, [])

    def test_refused(self) -> None:
        """A branch that may not go out ends as the passage says; another one goes on."""
        carol = self.network.phone("carol")
        self.passage.holds = True
        self.begin(self.bob, carol)
        self.passage.refusal = Refusal(488)
        self.passage.open()
        self.passage.refusal, self.passage.holds = None, False
        for _ in ("the way to Carol", "the refusal"):
            self.passage.open()
        self.assertEqual((self.bob.heard(), carol.heard(), self.hears()), ([], ["INVITE"], []))
        carol.answer(200)
        self.assertEqual(self.hears(), [200])

    def test_cancelled_before_it_goes(self) -> None:
        """Nobody rings for a caller who gives up before the passage is ready."""
        self.passage.holds = True
        server = self.begin(self.bob)
        self.hangs_up(server)
        self.passage.open()
        self.assertEqual(self.hears(), [])
        self.passage.open()
        self.assertEqual((self.hears(), self.bob.heard()), ([487], []))
        self.acknowledge()

    def test_broken(self) -> None:
        """When the passage breaks the caller hears of it, and later answers are not lost."""
        self.begin(self.bob)
        self.bob.heard()
        self.passage.problem = ValueError("broken by the test")
        self.bob.answer(183)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.bob.answer(486)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.hears(), [486])
        self.acknowledge()

    def test_broken_success(self) -> None:
        """A 2xx that nobody could use ends the call."""
        self.begin(self.bob)
        self.bob.heard()
        self.passage.problem = ValueError("broken by the test")
        self.bob.answer(200)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.hears(), [500])
        self.acknowledge()
