"""Phones over bare loopback sockets, which do with TCP what a well-behaved client would not."""

import socket
import struct

from rollcall.net.flow import Address, Flow
from rollcall.sip.framing import FramingLimits, Keepalive, StreamFramer
from rollcall.sip.scanner import UsualRegister
from tests.rollcall.net.fakes import RecordingUser

LIMITS = FramingLimits(max_head_bytes=1 << 20, max_body_bytes=1 << 20)


def a_usual_register(cseq: int = 1, length: bytes = b"Content-Length: 0\r\n") -> bytes:
    """Return a REGISTER that the short way may take."""
    return (
        b"REGISTER sip:example.com SIP/2.0\r\n"
        b"Via: SIP/2.0/TCP 192.0.2.1:5060;branch=z9hG4bK%d\r\n"
        b"From: <sip:alice@example.com>;tag=1\r\n"
        b"To: <sip:alice@example.com>\r\n"
        b"Call-ID: 1@192.0.2.1\r\n"
        b"CSeq: %d REGISTER\r\n"
        b"Contact: <sip:alice@192.0.2.1:5060;transport=tcp>\r\n"
        b"Max-Forwards: 70\r\n"
        b"%s\r\n" % (cseq, cseq, length)
    )


def an_answer_to(cseq: int) -> bytes:
    """Return what QuickUser answers."""
    return b"SIP/2.0 200 OK\r\nCSeq: %d REGISTER\r\nContent-Length: 0\r\n\r\n" % cseq


class QuickUser(RecordingUser):
    """Answers usual REGISTERs at once, unless it is told not to; keeps everything else it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.quick: list[int] = []
        self.is_quick = True

    def short_way(self, register: UsualRegister, flow: Flow, now: float) -> bytes | None:
        self.quick.append(register.cseq)
        return an_answer_to(register.cseq) if self.is_quick else None


class Phone:
    """A client. What it receives is read only when it is asked for."""

    def __init__(self, address: Address, receive_buffer_bytes: int = 0, source: str = "127.0.0.1") -> None:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family)
        if receive_buffer_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        if family == socket.AF_INET:
            self.socket.bind((source, 0))
        self.socket.connect(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.data = b""
        self.ended = ""
        """How the other end ended, empty while it has not."""

    @property
    def local(self) -> Address:
        host, port = self.socket.getsockname()[:2]
        return host, port

    def send(self, data: bytes) -> int:
        """Send what the kernel takes; return how much that was."""
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            self.ended = "reset"
            return 0

    def look(self, most: int = 1 << 20) -> bytes:
        """Read what has come, and return all that ever came."""
        try:
            data = self.socket.recv(most)
            if not data:
                self.ended = "ended"
            self.data += data
        except BlockingIOError:
            pass
        except ConnectionResetError:
            self.ended = "reset"
        return self.data

    def has_ended(self) -> bool:
        """Whether the other end ended; reads what has come before."""
        self.look()
        return bool(self.ended)

    def messages(self) -> list[bytes]:
        """Return the messages that came so far, without keepalives."""
        return [each for each in StreamFramer(LIMITS).receive_data(self.look()) if not isinstance(each, Keepalive)]

    def finish(self) -> None:
        """Send our end, and go on receiving."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Vanish."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def leave(self) -> None:
        """Close the connection."""
        self.socket.close()
