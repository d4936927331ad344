"""Globally routable user agent URIs (RFC 5627): they lead to one phone, and a temporary one says nothing about it.

Alice calls with sipp. The phones are ours, since only a test can read a GRUU from one's answer and let another call it.
"""

from rollcall.sip.headers import NameAddr, parse_name_addr, unquote
from rollcall.sip.message import response_to
from tests.interop.phone import Phone
from tests.interop.script import DOMAIN, has
from tests.interop.sipp_case import SippCase

DESK, MOBILE = (f"urn:uuid:00000000-0000-1000-8000-000a95a0e1{number}" for number in (28, 29))


class GruuTests(SippCase):
    """Bob has two phones."""

    def setUp(self) -> None:
        super().setUp()
        self.bob = self.subscriber("bob", "unused")

    def registered(self, instance: str, transport: str = "TCP", call_id: str = "1") -> tuple[Phone, NameAddr]:
        """Return a phone and what the registrar says about its contact."""
        phone = self.phone(self.bob.user, transport)
        return phone, self.register(phone, instance, call_id)

    def register(self, phone: Phone, instance: str, call_id: str = "1") -> NameAddr:
        fields = [("Contact", f'<{phone.contact}>;+sip.instance="<{instance}>"'), ("Supported", "gruu")]
        phone.send(phone.make("REGISTER", f"sip:{DOMAIN}", fields, to=f"<{self.bob.address}>", call_id=call_id))
        answer = phone.final()
        self.assertEqual(answer.status, 200)
        (contact,) = [value for value in map(parse_name_addr, answer.values("Contact")) if value.uri == phone.contact]
        return contact

    def check_rings(self, uri: str, phone: Phone, *silent: Phone) -> None:
        """Alice calls `uri`: this phone is busy, the others hear nothing."""
        alice = self.script("alice")
        alice.invite(uri)
        alice.refused(486)
        calling = self.start(alice)
        invite = phone.request()
        self.assertEqual(invite.uri, phone.contact)
        phone.answer(invite, 486)
        calling.check()
        self.assertEqual(phone.request().method, "ACK")
        for other in silent:
            self.check_silent(other)

    def check_refused(self, uri: str, status: int) -> None:
        alice = self.script("alice")
        alice.invite(uri)
        alice.refused(status)
        self.play(alice, "tcp")

    def test_public(self) -> None:
        """A public GRUU is the address with the instance, and leads to that phone alone."""
        (desk, contact), (mobile, other) = self.registered(DESK), self.registered(MOBILE, "UDP")
        self.assertEqual(_gruu(contact, "pub-gruu"), f"{self.bob.address};gr={DESK}")
        self.check_rings(_gruu(contact, "pub-gruu"), desk, mobile)
        self.check_rings(_gruu(other, "pub-gruu"), mobile, desk)

    def test_temporary(self) -> None:
        """A temporary GRUU leads to its phone alone too, and shows neither user nor instance."""
        (desk, contact), (mobile, other) = self.registered(DESK), self.registered(MOBILE, "UDP")
        for value in (contact, other):
            self.assertNotIn(self.bob.user, _gruu(value, "temp-gruu"))
            self.assertNotIn("0e12", _gruu(value, "temp-gruu"))
        self.check_rings(_gruu(contact, "temp-gruu"), desk, mobile)
        self.check_rings(_gruu(other, "temp-gruu"), mobile, desk)

    def test_many_temporary(self) -> None:
        """Each refresh brings another temporary GRUU, and those from before stay good."""
        phone, contact = self.registered(DESK)
        gruus = [_gruu(contact, "temp-gruu"), _gruu(self.register(phone, DESK), "temp-gruu")]
        self.assertNotEqual(gruus[0], gruus[1])
        for gruu in gruus:
            self.check_rings(gruu, phone)

    def test_new_series(self) -> None:
        """When the phone begins a new Call-ID its temporary GRUUs end; the public one stays (§5.1)."""
        phone, contact = self.registered(DESK)
        old, new = _gruu(contact, "temp-gruu"), _gruu(self.register(phone, DESK, "2"), "temp-gruu")
        self.check_refused(old, 404)
        self.check_rings(new, phone)
        self.check_rings(_gruu(contact, "pub-gruu"), phone)

    def test_phone_away(self) -> None:
        """Without its phone a public GRUU is 480 and a temporary one 404, although another phone of Bob is there."""
        (desk, contact), (mobile, _) = self.registered(DESK), self.registered(MOBILE)
        desk.close()
        self.registrar.wait_contacts(self.bob.user, 1)
        self.check_refused(_gruu(contact, "pub-gruu"), 480)
        self.check_refused(_gruu(contact, "temp-gruu"), 404)
        self.check_silent(mobile)

    def test_made_up(self) -> None:
        """What looks like a temporary GRUU and is none does not exist; nor does the GRUU of an unknown user."""
        for user in ("tgruu.AAAA", "tgruu.", "someone"):
            self.check_refused(f"sip:{user}@{DOMAIN};gr", 404)
        self.check_refused(f"sip:nobody@{DOMAIN};gr={DESK}", 404)

    def test_all_phones(self) -> None:
        """The address itself still leads to both."""
        phones = [self.registered(instance)[0] for instance in (DESK, MOBILE)]
        alice = self.script("alice")
        alice.invite(self.bob.address)
        alice.refused(486)
        calling = self.start(alice)
        for phone in phones:
            phone.answer(phone.request(), 486)
        calling.check()

    def test_as_contact(self) -> None:
        """A phone may answer a call with its GRUU as Contact: what follows in the dialog reaches it."""
        phone, contact = self.registered(DESK)
        gruu = _gruu(contact, "pub-gruu")
        alice = self.script("alice")
        alice.invite(self.bob.user)
        alice.expect(200, has("Contact", f"<{gruu}>"))
        alice.acknowledge()
        alice.hang_up()
        calling = self.start(alice, "tcp")
        invite = phone.request()
        recorded = [("Record-Route", value) for value in invite.get_all("Record-Route")]
        phone.send(response_to(invite, 200, to_tag="desk", headers=[*recorded, ("Contact", f"<{gruu}>")]))
        self.assertEqual(phone.request().method, "ACK")
        bye = phone.request()
        self.assertEqual(bye.method, "BYE")
        phone.answer(bye, 200)
        calling.check()


def _gruu(contact: NameAddr, name: str) -> str:
    return unquote(contact.params[name] or "")
