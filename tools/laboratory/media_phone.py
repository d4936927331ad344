"""One phone of the lab with real audio: its connection to a SIP proxy, its registration and its one call at a time.

It has a loopback address of its own, so that its carrier is known by its address, as that of any phone.
"""

import re
import socket
from collections.abc import Callable
from itertools import count
from select import EPOLLIN
from typing import Protocol

from attrs import define, field, frozen

from tests.cluster.fleet_loop import Loop
from tests.cluster.phone_text import Fields, Message, Proof, request, response, taken
from tools.laboratory.media_audio import Audio

READ_BYTES = 65536
CONNECT_SECONDS = 5.0
RTP_PORT = 20000
MAX_CHALLENGES = 2

_CONNECTION = re.compile(rb"^c=IN IP4 ([0-9.]+)", re.MULTILINE)
_AUDIO = re.compile(rb"^m=audio ([0-9]+) ", re.MULTILINE)


@frozen(kw_only=True)
class Subscriber:
    """Who a phone is, and where."""

    user: str
    password: str = field(default="", repr=False)
    host: str
    """The phone's own address."""
    carrier: str


class PhoneCall(Protocol):
    """A call as its phones see it."""

    def answered(self, phone: "MediaPhone", answer: Message) -> None:
        """An answer to a request of this phone has come."""

    def asked(self, phone: "MediaPhone", message: Message) -> None:
        """A request has come."""


class Exchange(Protocol):
    """Who knows all phones and calls."""

    loop: Loop
    domain: str
    proxy: tuple[str, int]

    def call_of(self, call_id: str) -> PhoneCall | None:
        """Return the call with this Call-ID."""


@define(eq=False)
class MediaPhone:
    """Everything here happens in the loop's thread."""

    exchange: Exchange = field(repr=False)
    number: int
    who: Subscriber
    audio: Audio = field(init=False, repr=False)
    proxy: tuple[str, int] | None = None
    """Where it connects, when that is not where all connect."""
    local: str = ""
    is_registered: bool = False
    is_busy: bool = False
    call_proof: Proof | None = field(default=None, repr=False)
    problems: list[str] = field(factory=list)
    _socket: socket.socket | None = field(default=None, repr=False)
    _data: bytearray = field(factory=bytearray, repr=False)
    _proof: Proof | None = field(default=None, repr=False)
    _challenges: int = 0
    _cseq: int = 0
    _versions: Callable[[], int] = field(factory=lambda: count(1).__next__, repr=False)
    _branches: Callable[[], int] = field(factory=lambda: count(1).__next__, repr=False)

    def __attrs_post_init__(self) -> None:
        self.audio = Audio(self.exchange.loop, self.who.host, RTP_PORT)

    @property
    def aor(self) -> str:
        """Its user's address-of-record."""
        return f"sip:{self.who.user}@{self.exchange.domain}"

    @property
    def contact(self) -> str:
        """Where it is."""
        return f"sip:{self.who.user}@{self.local};transport=tcp"

    # --- its connection

    def enter(self) -> None:
        """Connect and register."""
        self._socket = socket.create_connection(self.proxy or self.exchange.proxy, CONNECT_SECONDS, (self.who.host, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        host, port = self._socket.getsockname()
        self.local = f"{host}:{port}"
        self.exchange.loop.watch(self._socket, self, EPOLLIN)
        self._register()

    def close(self) -> None:
        """End the connection and its audio."""
        self.audio.close()
        self._disconnect("")

    def send(self, data: bytes) -> None:
        """Send a message; a proxy that reads so little that there is no room for it loses the connection."""
        try:
            if self._socket is not None:
                self._socket.sendall(data)
        except OSError as error:
            self._disconnect(f"cannot send: {error}")

    def ready(self, events: int) -> None:
        """Read what has come."""
        if self._socket is None:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._disconnect(f"broken: {error}")
            return
        if not data:
            self._disconnect("ended by the proxy")
            return
        self._data += data
        for message in taken(self._data):
            self._take(message)

    def _disconnect(self, why: str) -> None:
        if self._socket is not None:
            self.exchange.loop.forget(self._socket)
            self._socket.close()
            self._socket = None
            self.is_registered = False
            if why:
                self.problems.append(why)

    # --- its registration

    def _register(self) -> None:
        self._cseq += 1
        uri = f"sip:{self.exchange.domain}"
        fields = [
            ("From", f"<{self.aor}>;tag=phone{self.number}"), ("To", f"<{self.aor}>"),
            ("Call-ID", f"register-{self.local}"), ("CSeq", f"{self._cseq} REGISTER"),
            ("Contact", f"<{self.contact}>"), ("Expires", "3600"),
        ]
        if self._proof is not None:
            fields.append(self._proof.field("REGISTER", uri))
        self.ask("REGISTER", uri, fields)

    def _register_answered(self, answer: Message) -> None:
        if answer.status == 200:
            self.is_registered = True
        elif answer.status == 401 and self._challenges < MAX_CHALLENGES:
            self._challenges += 1
            self._proof = Proof(answer, self.who.user, self.who.password)
            self._register()
        elif answer.status >= 200:
            self.problems.append(answer.start)

    # --- what it says

    def ask(self, method: str, uri: str, fields: Fields, sdp: bytes = b"", branch: str = "") -> None:
        """Send a request; only that of a CANCEL or of an ACK to a refusal is an old `branch`."""
        self.send(request(method, uri, self.local, branch or self.branch(), fields, sdp))

    def branch(self) -> str:
        """Return what makes a branch new."""
        return f"m{self.number}b{self._branches()}p{self.local.rpartition(':')[2]}"

    def answer(self, message: Message, status: int, reason: str, sdp: bytes = b"") -> None:
        """Answer a request."""
        self.send(response(message, status, reason, f"callee{self.number}", [("Contact", f"<{self.contact}>")], sdp))

    def sdp(self) -> bytes:
        """Return an offer or answer of PCMU at our address."""
        host = self.who.host
        return (f"v=0\r\no=- {1000 + self.number} {self._versions()} IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\n"
                f"t=0 0\r\nm=audio {self.audio.port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
                "a=sendrecv\r\n").encode()

    # --- what comes

    def _take(self, message: Message) -> None:
        if message.method == "REGISTER":
            self._register_answered(message)
            return
        call = self.exchange.call_of(message.get("call-id"))
        if call is None:
            if not message.status and message.method != "ACK":
                self.answer(message, 481, "Call/Transaction Does Not Exist")
        elif message.status:
            call.answered(self, message)
        else:
            call.asked(self, message)


def audio_of(sdp: bytes) -> tuple[str, int] | None:
    """Return where an offer or answer wants to have audio; None when it has none."""
    host, port = _CONNECTION.search(sdp), _AUDIO.search(sdp)
    return (host[1].decode(), int(port[1])) if host and port and int(port[1]) else None
