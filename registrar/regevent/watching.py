"""Who may watch whom: everybody himself, and the configured watchers everybody (RFC 3680 §4.6)."""

from collections.abc import Callable

from twisted.logger import Logger

from registrar.auth import Accepted, Authentication
from registrar.authorising import Refusal
from registrar.regevent.asking import RegEventConfig
from registrar.routing import Domains, aor_of, aor_of_name
from rollcall.net.flow import Flow
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_sip_uri, parse_uri


class Watchers:
    """Decides whether who sent a SUBSCRIBE may be told of the registrations of an address-of-record."""

    _log = Logger()

    def __init__(self, domains: Domains, authentication: Authentication | None, config: RegEventConfig,
                 now: Callable[[], float], observe: Callable[[str], None]) -> None:
        """`observe` is told "accepted", or why not, each time credentials were looked at."""
        self._domains = domains
        self._authentication = authentication
        self._now = now
        self._observe = observe
        self._everywhere = frozenset({self._canonical(parse_sip_uri(watcher)) for watcher in config.watchers})

    @property
    def believe_everybody(self) -> bool:
        """Whether nobody has to prove anything; then anybody may register, with an account or without."""
        return self._authentication is None

    async def authorise(self, request: Request, aor: str, domain: str, flow: Flow | None = None) -> str:
        """Return the address-of-record of who sent `request`, once it is proven and he may watch `aor` of `domain`.

        `flow` is what it came over: who tries passwords is banned there. Raises Refusal and what `authenticate` does.
        """
        sender = parse_uri(parse_name_addr(request.get("From") or "").uri)
        home = self._domains.served(sender) if isinstance(sender, SipUri) else None
        watcher = await self._proven(request, home or domain, flow)
        if watcher is None:
            # Everybody is believed here.
            watcher = self._canonical(sender) if isinstance(sender, SipUri) else str(sender)
        if watcher != aor and watcher not in self._everywhere:
            self._log.warn("{watcher} may not watch {aor}", watcher=watcher, aor=aor, log_rationed=True)
            raise Refusal(403, "Not Yours To Watch")
        return watcher

    async def _proven(self, request: Request, realm: str, flow: Flow | None) -> str | None:
        """Return who proved to be a subscriber of the domain `realm`; None when nobody has to. Raises Refusal."""
        if self._authentication is None:
            return None
        verdict = await self._authentication.authenticate(request, realm, self._now(), flow=flow)
        self._observe("accepted" if isinstance(verdict, Accepted) else verdict.cause)
        if not isinstance(verdict, Accepted):
            raise Refusal(verdict.status, verdict.reason, tuple(verdict.headers))
        return aor_of_name(verdict.username, verdict.domain)

    def _canonical(self, uri: SipUri) -> str:
        domain = self._domains.served(uri)
        return uri.aor() if domain is None or uri.user is None else aor_of(uri, domain)


def user_of(request: Request, domains: Domains) -> tuple[str, str] | None:
    """Return the address-of-record that a Request-URI names, and its domain; None when it is no user of ours."""
    try:
        uri = parse_uri(request.uri)
    except ParseError:
        return None
    domain = domains.served(uri) if isinstance(uri, SipUri) else None
    if domain is None or not isinstance(uri, SipUri) or uri.user is None:
        return None
    return aor_of(uri, domain), domain
