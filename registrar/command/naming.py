"""How addresses are written on the command line: bob, bob@example.com, sip:bob@example.com."""

from registrar.command.settings import full_name
from registrar.config import RegistrarConfig
from registrar.directory.entries import InvalidEntry
from registrar.routing import aor_of_name
from rollcall.sip.errors import ParseError
from rollcall.sip.uri import SipUri, parse_uri, unescape


def address_of_record(config: RegistrarConfig, text: str, served: bool = True) -> str:
    """Return the address-of-record that is meant; with `served` it is of a domain of ours. Raises InvalidEntry."""
    name = text
    if _has_scheme(text):
        uri = _parsed(text)
        if uri.user is None:
            raise InvalidEntry(f"{text} names nobody")
        name = f"{unescape(uri.user)}@{uri.host}"
    username, domain = full_name(config, name, served)
    if not username:
        raise InvalidEntry(f"{text} names nobody")
    aor = aor_of_name(username, domain)
    _parsed(aor)
    return aor


def target_uri(config: RegistrarConfig, text: str) -> str:
    """Return the SIP URI that is meant, ours or not. Raises InvalidEntry."""
    return str(_parsed(text)) if _has_scheme(text) else address_of_record(config, text, served=False)


def _has_scheme(text: str) -> bool:
    return text.lower().startswith(("sip:", "sips:"))


def _parsed(text: str) -> SipUri:
    try:
        uri = parse_uri(text)
    except ParseError as problem:
        raise InvalidEntry(f"{text} is no SIP URI: {problem}") from problem
    if not isinstance(uri, SipUri):
        raise InvalidEntry(f"{text} is no SIP URI")
    return uri
