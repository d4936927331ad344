"""One phone of a fleet: a connection to some registrar, and a registration that follows it to the next one.

Everything here happens in the fleet's thread; other threads may read what the phone is and has been told.
"""

import socket
from collections.abc import Callable
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING

from attrs import define, field

from tests.cluster.phone_text import Fields, Message, Proof, request, response, taken

if TYPE_CHECKING:
    from tests.cluster.fleet import Fleet

READ_BYTES = 65536
# A nonce may just have lapsed; who is challenged again after that is refused.
MAX_CHALLENGES = 2


@define(eq=False)
class FleetPhone:
    """One user's phone. It stays the same one, whatever registrar it speaks to."""

    fleet: "Fleet" = field(repr=False)
    index: int
    user: str
    password: str = field(repr=False)
    face: int
    """Which registrar it speaks to, or tries: an index of the fleet's faces."""
    source: str = ""
    """The address that it speaks from; empty for what its host chooses."""
    is_wanted: bool = False
    """Whether it is to be registered: then it connects again when its connection ends."""
    is_connected: bool = False
    is_registered: bool = False
    """Whether its last REGISTER over this connection was answered with 200 and bound it."""
    local: str = ""
    """host:port of its end of the connection."""
    cseq: int = 0
    """The CSeq of the last REGISTER that it has sent."""
    acknowledged: int = 0
    """The highest CSeq that was answered with 200."""
    acknowledged_contact: str = ""
    """The contact that this bound; empty when it removed the binding."""
    acknowledged_at: float = 0.0
    asked_at: float = 0.0
    """When the REGISTER was sent that waits for its answer; 0 when none does."""
    connecting_at: float = 0.0
    """When it began to connect last."""
    lost_at: float = 0.0
    """When its last connection ended."""
    back_at: float = 0.0
    """When it was registered again after that."""
    when_registered: list[Callable[[], None]] = field(factory=list, repr=False)
    call_proof: Proof | None = field(default=None, repr=False)
    _proof: Proof | None = field(default=None, repr=False)
    _challenges: int = 0
    _expires: int = 0
    _events: int = 0
    _socket: socket.socket | None = field(default=None, repr=False)
    _data: bytearray = field(factory=bytearray, repr=False)
    _out: bytearray = field(factory=bytearray, repr=False)

    @property
    def aor(self) -> str:
        """Its user's address-of-record."""
        return f"sip:{self.user}@{self.fleet.domain}"

    @property
    def contact(self) -> str:
        """Where it is over this connection."""
        return f"sip:{self.user}@{self.local};transport=tcp"

    @property
    def instance(self) -> str:
        """What it is, whatever its connection (RFC 5626 §4.1)."""
        return f'"<urn:uuid:00000000-0000-4000-8000-{self.index:012x}>"'

    # --- what it is told to do

    def enter(self) -> None:
        """Connect and register; from now on it is wanted."""
        self.is_wanted = True
        self.connect()

    def leave(self) -> None:
        """Remove the binding; from now on it is not wanted."""
        self.is_wanted = False
        self.register(0)

    def forget_challenge(self) -> None:
        """Come without credentials next time, as phones do that keep no nonce."""
        self._proof = None

    def drop(self, come_back: bool) -> None:
        """Lose the connection; come back, or not."""
        self.is_wanted = come_back
        self.close("by the test")

    # --- its connection

    def connect(self) -> None:
        """Connect to its registrar, unless it is connected or not wanted any more."""
        if self._socket is not None or not self.is_wanted:
            return
        self.connecting_at = self.fleet.loop.now()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.source:
            self._socket.bind((self.source, 0))
        self._events = EPOLLOUT
        self.fleet.loop.watch(self._socket, self, EPOLLOUT)
        # EINPROGRESS or an error, of which epoll will tell.
        self._socket.connect_ex(self.fleet.faces[self.face])

    def ready(self, events: int) -> None:
        """Do what epoll says that can be done."""
        if self._socket is None:
            return
        if not self.is_connected:
            self._connected_or_refused(self._socket)
            return
        if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._read(self._socket)
        if events & EPOLLOUT and self._socket is not None:
            self._flush(self._socket)

    def send(self, data: bytes) -> None:
        """Send, now or when the kernel has room; nothing without a connection."""
        if self._socket is not None and self.is_connected:
            self._out += data
            self._flush(self._socket)

    def close(self, why: str) -> None:
        """End the connection, and go to the next registrar when it is wanted."""
        if self._socket is None:
            return
        was_connected = self.is_connected
        self.fleet.loop.forget(self._socket)
        self._socket.close()
        self._socket = None
        self.is_connected = self.is_registered = False
        self.asked_at = 0.0
        self._data.clear()
        self._out.clear()
        if was_connected:
            self.lost_at = self.fleet.loop.now()
        self.fleet.connection_ended(self, was_connected, why)

    def _connected_or_refused(self, connection: socket.socket) -> None:
        if code := connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.close(f"cannot connect: errno {code}")
            return
        host, port = connection.getsockname()
        self.local = f"{host}:{port}"
        self.is_connected = True
        self._expect(connection, EPOLLIN)
        self.register()

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"broken: {error.strerror}")
            return
        if not data:
            self.close("ended by the registrar")
            return
        self._data += data
        for message in taken(self._data):
            self._take(message)

    def _flush(self, connection: socket.socket) -> None:
        try:
            sent = connection.send(self._out)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.close(f"broken: {error.strerror}")
            return
        del self._out[:sent]
        self._expect(connection, EPOLLIN | EPOLLOUT if self._out else EPOLLIN)

    def _expect(self, connection: socket.socket, events: int) -> None:
        if events != self._events:
            self._events = events
            self.fleet.loop.expect(connection, events)

    # --- its registration

    def register(self, expires: int | None = None) -> None:
        """Ask for a binding, or with 0 for its removal; at most one REGISTER is under way."""
        self._expires = self.fleet.behaviour.expires if expires is None else expires
        self._challenges = 0
        self._send_register()

    def register_again(self) -> None:
        """Ask for the binding again, after a refusal."""
        if self.is_wanted and not self.asked_at:
            self.register()

    def _send_register(self) -> None:
        if not self.is_connected:
            return
        self.cseq += 1
        self.asked_at = self.fleet.loop.now()
        uri = f"sip:{self.fleet.domain}"
        fields = [
            ("From", f"<{self.aor}>;tag=phone{self.index}"),
            ("To", f"<{self.aor}>"),
            ("Call-ID", f"{self.fleet.name}-{self.index}"),
            ("CSeq", f"{self.cseq} REGISTER"),
            ("Contact", self._contact_field()),
            ("Supported", "path, outbound"),
            ("Expires", str(self._expires)),
        ]
        if self._proof is not None:
            fields.append(self._proof.field("REGISTER", uri))
        self.fleet.sent["REGISTER"] += 1
        self.send(self.request("REGISTER", uri, f"r{self.cseq}", fields))

    def _contact_field(self) -> str:
        if not self.fleet.behaviour.outbound:
            return f"<{self.contact}>"
        return f"<{self.contact}>;reg-id=1;+sip.instance={self.instance}"

    def _register_answered(self, answer: Message) -> None:
        if answer.status < 200:
            return
        if answer.status == 200:
            self._bound(answer.cseq)
        elif answer.status == 401 and self._challenges < MAX_CHALLENGES:
            self._challenges += 1
            self._proof = Proof(answer, self.user, self.password)
            self._send_register()
        else:
            self.asked_at = 0.0
            self.fleet.register_refused(self, answer)

    def _bound(self, cseq: int) -> None:
        now = self.fleet.loop.now()
        self.acknowledged = max(self.acknowledged, cseq)
        self.acknowledged_at = now
        self.acknowledged_contact = self.contact if self._expires else ""
        if self.asked_at:
            self.fleet.register_seconds.append(now - self.asked_at)
        self.asked_at = 0.0
        was_registered, self.is_registered = self.is_registered, bool(self._expires)
        if self.is_registered and not was_registered:
            self.back_at = now
            waiting, self.when_registered = self.when_registered, []
            for function in waiting:
                function()

    # --- what comes

    def _take(self, message: Message) -> None:
        if message.status:
            self.fleet.answers[message.method, message.status] += 1
            if message.method == "REGISTER":
                self._register_answered(message)
            else:
                self.fleet.call_answered(self, message)
        elif message.method in ("INVITE", "ACK", "BYE", "CANCEL"):
            self.fleet.received[message.method] += 1
            self.fleet.called(self, message)
        else:
            self.fleet.received[message.method] += 1
            self.answer(message, 200, "OK")

    def request(self, method: str, uri: str, branch: str, fields: Fields) -> bytes:
        """Return a request of this phone; `branch` is new for it."""
        return request(method, uri, self.local, f"{self.fleet.name}{self.index}{branch}", fields)

    def answer(self, message: Message, status: int, reason: str, contact: bool = False) -> bytes:
        """Answer a request, with our Contact where it makes a dialog; return what was sent."""
        fields = [("Contact", f"<{self.contact}>")] if contact else []
        data = response(message, status, reason, f"callee{self.index}", fields)
        self.send(data)
        return data
