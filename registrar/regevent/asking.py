"""What a SUBSCRIBE for the reg event package asks for, and why it may be refused (RFC 6665 §4.2.1, RFC 3680 §4)."""

from attrs import field, frozen

from registrar.authorising import Refusal
from registrar.reginfo import CONTENT_TYPE
from rollcall.ops.allowed import NotAllowed, at_least, each, where
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import STAR, delta_seconds, option_tags, parse_contacts, parse_params
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_sip_uri, parse_uri

PACKAGE = "reg"
ALLOW_EVENTS = ("Allow-Events", PACKAGE)
UNDERSTOOD = frozenset({"gruu", "outbound", "path"})
"""Option tags that a subscriber may require: what they ask of us is what we do anyhow."""

BRIEF_BELOW_SECONDS = 3600
"""RFC 6665 §4.2.1.1: only a duration below an hour may be refused as too brief."""


def _is_aor(text: str) -> bool:
    try:
        return parse_sip_uri(text).user is not None
    except ParseError:
        return False


@frozen(kw_only=True)
class RegEventConfig:
    """[regevent]: who may be told who is registered (RFC 3680), and how often. All times in seconds."""

    watchers: tuple[str, ...] = field(
        default=(), validator=each(where(_is_aor, "addresses-of-record such as sip:gateway@example.com")))
    """Subscribers that may watch anybody: gateways, B2BUAs, presence servers. All others may watch themselves only."""
    default_expires_seconds: int = field(default=3761, validator=at_least(1))
    """For a SUBSCRIBE that names no time (RFC 3680 §4.4)."""
    max_expires_seconds: int = field(default=7200, validator=at_least(1))
    """A longer wish is cut to this."""
    min_expires_seconds: int = field(default=60, validator=at_least(1))
    """A shorter wish is refused with 423, if it is below an hour; 0 ends a subscription, or asks once."""
    notify_interval_seconds: float = field(default=5.0, validator=at_least(0.0))
    """A subscriber is told of changes once in this time at most, of all of them together (RFC 3680 §4.10)."""
    max_subscriptions: int = field(default=20_000, validator=at_least(1))
    """Subscriptions of this node at a time; beyond that 503."""
    max_per_aor: int = field(default=50, validator=at_least(1))
    """Subscriptions to one address-of-record; beyond that 403."""

    def __attrs_post_init__(self) -> None:
        low, high = self.min_expires_seconds, self.max_expires_seconds
        if low > high:
            raise NotAllowed(f"at most max_expires_seconds ({high})", "min_expires_seconds", low)


@frozen
class Wish:
    """What a SUBSCRIBE asks for."""

    event: str
    """Its Event header, which each NOTIFY repeats."""
    contact: str
    """Where NOTIFYs are addressed to."""
    seconds: int
    """How long; 0 for no longer than it takes to tell."""
    is_sips: bool


def package_of(request: Request) -> str:
    """Return the event package that a request names, "" without one."""
    return (request.get("Event") or "").partition(";")[0].rstrip(" \t")


def read_subscribe(request: Request, config: RegEventConfig) -> Wish:
    """Return what `request` asks for. Raises Refusal, and ParseError for what is malformed."""
    if package_of(request) != PACKAGE:
        raise Refusal(489, None, (ALLOW_EVENTS,))
    unknown = option_tags(request, "Require") - UNDERSTOOD
    if unknown:
        raise Refusal(420, None, (("Unsupported", ", ".join(sorted(unknown))),))
    if not _accepts_reginfo(request):
        raise Refusal(406, None, (("Accept", CONTENT_TYPE),))
    if request.body and not _is_optional(request):
        # RFC 3680 §4.3: a body is a filter "outside the scope of this specification".
        raise Refusal(415, None, (("Accept", ""),))
    contacts = parse_contacts(request)
    if contacts is STAR or len(contacts) != 1 or not isinstance(parse_uri(contacts[0].uri), SipUri):
        raise Refusal(400, "One SIP Contact Is Needed")
    event = _event(request.get("Event") or "")
    return Wish(event, contacts[0].uri, _seconds(request, config), request.uri[:5].lower() == "sips:")


def _event(text: str) -> str:
    """Return the Event of NOTIFYs: the package, and the id by which a subscriber tells his subscriptions apart."""
    semicolon = text.find(";")
    id = parse_params(text[semicolon:]).get("id") if semicolon >= 0 else None
    return PACKAGE if id is None else f"{PACKAGE};id={id}"


def _seconds(request: Request, config: RegEventConfig) -> int:
    text = request.get("Expires")
    seconds = config.default_expires_seconds if text is None else delta_seconds(text)
    if 0 < seconds < config.min_expires_seconds and seconds < BRIEF_BELOW_SECONDS:
        raise Refusal(423, None, (("Min-Expires", str(config.min_expires_seconds)),))
    return min(seconds, config.max_expires_seconds)


def _accepts_reginfo(request: Request) -> bool:
    """RFC 3680 §4.5: without Accept it is this type that is meant."""
    accepted = request.values("Accept")
    types = {value.partition(";")[0].strip().lower() for value in accepted}
    return not request.get_all("Accept") or not types.isdisjoint({CONTENT_TYPE, "application/*", "*/*"})


def _is_optional(request: Request) -> bool:
    """Say whether a body need not be understood (RFC 3261 §20.11)."""
    disposition = request.get("Content-Disposition") or ""
    semicolon = disposition.find(";")
    return semicolon >= 0 and (parse_params(disposition[semicolon:]).get("handling") or "").lower() == "optional"
