"""The link to one server, kept up from `start` to `stop`: a connection for commands and one for what changes there.

Server-assisted client side caching with RESP2: the server tells the subscriber what others change of the keys that the
data connection has read or written. So both connections live and end together.
"""

from enum import Enum
from typing import Any, Protocol

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.breaker import Breaker
from rollcall.cluster.connection import Connection, Pending, Subscriber, fail_all, settle
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, ServerState, Watcher
from rollcall.cluster.slots import address_of

# What the server calls us in CLIENT LIST.
CLIENT_NAME = "rollcall"
# Where a server tells, by RESP2, what has changed.
INVALIDATED = "__redis__:invalidate"
LEASES = b"node:"
# How often a link is tried that nobody uses: a host that is gone says nothing by itself.
PROBE_SECONDS = 1.0
# A server that is paused for writes answers PING, but no script.
PROBE = ("EVAL", "return 1", 0)


class LinkState(Enum):
    """How far a link has come."""

    NEW = "not connected yet"
    OPEN = "open"
    AWAY = "away"
    STOPPED = "stopped"


class LinkUser(Protocol):
    """Whose links they are."""

    async def find(self, link: "Link") -> tuple[str, int]:
        """Return host and port of the server. Raises RedisUnavailable."""

    async def prepare(self, link: "Link", data: Connection) -> None:
        """Look whether it is the right server before it is asked. Raises RedisUnavailable when it is not."""

    def opened(self, link: "Link") -> bool:
        """It can be asked: return whether others have served its keys before, who may have had more."""

    def failed(self, link: "Link") -> None:
        """An attempt has failed, or it was open and has ended."""

    def refused(self, link: "Link", refusal: RedisRefused, pending: Pending) -> None:
        """A command was answered with an error."""


@frozen
class _Pair:
    data: Connection
    subscriber: Subscriber
    run_id: str

    def drop(self, why: str) -> None:
        self.data.drop(why)
        self.subscriber.drop(why)


class Link:
    """One server. It connects for ever, with pauses that grow, and tells the watcher when it is up and when not."""

    _log = Logger()

    def __init__(self, opening: Opening, name: str, user: LinkUser, watcher: Watcher) -> None:
        """`name` is how the server is called until its address is known."""
        config = opening.config
        self.name = name
        self.state = LinkState.NEW
        self.data: Connection | None = None
        """What commands are sent over; None while the link is not open."""
        self._reactor = opening.reactor
        self._opening = opening
        self._config = config
        self._user = user
        self._watcher = watcher
        self._breaker = Breaker(config.breaker_failures, config.breaker_seconds)
        self._why = LinkState.NEW.value
        self._served_by: str | None = None
        self._pair: _Pair | None = None
        self._parked: list[Pending] = []
        self._failing: list[tuple[Pending, str]] = []
        self._failed_in_a_row = 0
        self._opened_at = 0.0
        self._own_answers = 0
        self._commands = self._failures = self._reconnects = 0
        self._living: Deferred[None] | None = None
        self._attempt: Deferred[_Pair] | None = None
        self._ended: Deferred[str] = Deferred()
        self._pause: Deferred[None] = Deferred()
        self._probing: IDelayedCall | None = None

    # --- what its user says

    def start(self) -> None:
        """Connect, and stay connected."""
        self._living = Deferred.fromCoroutine(self._live())
        self._living.addErrback(self._died)

    def stop(self, why: str = "we have stopped") -> None:
        """End it; what waits fails."""
        self.state, self._why = LinkState.STOPPED, why
        self._hurry()
        self.drop(why)
        parked, self._parked = self._parked, []
        fail_all(parked, why)

    def drop(self, why: str) -> None:
        """Give up the connections that are open; new ones are made at once."""
        if self._pair is not None:
            pair = self._pair
            self._closed(pair, why)
            pair.drop(why)

    def try_now(self) -> None:
        """Look for the server again at once, unless it can be asked."""
        if self._pair is None:
            self._failed_in_a_row = 0
            self._breaker.succeeded()
            self._hurry()

    def send(self, pending: Pending) -> None:
        """Ask. Before the first attempt has ended a command waits for it; later it fails when the link is away."""
        data = self.data
        if data is not None:
            if len(data.waiting) < self._config.max_waiting:
                data.send(pending)
            else:
                self.fail(pending, f"{self._config.max_waiting} commands wait for {self.name}")
        elif self.state is LinkState.NEW and len(self._parked) < self._config.max_waiting:
            self._parked.append(pending)
        else:
            self.fail(pending, f"{self.name}: {self._why}")

    def ask(self, *words: bytes | int | str) -> "Deferred[Any]":
        """Return what this server answers. Fails with RedisUnavailable or RedisRefused."""
        asked: Deferred[Any] = Deferred()
        self.send((lambda answer: settle(asked, answer), None, b"", words, 0))
        return asked

    def fail(self, pending: Pending, why: str) -> None:
        """Tell that there is no answer, in a later turn."""
        self._failing.append((pending, why))
        if len(self._failing) == 1:
            self._reactor.callLater(0, self._fail)

    @property
    def problem(self) -> str | None:
        """Why it cannot be asked now."""
        return None if self.data is not None else f"{self.name}: {self._why}"

    @property
    def run_id(self) -> str | None:
        """Which life of which server serves now, or did last."""
        return self._served_by

    def look(self) -> ServerState:
        """Return how it is now."""
        self._count_success()
        data = self.data
        return ServerState(
            name=self.name,
            is_open=data is not None,
            breaker=self._breaker.state(self._reactor.seconds()).value,
            waiting=len(data.waiting) if data is not None else len(self._parked),
            commands=self._commands + (data.commands if data is not None else 0),
            failures=self._failures,
            reconnects=self._reconnects,
            problem=self.problem,
        )

    # --- its life

    async def _live(self) -> None:
        while self.state is not LinkState.STOPPED:
            try:
                self._attempt = Deferred.fromCoroutine(self._connect())
                pair = await self._attempt.addTimeout(self._config.connect_seconds, self._reactor)
            except CancelledError:
                continue
            except TimeoutError:
                self._count_failure(f"not ready in {self._config.connect_seconds:g} s")
            except (RedisUnavailable, RedisRefused) as error:
                self._count_failure(str(error))
            else:
                self._open(pair)
                self._count_failure(await self._ended)
            await self._rest()

    async def _connect(self) -> _Pair:
        host, port = await self._user.find(self)
        self.name = address_of(host, port)
        connections: list[Connection] = []
        try:
            data = await self._opening.server(host, port, Connection)
            connections.append(data)
            subscriber = await self._opening.server(host, port, Subscriber)
            connections.append(subscriber)
            run_id = await self._greet(data, subscriber)
            await self._user.prepare(self, data)
            await data.ask(*PROBE)
        except BaseException:
            for each in connections:
                each.drop("not opened")
            raise
        return _Pair(data, subscriber, run_id)

    async def _greet(self, data: Connection, subscriber: Subscriber) -> str:
        if self._config.database:
            await data.ask("SELECT", self._config.database)
        for each in (data, subscriber):
            await each.ask("CLIENT", "SETNAME", CLIENT_NAME)
        run_id = _run_id(await data.ask("INFO", "server"))
        listener = await subscriber.ask("CLIENT", "ID")
        # Leases are told whoever changes them, and whether we have read them or not.
        await subscriber.ask("CLIENT", "TRACKING", "ON", "REDIRECT", listener, "BCAST", "PREFIX", LEASES)
        subscriber.heard = self._heard
        await subscriber.ask("SUBSCRIBE", INVALIDATED)
        await data.ask("CLIENT", "TRACKING", "ON", "REDIRECT", listener, "NOLOOP")
        return run_id

    def _open(self, pair: _Pair) -> None:
        for each in (pair.data, pair.subscriber):
            each.ended = lambda why: self._closed(pair, why)
            if not each.is_open:
                self._ended.callback("the connection was closed")
                pair.drop("the other connection was closed")
                return
        pair.data.refused = lambda refusal, pending: self._user.refused(self, refusal, pending)
        self._pair, self.data = pair, pair.data
        self.state = LinkState.OPEN
        self._opened_at = self._reactor.seconds()
        self._own_answers = pair.data.answers
        served_by, self._served_by = self._served_by, pair.run_id
        self._reconnects += served_by is not None
        may_have_lost = self._user.opened(self) or served_by not in (None, pair.run_id)
        self._log.info(
            "Redis at {server} can be asked{after}",
            server=self.name,
            after="; it may have lost what was written last" if may_have_lost else "",
            run_id=pair.run_id,
        )
        self._watcher.connected(self.name, pair.run_id, may_have_lost)
        parked, self._parked = self._parked, []
        for pending in parked:
            self.send(pending)
        self._probing = self._reactor.callLater(PROBE_SECONDS, self._probe, pair)

    def _closed(self, pair: _Pair, why: str) -> None:
        if self._pair is not pair:
            return
        self._count_success()
        self._commands += pair.data.commands
        self._pair = self.data = None
        self._why = why
        if self.state is LinkState.OPEN:
            self.state = LinkState.AWAY
        if self._probing is not None and self._probing.active():
            self._probing.cancel()
        self._watcher.disconnected(self.name, why)
        pair.drop(why)
        self._ended.callback(why)

    async def _rest(self) -> None:
        """Wait before the next attempt, unless there is a reason to be quick."""
        config = self._config
        growing = config.reconnect_seconds * 2.0 ** min(self._failed_in_a_row - 1, 16)
        seconds = min(growing, config.reconnect_max_seconds) * (0.5 + self._opening.chance() / 2)
        seconds = max(seconds, self._breaker.wait(self._reactor.seconds()))
        if self.state is LinkState.STOPPED:
            return
        self._pause = Deferred()
        waiting = self._reactor.callLater(seconds, self._hurry)
        await self._pause
        if waiting.active():
            waiting.cancel()

    def _hurry(self) -> None:
        if self._attempt is not None and not self._attempt.called:
            self._attempt.cancel()
        if not self._pause.called:
            self._pause.callback(None)

    def _probe(self, pair: _Pair) -> None:
        self._probing = self._reactor.callLater(PROBE_SECONDS, self._probe, pair)
        pair.subscriber.ask("PING").addErrback(_is_told_elsewhere)
        if not pair.data.waiting:
            pair.data.ask("PING").addCallbacks(self._count_probe, _is_told_elsewhere)

    def _heard(self, keys: Any) -> None:
        if keys is None:
            self._watcher.leases_changed()
            self._watcher.invalidated(None)
            return
        others = [key for key in keys if not key.startswith(LEASES)]
        if len(others) < len(keys):
            self._watcher.leases_changed()
        if others:
            self._watcher.invalidated(others)

    # --- what is counted

    def _count_failure(self, why: str) -> None:
        if self.state is LinkState.STOPPED:
            return
        first, self._why = self._failed_in_a_row == 0, why
        self._failures += 1
        self._failed_in_a_row += 1
        self._ended = Deferred()
        self._breaker.failed(self._reactor.seconds())
        if first:
            self._log.warn("Redis at {server} cannot be asked: {why}", server=self.name, why=why)
        else:
            self._log.debug("Redis at {server} still cannot be asked: {why}", server=self.name, why=why)
        if self.state is LinkState.NEW:
            self.state = LinkState.AWAY
            parked, self._parked = self._parked, []
            fail_all(parked, why)
        self._user.failed(self)

    def _count_success(self) -> None:
        """Note that the server does what it is asked: it has answered others than us, or us for long enough."""
        if self.data is None:
            return
        open_seconds = self._reactor.seconds() - self._opened_at
        if self.data.answers > self._own_answers or open_seconds > self._config.timeout_seconds + PROBE_SECONDS:
            self._failed_in_a_row = 0
            self._breaker.succeeded()

    def _count_probe(self, answer: object) -> None:
        self._own_answers += 1

    def _fail(self) -> None:
        failing, self._failing = self._failing, []
        for pending, why in failing:
            fail_all((pending,), why)

    def _died(self, failure: Failure) -> None:
        self._log.failure("the link to {server} is given up, which is an error of ours", failure, server=self.name)


def _run_id(info: bytes) -> str:
    for line in info.decode("ascii", "replace").splitlines():
        if line.startswith("run_id:"):
            return line.partition(":")[2].strip()
    raise RedisUnavailable("INFO names no run_id")


def _is_told_elsewhere(failure: Failure) -> None:
    """A probe without an answer ends the connection, which is told there."""
