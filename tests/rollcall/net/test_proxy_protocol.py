"""PROXY protocol v2 headers, whole, in pieces, and wrong."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.proxy_protocol import MAX_LENGTH, SIGNATURE, ProxyError, ProxyHeader, ProxyHeaderReader

IPV4 = bytes.fromhex("c0000201c63364019c4013c4")  # 192.0.2.1:40000 → 198.51.100.1:5060
IPV6 = bytes.fromhex("20010db800000000000000000000000120010db8000000000000000000000002") + b"\x9c\x40\x13\xc5"


def header(addresses: bytes = IPV4, command: int = 0x21, family: int = 0x11) -> bytes:
    """Return a header."""
    return SIGNATURE + bytes((command, family)) + len(addresses).to_bytes(2, "big") + addresses


def read(data: bytes) -> tuple[ProxyHeader, bytes] | None:
    """Return what a new reader makes of this."""
    return ProxyHeaderReader().receive_data(data)


class ProxyHeaderReaderTests(SynchronousTestCase):
    def test_ipv4(self) -> None:
        """A header over IPv4 tells both ends of the client's connection; the rest is the client's."""
        expected = ProxyHeader(("192.0.2.1", 40000), ("198.51.100.1", 5060))
        self.assertEqual(read(header() + b"OPTIONS"), (expected, b"OPTIONS"))

    def test_ipv6(self) -> None:
        """A header over IPv6 does the same."""
        expected = ProxyHeader(("2001:db8::1", 40000), ("2001:db8::2", 5061))
        self.assertEqual(read(header(IPV6, family=0x21)), (expected, b""))

    def test_ipv4_by_ipv6(self) -> None:
        """IPv4 addresses that a load balancer tells of as IPv6 ones are what they are: networks are told apart."""
        mapped = bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 7]) + bytes(10) + b"\xff\xff" + bytes([198, 51, 100, 1])
        found = read(header(mapped + b"\x13\xc4\x13\xc5", family=0x21))
        self.assertEqual(found, (ProxyHeader(("192.0.2.7", 5060), ("198.51.100.1", 5061)), b""))

    def test_extensions(self) -> None:
        """TLVs behind the addresses are skipped."""
        found = read(header(IPV4 + b"\x04\x00\x03abc"))
        self.assertEqual(found, (ProxyHeader(("192.0.2.1", 40000), ("198.51.100.1", 5060)), b""))

    def test_speaks_for_itself(self) -> None:
        """LOCAL (health checks) and an unspecified family name nobody."""
        for data in (header(b"", command=0x20, family=0), header(IPV4, command=0x20), header(b"", family=0)):
            self.assertEqual(read(data), (ProxyHeader(None, None), b""))

    def test_in_pieces(self) -> None:
        """A header may come octet by octet."""
        reader = ProxyHeaderReader()
        data = header()
        for at in range(len(data) - 1):
            self.assertIsNone(reader.receive_data(data[at : at + 1]))
        found = reader.receive_data(data[-1:] + b"rest")
        self.assertEqual(found, (ProxyHeader(("192.0.2.1", 40000), ("198.51.100.1", 5060)), b"rest"))

    def test_wrong(self) -> None:
        """What is no v2 header for TCP is refused, a wrong signature at its first wrong octet."""
        wrong = {
            "version 1": b"PROXY TCP4 192.0.2.1 198.51.100.1 40000 5060\r\n",
            "SIP": b"O",
            "a signature broken late": SIGNATURE[:-1] + b"X",
            "version 3": header(command=0x31),
            "an unknown command": header(command=0x22),
            "UDP": header(family=0x12),
            "a Unix socket": header(bytes(216), family=0x31),
            "too short for IPv4": header(IPV4[:-1]),
            "too short for IPv6": header(IPV4, family=0x21),
            "too long": header(bytes(MAX_LENGTH + 1)),
        }
        for what, data in wrong.items():
            with self.assertRaises(ProxyError, msg=what):
                read(data)

    def test_too_long_before_it_came(self) -> None:
        """The announced length counts."""
        self.assertRaises(ProxyError, read, SIGNATURE + b"\x21\x11\x08\x01")
        self.assertIsNone(read(SIGNATURE + b"\x21\x11\x08\x00"))

    @given(st.binary(max_size=100) | st.binary(max_size=60).map(lambda tail: SIGNATURE + tail))
    def test_noise(self, data: bytes) -> None:
        """Nothing but ProxyError comes of noise, and nothing is lost of what follows a header."""
        try:
            found = read(data)
        except ProxyError:
            return
        if found is not None:
            self.assertTrue(data.endswith(found[1]))
