"""The HTTP request that opens a WebSocket, with all that can be wrong in it."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.upgrade import Upgraded, UpgradeReader, UpgradeRefused

# RFC 7118 §4.1's example and its answer.
REQUEST = (
    "GET / HTTP/1.1\r\n"
    "Host: sip-ws.example.com\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Origin: http://www.example.com\r\n"
    "Sec-WebSocket-Protocol: sip\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "\r\n"
)
ANSWER = (
    "HTTP/1.1 101 Switching Protocols\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    "Sec-WebSocket-Protocol: sip\r\n"
    "\r\n"
)
ANY: frozenset[str] = frozenset()


def upgrade(request: str, origins: frozenset[str] = ANY) -> Upgraded | None:
    """Give a request to a new reader."""
    return UpgradeReader(1024, origins).receive_data(request.encode("latin-1"))


class UpgradeTests(SynchronousTestCase):
    def refused(self, request: str, origins: frozenset[str] = ANY) -> UpgradeRefused:
        refused = self.assertRaises(UpgradeRefused, upgrade, request, origins)
        assert isinstance(refused, UpgradeRefused)
        self.assertTrue(refused.answer.startswith(f"HTTP/1.1 {refused.status} ".encode()))
        head, _, body = refused.answer.partition(b"\r\n\r\n")
        self.assertIn(b"\r\nContent-Length: %d" % len(body), head)
        self.assertIn(b"\r\nConnection: close", head)
        return refused

    def test_example(self) -> None:
        """The example of RFC 7118 §4.1 gets the answer given there."""
        self.assertEqual(upgrade(REQUEST), Upgraded(ANSWER.encode(), b""))

    def test_in_pieces(self) -> None:
        """A request may come octet by octet; what follows it belongs to the WebSocket."""
        reader = UpgradeReader(1024, ANY)
        for octet in REQUEST.encode()[:-1]:
            self.assertIsNone(reader.receive_data(bytes((octet,))))
        self.assertEqual(reader.receive_data(b"\n\x81\x80"), Upgraded(ANSWER.encode(), b"\x81\x80"))

    def test_as_browsers_write(self) -> None:
        """Lists, several protocols, other case and folded spaces are understood."""
        request = REQUEST.replace("Connection: Upgrade", "connection:  keep-alive, upgrade ")
        request = request.replace("Upgrade: websocket", "UPGRADE: WebSocket")
        request = request.replace("Protocol: sip", "Protocol: msrp\r\nSec-WebSocket-Protocol: SIP , xmpp")
        self.assertEqual(upgrade(request), Upgraded(ANSWER.encode(), b""))

    def test_plain_http(self) -> None:
        """Whoever opens the address in a browser learns what is spoken there."""
        refused = self.refused("GET /index.html HTTP/1.1\r\nHost: example.com\r\n\r\n")
        self.assertEqual(refused.status, 426)
        self.assertIn(b"\r\nUpgrade: websocket\r\n", refused.answer)

    def test_wrong_requests(self) -> None:
        """Each requirement of RFC 6455 §4.2.1 and RFC 7118 §4.1 is checked."""
        table = (
            ("GET / HTTP/1.1", "POST / HTTP/1.1", 405),
            ("GET / HTTP/1.1", "GET / HTTP/1.0", 400),
            ("GET / HTTP/1.1", "GET /", 400),
            ("GET / HTTP/1.1", "OPTIONS sip:example.com SIP/2.0", 400),
            ("GET / HTTP/1.1", "\x16\x03\x01\x02", 400),
            ("Host: sip-ws.example.com\r\n", "", 400),
            ("Upgrade: websocket", "Upgrade: h2c", 426),
            ("Connection: Upgrade", "Connection: close", 400),
            ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dG9vIHNob3J0", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "???", 400),
            ("dGhlIHNhbXBsZSBub25jZQ==", "\xe9\xe9", 400),
            ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
            ("Sec-WebSocket-Version: 13\r\n", "", 426),
            ("Sec-WebSocket-Protocol: sip\r\n", "", 400),
            ("Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Protocol: msrp", 400),
            ("Host: ", "Host : ", 400),
            ("Host: ", "no colon\r\nHost: ", 400),
            ("Host: ", " folded\r\nHost: ", 400),
        )
        for old, new, status in table:
            self.assertIn(old, REQUEST)
            self.assertEqual(self.refused(REQUEST.replace(old, new)).status, status, new)

    def test_other_version(self) -> None:
        """Who speaks another version is told ours (RFC 6455 §4.4)."""
        refused = self.refused(REQUEST.replace("Version: 13", "Version: 7"))
        self.assertIn(b"\r\nSec-WebSocket-Version: 13\r\n", refused.answer)

    def test_origins(self) -> None:
        """With a list of origins only their pages may connect, and clients that are no pages."""
        ours = frozenset(("https://phone.example.com",))
        self.assertEqual(self.refused(REQUEST, ours).status, 403)
        self.assertIsNotNone(upgrade(REQUEST.replace("http://www.example.com", "https://Phone.example.com"), ours))
        self.assertIsNotNone(upgrade(REQUEST.replace("Origin: http://www.example.com\r\n", ""), ours))

    def test_bounded(self) -> None:
        """A request larger than allowed is refused as soon as it is."""
        self.assertEqual(self.refused("GET / HTTP/1.1\r\nX: " + "x" * 1024).status, 431)
        self.assertEqual(self.refused(REQUEST.replace("Host: ", "X: " + "x" * 1024 + "\r\nHost: ")).status, 431)

    @given(st.text(st.characters(max_codepoint=255), max_size=200), st.integers(0, len(REQUEST)))
    def test_noise(self, noise: str, at: int) -> None:
        """Nothing but UpgradeRefused comes of noise, wherever it stands."""
        try:
            upgrade(REQUEST[:at] + noise + REQUEST[at:])
        except UpgradeRefused as refused:
            self.assertIn(b"\r\n\r\n", refused.answer)
