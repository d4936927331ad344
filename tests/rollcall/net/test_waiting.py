"""While there is a backlog REGISTERs wait, and whatever else comes goes before them."""

from typing import Any

from rollcall.net import descriptors, waiting
from rollcall.net.config import EngineConfig, LimitsConfig
from tests.rollcall.net.engines import EngineTestCase
from tests.rollcall.net.fakes import OPTIONS
from tests.rollcall.net.phones import Phone, a_usual_register, an_answer_to
from tests.rollcall.net.test_proxy_protocol import header


class BacklogTests(EngineTestCase):
    """An engine that serves few in a turn, and thinks that what it reads has waited as long as the test says."""

    def setUp(self) -> None:
        """Begin."""
        self.quiet = 0.0
        self.waits: list[float] = []
        self.patch(descriptors, "quiet_seconds", lambda descriptor: self.quiet)
        super().setUp()
        self.restart(EngineConfig(coalesce_ms=0, max_events_per_turn=2))
        self.connections.on_wait = lambda seconds, now: self.waits.append(seconds)
        self.patch(waiting, "PORTION", 1)

    def register(self, *phones: Phone) -> None:
        """Let phones register, each with its own number."""
        for number, phone in enumerate(phones, 1):
            phone.send(a_usual_register(number))
        self.ready()

    def test_no_backlog(self) -> None:
        """What has not waited is served in its order, and nobody is told of waits unless a turn was too short."""
        phones = [phone for phone, _ in self.phones(4)]
        self.register(*phones[:1])
        self.turn()
        self.assertEqual((self.user.quick, self.waits), ([1], []))
        self.register(*phones)
        self.turn()
        self.assertEqual((len(self.user.quick), self.waits), (3, [0.0]))

    def test_calls_first(self) -> None:
        """A request of a call is served before the REGISTERs that came before it."""
        phones = self.phones(8)
        self.turn()  # so that the epoll knows that nobody has anything to say
        self.quiet = 1.0
        self.register(*(phone for phone, _ in phones[:7]))
        phones[7][0].send(OPTIONS)
        self.ready()
        self.turn()
        self.assertEqual((len(self.user.quick), self.user.messages), (2, []))
        order: list[str] = []
        self.user.message_received = lambda data, flow: order.append("call")  # type: ignore[method-assign]
        answer = self.user.short_way
        self.user.short_way = lambda *asked: order.append("register") or answer(*asked)  # type: ignore
        self.until(lambda: len(self.user.quick) == 7)
        self.assertEqual(order, ["call", *["register"] * 5])

    def test_all_are_answered(self) -> None:
        """Everybody gets his own answer, who never said anything before too, and there is no backlog after that."""
        self.quiet = 1.0
        known, strangers = [phone for phone, _ in self.phones(5)], [self.phone() for _ in range(3)]
        self.register(*known, *strangers)
        self.until(lambda: len(self.user.quick) == 8)
        self.ready()
        for number, phone in enumerate((*known, *strangers), 1):
            self.assertEqual(phone.look(), an_answer_to(number))
        self.quiet = 0.0
        self.turn()
        self.turn()
        self.assertFalse(self.engine._waiting.is_needed)

    def test_nothing_more_comes(self) -> None:
        """What was read and left to the next turns is served, although nothing comes that would wake us up for them."""
        phones = [phone for phone, _ in self.phones(6)]
        self.turn()
        answer = self.user.short_way

        def slowly(*asked: Any) -> bytes | None:
            self.reactor.rightNow += 1.0
            return answer(*asked)

        self.user.short_way = slowly  # type: ignore[assignment,method-assign]
        self.quiet = 1.0
        self.register(*phones)
        self.turn()
        self.turn()
        self.assertEqual((len(self.user.quick), len(self.engine._waiting)), (3, 3))
        self.reactor.pump([0] * 3)
        self.assertEqual((len(self.user.quick), len(self.engine._waiting)), (6, 0))

    def test_how_long(self) -> None:
        """It is told how long those wait who wait longest, in the kernel and with us."""
        phones = [phone for phone, _ in self.phones(6)]
        self.quiet = 0.5
        self.register(*phones)
        self.turn()
        self.assertEqual(self.waits, [0.5])
        self.quiet = 0.0
        self.patch(self.engine, "_turn_seconds", 0.0)
        self.turn()
        self.reactor.rightNow += 2.0
        self.turn()
        self.assertAlmostEqual(self.waits[-1], 2.0, places=2)

    def test_left_while_waiting(self) -> None:
        """Who is gone when it is his turn is passed over."""
        phones = self.phones(6)
        self.quiet = 1.0
        self.patch(self.engine, "_turn_seconds", 0.0)
        self.register(*(phone for phone, _ in phones))
        self.turn()
        self.turn()
        left = len(self.engine._waiting)
        self.assertGreater(left, 0)
        for _, flow in phones:
            flow.close("enough")
        served = len(self.user.quick)
        for phone, _ in phones:
            phone.reset()
        self.until(lambda: not self.connections.flows())
        self.until(lambda: not self.engine._waiting)
        self.assertLess(len(self.user.quick), served + left)

    def waiting_phones(self, count: int) -> list[tuple[Phone, Any]]:
        """Return those of so many phones whose REGISTERs were read and wait, in their order."""
        phones = self.phones(count)
        self.engine._turn()
        self.quiet = 1.0
        self.patch(self.engine, "_turn_seconds", 0.0)
        self.register(*(phone for phone, _ in phones))
        while len(self.user.quick) + len(self.engine._waiting) < count:
            self.engine._turn()
        order = [waiter[2] for waiter in self.engine._waiting._queue]
        self.assertGreater(len(order), 1)
        return sorted((each for each in phones if each[1] in order), key=lambda each: order.index(each[1]))

    def test_closed_while_waiting(self) -> None:
        """Nothing is bound any more to a connection that we have closed."""
        phones = self.waiting_phones(6)
        served = len(self.user.quick)
        for _, flow in phones:
            flow.confirm()
            flow.close("drained")
        self.until(lambda: not self.engine._waiting)
        self.assertEqual(len(self.user.quick), served)

    def test_order(self) -> None:
        """What a phone says after its REGISTER is served after it, and each REGISTER once; a ping may overtake."""
        phone, _ = self.waiting_phones(12)[-1]
        number = self.engine._waiting._queue[-1][0].cseq
        first, second = f"register {number}", "register 13"
        order: list[str] = []
        answer = self.user.short_way
        self.user.message_received = lambda data, flow: order.append("call")  # type: ignore[method-assign]

        def noted(register: Any, *more: Any) -> bytes | None:
            order.append(f"register {register.cseq}")
            return answer(register, *more)

        self.user.short_way = noted  # type: ignore[assignment,method-assign]
        phone.send(b"\r\n\r\n")
        self.ready()
        self.engine._turn()
        self.assertEqual(phone.look(), b"\r\n")
        self.assertNotIn(first, order)
        phone.send(OPTIONS)
        self.ready()
        self.engine._turn()
        self.assertLess(order.index(first), order.index("call"))
        phone.send(a_usual_register(13))
        self.ready()
        self.until(lambda: not self.engine._waiting)
        self.assertEqual([each for each in order if each in (first, "call", second)], [first, "call", second])
        self.assertEqual(len(self.user.quick), 13)
        self.assertEqual(self.engine._waiting._of_flow, {})

    def test_last_words(self) -> None:
        """Who sends a REGISTER and ends his side at once is answered."""
        phone, _ = self.waiting_phones(6)[-1]
        number = self.engine._waiting._queue[-1][0].cseq
        phone.finish()
        self.until(lambda: len(self.user.quick) == 6)
        self.ready()
        self.assertEqual(phone.look(), an_answer_to(number))

    def test_connections_say_nothing(self) -> None:
        """It is not said that nobody waits because somebody connects while others do."""
        phones = [phone for phone, _ in self.phones(4)]
        self.turn()
        self.quiet = 0.5
        self.register(*phones[:1])
        self.phone()
        self.register(*phones[1:])
        self.turn()
        self.assertEqual(self.waits, [0.5])

    def test_after_a_proxy(self) -> None:
        """A REGISTER that came together with a PROXY header waits as others do, and is answered."""
        self.restart(EngineConfig(coalesce_ms=0, max_events_per_turn=2), proxy_protocol_from=("127.0.0.0/8",))
        self.engine._waiting.is_needed = True
        self.patch(self.engine, "_turn_seconds", 0.0)
        self.quiet = 1.0
        phones = [self.phone() for _ in range(4)]
        for number, phone in enumerate(phones, 1):
            phone.send(header() + a_usual_register(number))
        most = 0
        while len(self.user.quick) < 4:
            self.ready()
            self.turn()
            most = max(most, len(self.engine._waiting))
        self.assertGreater(most, 0)
        self.ready()
        self.assertEqual([phone.look() for phone in phones], [an_answer_to(number) for number in range(1, 5)])

    def test_left_to_the_whole_way(self) -> None:
        """What the short way does not take is handed over whole."""
        phones = [phone for phone, _ in self.phones(5)]
        self.quiet = 1.0
        self.user.is_quick = False
        self.register(*phones)
        self.until(lambda: len(self.user.messages) == 5)

    def test_broken_user(self) -> None:
        """Whatever goes wrong with one, the others are served."""
        phones = [phone for phone, _ in self.phones(4)]
        self.quiet = 1.0
        self.register(*phones)
        self.turn()
        self.patch(self.connections, "hand_over", lambda data, flow: 1 / 0)
        self.user.is_quick = False
        self.until(lambda: len(self.user.quick) == 4)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_bounded(self) -> None:
        """When too many wait nobody more is read but one at a time."""
        self.patch(waiting, "MAX_WAITING", 3)
        phones = [phone for phone, _ in self.phones(10)]
        self.quiet = 1.0
        self.patch(self.engine, "_turn_seconds", 0.0)
        self.register(*phones)
        most = 0
        while len(self.user.quick) < 10:
            self.turn()
            most = max(most, len(self.engine._waiting))
        self.assertLessEqual(most, 4)


class PaceTests(EngineTestCase):
    def test_put_off(self) -> None:
        """Connections beyond the pace wait in the kernel's backlog, and are accepted in their time."""
        self.restart(limits=LimitsConfig(accepts_per_second=100))
        for _ in range(15):
            self.phone()
        self.ready()
        self.turn()
        self.assertEqual((self.tallies.accepted, self.tallies.accepts_put_off), (10, 1))
        self.turn()
        self.assertEqual(self.tallies.accepted, 10)
        for _ in range(30):
            self.reactor.advance(0.01)
            self.turn()
        self.assertEqual(self.tallies.accepted, 15)
