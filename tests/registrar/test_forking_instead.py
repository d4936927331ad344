"""Calls that go elsewhere when nobody takes them, as the fork sees it: while others look, and with lost phones."""

from collections.abc import Callable

from registrar.forking import Fork, Groups, Way
from registrar.sending import Forwarded
from rollcall.net.tokens import FlowName
from rollcall.net.transactions import ServerTransaction
from rollcall.sip.forwarding import loop_mark
from tests.flows import a_request
from tests.registrar.forks import CONFIG, ForkCase
from tests.registrar.network import Phone


class Elsewhere:
    """An Instead that is asked, and answers when the test lets it."""

    def __init__(self, seconds: float | None = None) -> None:
        self.ring_seconds = seconds
        self.asked: list[tuple[int, bool]] = []
        self.found: Callable[[Way | None], None] | None = None
        self.is_nowhere = False

    def divert(self, status: int, rang: bool, found: Callable[[Way | None], None]) -> bool:
        """Take note."""
        if self.is_nowhere:
            return False
        self.asked.append((status, rang))
        self.found = found
        return True

    def stop(self) -> None:
        """Look no more."""
        self.found = None

    def answer(self, way: Way | None) -> None:
        """Say where the call goes."""
        found, self.found = self.found, None
        assert found is not None
        found(way)


class Lost:
    """A Return of phones that come back when the test says so."""

    def __init__(self) -> None:
        self.found: Callable[[Groups], None] | None = None

    def wait(self, found: Callable[[Groups], None]) -> bool:
        """Wait."""
        self.found = found
        return True

    def stop(self) -> None:
        """Wait no more."""
        self.found = None

    def unreached(self, flow: FlowName) -> None:
        """Take no note."""

    def end(self, groups: Groups) -> None:
        """Say what has come back."""
        found, self.found = self.found, None
        assert found is not None
        found(groups)


class InsteadTests(ForkCase):
    def setUp(self) -> None:
        super().setUp()
        self.bob, self.carol = self.network.phone("bob"), self.network.phone("carol")
        self.elsewhere = Elsewhere()

    def begin(self, *phones: Phone, returning: Lost | None = None) -> ServerTransaction:
        """Call these at once."""
        server = self.layer.begin(a_request("INVITE"), self.caller)
        forwarded = Forwarded(server.request, self.caller, loop_mark(server.request), True, b"call-1", 60)
        groups = [[phone.attempt() for phone in phones]] if phones else []
        Fork(server, forwarded, groups, self.network.sending, self.layer.transactions, CONFIG, self._end, returning,
             self.elsewhere).start()
        self.assertEqual(self.hears(), [100])
        return server

    def go_on(self, *phones: Phone, returning: Lost | None = None) -> None:
        """Say that the call goes to these."""
        self.elsewhere.answer(Way([[phone.attempt() for phone in phones]] if phones else [], returning))

    def test_asked(self) -> None:
        """What the phones said is what is asked with, and the answer waits for where the call goes."""
        self.begin(self.bob)
        self.bob.answer(486)
        self.assertEqual((self.elsewhere.asked, self.hears()), ([(486, False)], []))
        self.go_on(self.carol)
        self.assertEqual((self.hears(), self.carol.heard()), ([181], ["INVITE"]))
        self.elsewhere.is_nowhere = True
        self.carol.answer(404)
        self.assertEqual(self.hears(), [404])
        self.acknowledge()

    def test_nowhere_after_all(self) -> None:
        """Then the phones' answer is the caller's."""
        self.begin(self.bob)
        self.bob.answer(486)
        self.elsewhere.answer(None)
        self.assertEqual(self.hears(), [486])
        self.acknowledge()

    def test_cancelled_meanwhile(self) -> None:
        """A caller who gives up while it is looked where the call goes hears 487 at once, and nobody looks on."""
        server = self.begin(self.bob)
        self.bob.answer(486)
        self.hangs_up(server)
        self.assertEqual((self.hears(), self.elsewhere.found), ([487], None))
        self.acknowledge()

    def test_refused_meanwhile(self) -> None:
        """A phone that refuses while it is looked where its call goes has lost it all the same."""
        self.elsewhere.ring_seconds = 10
        self.begin(self.bob)
        self.bob.answer(180)
        self.layer.wait(11)
        self.bob.answer(603)
        self.assertEqual((self.elsewhere.asked, self.hears()), ([(408, True)], [180]))
        self.elsewhere.answer(None)
        self.assertEqual(self.hears(), [603])
        self.acknowledge()

    def test_answered_meanwhile(self) -> None:
        """A phone that answers while it is looked where its call goes has it, and nobody looks on."""
        self.elsewhere.ring_seconds = 10
        self.begin(self.bob)
        self.bob.answer(180)
        self.layer.wait(11)
        self.bob.answer(200)
        self.assertEqual((self.hears(), self.elsewhere.found), ([180, 200], None))

    def test_nobody_was_there(self) -> None:
        """Phones that were lost are waited for first; when they stay away, it is as if none had been there."""
        returning = Lost()
        self.begin(returning=returning)
        self.assertEqual(self.elsewhere.asked, [])
        returning.end([])
        self.assertEqual(self.elsewhere.asked, [(480, False)])
        self.go_on(self.carol)
        self.carol.answer(200)
        self.assertEqual(self.hears(), [181, 200])

    def test_next_ones_are_lost(self) -> None:
        """The phones where the call goes may have been lost, too; then they are waited for, whatever came before."""
        returning = Lost()
        self.begin(self.bob)
        self.bob.answer(486)
        self.go_on(self.carol, returning=returning)
        self.carol.answer(430)
        returning.end([[self.bob.attempt()]])
        self.bob.answer(200)
        self.assertEqual(self.hears(), [181, 200])

    def test_nobody_there_yet(self) -> None:
        """The call may go where phones are waited for, and the caller may give up then."""
        returning = Lost()
        server = self.begin(self.bob)
        self.bob.answer(486)
        self.go_on(returning=returning)
        self.hangs_up(server)
        self.assertEqual((self.hears(), returning.found), ([181, 487], None))
        self.acknowledge()

    def test_own_time_to_ring(self) -> None:
        """How long it rings before counts for each address anew."""
        self.elsewhere.ring_seconds = 10
        self.begin(self.bob)
        self.bob.answer(180)
        self.layer.wait(11)
        self.elsewhere.ring_seconds = 30
        self.go_on(self.carol)
        self.assertEqual(self.bob.heard(), ["INVITE", "CANCEL"])
        self.bob.answer(200, "CANCEL")
        self.bob.answer(487)
        self.layer.wait(5)
        self.carol.answer(180)
        self.layer.wait(29)
        self.assertEqual(len(self.elsewhere.asked), 1)
        self.layer.wait(2)
        self.assertEqual(self.elsewhere.asked, [(408, True), (408, True)])
        self.carol.answer(200)
        self.assertEqual(self.hears(), [180, 181, 180, 200])
