"""What a call that goes elsewhere says of where it was meant to go: Diversion (RFC 5806) and History-Info (RFC 7044).

Peers look at one or the other: voice mail finds the box it is for, and a gateway tells the network who pays.
"""

from collections.abc import Iterable, Sequence

from attrs import frozen

from registrar.directory.entries import ALWAYS, BUSY, NO_ANSWER, UNREACHABLE
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import NameAddr, delta_seconds, parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

# RFC 5806 §4.4
_REASONS = {ALWAYS: "unconditional", BUSY: "user-busy", NO_ANSWER: "no-answer", UNREACHABLE: "unavailable"}
# RFC 3261's statuses, as RFC 7044 §10.2 has them: what the target answered, or what stands for silence. 302: nobody
# was asked (RFC 7044 §5, example).
_CAUSES = {ALWAYS: 302, BUSY: 486, NO_ANSWER: 408, UNREACHABLE: 480}

_HIDDEN = frozenset({"history", "header", "session"})
"""What a caller says in Privacy who wants nothing of this to be told (RFC 7044 §10.1.1)."""


@frozen
class Step:
    """One address that the call was for, until it went to another."""

    uri: str
    kind: str | None
    """When it goes elsewhere; None: it was another name of the next."""


def told(request: Request, steps: Sequence[Step], target: str) -> Request:
    """Return a copy of `request` that says by which steps it goes to `target`."""
    copy = request.copy()
    is_hidden = _is_hidden(request)
    for step in steps:
        if step.kind is not None:
            hidden = "full" if is_hidden else "off"
            copy.prepend("Diversion", f"<{step.uri}>;reason={_REASONS[step.kind]};privacy={hidden};counter=1")
    if is_hidden:
        copy.remove("History-Info")
    else:
        copy.set_values("History-Info", _history(request, steps, target))
    return copy


def diverted_before(request: Request) -> tuple[set[str], int]:
    """Return the addresses-of-record that a call was diverted from before it came to us, and how often it was.

    What cannot be read says nothing.
    """
    diverted: set[str] = set()
    times = 0
    for value in _addresses(request, "Diversion"):
        diverted |= _aor(value.uri)
        times += max(1, _number(value.params.get("counter")))
    return diverted, times


def attribute(request: Request, caller: str) -> None:
    """Leave what `caller` says of diversions if they are his own; who else diverted the call nobody has proved.

    Gateways send the bill to whoever is said to have diverted, and voice mail opens his box. How often it
    was diverted is kept, because that ends circles.
    """
    own, others = [], 0
    for value in request.values("Diversion"):
        try:
            address = parse_name_addr(value)
        except ParseError:
            others += 1
            continue
        if _aor(address.uri) == {caller}:
            own.append(value)
        else:
            others += max(1, _number(address.params.get("counter")))
    if others:
        own.append(f"<{caller}>;reason=unknown;counter={others}")
    request.set_values("Diversion", own)
    request.remove("History-Info")


def _history(request: Request, steps: Sequence[Step], target: str) -> list[str]:
    """Return the entries that there were, with one for each step and one for the target."""
    entries = list(request.values("History-Info")) if _is_readable(request) else []
    index, last = "", ""
    for value in _addresses(request, "History-Info"):
        index, last = value.params.get("index") or index, value.uri
    first = steps[0].uri
    if not index:
        index = "1"
        entries.append(_entry(first, index))
    elif _aor(last) != _aor(first):
        # It was retargeted by somebody who does not say so (RFC 7044 §9.1).
        index += ".1"
        entries.append(_entry(first, index))
    if steps[0].kind is not None:
        entries[-1] = _entry(first, index, steps[0].kind, _parameters_of(entries[-1]))
    for number, uri in enumerate([*(step.uri for step in steps[1:]), target], 1):
        kind = steps[number].kind if number < len(steps) else None
        parent, index = index, f"{index}.1"
        entries.append(_entry(uri, index, kind, f";mp={parent}"))
    return entries


def _entry(uri: str, index: str, kind: str | None = None, params: str = "") -> str:
    because = f"?Reason=SIP%3Bcause%3D{_CAUSES[kind]}" if kind is not None else ""
    return f"<{uri}{because}>;index={index}{params}"


def _parameters_of(entry: str) -> str:
    """Return what an entry has beside its index."""
    kept = {name: value for name, value in parse_name_addr(entry).params.items() if name != "index"}
    return "".join(f";{name}" if value is None else f";{name}={value}" for name, value in kept.items())


def _is_hidden(request: Request) -> bool:
    privacy = ";".join(request.get_all("Privacy")).lower().split(";")
    return not _HIDDEN.isdisjoint(each.strip() for each in privacy)


def _is_readable(request: Request) -> bool:
    try:
        return all(parse_name_addr(value).uri for value in request.values("History-Info"))
    except ParseError:
        return False


def _addresses(request: Request, name: str) -> Iterable[NameAddr]:
    try:
        return [parse_name_addr(value) for value in request.values(name)]
    except ParseError:
        return []


def _aor(text: str) -> set[str]:
    try:
        uri = parse_uri(text)
    except ParseError:
        return set()
    return {uri.aor()} if isinstance(uri, SipUri) else set()


def _number(text: str | None) -> int:
    try:
        return 1 if text is None else delta_seconds(text)
    except ParseError:
        return 1
