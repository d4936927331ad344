"""Who sent a request: digest authentication as a registrar (401) or a proxy (407) does it (RFC 3261 §22, RFC 8760).

A domain is its own realm, as RFC 3261 §22.1 recommends and the password hashes of Kamailio's tables presuppose.
"""

import hmac
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import lru_cache
from typing import Literal, Self

import attrs
from attrs import field

from rollcall.ops.allowed import above, at_least, each, non_empty, one_of, unique
from rollcall.sip.digest import (
    ALGORITHMS,
    HEX_DIGITS,
    QOPS,
    Credentials,
    challenge,
    md5,
    names_same_resource,
    parse_credentials,
    verify,
)
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Request
from rollcall.sip.nonces import (
    DEFAULT_KEY_SECONDS,
    DEFAULT_LIFETIME_SECONDS,
    DEFAULT_MAX_NONCES,
    Nonce,
    NonceCounts,
    NonceKeys,
)
from rollcall.sip.scanner import UsualRegister
from rollcall.sip.values import frozen

Cause = Literal["missing", "stale", "unknown_user", "bad_password", "replayed", "malformed", "unsupported"]
"""Why somebody was not let in. "unsupported": an algorithm or form not offered, or no hash is held for it."""

EVERYBODY = "*"


class StoreUnavailable(Exception):
    """The subscribers cannot be asked now. Nobody is known to be unknown: the answer is 503, never 401 or 403."""


@frozen
class Subscriber:
    """Somebody with a password, of which only hashes are kept."""

    username: str
    domain: str
    ha1: Mapping[str, str]
    """H(username:domain:password) in hexadecimal by the name of the algorithm."""
    ha1b: Mapping[str, str] = field(factory=dict)
    """The same of username@domain:domain:password, for phones that send username@domain."""


@frozen
class Accepted:
    """The request was sent by somebody who knows this subscriber's password."""

    username: str
    domain: str


@frozen
class Challenge:
    """The answer to a request that proves nothing yet: its status and headers."""

    status: int
    """401 or 407; 400 when the credentials are malformed, and then there are no headers."""
    headers: list[tuple[str, str]]
    cause: Cause
    reason: str | None = None
    """What is wrong with malformed credentials, in words fit for a reason phrase."""


Find = Callable[[str, str], Awaitable[Subscriber | None]]

Peek = Callable[[str, float], bytes | None]
"""Return H(A1) by MD5 in hexadecimal for a "username@domain" at a time, when it is at hand, else None."""


@attrs.frozen(kw_only=True)
class AuthConfig:
    """What is demanded of credentials.

    Not every phone is offered every algorithm, because many cannot read a 401 with several challenges, though RFC
    3261 §22.3 allowed it in 2002. Tried: baresip 1.0 gives up when any of them is not MD5; JsSIP 3.13 and SIP.js 0.21
    see the last one only; sipp 3.6 and sipsak 0.9.8 the first one only; all of these know MD5 alone. Linphone 5.1
    takes the first if that is SHA-256 or MD5, and gives up if it is SHA-512-256. pyVoIP 1.6.8 reads no algorithm at
    all. So the phones named in `choosing_agents` are offered all `algorithms`, and everybody else the last of them
    alone (RFC 8760 §3: "validate the client and challenge it accordingly"). List only algorithms whose hashes the
    subscribers have; a table that comes from Kamailio has MD5 only.
    """

    algorithms: tuple[str, ...] = field(
        default=("SHA-256", "SHA-512-256", "MD5"), validator=[non_empty(), each(one_of(*ALGORITHMS)), unique()]
    )
    """Accepted from anybody; the best first, the one that every phone knows last."""
    choosing_agents: tuple[str, ...] = ("Linphone",)
    """How the User-Agent of phones begins that choose among several challenges; "*" for every phone."""
    qop: tuple[str, ...] = field(default=("auth",), validator=[non_empty(), each(one_of(*QOPS)), unique()])
    """"auth-int" protects the body too. JsSIP prefers it when it is offered."""
    allow_without_qop: bool = True
    """Accept phones that ignore qop, as pyVoIP does; RFC 8760 §2.6 requires it. Their nonces serve only once."""
    check_uri: bool = True
    """Refuse credentials made for another resource (RFC 7616 §3.4.6). Off where a proxy before us rewrites URIs."""
    nonce_lifetime_seconds: float = field(default=DEFAULT_LIFETIME_SECONDS, validator=above(0))
    """How long a registering phone uses one nonce. Above the expiry of registrations, refreshes need no challenge."""
    call_nonce_lifetime_seconds: float = field(default=300, validator=above(0))
    """The same for callers (407). Counts are known to one process only: it bounds a replay through another one."""
    nonce_key_seconds: int = field(default=DEFAULT_KEY_SECONDS, validator=at_least(1))
    """How long one HMAC key makes nonces."""
    max_nonces: int = field(default=DEFAULT_MAX_NONCES, validator=at_least(1000))
    """Nonces whose counts are known at a time, about 200 bytes each; phones whose nonce is forgotten get a new one."""


@frozen
class _Role:
    """The words that differ between a registrar or other endpoint and a proxy (RFC 3261 §§22.2, 22.3)."""

    status: int
    ask: str
    credentials: str
    lifetime_seconds: float


class Authentication:
    """Decides whether a request was sent by whom it says.

    `find(username, domain)` gives the subscriber or None, or raises StoreUnavailable. When it need not wait,
    `authenticate` does not either. A username may also come as "name@domain" with our own domain; that is
    verified by `ha1b` alone. Whether the subscriber may then do what is asked is for others to decide.
    """

    def __init__(self, find: Find, nonces: NonceKeys, counts: NonceCounts, config: AuthConfig,
                 peek: Peek = lambda name, now: None) -> None:
        self._find = find
        self._peek = peek
        self._knows_usual = "MD5" in config.algorithms and "auth" in config.qop
        self._nonces = nonces
        self._counts = counts
        self._config = config
        self._agents = tuple(agent.lower() for agent in config.choosing_agents)
        self._everybody_chooses = EVERYBODY in config.choosing_agents
        self._registrar = _Role(401, "WWW-Authenticate", "Authorization", config.nonce_lifetime_seconds)
        self._proxy = _Role(407, "Proxy-Authenticate", "Proxy-Authorization", config.call_nonce_lifetime_seconds)
        # For nobody's password: unknown users take the same way as known ones, and it ends in the same answer.
        chance = os.urandom(32)
        self._nobody = {
            algorithm: hmac.digest(chance, algorithm.encode(), "sha256").hex()[: HEX_DIGITS[algorithm]]
            for algorithm in ALGORITHMS
        }

    @classmethod
    def with_secrets(cls, find: Find, secrets: Sequence[bytes], config: AuthConfig,
                     peek: Peek = lambda name, now: None) -> Self:
        """Return one with nonces made of these secrets, newest first (see NonceKeys)."""
        lifetime = max(config.nonce_lifetime_seconds, config.call_nonce_lifetime_seconds)
        nonces = NonceKeys(secrets, lifetime, config.nonce_key_seconds)
        return cls(find, nonces, NonceCounts(config.max_nonces, lifetime), config, peek)

    async def authenticate(self, request: Request, realm: str, now: float, proxy: bool = False) -> Accepted | Challenge:
        """Return who sent `request`, or what to answer. Must not be asked about ACK and CANCEL (RFC 3261 §22.1).

        Credentials for other realms are left alone. Raises StoreUnavailable when the subscriber cannot be looked up.
        """
        role = self._proxy if proxy else self._registrar
        agent = request.get("User-Agent") or ""
        try:
            credentials = self._credentials(request.get_all(role.credentials), realm)
            if credentials is None:
                return self._challenge(role, agent, realm, now, "missing")
            if credentials.uri != request.uri and self._config.check_uri:
                _check_uri(credentials.uri, request.uri)
        except ParseError as error:
            return Challenge(400, [], "malformed", error.reason)
        if not self._is_supported(credentials):
            return self._challenge(role, agent, realm, now, "unsupported")
        if not self._is_fresh(credentials.nonce, now, role.lifetime_seconds):
            return self._challenge(role, agent, realm, now, "stale")
        cause = await self._judge(credentials, request, realm, now)
        if isinstance(cause, Accepted):
            return cause
        return self._challenge(role, agent, realm, now, cause)

    def is_proven(self, register: UsualRegister, name: str, realm: bytes, now: float) -> bool:
        """Say whether the user in To, `name` with the domain, proved the password, when that can be told at once.

        False says no more than that `authenticate` has to be asked: nothing has been noted then that it would miss.
        """
        if not self._knows_usual or not register.speaks_for(realm):
            return False
        ha1 = self._peek(name, now)
        if ha1 is None:
            return False
        expected = md5(register.proof(ha1, register_ha2(register.uri))).hexdigest()
        if not hmac.compare_digest(expected, register.response.decode()):
            return False
        counts, nonce, lifetime = self._counts, register.nonce.decode(), self._registrar.lifetime_seconds
        if counts.accept_known(nonce, register.count, now, lifetime):
            return True
        return self._is_fresh(nonce, now, lifetime) and counts.accept(nonce, register.count, now)

    def look_again(self, register: UsualRegister) -> None:
        """Forget that a request has proved a password: it is going to be asked about by `authenticate`."""
        self._counts.give_back(register.nonce.decode(), register.count)

    @property
    def at_hand(self) -> tuple[Peek | None, NonceCounts, float]:
        """What `is_proven` judges with: the hashes at hand, None if none will do, the counts and a nonce's lifetime."""
        return self._peek if self._knows_usual else None, self._counts, self._registrar.lifetime_seconds

    def ask(self, user_agent: str, realm: str, now: float) -> Challenge:
        """Return the answer to a REGISTER without credentials."""
        return self._challenge(self._registrar, user_agent, realm, now, "missing")

    def _credentials(self, values: list[str], realm: str) -> Credentials | None:
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

    def _is_supported(self, credentials: Credentials) -> bool:
        if credentials.algorithm not in self._config.algorithms:
            return False
        if credentials.qop is None:
            return self._config.allow_without_qop
        return credentials.qop in self._config.qop

    def _is_fresh(self, nonce: str, now: float, lifetime_seconds: float) -> bool:
        born_at = self._counts.born_at(nonce)
        if born_at is not None:
            return now - born_at <= lifetime_seconds
        return self._nonces.check(nonce, now, lifetime_seconds) is Nonce.VALID

    async def _judge(self, credentials: Credentials, request: Request, realm: str, now: float) -> Accepted | Cause:
        username, at, domain = credentials.username.rpartition("@")
        if not at:
            username = domain
        elif domain.lower() != realm.lower():
            return "unknown_user"
        subscriber = await self._find(username, realm)
        hashes: Mapping[str, str] = {}
        if subscriber is not None:
            hashes = subscriber.ha1b if at else subscriber.ha1
        held = hashes.get(credentials.algorithm)
        proven = verify(credentials, request.method, held or self._nobody[credentials.algorithm], request.body)
        if subscriber is None:
            return "unknown_user"
        if held is None:
            return "unsupported"
        if not proven:
            return "bad_password"
        return Accepted(subscriber.username, subscriber.domain) if self._is_new(credentials, now) else "replayed"

    def _is_new(self, credentials: Credentials, now: float) -> bool:
        if credentials.qop is None:
            return self._counts.accept_once(credentials.nonce, now)
        return self._counts.accept(credentials.nonce, credentials.count, now)

    def _challenge(self, role: _Role, agent: str, realm: str, now: float, cause: Cause) -> Challenge:
        """Ask for (other) credentials: one header for each algorithm, all with the same nonce.

        stale=true lets the phone answer without asking its user again: whenever only the nonce was at fault.
        """
        nonce, stale = self._nonces.mint(now), cause in ("stale", "replayed")
        headers = [
            (role.ask, challenge(realm, nonce, algorithm, self._config.qop, stale))
            for algorithm in self._offered(agent)
        ]
        return Challenge(role.status, headers, cause)

    def _offered(self, agent: str) -> tuple[str, ...]:
        algorithms = self._config.algorithms
        if len(algorithms) == 1 or self._everybody_chooses:
            return algorithms
        chooses = agent.lower().startswith(self._agents)
        return algorithms if chooses else algorithms[-1:]


@lru_cache(1024)
def register_ha2(uri: bytes) -> bytes:
    """Return H(A2) of a REGISTER by MD5; the scanner takes no long one for usual."""
    ha2: bytes = md5(b"REGISTER:" + uri).hexdigest().encode()
    return ha2


def _check_uri(uri: str, request_uri: str) -> None:
    if not names_same_resource(uri, request_uri):
        raise ParseError("credentials for another URI")


def _is_for_another(value: str, realm: str) -> bool:
    try:
        return parse_authorization(value).params.get("realm", realm) != realm
    except ParseError:
        return False
