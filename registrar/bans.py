"""Who guesses passwords: failed proofs are counted, and who has failed too often is not listened to for a while."""

from collections import OrderedDict
from collections.abc import Callable
from hashlib import sha256
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal, Protocol

from attrs import define, field, frozen

from rollcall.net.flow import PORT_BYTES, Flow, PackedAddress
from rollcall.ops.allowed import above, at_least, each, network

IPV6_BYTES = 16

NETWORK_BYTES = 8
"""Whoever has one IPv6 address has its whole /64 (RFC 6177 §2), and would never be at a limit."""

MAX_USER_CHARS = 128
"""Longer names are filed by a digest: strangers make them up, and they are kept for a while."""


@frozen(kw_only=True)
class BansConfig:
    """[bans]: how many wrong passwords are too many. 0: as many as come.

    What is counted are proofs that failed, never requests: many phones may share an address.
    """

    per_user_and_source: int = field(default=50, validator=at_least(0))
    """Wrong passwords for one user from one IPv4 address or IPv6 /64. Some phones send one 15 times at once."""
    per_source: int = field(default=200, validator=at_least(0))
    """Wrong passwords for any users from one IPv4 address or IPv6 /64; of each user the first five count."""
    per_user: int = field(default=200, validator=at_least(0))
    """Wrong passwords for one user from anywhere."""
    window_seconds: float = field(default=300.0, validator=above(0))
    """Within so long."""
    ban_seconds: float = field(default=600.0, validator=above(0))
    """How long a ban lasts."""
    returning_seconds: float = field(default=3600.0, validator=at_least(0))
    """How long a phone whose connection has ended may come back to its address although that is banned: when the link
    of an office returns, all its phones do, and some have old passwords."""
    max_counted: int = field(default=100_000, validator=at_least(1000))
    """Users and sources that are counted at a time; beyond that the longest quiet ones are forgotten."""
    never: tuple[str, ...] = field(default=(), validator=each(network()))
    """Networks that are never banned, such as "192.0.2.0/24"."""


MOST_SHARED = 5
"""So many failures of one user count for his source: who guesses at many users is told from a phone with an old
password, which tries it again and again."""

Kind = Literal["pair", "source", "user"]

KINDS: tuple[Kind, ...] = ("pair", "source", "user")

Whom = tuple[str, bytes]
"""A user, "name@domain" as records are filed, and a source; "" stands for any user, b"" for any source."""


Receivers = tuple[bytes, ...]
"""Sources that a nonce may have been given to; b"" stands for any."""

ANYBODY: Receivers = (b"",)


def network_of(host: bytes) -> bytes:
    """Return the source that a host is part of, both as inet_pton(3) gives them: an IPv6 address has its /64."""
    return host[:NETWORK_BYTES] if len(host) == IPV6_BYTES else host


def receivers(address: PackedAddress, is_datagram: bool) -> Receivers:
    """Return to whom the nonces may have been given that come from an address; the first one gets the next.

    Anybody can write any source into a datagram: only who gets what is sent there has a nonce for it, so that nobody
    else can have it banned. Over a connection any nonce will do.
    """
    source = network_of(address[PORT_BYTES:])
    return (source,) if is_datagram else (b"", source)


def source_text(source: bytes) -> str:
    """Return a source for people: "192.0.2.7" or "2001:db8::/64"; "" for any."""
    return str(_network(source)).removesuffix("/32") if source else ""


def filed(user: str) -> str:
    """Return what a user is counted under."""
    if len(user) <= MAX_USER_CHARS:
        return user
    digest = sha256(user.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{user[:MAX_USER_CHARS - len(digest)]}{digest}"


@frozen
class Ban:
    """Who is not listened to, and until when."""

    user: str
    source: bytes
    until: float
    failures: int
    """How many wrong passwords were too many."""

    @property
    def kind(self) -> Kind:
        """What is banned: a user from a source, everybody from a source, or a user wherever."""
        return kind_of((self.user, self.source))


@define
class _Count:
    failures: int
    began_at: float
    shared: int = 0
    """Failures of a user and a source that count for the source alone, too."""


class Bans:
    """Counts failed proofs by user and source, by source and by user, and remembers who had too many.

    A window begins with the first failure in it. A ban is not prolonged by what comes during it, so that a phone with
    an old password may try again some time. Each user counts for his source a few times only, so that some phones with
    an old password never ban their office.
    """

    def __init__(self, config: BansConfig, made: Callable[[Ban], None] = lambda ban: None) -> None:
        """`made` is told of each new ban."""
        self.total: dict[Kind, int] = dict.fromkeys(KINDS, 0)
        """Bans so far."""
        self._made = made
        self._config = config
        self._limits: dict[Kind, int] = {
            "pair": config.per_user_and_source, "source": config.per_source, "user": config.per_user}
        self._never = tuple(map(ip_network, config.never))
        # Who failed last is the last.
        self._counts: OrderedDict[Whom, _Count] = OrderedDict()
        # All bans are equally long: the one that ends first is the first.
        self._bans: OrderedDict[Whom, Ban] = OrderedDict()

    def __len__(self) -> int:
        """How many bans there are, perhaps with some that have just ended."""
        return len(self._bans)

    @property
    def counted(self) -> int:
        """How many users and sources have a count."""
        return len(self._counts)

    def applying(self, user: str, source: bytes, now: float) -> Ban | None:
        """Return the ban that forbids to listen to `user` from `source`: that of the pair before any other."""
        bans = self._bans
        if not bans:
            return None
        self._end_lapsed(now)
        user = filed(user)
        ban = bans.get((user, source)) or bans.get(("", source)) or bans.get((user, b""))
        return None if ban is None or self._spares(source) else ban

    def current(self, now: float) -> tuple[Ban, ...]:
        """Return all bans, the one that ends first at the front."""
        self._end_lapsed(now)
        return tuple(self._bans.values())

    def suspect(self, user: str, source: bytes, now: float) -> bool:
        """Count a proof that seems to fail for its user and source together; say whether it counts at all.

        To be called at once: whoever asks many times before the answer is sure would have as many guesses. When it is
        sure, `fail` or `clear` follows if it counts.
        """
        self._end_lapsed(now)
        whom = filed(user), source
        if whom in self._bans or self._spares(source):
            return False
        self._count(whom, now)
        return True

    def fail(self, user: str, source: bytes, now: float) -> None:
        """Count a proof that has failed for its source, and for its user."""
        self._end_lapsed(now)
        user = filed(user)
        pair = self._counts.get((user, source))
        if pair is None or pair.shared < MOST_SHARED:
            self._count(("", source), now)
        if pair is not None:
            pair.shared += 1
        self._count((user, b""), now)

    def clear(self, user: str, source: bytes) -> None:
        """Take back what was suspected: the proof was right."""
        count = self._counts.get((filed(user), source))
        if count is not None:
            count.failures -= 1

    def lift(self, user: str = "", source: bytes = b"") -> int:
        """Forget all bans and counts of a user, or of a source; return how many bans that were."""
        user = filed(user)
        meant = [whom for whom in self._bans if _concerns(whom, user, source)]
        for whom in meant:
            del self._bans[whom]
        for whom in [whom for whom in self._counts if _concerns(whom, user, source)]:
            del self._counts[whom]
        return len(meant)

    def _count(self, whom: Whom, now: float) -> None:
        limit, counts = self._limits[kind_of(whom)], self._counts
        if not limit or whom in self._bans:
            return
        count = counts.get(whom)
        if count is None or not 0 <= now - count.began_at < self._config.window_seconds:
            count = counts[whom] = _Count(0, now)
        count.failures += 1
        counts.move_to_end(whom)
        if count.failures >= limit:
            del counts[whom]
            self._ban(Ban(*whom, now + self._config.ban_seconds, count.failures))
        elif len(counts) > self._config.max_counted:
            counts.popitem(last=False)

    def _ban(self, ban: Ban) -> None:
        self._bans[ban.user, ban.source] = ban
        if len(self._bans) > self._config.max_counted:
            self._bans.popitem(last=False)
        self.total[ban.kind] += 1
        self._made(ban)

    def _end_lapsed(self, now: float) -> None:
        bans = self._bans
        while bans:
            whom = next(iter(bans))
            if bans[whom].until > now:
                return
            del bans[whom]

    def _spares(self, source: bytes) -> bool:
        if not self._never:
            return False
        network = _network(source)
        return any(network.version == never.version and network.overlaps(never) for never in self._never)


class Guard(Protocol):
    """Who refuses those that guess passwords (`registrar.guarding` does, by Bans)."""

    @property
    def refuses_some(self) -> bool:
        """Whether `refuses` has to be asked at all."""

    def may_refuse(self, name: str, address: PackedAddress, now: float) -> bool:
        """Say whether `refuses` has to be asked about "username@domain", as records are filed, from an address."""

    async def refuses(self, username: str, domain: str, flow: Flow | None, now: float) -> bool:
        """Say whether no proof of this user is looked at when it comes over this flow. May raise LocationUnavailable.

        It does not wait when nobody is banned. Without a flow nobody is.
        """

    def suspect(self, username: str, domain: str, flow: Flow | None, now: float) -> bool:
        """Take note of a proof that seems to be wrong; say whether it counts. If so `fail` or `clear` follows."""

    def fail(self, username: str, domain: str, flow: Flow | None, now: float) -> None:
        """Take note that it was wrong."""

    def clear(self, username: str, domain: str, flow: Flow | None) -> None:
        """Take note that it was right."""


class NoGuard:
    """Lets everybody guess."""

    refuses_some = False

    def may_refuse(self, name: str, address: PackedAddress, now: float) -> bool:
        """See Guard."""
        return False

    async def refuses(self, username: str, domain: str, flow: Flow | None, now: float) -> bool:
        """See Guard."""
        return False

    def suspect(self, username: str, domain: str, flow: Flow | None, now: float) -> bool:
        """See Guard."""
        return False

    def fail(self, username: str, domain: str, flow: Flow | None, now: float) -> None:
        """See Guard."""

    def clear(self, username: str, domain: str, flow: Flow | None) -> None:
        """See Guard."""


def kind_of(whom: Whom) -> Kind:
    """Return what kind of ban these would have."""
    user, source = whom
    if not user:
        return "source"
    return "pair" if source else "user"


def _network(source: bytes) -> IPv4Network | IPv6Network:
    if len(source) == NETWORK_BYTES:
        return ip_network((source.ljust(IPV6_BYTES, b"\0"), NETWORK_BYTES * 8))
    return ip_network(source)


def _concerns(whom: Whom, user: str, source: bytes) -> bool:
    return bool(user and whom[0] == user) or bool(source and whom[1] == source)
