"""Tests of where session descriptions are in messages, and of what is read from them."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.media.sdp import Codec, codec, describe, described, is_webrtc
from rollcall.sip.message import Request
from tests.flows import a_request
from tests.registrar.media.scripted import sdp

BROWSER = sdp("alice", media="audio 9 UDP/TLS/RTP/SAVPF 111 0")
PART = b"Content-Type: application/sdp\r\n\r\n"


def a_message(kind: str, body: bytes, encoding: str = "") -> Request:
    """Return a message with this body."""
    headers = (("Content-Type", kind), ("Content-Encoding", encoding)) if encoding else (("Content-Type", kind),)
    return a_request(headers=headers, body=body)


class DescribedTests(SynchronousTestCase):
    """A description is found, and another one put into its place."""

    def test_alone(self) -> None:
        """However the type is written."""
        for kind in ("application/sdp", "Application/SDP;charset=utf-8", "application/sdp ; x=y"):
            message = a_message(kind, b"v=0\r\n")
            describe(message, b"v=1\r\n")
            self.assertEqual(message.body, b"v=1\r\n", kind)

    def test_none(self) -> None:
        """Without a body, of another type, or encoded there is none, and nothing is changed."""
        for message in (
            a_message("application/sdp", b""), a_message("text/plain", b"v=0"), a_request(body=b"v=0"),
            a_message("application/sdp", b"\x1f\x8b", "gzip"), a_message("multipart/mixed", b"--x\r\n" + PART),
        ):
            body = message.body
            self.assertIsNone(described(message))
            describe(message, b"v=1\r\n")
            self.assertEqual(message.body, body)

    def test_parts(self) -> None:
        """In a multipart body it is the first part of its type, whatever stands before the first delimiter."""
        for before in (b"", b"To be ignored\r\n"):
            for sound in (b"v=0\r\n", b"v=0"):
                body = (before + b"--a b\r\nContent-Type: text/plain\r\n\r\nHello\r\n--a b\r\n" + PART + sound
                        + b"\r\n--a b\r\n" + PART + b"second\r\n--a b--\r\n")
                message = a_message('multipart/mixed; boundary="a b"', body)
                found = described(message)
                assert found is not None
                self.assertEqual(found.sdp, b"v=0\r\n")
                describe(message, b"v=1\r\n")
                self.assertEqual(message.body, body.replace(sound, b"v=1\r\n", 1))

    def test_broken_parts(self) -> None:
        """A multipart body without its delimiters, or whose description is encoded, has none."""
        for body in (b"", b"--x", b"--x\r\n", b"--x\r\n" + PART + b"v=0\r\n", b"nothing at all\r\n",
                     b"--x\r\nContent-Type: application/sdp\r\nContent-Transfer-Encoding: base64\r\n\r\ndj0w\r\n--x--",
                     b"--x\r\nContent-Type: text/plain\r\n\r\nv=0\r\n--x--"):
            self.assertIsNone(described(a_message("multipart/mixed;boundary=x", body)), body)


class ReadingTests(SynchronousTestCase):
    """The little that is read."""

    def test_webrtc(self) -> None:
        """A browser's sound is encrypted by DTLS."""
        self.assertTrue(is_webrtc(BROWSER))
        self.assertFalse(is_webrtc(sdp("alice", media="audio 4000 RTP/SAVP 0")))
        self.assertFalse(is_webrtc(b""))

    def test_codec(self) -> None:
        """The first codec of the first sound that is not refused is what will be heard."""
        opus = b"m=audio 0 RTP/AVP 0\r\nm=audio 9 X 111 0\r\na=rtpmap:0 PCMU/8000\r\na=rtpmap:111 opus/48000/2\r\n"
        for text, found in (
            (sdp("a"), Codec("PCMU", 8000)), (opus, Codec("opus", 48000)), (b"m=audio 1 RTP/AVP 18\r\n", Codec(
                "G729", 8000)), (b"m=image 1 udptl t38\r\n", Codec("", 8000)), (b"m=audio 1 RTP/AVP 77\r\n", Codec(
                    "", 8000)), (b"", Codec("", 8000)),
        ):
            self.assertEqual(codec(text), found, text)

    def test_codec_of_nonsense(self) -> None:
        """Numbers that are none in SDP are not read: others read them as integers of a few bytes."""
        for text in (b"m=audio " + b"9" * 5000 + b" RTP/AVP 0\r\n",
                     b"m=audio 4000 RTP/AVP 97\r\na=rtpmap:97 opus/" + b"9" * 5000 + b"\r\n"):
            self.assertEqual(codec(text), Codec("", 8000))
