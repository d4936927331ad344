"""Who sent a request: digest authentication as a registrar (401) or a proxy (407) does it (RFC 3261 §22, RFC 8760).

A domain is its own realm, as RFC 3261 §22.1 recommends and the password hashes of Kamailio's tables presuppose.
"""

import hmac
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Literal, Self

import attrs
from attrs import field

from registrar.bans import ANYBODY, Guard, NoGuard, Receivers, receivers
from registrar.claims import check_uri, claimed, credentials_for, is_long, named, user_of
from registrar.offering import Offers
from rollcall.net.flow import Flow, PackedAddress
from rollcall.ops.allowed import above, at_least, each, non_empty, one_of, unique
from rollcall.sip.digest import (
    ALGORITHMS,
    HEX_DIGITS,
    QOPS,
    Credentials,
    challenge,
    md5,
    verify,
)
from rollcall.sip.errors import ParseError
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

Cause = Literal["missing", "stale", "unknown_user", "bad_password", "replayed", "malformed", "unsupported", "banned"]
"""Why somebody was not let in. "unsupported": an algorithm or form not offered, or no hash is held for it."""

GUESSES = frozenset({"bad_password", "unknown_user"})
"""Why somebody is not let in who may be trying passwords; the others are phones on their way."""


class StoreUnavailable(Exception):
    """The subscribers cannot be asked now. Nobody is known to be unknown: the answer is 503, never 401 or 403."""


@frozen
class Subscriber:
    """Somebody with a password, of which only hashes are kept."""

    username: str
    domain: str
    ha1: Mapping[str, str] = field(repr=False)
    """H(username:domain:password) in hexadecimal by the name of the algorithm."""
    ha1b: Mapping[str, str] = field(factory=dict, repr=False)
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
    """401 or 407; without headers 400 when the credentials are malformed, and 403 when they are not looked at."""
    headers: list[tuple[str, str]]
    cause: Cause
    reason: str | None = None
    """What is wrong with a 400 or 403, in words fit for a reason phrase."""


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
    alone (RFC 8760 §3: "validate the client and challenge it accordingly"). Of these a user is offered those that
    hashes of his password are held for: by phones that choose at once, by others when they tried one that is not.
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


async def nothing_newer(username: str, domain: str) -> Subscriber | None:
    """Return what is known of a subscriber beyond what was found already: nothing."""
    return None


@frozen
class _Role:
    """The words that differ between a registrar or other endpoint and a proxy (RFC 3261 §§22.2, 22.3)."""

    status: int
    ask: str
    credentials: str
    lifetime_seconds: float


@frozen
class _Asking:
    """What somebody has to prove himself for."""

    request: Request
    realm: str
    role: _Role
    flow: Flow | None

    @property
    def agent(self) -> str:
        return self.request.get("User-Agent") or ""

    @property
    def receivers(self) -> Receivers:
        return ANYBODY if self.flow is None else receivers(self.flow.address, not self.flow.reliable)


class Authentication:
    """Decides whether a request was sent by whom it says.

    `find(username, domain)` gives the subscriber or None, or raises StoreUnavailable. When it need not wait,
    `authenticate` does not either, unless the `guard` has to. A username may also come as "name@domain" with our own
    domain; that is verified by `ha1b` alone. Whether the subscriber may then do what is asked is for others to decide.
    """

    def __init__(self, find: Find, nonces: NonceKeys, counts: NonceCounts, config: AuthConfig,
                 peek: Peek = lambda name, now: None, look_again: Find = nothing_newer,
                 guard: Guard | None = None, key: bytes | None = None) -> None:
        """`look_again` gives a subscriber when something newer is known than what `find` gave, else None; it is asked
        before a proof is taken for wrong. The `guard` is told of those, and asked whom not to listen to. Of the `key`
        is made what unknown users seem to have: where it is the same, that is the same.
        """
        self._find = find
        self._look_again = look_again
        self._guard = guard or NoGuard()
        self._peek = peek
        self._knows_usual = "MD5" in config.algorithms and "auth" in config.qop
        self._nonces = nonces
        self._counts = counts
        self._config = config
        self._registrar = _Role(401, "WWW-Authenticate", "Authorization", config.nonce_lifetime_seconds)
        self._proxy = _Role(407, "Proxy-Authenticate", "Proxy-Authorization", config.call_nonce_lifetime_seconds)
        # For nobody's password: unknown users take the same way as known ones, and it ends in the same answer.
        chance = os.urandom(32)
        self._offers = Offers(config.algorithms, config.choosing_agents, chance if key is None else key)
        self._nobody = {
            algorithm: hmac.digest(chance, algorithm.encode(), "sha256").hex()[: HEX_DIGITS[algorithm]]
            for algorithm in ALGORITHMS
        }

    @classmethod
    def with_secrets(cls, find: Find, secrets: Sequence[bytes], config: AuthConfig,
                     peek: Peek = lambda name, now: None, look_again: Find = nothing_newer,
                     guard: Guard | None = None) -> Self:
        """Return one with nonces made of these secrets, newest first (see NonceKeys)."""
        lifetime = max(config.nonce_lifetime_seconds, config.call_nonce_lifetime_seconds)
        nonces = NonceKeys(secrets, lifetime, config.nonce_key_seconds)
        key = hmac.digest(secrets[0], b"unknown users", "sha256")
        return cls(find, nonces, NonceCounts(config.max_nonces, lifetime), config, peek, look_again, guard, key)

    async def authenticate(self, request: Request, realm: str, now: float, proxy: bool = False,
                           flow: Flow | None = None) -> Accepted | Challenge:
        """Return who sent `request`, or what to answer. Must not be asked about ACK and CANCEL (RFC 3261 §22.1).

        `flow` is what it came over; without one nobody is banned. Credentials for other realms are left alone. Raises
        StoreUnavailable when the subscriber cannot be looked up, and LocationUnavailable when his bindings cannot that
        would lift a ban.
        """
        role = self._proxy if proxy else self._registrar
        asking = _Asking(request, realm, role, flow)
        try:
            credentials = credentials_for(realm, request.get_all(role.credentials))
            if credentials is None:
                return await self._ask(asking, None, now, "missing")
            if credentials.uri != request.uri and self._config.check_uri:
                check_uri(credentials.uri, request.uri)
        except ParseError as error:
            return Challenge(400, [], "malformed", error.reason)
        if self._guard.refuses_some and await self._guard.refuses(named(credentials, realm), realm, flow, now):
            return _banned()
        if not self._is_supported(credentials):
            return await self._ask(asking, credentials, now, "unsupported")
        if not self._is_fresh(credentials.nonce, now, role.lifetime_seconds, asking.receivers):
            return await self._ask(asking, credentials, now, "stale")
        return await self._judge(credentials, asking, now)

    def is_proven(self, register: UsualRegister, name: str, realm: bytes, now: float, given_to: Receivers = ANYBODY,
                  is_first: bool = False) -> bool:
        """Say whether the user in To, `name` with the domain, proved the password, when that can be told at once.

        False says no more than that `authenticate` has to be asked: nothing has been noted then that it would miss.
        The nonce of who `is_first` there must be one that he may have been given; others have proved where they are.
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
        if (not is_first or b"" in given_to) and counts.accept_known(nonce, register.count, now, lifetime):
            return True
        return self._is_fresh(nonce, now, lifetime, given_to) and counts.accept(nonce, register.count, now)

    def take_back(self, register: UsualRegister) -> None:
        """Forget that a request has proved a password: it is going to be asked about by `authenticate`."""
        self._counts.give_back(register.nonce.decode(), register.count)

    @property
    def at_hand(self) -> tuple[Peek | None, NonceCounts, float]:
        """What `is_proven` judges with: the hashes at hand, None if none will do, the counts and a nonce's lifetime."""
        return self._peek if self._knows_usual else None, self._counts, self._registrar.lifetime_seconds

    def may_refuse(self, name: str, address: PackedAddress, now: float) -> bool:
        """Say whether a proof of "username@domain" from this address is perhaps not to be looked at."""
        return self._guard.may_refuse(name, address, now)

    def is_ours(self, nonce: str, now: float, address: PackedAddress) -> bool:
        """Say whether we gave this nonce to who registers from this address, or to anybody of his network."""
        return self._is_fresh(nonce, now, self._registrar.lifetime_seconds, receivers(address, False))

    def asks_by_user(self, user_agent: str) -> bool:
        """Say whether what a phone is asked depends on its user: then `authenticate` asks."""
        return self._offers.chooses(user_agent)

    def ask(self, user_agent: str, realm: str, now: float, given_to: Receivers = ANYBODY) -> Challenge:
        """Return the answer to a REGISTER without credentials from any other phone."""
        return self._challenge(self._registrar, realm, self._offers.to(user_agent), now, "missing", given_to)

    def _is_supported(self, credentials: Credentials) -> bool:
        if credentials.algorithm not in self._config.algorithms:
            return False
        if credentials.qop is None:
            return self._config.allow_without_qop
        return credentials.qop in self._config.qop

    def _is_fresh(self, nonce: str, now: float, lifetime_seconds: float, given_to: Receivers) -> bool:
        # Of a nonce that was used it is known who made it, but not for whom.
        born_at = self._counts.born_at(nonce) if b"" in given_to else None
        if born_at is not None:
            return now - born_at <= lifetime_seconds
        return self._nonces.check(nonce, now, lifetime_seconds, given_to) is Nonce.VALID

    async def _ask(self, asking: _Asking, credentials: Credentials | None, now: float, cause: Cause) -> Challenge:
        """Return the challenge to who has shown no proof that can be looked at."""
        agent, held = asking.agent, None
        if self._offers.chooses(agent):
            user = claimed(asking.request) if credentials is None else user_of(credentials, asking.realm)
            subscriber = None if user is None else await self._find(user, asking.realm)
            held = self._held(user or "", asking.realm, subscriber, credentials is not None and is_long(credentials))
        return self._challenge(asking.role, asking.realm, self._offers.to(agent, held), now, cause, asking.receivers)

    async def _judge(self, credentials: Credentials, asking: _Asking, now: float) -> Accepted | Challenge:
        """Look at a proof. Nobody else's is looked at between the guard's word and what the guard is told of it."""
        realm, user = asking.realm, user_of(credentials, asking.realm)
        subscriber = None if user is None else await self._find(user, realm)
        if self._guard.refuses_some and await self._guard.refuses(
                named(credentials, realm), realm, asking.flow, now):
            return _banned()
        fault = self._fault(credentials, asking, subscriber)
        if fault is not None:
            fault, subscriber = await self._judge_again(credentials, asking, subscriber, fault, now)
        if fault is None and not self._is_new(credentials, now):
            fault = "replayed"
        if fault is None:
            assert subscriber is not None
            return Accepted(subscriber.username, subscriber.domain)
        held = self._held(named(credentials, realm), realm, subscriber, is_long(credentials))
        return self._challenge(asking.role, realm, self._offers.to(asking.agent, held), now, fault, asking.receivers)

    async def _judge_again(self, credentials: Credentials, asking: _Asking, subscriber: Subscriber | None,
                           fault: Cause, now: float) -> tuple[Cause | None, Subscriber | None]:
        """Look at a proof that seems wrong with the newest that is known of the subscriber."""
        guard, flow, realm = self._guard, asking.flow, asking.realm
        user, name = user_of(credentials, realm), named(credentials, realm)
        counts = fault in GUESSES and guard.suspect(name, realm, flow, now)
        newer = None if user is None else await self._look_again(user, realm)
        if newer is None or newer == subscriber:
            verdict: Cause | None = fault
        else:
            subscriber, verdict = newer, self._fault(credentials, asking, newer)
        if counts and verdict in GUESSES:
            guard.fail(name, realm, flow, now)
        elif counts:
            guard.clear(name, realm, flow)
        return verdict, subscriber

    def _fault(self, credentials: Credentials, asking: _Asking, subscriber: Subscriber | None) -> Cause | None:
        """Return what is wrong with a proof of this subscriber; None when it is one."""
        algorithm, request = credentials.algorithm, asking.request
        hashes = {} if subscriber is None else _hashes(credentials, subscriber)
        held = hashes.get(algorithm)
        proven = verify(credentials, request.method, held or self._nobody[algorithm], request.body)
        if proven and held is not None and self._offers.know_some:
            return None
        if algorithm not in self._held(named(credentials, asking.realm), asking.realm, subscriber,
                                       is_long(credentials)):
            return "unsupported"
        if subscriber is None:
            return "unknown_user"
        return None if proven else "bad_password"

    def _held(self, user: str, realm: str, subscriber: Subscriber | None, in_full: bool) -> Collection[str]:
        """Return by which algorithms there are hashes of a user's password, or seem to be of an unknown one's."""
        forms = None if subscriber is None else (subscriber.ha1, subscriber.ha1b)
        return self._offers.held_of(f"{user}@{realm}", forms, in_full)

    def _is_new(self, credentials: Credentials, now: float) -> bool:
        if credentials.qop is None:
            return self._counts.accept_once(credentials.nonce, now)
        return self._counts.accept(credentials.nonce, credentials.count, now)

    def _challenge(self, role: _Role, realm: str, algorithms: tuple[str, ...], now: float, cause: Cause,
                   given_to: Receivers) -> Challenge:
        """Ask for (other) credentials: one header for each algorithm, all with the same nonce.

        stale=true lets the phone answer without asking its user again: whenever only the nonce was at fault.
        """
        nonce, stale = self._nonces.mint(now, given_to[0]), cause in ("stale", "replayed")
        headers = [
            (role.ask, challenge(realm, nonce, algorithm, self._config.qop, stale)) for algorithm in algorithms
        ]
        return Challenge(role.status, headers, cause)


def _banned() -> Challenge:
    """Return the answer to whoever is not listened to: to verify and refuse would still tell him a right guess."""
    return Challenge(403, [], "banned", "Too Many Wrong Passwords")


def _hashes(credentials: Credentials, subscriber: Subscriber) -> Mapping[str, str]:
    return subscriber.ha1b if is_long(credentials) else subscriber.ha1


@lru_cache(1024)
def register_ha2(uri: bytes) -> bytes:
    """Return H(A2) of a REGISTER by MD5; the scanner takes no long one for usual."""
    ha2: bytes = md5(b"REGISTER:" + uri).hexdigest().encode()
    return ha2
