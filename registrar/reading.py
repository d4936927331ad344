"""What a REGISTER says about bindings: its Contacts, times, Path and extensions, as values for `bindings.register`.

RFC 3261 §§10.2, 20.10, 20.19; RFC 3327 §4; RFC 3840 §9 (feature parameters); RFC 5626 §10 (reg-id, +sip.instance);
RFC 5627 §5.1 (a contact must not lead back to its own address-of-record).
"""

import re

from registrar.gruu import GruuMaker, NoSuchGruu, canonical_instance
from registrar.records import NewContact, Register, Source
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import (
    STAR,
    NameAddr,
    delta_seconds,
    option_tags,
    parse_contacts,
    parse_cseq,
    parse_name_addr,
    parse_qvalue,
    unquote,
)
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

MALFORMED_EXPIRES_SECONDS = 3600
"""What a malformed time counts as (RFC 3261 §10.2, RFC 4475 §3.1.2.4)."""

HIGHEST_REG_ID = 2**31 - 1
_NUMBER = re.compile("0*[0-9]{1,10}")

HIGHEST_Q = 1000

_NOT_REPORTED = frozenset({"expires", "q", "pub-gruu", "temp-gruu"})
"""Contact parameters that the registrar itself chooses ("MUST be ignored by the registrar", RFC 5627 §5.1)."""


def read_register(request: Request, aor: str, source: Source, gruus: GruuMaker | None = None) -> Register:
    """Return what a REGISTER for `aor`, a canonical address-of-record, asks for.

    Raises ParseError (400) for what `bindings.register` could not make sense of. Without `gruus` a contact that
    is a temporary GRUU of `aor` itself is not recognised.
    """
    contacts = parse_contacts(request)
    path = tuple(request.values("Path"))
    hops = [parse_uri(parse_name_addr(value).uri) for value in path]
    expires = request.get("Expires")
    return Register(
        aor=aor,
        contacts=() if contacts is STAR else tuple(_read_contact(contact, aor, gruus) for contact in contacts),
        star=contacts is STAR,
        expires=None if expires is None else _seconds(expires),
        call_id=request.get("Call-ID") or "",
        cseq=parse_cseq(request.get("CSeq") or "").number,
        path=path,
        supported=option_tags(request, "Supported"),
        user_agent=request.get("User-Agent") or "",
        source=source,
        direct=_is_direct(request),
        secure=request.uri[:5].lower() == "sips:" and all(_is_sips(hop) for hop in hops),
        outbound_path=bool(hops) and isinstance(hops[-1], SipUri) and hops[-1].param("ob") is not None,
    )


def _is_direct(request: Request) -> bool:
    """Say whether the phone is our peer: nobody has put a Via above its own."""
    vias = request.get_all("Via")
    return len(vias) == 1 and ("," not in vias[0] or len(request.values("Via")) == 1)


def _is_sips(uri: object) -> bool:
    return isinstance(uri, SipUri) and uri.scheme == "sips"


def _seconds(text: str) -> int:
    try:
        return delta_seconds(text)
    except ParseError:
        return MALFORMED_EXPIRES_SECONDS


def _read_contact(contact: NameAddr, aor: str, gruus: GruuMaker | None) -> NewContact:
    params = contact.params
    uri = parse_uri(contact.uri)
    instance = read_instance(params.get("+sip.instance"))
    return NewContact(
        uri=contact.uri,
        params=tuple(param for param in params.items() if param[0] not in _NOT_REPORTED),
        q=parse_qvalue(params["q"] or "") if "q" in params else HIGHEST_Q,
        expires=_seconds(params["expires"] or "") if "expires" in params else None,
        instance=instance,
        reg_id=read_reg_id(params["reg-id"]) if "reg-id" in params else None,
        routable=isinstance(uri, SipUri),
        secure=_is_sips(uri),
        loops=instance is not None and isinstance(uri, SipUri) and _leads_back(uri, aor, gruus),
    )


def read_instance(value: str | None) -> str | None:
    """Return the URN in a +sip.instance such as `"<urn:…>"` ("extracted" by RFC 5626 §4.1).

    Phones that forget the brackets are understood; None when there is no instance.
    """
    if not value:
        return None
    urn = unquote(value).strip().removeprefix("<").removesuffix(">")
    return canonical_instance(urn) if urn else None


def read_reg_id(value: str | None) -> int:
    """Return the number that a reg-id says. Raises ParseError when it is none from 1 to 2**31-1 (RFC 5626 §10)."""
    number = int(value) if value is not None and _NUMBER.fullmatch(value) else 0
    if not 1 <= number <= HIGHEST_REG_ID:
        raise ParseError("reg-id must be a number from 1 to 2147483647")
    return number


def _leads_back(uri: SipUri, aor: str, gruus: GruuMaker | None) -> bool:
    """Say whether a contact is the address-of-record itself or a GRUU of it (RFC 5627 §5.1)."""
    if uri.port is None and uri.aor() == aor:
        return True
    domain = aor.rpartition("@")[2]
    if gruus is None or not gruus.is_gruu(uri) or uri.host != domain:
        return False
    try:
        return gruus.resolve(uri, domain).aor == aor
    except NoSuchGruu:
        return False
