"""One address, many phones: forking at once and one by one, with sipp as every phone. RFC 3261 §§16.6, 16.7."""

from collections.abc import Iterable

from rollcall.sip.message import Request
from tests.interop.phone import Phone
from tests.interop.script import DOMAIN, HERE, Script, has, literal, says
from tests.interop.sipp_case import EVERYBODY, EXACT, SippCase

ELSEWHERE = 'SIP;cause=200;text="Call completed elsewhere"'


class ForkingCase(SippCase):
    """Phones of Bob, each with its script, and Alice, who calls."""

    sections = EVERYBODY + EXACT + "[proxy]\nring_seconds = 1.0\n"

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.script("alice")
        self.bob = self.script("bob").user

    def a_phone(self, q: str = "1.0") -> Script:
        """Return the script of one more phone of Bob, which registers and is called."""
        phone = self.script("bob")
        phone.register(f"Contact: {HERE.format(user=phone.user)};q={q}")
        phone.expect(200)
        phone.ready()
        phone.receive("INVITE")
        return phone

    def finish(self, *phones: tuple[Script, str], caller: str = "udp") -> None:
        """Let each phone register over its transport, then Alice call; all have to come to their ends."""
        called = [self.serve(phone, transport) for phone, transport in phones]
        self.play(self.alice, caller)
        for sipp in called:
            sipp.check()

    def call(self, *provisional: int) -> None:
        self.alice.invite(self.bob)
        for status in provisional:
            self.alice.expect(status)

    def talk(self) -> None:
        """As Alice: the call is answered, and she ends it."""
        self.alice.expect(200)
        self.alice.acknowledge()
        self.alice.hang_up()

    def refusing(self, statuses: Iterable[int], q: str = "1.0") -> list[tuple[Script, str]]:
        """Return phones that refuse, over one transport and the other in turn."""
        phones = []
        for number, status in enumerate(statuses):
            phone = self.a_phone(q)
            phone.refuse(status)
            phones.append((phone, ("udp", "tcp")[number % 2]))
        return phones


class ParallelTests(ForkingCase):
    """Phones of the same priority."""

    def test_one_answers(self) -> None:
        """All ring; when one answers the others are told to stop, and why, and their 487 is not heard by the caller."""
        waiting, answering = self.a_phone(), self.a_phone()
        waiting.answer(180)
        waiting.cancelled(has("Reason", literal(ELSEWHERE)))
        answering.pause(300)
        answering.answer(180)
        answering.accept()
        answering.hung_up()
        self.call(180)
        for _ in range(2):
            self.alice.expect(180, optional=True)
        self.talk()
        self.finish((waiting, "tcp"), (answering, "udp"), (waiting, "udp"), caller="tcp")

    def test_one_is_busy(self) -> None:
        """One that is busy does not stop the others from ringing."""
        answering = self.a_phone()
        answering.answer(180)
        answering.pause(300)
        answering.accept()
        answering.hung_up()
        self.call(180)
        self.talk()
        self.finish(*self.refusing([486]), (answering, "tcp"))

    def test_all_are_busy(self) -> None:
        """When all have refused the caller gets one refusal."""
        self.call()
        self.alice.refused(486)
        self.finish(*self.refusing([486, 486, 486]))

    def test_best_refusal(self) -> None:
        """A refusal that says something is preferred to one that says nobody was there, and to a failure."""
        self.call()
        self.alice.refused(486)
        self.finish(*self.refusing([480, 500, 486, 503]))

    def test_lowest_class(self) -> None:
        """A redirection is preferred to refusals (§16.7 step 6)."""
        self.call()
        self.alice.refused(302)
        self.finish(*self.refusing([486, 302]))

    def test_only_overloaded(self) -> None:
        """503 from all is not passed on: it would say that the server itself is overloaded."""
        self.call()
        self.alice.refused(500)
        self.finish(*self.refusing([503, 503]))

    def test_declined_everywhere(self) -> None:
        """A 6xx is for all phones: those that still ring are told to stop, and then the caller hears it."""
        ringing, declining = self.a_phone(), self.a_phone()
        ringing.answer(180)
        ringing.cancelled()
        declining.answer(180)
        declining.pause(300)
        declining.refuse(603)
        self.call(180, 180)
        self.alice.refused(603)
        self.finish((ringing, "tcp"), (declining, "udp"))

    def test_two_challenges(self) -> None:
        """Phones that want passwords of their own are all heard: the caller needs one for each (§16.7 step 7)."""
        phones = []
        for realm in ("desk", "mobile"):
            phone = self.a_phone()
            phone.refuse(407, f'Proxy-Authenticate: Digest realm="{realm}", nonce="x"')
            phones.append((phone, "udp"))
        self.call()
        each = [says(f'\nProxy-Authenticate: Digest realm="{realm}"') for realm in ("desk", "mobile")]
        self.alice.refused(407, *each)
        self.finish(*phones)

    def test_message_goes_to_all(self) -> None:
        """A MESSAGE reaches every phone; the first that takes it answers for all."""
        phones = [self.script("bob") for _ in range(2)]
        for phone in phones:
            phone.registered()
            phone.receive("MESSAGE")
            phone.answer(200)
        self.alice.request("MESSAGE", f"sip:{self.bob}@{DOMAIN}", body="lunch?")
        self.alice.expect(200)
        self.finish(*((phone, "tcp") for phone in phones))

    def test_both_answer(self) -> None:
        """When two answer at the same time the caller hears both 200s, and each phone gets its ACK and its BYE.

        With phones of ours: sipp holds one dialog only.
        """
        phones = [self.phone(self.bob, transport) for transport in ("UDP", "TCP")]
        for phone in phones:
            self.assertEqual(phone.register().status, 200)
        alice = self.phone("alice-both", "TCP")
        invite = alice.make("INVITE", f"sip:{self.bob}@{DOMAIN}", [("Contact", f"<{alice.contact}>")])
        alice.send(invite)
        invites = [phone.request() for phone in phones]
        for phone, request in zip(phones, invites, strict=True):
            phone.answer(request, 200, tag=phone.transport)
        answers = [alice.final() for _ in phones]
        self.assertEqual([answer.status for answer in answers], [200, 200])
        for answer in answers:
            (phone,) = [phone for phone in phones if f"tag={phone.transport}" in (answer.get("To") or "")]
            for method, cseq in (("ACK", 1), ("BYE", 2)):
                alice.send(alice.within(method, invite, answer, cseq))
                self.assertEqual(_next(phone).method, method)


def _next(phone: Phone) -> Request:
    """Return the next request that is neither sent again nor a CANCEL, which may have crossed the 200."""
    while (request := phone.request()).method in ("INVITE", "CANCEL"):
        continue
    return request


class SerialTests(ForkingCase):
    """Phones of different priorities."""

    def test_highest_first(self) -> None:
        """The phone of the highest q is called alone; when it answers the others never hear of it.

        The other is a phone of ours, which can tell that nothing came.
        """
        second = self.phone(self.bob)
        self.assertEqual(second.register(contact=f"<{second.contact}>;q=0.9").status, 200)
        first = self.a_phone("1.0")
        first.answer(180)
        first.accept()
        first.hung_up()
        called = self.serve(first, "tcp")
        self.call(180)
        self.talk()
        self.play(self.alice)
        called.check()
        self.check_silent(second)

    def test_busy(self) -> None:
        """When all of one priority have refused, those of the next are called at once."""
        last = self.a_phone("0.2")
        last.accept()
        last.hung_up()
        self.call()
        self.talk()
        self.finish(*self.refusing([486, 480]), *self.refusing([486], "0.5"), (last, "udp"))

    def test_nobody_answers(self) -> None:
        """Who rings for too long is told to stop when the next are called; then the caller hears of these alone."""
        first, second = self.a_phone("1.0"), self.a_phone("0.5")
        first.answer(180)
        first.cancelled()
        second.answer(183)
        second.pause(300)
        second.accept()
        second.hung_up()
        self.call(180, 183)
        self.talk()
        self.finish((first, "udp"), (second, "tcp"))

    def test_rings_out_and_away(self) -> None:
        """When nobody is at the last either the caller hears that, not the 487 of the one that rang."""
        first = self.a_phone("1.0")
        first.answer(180)
        first.cancelled()
        second = self.a_phone("0.5")
        second.pause(300)
        second.refuse(480)
        self.call(180)
        self.alice.refused(480)
        self.finish((first, "tcp"), (second, "udp"))

    def test_declined(self) -> None:
        """After a 6xx nobody else is called."""
        second = self.phone(self.bob)
        self.assertEqual(second.register(contact=f"<{second.contact}>;q=0.5").status, 200)
        first = self.a_phone("1.0")
        first.refuse(603)
        called = self.serve(first)
        self.call()
        self.alice.refused(603)
        self.play(self.alice)
        called.check()
        self.check_silent(second)

    def test_cancelled(self) -> None:
        """After a CANCEL nobody else is called."""
        second = self.phone(self.bob)
        self.assertEqual(second.register(contact=f"<{second.contact}>;q=0.5").status, 200)
        first = self.a_phone("1.0")
        first.answer(180)
        first.cancelled()
        called = self.serve(first)
        self.call(180)
        self.alice.cancel()
        self.alice.expect(200)
        self.alice.refused(487)
        self.play(self.alice)
        called.check()
        self.check_silent(second)
