"""Who is not listened to any more, after too many wrong passwords, and who is all the same (see `registrar.bans`).

A phone that is registered proved its password from where it is. What comes from there, over the same connection or from
the same UDP address, is judged whatever is banned; and as long as it is registered, and a while after its connection
has ended, its user is not kept out because of what others guessed from the same host, or about the same user from
elsewhere. So whoever guesses from behind the address of an office cannot put its phones out of order, nor keep them out
when its link returns.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping

from twisted.logger import Logger

from registrar.bans import KINDS, Ban, Bans, BansConfig, Kind, network_of, source_text
from registrar.bound import keys_on
from registrar.location.contract import LocationStore
from registrar.records import record_key
from registrar.routing import aor_of_name
from rollcall.net.flow import PORT_BYTES, Flow, PackedAddress
from rollcall.ops.metrics import Metrics


class Guarding:
    """Counts wrong passwords by where they came from, and says whom not to listen to. See `registrar.auth.Guard`."""

    _log = Logger()

    def __init__(self, config: BansConfig, location: LocationStore) -> None:
        self.bans = Bans(config, self._tell)
        self._seconds = config.ban_seconds
        self._location = location
        self._returning_seconds = config.returning_seconds
        self._max_left = config.max_counted
        # Records whose connection has ended, by when: the host that it came from.
        self._left: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def left(self, key: bytes, host: str, now: float) -> None:
        """Take note that a connection has ended which a record was bound to."""
        self._left.pop(key, None)
        self._left[key] = host, now
        while len(self._left) > self._max_left or next(iter(self._left.values()))[1] < now - self._returning_seconds:
            self._left.popitem(last=False)

    def has_left(self, key: bytes, now: float) -> bool:
        """Say whether a connection has ended a short while ago that a record was bound to."""
        known = self._left.get(key)
        return known is not None and now - known[1] <= self._returning_seconds

    @property
    def refuses_some(self) -> bool:
        """See Guard."""
        return len(self.bans) > 0

    def may_refuse(self, name: str, address: PackedAddress, now: float) -> bool:
        """See Guard."""
        return self.bans.applying(name, network_of(address[PORT_BYTES:]), now) is not None

    async def refuses(self, username: str, domain: str, flow: Flow | None, now: float) -> bool:
        """See Guard."""
        if flow is None or flow.member or not len(self.bans):
            return False
        aor = aor_of_name(username, domain)
        key = record_key(aor)
        ban = self.bans.applying(_name(key), _source(flow), now)
        if ban is None or key in keys_on(flow):
            return False
        place = flow.transport, *flow.peer
        sources = [binding.source for binding in (await self._location.load(aor)).bindings if binding.expires_at > now]
        if any((source.transport, source.host, source.port) == place for source in sources):
            return False
        if ban.kind == "pair":
            return True
        return not self._returns(key, flow.peer[0], now) and all(source.host != flow.peer[0] for source in sources)

    def suspect(self, username: str, domain: str, flow: Flow | None, now: float) -> bool:
        """See Guard."""
        # What comes from another node of the cluster was let in by that one.
        return flow is not None and not flow.member and self.bans.suspect(_user(username, domain), _source(flow), now)

    def fail(self, username: str, domain: str, flow: Flow | None, now: float) -> None:
        """See Guard."""
        if flow is not None:
            self.bans.fail(_user(username, domain), _source(flow), now)

    def clear(self, username: str, domain: str, flow: Flow | None) -> None:
        """See Guard."""
        if flow is not None:
            self.bans.clear(_user(username, domain), _source(flow))

    def _returns(self, key: bytes, host: str, now: float) -> bool:
        """Say whether the latest connection of a record came from this host, a short while ago."""
        known = self._left.get(key)
        return known is not None and known[0] == host and now - known[1] <= self._returning_seconds

    def _tell(self, ban: Ban) -> None:
        # fail2ban reads these sentences (etc/fail2ban): the address comes first, what strangers made up last.
        source, seconds, failures = source_text(ban.source), self._seconds, ban.failures
        if ban.kind == "source":
            self._log.warn("banned {source} for {seconds:.0f} s: {failures} wrong passwords", source=source,
                           seconds=seconds, failures=failures)
        elif ban.kind == "pair":
            self._log.warn("banned {source} as one user for {seconds:.0f} s: {failures} wrong passwords for {user}",
                           source=source, seconds=seconds, failures=failures, user=ban.user)
        else:
            self._log.warn("banned one user from anywhere for {seconds:.0f} s: {failures} wrong passwords for {user}",
                           seconds=seconds, failures=failures, user=ban.user)


def watch_bans(metrics: Metrics, bans: Bans, now: Callable[[], float]) -> None:
    """Export who was banned, who is, and how many counts there are."""
    metrics.total("rollcall_bans_total", "Bans after too many wrong passwords.", ("kind",),
                  lambda: _labelled(bans.total))
    metrics.gauge("rollcall_banned", "Bans that last.", ("kind",),
                  lambda: _labelled(Counter(ban.kind for ban in bans.current(now()))))
    metrics.gauge("rollcall_ban_counts", "Users and sources whose wrong passwords are counted now.", (),
                  lambda: bans.counted)


def _labelled(counts: Mapping[Kind, int]) -> dict[tuple[str], float]:
    return {(kind,): float(counts.get(kind, 0)) for kind in KINDS}


def _user(username: str, domain: str) -> str:
    return _name(record_key(aor_of_name(username, domain)))


def _name(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")


def _source(flow: Flow) -> bytes:
    return network_of(flow.address[PORT_BYTES:])
