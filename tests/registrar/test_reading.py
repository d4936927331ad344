"""Tests of registrar.reading: from a REGISTER's header fields to what it asks for."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import NewContact, Register
from registrar.gruu import GruuMaker
from registrar.reading import read_register
from rollcall.sip.errors import ParseError
from rollcall.sip.message import Request, parse_message
from tests.registrar.examples import ALICE, OVER_UDP, PHONE

GRUUS = GruuMaker([b"k" * 32])


PHONES_VIA = "Via: SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1"


def a_request(*lines: str, uri: str = "sip:example.com", via: str = PHONES_VIA) -> Request:
    """Return a parsed REGISTER with these header fields beside the mandatory ones."""
    head = (f"REGISTER {uri} SIP/2.0", via, "To: <sip:alice@example.com>", "From: <sip:alice@example.com>;tag=1",
            "Call-ID: one@phone", "CSeq: 7 REGISTER", "Max-Forwards: 70", *lines, "Content-Length: 0", "", "")
    message = parse_message("\r\n".join(head).encode("utf-8", "surrogateescape"))
    assert isinstance(message, Request)
    return message


def read(*lines: str, **changes: str) -> Register:
    """Return what such a REGISTER asks for."""
    return read_register(a_request(*lines, **changes), ALICE, OVER_UDP, GRUUS)


def read_contact(value: str) -> NewContact:
    """Return what one Contact asks for."""
    (contact,) = read(f"Contact: {value}").contacts
    return contact


class RegisterTests(SynchronousTestCase):
    def test_plain(self) -> None:
        """The usual REGISTER of a phone is read whole."""
        register = read("m: <sip:alice@192.0.2.4>;expires=60", "Expires: 300", "User-Agent: Phone/1", "k: Path, GRUU")
        expected = Register(
            aor=ALICE, contacts=(NewContact("sip:alice@192.0.2.4", (), 1000, 60, None, None),), star=False, expires=300,
            call_id="one@phone", cseq=7, path=(), supported=frozenset({"path", "gruu"}), user_agent="Phone/1",
            source=OVER_UDP, direct=True, secure=False,
        )
        self.assertEqual(register, expected)

    def test_fetch_and_star(self) -> None:
        """Without Contact nothing is asked for; `*` is told apart from a list."""
        self.assertEqual((read().contacts, read().star, read().expires), ((), False, None))
        register = read("Contact: *", "Expires: 0")
        self.assertEqual((register.contacts, register.star, register.expires), ((), True, 0))

    def test_star_among_others(self) -> None:
        """`*` beside a contact is malformed: 400."""
        with self.assertRaises(ParseError) as caught:
            read("Contact: <sip:alice@192.0.2.4>", "Contact: *", "Expires: 0")
        self.assertEqual(caught.exception.status, 400)

    def test_malformed_expires(self) -> None:
        """A malformed time counts as an hour, and a huge one as the longest (RFC 3261 §10.2, RFC 4475 §3.1.2.4)."""
        date, huge = "Thu, 01 Dec 1994 16:00:00 GMT", "1" + 100 * "0"
        for text, seconds in (("soon", 3600), ("-1", 3600), (date, 3600), (huge, 2**32 - 1)):
            self.assertEqual(read(f"Expires: {text}").expires, seconds)
        for text, seconds in (("=soon", 3600), ("", 3600), ("=280297596632815", 2**32 - 1), ("=0", 0)):
            self.assertEqual(read_contact(f"<sip:alice@192.0.2.4>;expires{text}").expires, seconds)

    def test_who_is_our_peer(self) -> None:
        """One Via means that the phone itself is our peer, however many lines there are."""
        one, two = "SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK2", "SIP/2.0/UDP 192.0.2.4;branch=z9hG4bK1"
        self.assertTrue(read(via=f'Via: {one};x="a,b"').direct)
        self.assertFalse(read(via=f"Via: {one}, {two}").direct)
        self.assertFalse(read(via=f"Via: {one}\r\nv: {two}").direct)

    def test_path(self) -> None:
        """Path values come in order; `ob` counts in that of the first hop, which is the last (RFC 5626 §5.1)."""
        edge, inner = "<sip:flow@edge.example.com;lr;ob>", "<sip:inner.example.com;lr>"
        register = read(f"Path: {inner}, {edge}")
        self.assertEqual((register.path, register.outbound_path), ((inner, edge), True))
        self.assertFalse(read(f"Path: {edge}", f"Path: {inner}").outbound_path)

    def test_malformed_path(self) -> None:
        """A Path that cannot be a route later is refused now."""
        for value in ("sip", "<sip:>", "<>"):
            with self.assertRaises(ParseError):
                read(f"Path: {value}")

    def test_secure(self) -> None:
        """A registration is secure when Request-URI and Path are sips URIs (RFC 5630 §5.2)."""
        self.assertTrue(read(uri="sips:example.com").secure)
        self.assertTrue(read("Path: <sips:edge.example.com;lr>", uri="SIPS:example.com").secure)
        self.assertFalse(read("Path: <sip:edge.example.com;lr>", uri="sips:example.com").secure)
        self.assertFalse(read().secure)


class ContactTests(SynchronousTestCase):
    def test_parameters(self) -> None:
        """Feature parameters are kept as written, those that the registrar chooses itself are not (RFC 5627 §5.1)."""
        contact = read_contact(f'"A, B" <sip:alice@192.0.2.4;ob>;+sip.instance="<{PHONE}>";reg-id=1;q=0.75;expires=5'
                               ';audio;methods="INVITE, BYE";pub-gruu="sip:x@y";temp-gruu="sip:z@y"')
        self.assertEqual(contact.uri, "sip:alice@192.0.2.4;ob")
        self.assertEqual((contact.q, contact.expires, contact.instance, contact.reg_id), (750, 5, PHONE, 1))
        self.assertEqual(contact.params, (("+sip.instance", f'"<{PHONE}>"'), ("reg-id", "1"), ("audio", None),
                                          ("methods", '"INVITE, BYE"')))

    def test_whose_parameter_it_is(self) -> None:
        """Without brackets a parameter is the header's, within them the URI's (RFC 4475 §3.3.12, §3.3.13)."""
        contact = read_contact("sip:+19725552222@gw1.example.net;unknownparam")
        self.assertEqual((contact.uri, contact.params), ("sip:+19725552222@gw1.example.net", (("unknownparam", None),)))
        contact = read_contact("<sip:+19725552222@gw1.example.net;unknownparam>")
        self.assertEqual((contact.uri, contact.params), ("sip:+19725552222@gw1.example.net;unknownparam", ()))

    def test_instance(self) -> None:
        """The instance is taken out of quotes and brackets; an empty one is none."""
        for value, instance in ((f'"<{PHONE.upper()}>"', PHONE), (f'"{PHONE}"', PHONE), ('"<>"', None), ('""', None)):
            self.assertEqual(read_contact(f"<sip:alice@192.0.2.4>;+sip.instance={value}").instance, instance)
        self.assertIsNone(read_contact("<sip:alice@192.0.2.4>;+sip.instance").instance)

    def test_malformed(self) -> None:
        """A q or reg-id out of its range, or a malformed URI, is refused with 400."""
        for value in ("<sip:a@b>;q=2", "<sip:a@b>;q", "<sip:a@b>;reg-id=0", "<sip:a@b>;reg-id=2147483648",
                      "<sip:a@b>;reg-id", "<sip:a@b>;reg-id=" + 5000 * "9", "<sip:a@b:99999>", "<sip:>"):
            with self.assertRaises(ParseError) as caught:
                read_contact(value)
            self.assertEqual(caught.exception.status, 400)

    def test_schemes(self) -> None:
        """A contact of another scheme can be bound but not be sent to; a sips contact is told apart."""
        sip, sips, tel = (read_contact(f"<{uri}>") for uri in ("sip:a@b", "sips:a@b", "tel:+1555"))
        self.assertEqual([(each.routable, each.secure) for each in (sip, sips, tel)],
                         [(True, False), (True, True), (False, False)])

    def test_leading_back(self) -> None:
        """The address-of-record, and any GRUU of it, leads back to it; a port or another user does not."""
        for uri, loops in (
            (ALICE, True), ("sips:%61lice@EXAMPLE.com", True), (GRUUS.public(ALICE, PHONE), True),
            (GRUUS.temporary(ALICE, PHONE, 1), True), (GRUUS.temporary("sip:bob@example.com", PHONE, 1), False),
            ("sip:tgruu.forged@example.com;gr", False), ("sip:bob@example.com", False), (f"{ALICE}:5061", False),
            ("tel:+1555", False),
        ):
            self.assertEqual(read_contact(f'<{uri}>;+sip.instance="<{PHONE}>"').loops, loops, uri)

    def test_leading_back_without_instance(self) -> None:
        """Without an instance there is no GRUU to loop through: whoever wants his own address may have it."""
        self.assertFalse(read_contact(f"<{ALICE}>").loops)
