"""What the directory says of an address-of-record: whose other name it is, and where its calls go."""

from attrs import frozen

from rollcall.sip.errors import ParseError
from rollcall.sip.uri import parse_sip_uri

ALWAYS, BUSY, NO_ANSWER, UNREACHABLE = KINDS = ("always", "busy", "no-answer", "unreachable")

MAX_ADDRESS_CHARS = 190
MAX_TARGET_CHARS = 255
MAX_DOMAIN_CHARS = 64
"""What the tables have room for."""

MAX_RING_SECONDS = 600
"""Nobody lets it ring for longer; what stands for hours in a table is a mistake."""


class DirectoryProblem(Exception):
    """What was asked of the directory cannot be had; the text says why."""


class InvalidEntry(DirectoryProblem):
    """This cannot stand in the directory; the text says why."""


class NoSuchEntry(DirectoryProblem):
    """What was to be removed is not there; the text says what."""


class EntryExists(DirectoryProblem):
    """What was to be added is there already; the text says what."""


@frozen
class Forwarding:
    """Where the calls of somebody go, and when."""

    kind: str
    target: str
    seconds: int | None = None
    """With no-answer: how long phones ring before; None: until they or the caller give up."""


@frozen
class Entry:
    """What there is to say of one address-of-record."""

    alias: str | None = None
    """The address or URI that it is another name of."""
    forwardings: tuple[Forwarding, ...] = ()

    def forwarding(self, kind: str) -> Forwarding | None:
        """Return where calls go in one case."""
        return next((each for each in self.forwardings if each.kind == kind), None)


NOTHING = Entry()


def checked_target(text: str, max_chars: int = MAX_TARGET_CHARS) -> str:
    """Return a URI that calls may be sent to. Raises InvalidEntry."""
    try:
        uri = parse_sip_uri(text)
    except ParseError as problem:
        raise InvalidEntry(f"{text} is no SIP URI: {problem}") from problem
    if uri.headers is not None or len(text) > max_chars or not text.isprintable():
        raise InvalidEntry(f"{text}: a SIP URI without header fields, of at most {max_chars} characters, is expected")
    return text


def checked_seconds(kind: str, seconds: int | None) -> int | None:
    """Return how long phones ring. Raises InvalidEntry."""
    if seconds is not None and (kind != NO_ANSWER or not 0 < seconds <= MAX_RING_SECONDS):
        raise InvalidEntry(f"seconds go with {NO_ANSWER} only, and are 1 to {MAX_RING_SECONDS}")
    return seconds


def checked_domain(text: str) -> str:
    """Return a domain as it stands in URIs, in lower case. Raises InvalidEntry."""
    try:
        host = parse_sip_uri(f"sip:{text}").host.rstrip(".")
    except ParseError as problem:
        raise InvalidEntry(f"{text} is no domain: {problem}") from problem
    if host != text.lower().rstrip(".") or len(host) > MAX_DOMAIN_CHARS:
        raise InvalidEntry(f"{text}: the name of a domain, of at most {MAX_DOMAIN_CHARS} characters, is expected")
    return host
