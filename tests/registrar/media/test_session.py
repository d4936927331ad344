"""What is known of a call, and how messages within it are brought to count on."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.media.session import (
    CSEQ_JUMP,
    NOTHING_SENT,
    Side,
    adjust,
    as_offer,
    decode_session,
    encode_session,
    restore,
    with_version,
)
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import MAX_CSEQ
from rollcall.sip.message import Request, Response
from tests.registrar.media.examples import ALICE_SDP, BOB_SDP, a_session

SDP = (("Content-Type", "application/sdp"),)


def a_request(method: str, number: int, tag: str = "a", *headers: tuple[str, str], body: bytes = b"") -> Request:
    """Return a request within the call."""
    peer = "b" if tag == "a" else "a"
    return Request.new(method, "sip:x@192.0.2.9", (
        ("From", f"<sip:x@example.com>;tag={tag}"), ("To", f"<sip:y@example.com>;tag={peer}"), ("Call-ID", "c1"),
        ("CSeq", f"{number} {method}"), *headers), body)


class KeepingTests(SynchronousTestCase):
    """Calls as JSON."""

    def test_round_trip(self) -> None:
        """What was written is read again."""
        session = a_session(interval=90, refresher="callee", moves=2)
        self.assertEqual(decode_session(encode_session(session)), session)

    def test_foreign_bytes(self) -> None:
        """A phone may write bytes that are no UTF-8; they come back as they were."""
        name = b'"M\xfcller" <sip:m@example.com>;tag=a'.decode("utf-8", "surrogateescape")
        session = a_session(call_id="c\udcff1", caller=Side(tag="a", address=name))
        self.assertEqual(decode_session(encode_session(session)), session)

    def test_garbage(self) -> None:
        """What none of us has written is a ValueError and nothing else."""
        for data in (b"", b"{}", b"[]", b'{"call_id": 7}', b"\xff", b"[" * 100_000, b'{"call_id": "\\udc80"}'):
            with self.assertRaises(ValueError):
                decode_session(data)


class CountingTests(SynchronousTestCase):
    """CSeq and the version in "o=" after something was said in a phone's name."""

    def test_nothing_was_said(self) -> None:
        """As long as nobody has spoken for a phone its requests stay as they are."""
        request = a_request("BYE", 2)
        self.assertFalse(adjust(request, a_session()))
        self.assertEqual(request.get("CSeq"), "2 BYE")

    def test_next_request(self) -> None:
        """The phone's next request is higher than what was said in its name."""
        number, side = a_session().caller.spoken_for()
        request = a_request("BYE", 2)
        self.assertTrue(adjust(request, a_session(caller=side)))
        self.assertEqual((number, request.get("CSeq")), (1 + CSEQ_JUMP, f"{2 + CSEQ_JUMP} BYE"))

    def test_late_ack(self) -> None:
        """The ACK of what it has sent before keeps its number."""
        _, side = a_session().caller.spoken_for()
        request = a_request("ACK", 1)
        adjust(request, a_session(caller=side))
        self.assertEqual(request.get("CSeq"), "1 ACK")

    def test_silent_side(self) -> None:
        """A phone that has sent nothing may begin with CSeq 0: that too is higher than what was said for it."""
        number, side = a_session().callee.spoken_for()
        request = a_request("BYE", 0, "b")
        adjust(request, a_session(callee=side))
        self.assertEqual(a_session().callee.cseq, NOTHING_SENT)
        self.assertEqual(request.get("CSeq"), f"{number + 1} BYE")

    def test_other_side(self) -> None:
        """What is said for one side changes nothing for the other, and nothing for strangers."""
        _, side = a_session().caller.spoken_for()
        for tag in ("b", "z"):
            request = a_request("BYE", 5, tag)
            self.assertFalse(adjust(request, a_session(caller=side)))
            self.assertEqual(request.get("CSeq"), "5 BYE")

    @given(st.lists(st.integers(0, 3), max_size=12))
    def test_always_rising(self, steps: list[int]) -> None:
        """However often a phone speaks and is spoken for, its peer hears numbers that rise."""
        side, own, last = Side(tag="a"), -1, -1
        for step in steps:
            if step == 0:
                number, side = side.spoken_for()
            else:
                # What changes nothing in the call passes other nodes and is not noted.
                own += 1
                number = own + side.offset(own)
                side = side.with_request(own) if step > 1 else side
            self.assertGreater(number, last)
            last = number

    def test_end_of_numbers(self) -> None:
        """A phone that has counted nearly to the end is not spoken for."""
        with self.assertRaises(ParseError):
            Side(cseq=MAX_CSEQ - CSEQ_JUMP).spoken_for()

    def test_rack(self) -> None:
        """A PRACK names the INVITE by the number that its receiver has heard."""
        session = a_session(caller=evolve(a_session().caller, offsets=((0, 10), (1, 20))))
        request = a_request("PRACK", 2, "a", ("RAck", "776656 1 INVITE"))
        adjust(request, session)
        self.assertEqual((request.get("CSeq"), request.get("RAck")), ("22 PRACK", "776656 11 INVITE"))

    def test_answer(self) -> None:
        """An answer has the number that was asked with, and the version that its reader expects."""
        session = a_session(callee=evolve(a_session().callee, version_offset=3))
        response = Response.new(200, None, (("From", "<sip:x@example.com>;tag=a"), ("CSeq", "1002 INVITE"), *SDP),
                                BOB_SDP)
        restore(response, a_request("INVITE", 2), session)
        self.assertEqual(response.get("CSeq"), "2 INVITE")
        self.assertIn(b"o=bob 3 4 IN IP4 192.0.2.2\r\n", response.body)

    def test_version(self) -> None:
        """Only the version of the origin is raised, and only in a session description."""
        session = a_session(caller=evolve(a_session().caller, version_offset=2))
        request = a_request("INVITE", 2, "a", *SDP, body=ALICE_SDP)
        self.assertTrue(adjust(request, session))
        self.assertEqual(request.body, ALICE_SDP.replace(b"o=alice 5 7", b"o=alice 5 9"))
        other = a_request("INFO", 3, "a", ("Content-Type", "application/dtmf-relay"), body=b"o=a 1 1 x\r\n")
        self.assertFalse(adjust(other, session))
        self.assertEqual(with_version(b"v=0\r\n", 4), b"v=0\r\n")

    def test_version_in_a_part(self) -> None:
        """A description that is a part of the body is raised there."""
        body = b"--x\r\nContent-Type: application/sdp\r\n\r\n" + ALICE_SDP + b"\r\n--x--\r\n"
        request = a_request("INVITE", 2, "a", ("Content-Type", "multipart/mixed;boundary=x"), body=body)
        self.assertTrue(adjust(request, a_session(caller=evolve(a_session().caller, version_offset=2))))
        self.assertEqual(request.body, body.replace(b"o=alice 5 7", b"o=alice 5 9"))

    def test_answer_as_offer(self) -> None:
        """Who has answered that it begins the DTLS handshake leaves that open when the same is offered."""
        answer = b"v=0\r\na=setup:active\r\nm=audio 1 RTP/AVP 0\r\na=setup:passive\r\na=setup:holdconn\r\n"
        self.assertEqual(as_offer(answer), b"v=0\r\na=setup:actpass\r\nm=audio 1 RTP/AVP 0\r\na=setup:actpass\r\n"
                                           b"a=setup:holdconn\r\n")
