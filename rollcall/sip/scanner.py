"""A REGISTER as nearly every phone sends it, read in one pass; anything else is left to the whole parser.

Usual is what RFC 3261 §10.2 asks for and no more, written plainly: one Via, one Contact, To at the host of the
Request-URI, nothing folded, nothing escaped, nothing twice. `usual` says it in patterns. What is usual means here
exactly what it means to `parse_message`, `check_request` and those who read the header fields; it may well be that the
whole parser understands what is unusual here.
"""

from collections.abc import Callable
from typing import Final, Protocol

from rollcall.sip import plain_scanner
from rollcall.sip.compiled import compiled_module
from rollcall.sip.fields import Field
from rollcall.sip.usual import GRUU, MAX_HEAD_BYTES, MAX_LINES, OUTBOUND, PATH

__all__ = [
    "COMPILED",
    "GRUU",
    "MAX_HEAD_BYTES",
    "MAX_LINES",
    "OUTBOUND",
    "PATH",
    "Head",
    "UsualRegister",
    "scan_register",
    "split_fields",
]

Head = tuple[str, list[Field], int, int]
"""Of a message: the start line, the fields, what Content-Length says (-1 without one), and where the body begins."""


class UsualRegister(Protocol):
    """What a usual REGISTER holds. The texts are as they came, where nothing else is said."""

    @property
    def end(self) -> int:
        """Where the message ends in the data that was scanned."""

    @property
    def message(self) -> bytes:
        """The whole message."""

    @property
    def has_length(self) -> bool:
        """Whether it has a Content-Length, which a stream cannot do without (§18.3). Without one it ends the data."""

    @property
    def request_uri(self) -> bytes: ...

    @property
    def user(self) -> bytes:
        """The user in To."""

    @property
    def host(self) -> bytes:
        """The host in To and in the Request-URI, in lower case."""

    @property
    def call_id(self) -> bytes: ...

    @property
    def cseq(self) -> int: ...

    @property
    def user_agent(self) -> bytes:
        """Empty when there is none."""

    @property
    def contact(self) -> bytes:
        """The URI in Contact."""

    @property
    def params(self) -> bytes:
        """The parameters of Contact but expires, e.g. b";reg-id=1"; their names are in lower case."""

    @property
    def expires(self) -> int:
        """The seconds that the parameter of Contact or else the header asks for; -1 when there is neither."""

    @property
    def identity(self) -> bytes:
        """What a refresh has in common with the REGISTER before: contact, params and Call-ID, NUL between them."""

    @property
    def is_plain(self) -> bool:
        """Whether the contact has neither +sip.instance nor reg-id."""

    @property
    def supported(self) -> int:
        """The sum of PATH, OUTBOUND and GRUU, as far as Supported names them."""

    @property
    def transaction_key(self) -> str:
        """The branch, sent-by in lower case, and the method, blanks between them (§17.2.3)."""

    @property
    def wants_rport(self) -> bool:
        """Whether Via asks for the port that the request came from (RFC 3581)."""

    @property
    def via_host(self) -> bytes: ...

    @property
    def via_port(self) -> int:
        """0 when Via names none."""

    @property
    def has_credentials(self) -> bool:
        """Whether there is an Authorization: Digest with MD5 and qop=auth. Without, all of the following are empty."""

    @property
    def username(self) -> bytes: ...

    @property
    def realm(self) -> bytes: ...

    @property
    def nonce(self) -> bytes: ...

    @property
    def uri(self) -> bytes: ...

    @property
    def response(self) -> bytes:
        """In lower case."""

    @property
    def nc(self) -> bytes: ...

    @property
    def count(self) -> int:
        """What `nc` says."""

    @property
    def cnonce(self) -> bytes: ...

    def reply(self, status_line: bytes, tag: bytes, address: bytes, rest: bytes) -> bytes:
        """Return the response to this request, which came from `address`: 2 bytes of port, then those of the host.

        The status line and what a response copies (§8.2.6.2), To with our `tag`, Via with the source
        as `stamp_source` writes it; then `rest`: whole lines, the empty line after the last of them.
        """

    def accept(self, tag: bytes, address: bytes, seconds: int, rest: bytes) -> bytes:
        """Return the 200 that binds the contact for `seconds`: `reply` with its Contact before `rest`."""

    def speaks_for(self, realm: bytes) -> bool:
        """Return whether the credentials are those of the user in To, for this realm and the Request-URI."""

    def proof(self, ha1: bytes, ha2: bytes) -> bytes:
        """Return what the digest in `response` is of, with these two in hexadecimal (RFC 2617 §3.2.2.1).

        Raises ValueError when there are no credentials.
        """

    def same_as(self, record: bytes, start: int) -> int:
        """Return where `identity` ends in `record` when it stands there at `start`, else -1."""


class Scan(Protocol):
    """The function that both ways have."""

    def __call__(self, data: bytes, start: int = 0, /) -> UsualRegister | None:
        """Return the usual REGISTER that begins at `start`; None when it is another message, unusual or not whole.

        What is over MAX_HEAD_BYTES or MAX_LINES is unusual, whatever else the configuration allows.
        """


_compiled = compiled_module("rollcall.sip._scanner")

COMPILED: Final = _compiled is not None
"""Whether the compiled way is taken."""

scan_register: Scan = plain_scanner.scan_register if _compiled is None else _compiled.scan_register

split_fields: Callable[[bytes], Head | None] | None = None if _compiled is None else _compiled.split_fields
"""Returns the head of any message as the parser splits it; None for what the parser had better look at itself."""
