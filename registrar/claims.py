"""Whose password credentials are about, and whether they are for us (RFC 7616 §3.4, RFC 8760 §2)."""

from collections.abc import Iterable

from rollcall.sip.digest import Credentials, names_same_resource, parse_credentials
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_authorization, parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri, unescape


def credentials_for(realm: str, values: Iterable[str]) -> Credentials | None:
    """Return the credentials for this realm, the first if several are there.

    Raises ParseError when what is there for this realm, or for none, is malformed.
    """
    for value in values:
        try:
            credentials = parse_credentials(value)
        except ParseError:
            if _is_for_another(value, realm):
                continue
            raise
        if credentials is None or credentials.realm != realm:
            continue
        # RFC 8760 §2.7: empty "when the UAC has not yet received a challenge"
        if credentials.nonce and credentials.response:
            return credentials
    return None


def user_of(credentials: Credentials, realm: str) -> str | None:
    """Return who shall be looked up; None when the credentials name another domain, where nobody is known."""
    username, at, domain = credentials.username.rpartition("@")
    if not at:
        return domain
    return username if domain.lower() == realm.lower() else None


def named(credentials: Credentials, realm: str) -> str:
    """Return whose password the credentials are about."""
    user = user_of(credentials, realm)
    return credentials.username if user is None else user


def is_long(credentials: Credentials) -> bool:
    """Say whether the proof is of the name with the domain."""
    return "@" in credentials.username


def claimed(request: Request) -> str | None:
    """Return whose password a request without credentials needs (RFC 3261 §§10.2, 22.3)."""
    name = "To" if request.method == "REGISTER" else "From"
    try:
        uri = parse_uri(parse_name_addr(request.get(name) or "").uri)
    except ParseError:
        return None
    return unescape(uri.user) if isinstance(uri, SipUri) and uri.user is not None else None


def check_uri(uri: str, request_uri: str) -> None:
    """Raise ParseError when credentials with this URI are for another resource than the request's."""
    if not names_same_resource(uri, request_uri):
        raise ParseError("credentials for another URI")


def _is_for_another(value: str, realm: str) -> bool:
    try:
        return parse_authorization(value).params.get("realm", realm) != realm
    except ParseError:
        return False
