"""Who may call whom through us: subscribers prove who they are, strangers reach subscribers at most.

RFC 3261 §§16.3 step 6, 22.3, 26.3; RFC 3323 §4.1 for anonymous callers.
"""

from collections.abc import Callable

from twisted.logger import Logger

from registrar.auth import Accepted, Authentication
from registrar.history import attribute
from registrar.routing import Domains, ProxyConfig, aor_of, aor_of_name
from rollcall.net.flow import Flow
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_authorization, parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.uri import SipUri, parse_uri

ANONYMOUS_HOST = "anonymous.invalid"

# What says who calls, beside From, and phones show instead of it. It counts among those who trust each other (RFC 3325
# §5): what "comes from an element it does not trust" is removed, or the password behind From would prove nothing.
ASSERTED = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID")


class Refusal(Exception):
    """The request ends here, with this answer."""

    def __init__(self, status: int, reason: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason
        self.headers = headers


class Callers:
    """Decides whether a request from outside any known dialog may be forwarded."""

    _log = Logger()

    def __init__(self, domains: Domains, authentication: Authentication | None, config: ProxyConfig,
                 default_realm: str, now: Callable[[], float], observe: Callable[[str], None]) -> None:
        """`observe` is told "accepted", or why not, each time credentials were looked at."""
        self._domains = domains
        self._authentication = authentication
        self._config = config
        self._default_realm = default_realm
        self._now = now
        self._observe = observe

    def drop_asserted(self, request: Request) -> None:
        """Take off `request` what nobody proved, unless everybody is believed here."""
        if self._authentication is not None:
            for name in ASSERTED:
                request.remove(name)

    async def authorise(self, request: Request, domain: str | None, flow: Flow | None = None) -> None:
        """Return when `request` may go to `domain` (None: one that we do not serve); raise Refusal when not.

        `flow` is what it came over: who tries passwords is banned there. Raises what `authenticate` does. Takes our
        own credentials off the request: the next hop has no use for them (RFC 3261 §22.3).
        """
        caller = parse_uri(parse_name_addr(request.get("From") or "").uri)
        home = self._domains.served(caller) if isinstance(caller, SipUri) else None
        stranger_is_welcome = home is None and domain is not None and self._config.strangers == "accept"
        if self._authentication is None or stranger_is_welcome:
            if domain is None:
                raise Refusal(403, "Relaying Denied")
            return
        realm = home or domain or self._default_realm
        verdict = await self._authentication.authenticate(request, realm, self._now(), proxy=True, flow=flow)
        self._observe("accepted" if isinstance(verdict, Accepted) else verdict.cause)
        if not isinstance(verdict, Accepted):
            raise Refusal(verdict.status, verdict.reason, tuple(verdict.headers))
        if not (isinstance(caller, SipUri) and _may_call_as(verdict, caller, home)):
            name = caller.aor() if isinstance(caller, SipUri) else str(caller)
            self._log.warn("{user} may not call as {caller}", user=verdict.username, caller=name, log_rationed=True)
            raise Refusal(403, "From Is Not Yours")
        if domain is None and not self._config.relay_subscribers:
            raise Refusal(403, "Relaying Denied")
        _drop_credentials(request, realm)
        attribute(request, caller.aor() if home is None else aor_of(caller, home))


def _may_call_as(verdict: Accepted, caller: SipUri, home: str | None) -> bool:
    if home is None:
        return caller.host == ANONYMOUS_HOST
    return aor_of_name(verdict.username, verdict.domain) == aor_of(caller, home)


def _drop_credentials(request: Request, realm: str) -> None:
    kept = [value for value in request.get_all("Proxy-Authorization") if not _is_for(value, realm)]
    request.set_values("Proxy-Authorization", kept)


def _is_for(credentials: str, realm: str) -> bool:
    try:
        return parse_authorization(credentials).params.get("realm") == realm
    except ParseError:
        return False
