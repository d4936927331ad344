"""A phone for tests: blocking sockets, real SIP over UDP, TCP or TLS, and digest answers.

It says what a test tells it to say, valid or not, and hands back what the server answered. Its messages are written
and read with the product's own classes; that others read them too is proven elsewhere (sipp, baresip, tshark).
"""

import hashlib
import socket
import ssl
from collections.abc import Iterable
from itertools import count
from secrets import token_hex
from time import monotonic
from typing import Self

from rollcall.sip.framing import FramingLimits, Keepalive, StreamFramer
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Request, Response, parse_message, response_to

Headers = Iterable[tuple[str, str]]

HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
PATIENCE_SECONDS = 10.0


class Silence(AssertionError):
    """Nothing came in time."""


class Phone:
    """One socket to one server."""

    def __init__(
        self,
        transport: str,
        server: tuple[str, int],
        user: str = "alice",
        domain: str = "127.0.0.1",
        password: str = "",
        local_host: str = "127.0.0.1",
    ) -> None:
        self.transport = transport
        self.server = server
        self.user = user
        self.domain = domain
        self.password = password
        self._framer = StreamFramer(FramingLimits())
        self._waiting: list[bytes] = []
        self._sequence = count(1)
        self._counts: dict[str, int] = {}
        self._socket = self._open(local_host)
        self.host, self.port = self._socket.getsockname()[:2]

    def _open(self, local_host: str) -> socket.socket:
        family = socket.AF_INET6 if ":" in local_host else socket.AF_INET
        if self.transport == "UDP":
            datagrams = socket.socket(family, socket.SOCK_DGRAM)
            datagrams.bind((local_host, 0))
            return datagrams
        stream = socket.create_connection(self.server, PATIENCE_SECONDS, (local_host, 0))
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.transport != "TLS":
            return stream
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(stream)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket, as a phone that loses its network."""
        self._socket.close()

    # --- bytes

    def send_bytes(self, data: bytes) -> None:
        """Send exactly these bytes."""
        if self.transport == "UDP":
            self._socket.sendto(data, self.server)
        else:
            self._socket.sendall(data)

    def send(self, message: Request | Response) -> None:
        """Send a message."""
        self.send_bytes(message.serialise())

    def receive(self, seconds: float = PATIENCE_SECONDS) -> Request | Response:
        """Return the next message. Raises Silence when none comes in time or the connection ends."""
        return parse_message(self.receive_bytes(seconds))

    def receive_bytes(self, seconds: float = PATIENCE_SECONDS) -> bytes:
        """Return the next message as it came. Raises Silence as `receive` does."""
        deadline = monotonic() + seconds
        while not self._waiting:
            left = deadline - monotonic()
            if left <= 0:
                raise Silence(f"nothing came within {seconds} s")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(65536)
            except (TimeoutError, ConnectionError) as error:
                raise Silence(f"nothing came within {seconds} s: {error}") from error
            if not data and self.transport != "UDP":
                raise Silence("the server closed the connection")
            if self.transport == "UDP":
                self._waiting.append(data)
            else:
                frames = self._framer.receive_data(data)
                self._waiting += [frame for frame in frames if not isinstance(frame, Keepalive)]
        return self._waiting.pop(0)

    def response(self, seconds: float = PATIENCE_SECONDS) -> Response:
        """Return the next message, which has to be a response."""
        message = self.receive(seconds)
        assert isinstance(message, Response), message
        return message

    def request(self, seconds: float = PATIENCE_SECONDS) -> Request:
        """Return the next message, which has to be a request."""
        message = self.receive(seconds)
        assert isinstance(message, Request), message
        return message

    def final(self, seconds: float = PATIENCE_SECONDS) -> Response:
        """Return the next final response."""
        while True:
            response = self.response(seconds)
            if response.status >= 200:
                return response

    # --- requests

    @property
    def contact(self) -> str:
        """Where this phone says it is."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        transport = "" if self.transport == "UDP" else f";transport={self.transport.lower()}"
        return f"sip:{self.user}@{host}:{self.port}{transport}"

    def make(
        self,
        method: str,
        uri: str,
        headers: Headers = (),
        body: bytes = b"",
        to: str | None = None,
        call_id: str | None = None,
        cseq: int | None = None,
    ) -> Request:
        """Return a request of this phone that is not sent yet."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        mandatory = [
            ("Via", f"SIP/2.0/{self.transport} {host}:{self.port};branch=z9hG4bK{token_hex(8)};rport"),
            ("Max-Forwards", "70"),
            ("From", f"<sip:{self.user}@{self.domain}>;tag={token_hex(4)}"),
            ("To", to or f"<{uri}>"),
            ("Call-ID", call_id or token_hex(8)),
            ("CSeq", f"{next(self._sequence) if cseq is None else cseq} {method}"),
        ]
        return Request.new(method, uri, [*mandatory, *headers], body)

    def authorised(self, request: Request, challenge: Response, uri: str | None = None) -> Request:
        """Return `request` again with a new branch and CSeq, and an answer to the first challenge."""
        again = request.copy()
        via = again.first_value("Via") or ""
        again.remove_first_value("Via")
        again.prepend("Via", via.replace(via.split("branch=")[1].split(";")[0], f"z9hG4bK{token_hex(8)}"))
        again.set("CSeq", f"{next(self._sequence) + 1000} {again.method}")
        asked, given = (
            ("WWW-Authenticate", "Authorization")
            if challenge.status == 401
            else ("Proxy-Authenticate", "Proxy-Authorization")
        )
        again.set(given, self.credentials(challenge.get(asked) or "", again.method, uri or again.uri))
        return again

    def credentials(self, challenge: str, method: str, uri: str, body: bytes = b"") -> str:
        """Return the value of an Authorization header (RFC 7616 §3.4), with the next count of the nonce."""
        asked = parse_authorization(challenge).params
        algorithm = asked.get("algorithm", "MD5")
        realm, nonce = asked["realm"], asked["nonce"]
        qop = asked.get("qop", "").split(",")[0].strip()
        self._counts[nonce] = self._counts.get(nonce, 0) + 1
        nc, cnonce = f"{self._counts[nonce]:08x}", token_hex(4)

        def digest(text: str) -> str:
            return hashlib.new(HASHES[algorithm], text.encode()).hexdigest()

        resource = f"{method}:{uri}" + (
            f":{hashlib.new(HASHES[algorithm], body).hexdigest()}" if qop == "auth-int" else ""
        )
        middle = f"{nonce}:{nc}:{cnonce}:{qop}" if qop else nonce
        proof = digest(f"{digest(f'{self.user}:{realm}:{self.password}')}:{middle}:{digest(resource)}")
        extra = f', qop={qop}, nc={nc}, cnonce="{cnonce}"' if qop else ""
        return (
            f'Digest username="{self.user}", realm="{realm}", nonce="{nonce}", uri="{uri}", '
            f'response="{proof}", algorithm={algorithm}{extra}'
        )

    def ask(self, request: Request, seconds: float = PATIENCE_SECONDS) -> Response:
        """Send `request`, prove who we are when asked, and return the final response."""
        self.send(request)
        response = self.final(seconds)
        if response.status in (401, 407) and self.password:
            if request.method == "INVITE":
                self.acknowledge(request, response)
            self.send(self.authorised(request, response))
            response = self.final(seconds)
        return response

    def register(self, expires: int = 3600, contact: str | None = None, headers: Headers = ()) -> Response:
        """Register this phone's contact and return the answer."""
        target = contact if contact is not None else f"<{self.contact}>"
        fields = [("Contact", target), ("Expires", str(expires)), *headers]
        return self.ask(self.make("REGISTER", f"sip:{self.domain}", fields, to=f"<sip:{self.user}@{self.domain}>"))

    def acknowledge(self, request: Request, response: Response) -> None:
        """ACK a refused INVITE (RFC 3261 §17.1.1.3)."""
        number = (request.get("CSeq") or "").split()[0]
        fields = [
            ("Via", request.first_value("Via") or ""),
            ("Max-Forwards", "70"),
            ("From", request.get("From") or ""),
            ("To", response.get("To") or ""),
            ("Call-ID", request.get("Call-ID") or ""),
            ("CSeq", f"{number} ACK"),
        ]
        self.send(Request.new("ACK", request.uri, fields))

    # --- answers and dialogs

    def answer(self, request: Request, status: int, headers: Headers = (), tag: str = "callee") -> Response:
        """Answer a request that came, with its Record-Route and our Contact as a UAS does, and return the answer."""
        response = self.make_answer(request, status, headers, tag)
        self.send(response)
        return response

    def make_answer(self, request: Request, status: int, headers: Headers = (), tag: str = "callee") -> Response:
        """Return what `answer` sends."""
        copied = [("Record-Route", value) for value in request.get_all("Record-Route")]
        return response_to(request, status, to_tag=tag, headers=[*copied, ("Contact", f"<{self.contact}>"), *headers])

    def within(self, method: str, invite: Request, response: Response, cseq: int = 2) -> Request:
        """Return a request of the caller within the dialog that `response` made (RFC 3261 §12.2.1)."""
        remote = (response.get("Contact") or "").strip("<>")
        request = self.make(method, remote, to=response.get("To"), call_id=invite.get("Call-ID"), cseq=cseq)
        request.set("From", invite.get("From") or "")
        request.set_values("Route", reversed(response.values("Record-Route")))
        return request
