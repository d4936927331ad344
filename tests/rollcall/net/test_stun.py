"""STUN keepalives against vectors: RFC 5769's addresses and transaction, and datagrams that are no requests."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.stun import ATTRIBUTE, HEADER, MAGIC_COOKIE, MAX_REQUEST_BYTES, answer, is_stun

# RFC 5769 §2.2 and §2.3: the transaction of its sample responses.
TRANSACTION = bytes.fromhex("b7e7a701bc34d686fa87dfae")


def request(
    attributes: bytes = b"", kind: int = 0x0001, cookie: int = MAGIC_COOKIE, length: int | None = None
) -> bytes:
    """Return a Binding request, or what is nearly one."""
    return HEADER.pack(kind, len(attributes) if length is None else length, cookie, TRANSACTION) + attributes


def attribute(kind: int, value: bytes) -> bytes:
    """Return one attribute, padded."""
    return ATTRIBUTE.pack(kind, len(value)) + value + bytes(-len(value) % 4)


class AnswerTests(SynchronousTestCase):
    def test_ipv4(self) -> None:
        """192.0.2.1 port 32853 becomes the XOR-MAPPED-ADDRESS of RFC 5769 §2.2."""
        expected = "0101000c2112a442b7e7a701bc34d686fa87dfae" + "002000080001a147e112a643"
        self.assertEqual(answer(request(), ("192.0.2.1", 32853)), bytes.fromhex(expected))

    def test_ipv6(self) -> None:
        """2001:db8:1234:5678:11:2233:4455:6677 port 32853 becomes that of RFC 5769 §2.3."""
        expected = "010100182112a442b7e7a701bc34d686fa87dfae" + "002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9"
        found = answer(request(), ("2001:db8:1234:5678:11:2233:4455:6677", 32853))
        self.assertEqual(found, bytes.fromhex(expected))

    def test_scope(self) -> None:
        """A link-local peer's scope is no part of its address."""
        scoped, plain = answer(request(), ("fe80::1%eth0", 1)), answer(request(), ("fe80::1", 1))
        self.assertEqual(scoped, plain)

    def test_attributes_that_may_be_there(self) -> None:
        """SOFTWARE, FINGERPRINT, USERNAME and the like do not keep a request from its answer."""
        for kind in (0x0006, 0x0008, 0x0014, 0x0015, 0x8000, 0x8022, 0x8028):
            found = answer(request(attribute(kind, b"value")), ("192.0.2.1", 1))
            self.assertEqual(found, answer(request(), ("192.0.2.1", 1)), hex(kind))

    def test_unknown_attributes(self) -> None:
        """Attributes that we would have to understand are refused by 420, each named once (RFC 5389 §7.3.1)."""
        attributes = attribute(0x0003, bytes(4)) + attribute(0x7FFF, b"x") + attribute(0x0003, bytes(4))
        found = answer(request(attributes), ("192.0.2.1", 1)) or b""
        kind, length, cookie, transaction = HEADER.unpack_from(found)
        self.assertEqual((kind, cookie, transaction), (0x0111, MAGIC_COOKIE, TRANSACTION))
        self.assertEqual(length, len(found) - 20)
        self.assertIn(attribute(0x0009, b"\0\0\4\x14Unknown Attribute"), found)
        self.assertIn(attribute(0x000A, b"\0\x03\x7f\xff"), found)

    def test_no_request(self) -> None:
        """What is no well-formed Binding request gets no answer."""
        wrong = {
            "a response": request(kind=0x0101),
            "an indication": request(kind=0x0011),
            "another method": request(kind=0x0003),
            "no cookie, as in RFC 3489": request(cookie=0),
            "a length too long": request(length=4),
            "a length too short": request(attribute(0x8022, b"1234"), length=4),
            "a length not in fours": request(b"\0\0", length=2),
            "an attribute cut off": request(attribute(0x8022, b"1234")[:4]),
            "an attribute longer than the message": request(ATTRIBUTE.pack(0x8022, 5) + b"1234"),
            "cut off": request()[:19],
            "SIP": b"OPTIONS sip:example.com SIP/2.0\r\n\r\n",
            "nothing": b"",
        }
        for what, datagram in wrong.items():
            self.assertIsNone(answer(datagram, ("192.0.2.1", 1)), what)

    def test_bounded(self) -> None:
        """A request too long for a keepalive is not worth our time."""
        filler = attribute(0x8022, bytes(MAX_REQUEST_BYTES - 24))
        self.assertIsNotNone(answer(request(filler), ("192.0.2.1", 1)))
        self.assertIsNone(answer(request(filler + attribute(0x8022, b"")), ("192.0.2.1", 1)))

    def test_is_stun(self) -> None:
        """First octet and cookie tell STUN from SIP (RFC 5626 §8)."""
        self.assertTrue(is_stun(request(kind=0x0101)))
        self.assertFalse(is_stun(request(kind=0x0201)))
        self.assertFalse(is_stun(request(cookie=1)))

    @given(st.binary(max_size=700) | st.binary(max_size=600).map(request))
    def test_noise(self, datagram: bytes) -> None:
        """Whatever comes, the answer is None or no longer than three times the question and an address."""
        found = answer(datagram, ("2001:db8::1", 5060))
        if found is not None:
            self.assertLessEqual(len(found), 3 * len(datagram) + 24)
            self.assertEqual(len(found) % 4, 0)
