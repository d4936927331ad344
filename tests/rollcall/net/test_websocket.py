"""WebSocket framing: RFC 6455 §5.7's examples, what breaks the rules, and wsproto as the client."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Pong, TextMessage
from wsproto.events import Ping as WsprotoPing

from rollcall.net.websocket import (
    Close,
    CloseCode,
    Event,
    Message,
    Ping,
    WebSocketError,
    WebSocketFramer,
    close_frame,
    mask,
    message_frame,
    pong_frame,
)

KEY = bytes.fromhex("37fa213d")
TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


def client_frame(first: int, payload: bytes, length: bytes | None = None, masked: bool = True) -> bytes:
    """Return a frame as a client sends it; `length` replaces the length octets."""
    if length is None:
        if len(payload) < 126:
            length = bytes((len(payload),))
        elif len(payload) < 65536:
            length = b"\x7e" + len(payload).to_bytes(2, "big")
        else:
            length = b"\x7f" + len(payload).to_bytes(8, "big")
    if masked:
        return bytes((first, length[0] | 0x80)) + length[1:] + KEY + mask(payload, KEY)
    return bytes((first,)) + length + payload


def receive(*data: bytes, size: int = 1000) -> list[Event]:
    """Return what a new framer makes of these pieces."""
    framer = WebSocketFramer(size)
    return [event for piece in data for event in framer.receive_data(piece)]


class ReceivingTests(SynchronousTestCase):
    def code(self, *data: bytes, size: int = 1000) -> CloseCode:
        error = self.assertRaises(WebSocketError, receive, *data, size=size)
        assert isinstance(error, WebSocketError)
        return error.code

    def test_masked_text(self) -> None:
        """The masked "Hello" of RFC 6455 §5.7 is understood."""
        self.assertEqual(receive(bytes.fromhex("818537fa213d7f9f4d5158")), [Message(b"Hello")])

    def test_binary(self) -> None:
        """A binary message may hold any octets (RFC 7118 §4.2)."""
        self.assertEqual(receive(client_frame(BINARY, b"\xff\x00")), [Message(b"\xff\x00")])

    def test_lengths(self) -> None:
        """All three forms of a length are understood."""
        for size in (0, 1, 125, 126, 65535, 65536):
            payload = b"x" * size
            self.assertEqual(receive(client_frame(TEXT, payload), size=65536), [Message(payload)], str(size))

    def test_in_pieces(self) -> None:
        """Frames may be cut anywhere."""
        data = client_frame(TEXT, b"x" * 200) + client_frame(PING, b"p") + client_frame(BINARY, b"y")
        expected = [Message(b"x" * 200), Ping(b"p"), Message(b"y")]
        self.assertEqual(receive(data), expected)
        self.assertEqual(receive(*(data[at : at + 1] for at in range(len(data)))), expected)

    def test_fragments(self) -> None:
        """Fragments make one message, control frames between them are seen at once (§5.4)."""
        events = receive(
            client_frame(0x01, b"Hel"),
            client_frame(PING, b"p"),
            client_frame(0x00, b""),
            client_frame(PONG, b"p"),
            client_frame(0x80, b"lo"),
            client_frame(TEXT, b"next"),
        )
        self.assertEqual(events, [Ping(b"p"), Message(b"Hello"), Message(b"next")])

    def test_text_cut_within_a_character(self) -> None:
        """Only the whole message has to be UTF-8."""
        self.assertEqual(receive(client_frame(0x01, b"\xc3"), client_frame(0x80, b"\xa9")), [Message("é".encode())])

    def test_fragments_out_of_place(self) -> None:
        """A continuation of nothing, and a new message within another, break the rules."""
        self.assertEqual(self.code(client_frame(0x80, b"x")), CloseCode.PROTOCOL_ERROR)
        self.assertEqual(self.code(client_frame(0x01, b"x"), client_frame(TEXT, b"y")), CloseCode.PROTOCOL_ERROR)
        self.assertEqual(self.code(client_frame(0x01, b""), client_frame(TEXT, b"y")), CloseCode.PROTOCOL_ERROR)

    def test_broken_rules(self) -> None:
        """Reserved bits, unknown opcodes, missing masks and bad control frames end the WebSocket with 1002."""
        broken = {
            "RSV1": client_frame(0xC1, b"x"),
            "opcode 3": client_frame(0x83, b"x"),
            "opcode 11": client_frame(0x8B, b"x"),
            "not masked": client_frame(TEXT, b"x", masked=False),
            "a ping in fragments": client_frame(0x09, b"x"),
            "a long ping": client_frame(PING, b"x" * 126),
            "16 bits for 125": client_frame(TEXT, b"x" * 125, length=b"\x7e\x00\x7d"),
            "64 bits for 65535": client_frame(TEXT, b"", length=b"\x7f" + (65535).to_bytes(8, "big")),
            "63 bits exceeded": client_frame(TEXT, b"", length=b"\x7f" + (1 << 63).to_bytes(8, "big")),
            "a close of one octet": client_frame(CLOSE, b"\x03"),
            **{
                f"a close with {code}": client_frame(CLOSE, code.to_bytes(2, "big"))
                for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)
            },
            "a close whose reason is no text": client_frame(CLOSE, b"\x03\xe8\xff"),
        }
        for what, data in broken.items():
            self.assertEqual(self.code(data), CloseCode.PROTOCOL_ERROR, what)

    def test_wrong_text(self) -> None:
        """Text that is no UTF-8 ends the WebSocket with 1007."""
        self.assertEqual(self.code(client_frame(TEXT, b"\xff")), CloseCode.INVALID_TEXT)
        self.assertEqual(self.code(client_frame(0x01, b"\xc3"), client_frame(0x80, b"")), CloseCode.INVALID_TEXT)

    def test_bounded(self) -> None:
        """Too big a message ends the WebSocket with 1009 before it came, also in fragments."""
        announced = b"\x81\xfe\x03\xe9"  # 1001 octets
        self.assertEqual(self.code(announced), CloseCode.TOO_BIG)
        self.assertEqual(self.code(client_frame(0x01, b"x" * 600), client_frame(0x00, b"x" * 401)), CloseCode.TOO_BIG)
        self.assertEqual(receive(client_frame(TEXT, b"x" * 1000)), [Message(b"x" * 1000)])

    def test_what_came_before(self) -> None:
        """Messages before the broken rule are not lost."""
        error = self.assertRaises(WebSocketError, receive, client_frame(TEXT, b"one") + b"\xff\xff")
        assert isinstance(error, WebSocketError)
        self.assertEqual(error.completed, [Message(b"one")])

    def test_close(self) -> None:
        """A close tells its code, or 1005 when it has none."""
        self.assertEqual(receive(client_frame(CLOSE, b"\x03\xe8bye")), [Close(1000)])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999):
            self.assertEqual(receive(client_frame(CLOSE, code.to_bytes(2, "big"))), [Close(code)])
        self.assertEqual(receive(client_frame(CLOSE, b"")), [Close(1005)])

    @given(st.lists(st.binary(max_size=50), max_size=5))
    def test_noise(self, pieces: Sequence[bytes]) -> None:
        """Nothing but WebSocketError comes of noise."""
        try:
            receive(*pieces)
        except WebSocketError as error:
            self.assertIn(error.code, CloseCode)

    @given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=200))
    def test_noise_in_frames(self, first: int, length: int, payload: bytes) -> None:
        """Nor of noise that looks like a frame."""
        try:
            receive(bytes((first, length)) + payload)
        except WebSocketError as error:
            self.assertIn(error.code, CloseCode)


class SendingTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The unmasked "Hello" of RFC 6455 §5.7."""
        self.assertEqual(message_frame(b"Hello"), bytes.fromhex("810548656c6c6f"))

    def test_binary(self) -> None:
        """A message that is no UTF-8 goes as binary (RFC 7118 §4.2)."""
        self.assertEqual(message_frame(b"\xff"), b"\x82\x01\xff")

    def test_mask(self) -> None:
        """To mask twice is to do nothing, at any length."""
        for length in (0, 1, 3, 4, 5, 1000):
            data = bytes(range(256)) * 4
            self.assertEqual(mask(mask(data[:length], KEY), KEY), data[:length])
        self.assertEqual(mask(b"Hello", KEY), bytes.fromhex("7f9f4d5158"))


class WsprotoTests(SynchronousTestCase):
    """Both sides joined in memory: ours and wsproto's client."""

    def setUp(self) -> None:
        self.client = Connection(ConnectionType.CLIENT)
        self.framer = WebSocketFramer(1 << 20)

    @given(st.lists(st.one_of(st.text(max_size=300), st.binary(max_size=300)), max_size=5), st.integers(1, 64))
    def test_to_us(self, messages: list[str | bytes], step: int) -> None:
        """What wsproto sends we understand, in pieces of any size."""
        client, framer = Connection(ConnectionType.CLIENT), WebSocketFramer(1 << 20)
        stream = b""
        for message in messages:
            event = TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)
            stream += client.send(event)
        pieces = (stream[at : at + step] for at in range(0, len(stream), step))
        received = [event for piece in pieces for event in framer.receive_data(piece)]
        expected = [Message(each.encode() if isinstance(each, str) else each) for each in messages]
        self.assertEqual(received, expected)

    def test_fragments_to_us(self) -> None:
        """wsproto's fragments make one message."""
        stream = self.client.send(TextMessage(data="Hel", message_finished=False)) + self.client.send(
            TextMessage(data="lo", message_finished=True)
        )
        self.assertEqual(self.framer.receive_data(stream), [Message(b"Hello")])

    def test_from_us(self) -> None:
        """What we send wsproto understands, each length and kind."""
        for size in (0, 125, 126, 65535, 65536):
            self.client.receive_data(message_frame(b"x" * size))
            text = "".join(str(event.data) for event in self.client.events() if isinstance(event, TextMessage))
            self.assertEqual(text, "x" * size)
        self.client.receive_data(message_frame(b"\xff\xfe"))
        (event,) = self.client.events()
        assert isinstance(event, BytesMessage)
        self.assertEqual(bytes(event.data), b"\xff\xfe")

    def test_ping(self) -> None:
        """Our pong carries what wsproto's ping carried."""
        (ping,) = self.framer.receive_data(self.client.send(WsprotoPing(payload=b"there?")))
        assert isinstance(ping, Ping)
        self.client.receive_data(pong_frame(ping.data))
        (event,) = self.client.events()
        assert isinstance(event, Pong)
        self.assertEqual(event.payload, b"there?")

    def test_close(self) -> None:
        """Each side understands the other's close."""
        self.client.receive_data(close_frame(CloseCode.TOO_BIG, "message too big"))
        (event,) = self.client.events()
        assert isinstance(event, CloseConnection)
        self.assertEqual((event.code, event.reason), (1009, "message too big"))
        self.assertEqual(self.framer.receive_data(self.client.send(event.response())), [Close(1009)])
