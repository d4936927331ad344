"""Tests of rollcall.sip.framing."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.errors import ParseError
from rollcall.sip.framing import FramingError, FramingLimits, Keepalive, StreamFramer
from rollcall.sip.message import Request, parse_message

PING, PONG = Keepalive.PING, Keepalive.PONG
LIMITS = FramingLimits(max_head_bytes=400, max_body_bytes=100)


def a_message(body: bytes = b"", length: str | None = None, extra: str = "") -> bytes:
    """Return a small MESSAGE, with a Content-Length of its own when `length` is given."""
    if length is None:
        length = f"Content-Length: {len(body)}\r\n"
    return f"MESSAGE sip:bob@example.com SIP/2.0\r\nCall-ID: 1\r\n{extra}{length}\r\n".encode() + body


def framed(*chunks: bytes) -> list[bytes | Keepalive]:
    framer = StreamFramer(LIMITS)
    return [event for chunk in chunks for event in framer.receive_data(chunk)]


class MessageTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A message that arrives whole comes out as it is."""
        self.assertEqual(framed(a_message()), [a_message()])
        self.assertEqual(framed(a_message(b"hello")), [a_message(b"hello")])

    def test_several(self) -> None:
        """Messages in one segment come out in order."""
        messages = [a_message(b"one"), a_message(), a_message(b"\0\r\n\r\n\xff")]
        self.assertEqual(framed(b"".join(messages)), messages)

    def test_byte_by_byte(self) -> None:
        """A message comes out with its last byte, however it was cut."""
        data = a_message(b"body") + b"\r\n\r\n" + a_message()
        for size in (1, 2, 3, 7, 50, len(data)):
            got = framed(*[data[place : place + size] for place in range(0, len(data), size)])
            self.assertEqual([event for event in got if isinstance(event, bytes)], [a_message(b"body"), a_message()])

    def test_long_head_before_short_one(self) -> None:
        """How far one head was searched says nothing of the next."""
        data = a_message(extra="Subject: " + "x" * 200 + "\r\n")
        self.assertEqual(framed(data[:-1], data[-1:], a_message()[:-1], a_message()[-1:]), [data, a_message()])
        self.assertEqual(framed(data[:-1], data[-1:] + a_message()), [data, a_message()])

    def test_incomplete(self) -> None:
        """Nothing comes out before a message is whole, and what came is not lost."""
        framer = StreamFramer(LIMITS)
        data = a_message(b"hello")
        self.assertEqual(framer.receive_data(data[:-1]), [])
        self.assertEqual(framer.receive_data(b""), [])
        self.assertEqual(framer.receive_data(data[-1:] + data), [data, data])

    def test_bytes_not_views(self) -> None:
        """Messages that were put together from pieces are bytes of their own."""
        framer = StreamFramer(LIMITS)
        framer.receive_data(b"M")
        (message,) = framer.receive_data(a_message()[1:])
        self.assertIs(type(message), bytes)

    def test_spellings_of_content_length(self) -> None:
        """Content-Length is found in any case, compact, folded and between blanks (RFC 3261 §7.3)."""
        for line in (
            "Content-Length: 2\r\n",
            "CONTENT-LENGTH:2\r\n",
            "content-length \t : \t 2 \r\n",
            "l:2\r\n",
            "L : 0000000002\r\n",
            "Content-Length:\r\n 2\r\n",
            "Content-Length:\r\n\t\r\n 2\r\n \r\n",
            "l: 2\r\nContent-Length: 2\r\n",
            "l: 2\r\nSubject: x\r\n",
        ):
            data = a_message(b"ok", line)
            self.assertEqual(framed(data + data), [data, data], line)

    def test_decoys(self) -> None:
        """What only looks like Content-Length is none."""
        for extra in ("X-Content-Length: 9\r\n", "Subject: l: 9\r\n", "Subject: x\r\n l: 9\r\n", "Label: 9\r\n"):
            data = a_message(b"ok", extra=extra)
            self.assertEqual(framed(data), [data], extra)

    def test_parser_agrees(self) -> None:
        """What is cut out of a stream parses, with the same body."""
        for event in framed(a_message(b"hello", "Content-Length:\r\n 5\r\n") + a_message(b"x")):
            assert isinstance(event, bytes)
            parsed = parse_message(event)
            self.assertTrue(event.endswith(b"\r\n\r\n" + parsed.body))


class KeepaliveTests(SynchronousTestCase):
    def test_ping(self) -> None:
        """A double CRLF between messages is a ping (RFC 5626 §4.4.1)."""
        self.assertEqual(framed(b"\r\n\r\n"), [PING])
        self.assertEqual(framed(a_message() + b"\r\n\r\n" + a_message()), [a_message(), PING, a_message()])

    def test_pong(self) -> None:
        """A single CRLF is what answers a ping; before a message it is ignored all the same (RFC 3261 §7.5)."""
        self.assertEqual(framed(b"\r\n"), [PONG])
        self.assertEqual(framed(b"\r\n" + a_message()), [PONG, a_message()])

    def test_ping_in_pieces(self) -> None:
        """A ping that arrives in pieces is answered, once."""
        self.assertEqual(framed(b"\r", b"\n", b"\r", b"\n").count(PING), 1)
        self.assertEqual(framed(b"\r\n", b"\r\n").count(PING), 1)
        self.assertEqual(framed(b"\r\n\r", b"\n").count(PING), 1)

    def test_pongs_apart(self) -> None:
        """Two pongs with a message between them are no ping."""
        self.assertEqual(framed(b"\r\n", a_message(), b"\r\n"), [PONG, a_message(), PONG])

    def test_pings_in_a_row(self) -> None:
        """A flood of CRLFs asks for no more than one answer per segment."""
        self.assertEqual(framed(b"\r\n" * 10000), [PING])
        self.assertEqual(framed(b"\r\n" * 3 + a_message()), [PING, a_message()])

    def test_keepalive_inside_body(self) -> None:
        """CRLFs that belong to a body are no keepalive."""
        data = a_message(b"\r\n\r\n")
        self.assertEqual(framed(data[:-4], data[-4:]), [data])


class LossTests(SynchronousTestCase):
    def assert_lost(self, status: int, *chunks: bytes) -> FramingError:
        framer = StreamFramer(LIMITS)
        for chunk in chunks[:-1]:
            framer.receive_data(chunk)
        error: FramingError = self.assertRaises(FramingError, framer.receive_data, chunks[-1])
        self.assertEqual(error.status, status)
        self.assertIs(self.assertRaises(FramingError, framer.receive_data, a_message()), error)
        return error

    def test_no_length(self) -> None:
        """Without Content-Length nobody knows where the body ends (RFC 3261 §18.3)."""
        data = a_message(length="Subject: x\r\n")
        self.assertEqual(self.assert_lost(400, data + b"body").head, data)

    def test_malformed_lengths(self) -> None:
        """A length that is no number, or does not fit any memory, loses the stream (RFC 4475 §3.1.2.3)."""
        for value in ("", "five", "-999", "+1", "1 1", "0x10", "1.0", "9" * 11, "9" * 100, "5\r6", "١"):
            self.assert_lost(400, a_message(length=f"Content-Length: {value}\r\n"))

    def test_conflicting_lengths(self) -> None:
        """Two lengths that differ lose the stream, however they are spelled (RFC 4475 §3.3.9)."""
        for lines in ("Content-Length: 13\r\nContent-Length: 5\r\n", "l: 1\r\nSubject: x\r\nCONTENT-LENGTH: 2\r\n"):
            self.assert_lost(400, a_message(b"x" * 13, lines))

    def test_body_too_large(self) -> None:
        """A body over the limit is refused before it comes (RFC 3261 §21.4.11)."""
        self.assertEqual(framed(a_message(b"x" * 100)), [a_message(b"x" * 100)])
        error = self.assert_lost(413, a_message(length="Content-Length: 101\r\n"))
        self.assertIn(b"Call-ID: 1", error.head)

    def test_head_too_large(self) -> None:
        """A head over the limit is refused, whole or not (RFC 3261 §21.5.7)."""
        data = a_message(extra="Subject: " + "x" * 400 + "\r\n")
        self.assertEqual(len(self.assert_lost(513, data).head), 400)
        self.assert_lost(513, data[:401])
        self.assert_lost(513, data[:300], data[300:401])
        fitting = a_message(extra="Subject: " + "x" * (400 - len(a_message()) - len("Subject: \r\n")) + "\r\n")
        self.assertEqual((len(fitting), framed(fitting)), (400, [fitting]))

    def test_line_feeds_only(self) -> None:
        """A peer that ends lines with LF learns it at once, not when a time limit ends."""
        self.assert_lost(400, a_message().replace(b"\r\n", b"\n"))
        self.assert_lost(400, b"OPTIONS sip:a SIP/2.0\nl: 0\n", b"\n")

    def test_stray_carriage_return(self) -> None:
        """A CR without LF between messages loses the stream."""
        self.assert_lost(400, b"\rM")
        self.assert_lost(400, a_message() + b"\r", b"\r")

    def test_completed_before_loss(self) -> None:
        """What was whole before the loss, in the same segment, is not lost with it."""
        error = self.assert_lost(400, b"\r\n\r\n" + a_message(b"x") + a_message(length="l: x\r\n"))
        self.assertEqual(error.completed, [PING, a_message(b"x")])
        self.assertEqual(error.head, a_message(length="l: x\r\n"))

    def test_is_parse_error(self) -> None:
        """A lost stream is an error of parsing, with a reason to tell."""
        error = self.assert_lost(400, a_message(length="Subject: x\r\n"))
        self.assertIsInstance(error, ParseError)
        self.assertEqual(str(error), "no Content-Length")


BODIES = st.one_of(st.binary(max_size=60), st.sampled_from([b"\r\n", b"\r\n\r\n", b"l: 5\r\n\r\n"]))
EVENTS = st.lists(st.one_of(BODIES.map(a_message), st.just(PING)), max_size=5)
CUTS = st.lists(st.integers(0, 400), max_size=8)


class PropertyTests(SynchronousTestCase):
    @settings(max_examples=200, deadline=None)
    @given(EVENTS, CUTS)
    def test_cuts_do_not_matter(self, events: list[bytes | Keepalive], cuts: list[int]) -> None:
        """The same messages come out wherever the stream was cut."""
        data = b"".join(event if isinstance(event, bytes) else b"\r\n\r\n" for event in events)
        places = [0, *sorted(cuts), len(data)]
        got = framed(*[data[start:end] for start, end in pairwise(places)])
        whole = [event for event in events if event is not PING]
        self.assertEqual([event for event in got if isinstance(event, bytes)], whole)
        self.assertEqual(PING in got, PING in events)

    @settings(max_examples=300, deadline=None)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=20),
                st.sampled_from(
                    [b"\r\n", b"\r", b"\n", b"\r\n\r\n", b"l:", b"Content-Length: 3", a_message(b"abc"), b"x" * 399]
                ),
            ),
            max_size=12,
        )
    )
    def test_only_framing_errors(self, chunks: list[bytes]) -> None:
        """No stream makes the framer raise anything but FramingError, or hold more than its limits."""
        framer = StreamFramer(LIMITS)
        most = LIMITS.max_head_bytes + LIMITS.max_body_bytes
        for chunk in chunks:
            try:
                events = framer.receive_data(chunk)
            except FramingError as error:
                self.assertIn(error.status, {400, 413, 513})
                self.assertLessEqual(len(error.head), most)
                return
            for event in events:
                self.assertTrue(isinstance(event, Keepalive) or len(event) <= most)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(BODIES, min_size=1, max_size=4))
    def test_serialised_messages(self, bodies: list[bytes]) -> None:
        """Messages that we wrote can be cut out of a stream again."""
        requests = [Request.new("MESSAGE", "sip:a", [("Call-ID", "l: 5")], body) for body in bodies]
        events = framed(b"".join(request.serialise() for request in requests))
        self.assertEqual([parse_message(event) for event in events if isinstance(event, bytes)], requests)
