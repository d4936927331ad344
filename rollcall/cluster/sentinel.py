"""Redis with a master that Sentinels name, and another one when they have agreed that it is gone."""

from typing import Any

from attrs import frozen
from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.cluster.connection import Connection, Subscriber
from rollcall.cluster.link import PROBE_SECONDS, Link
from rollcall.cluster.newest import newest
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import RedisRefused, RedisUnavailable, Watcher
from rollcall.cluster.single import OneLink, host_and_port
from rollcall.cluster.slots import address_of

SWITCHED = "+switch-master"


@frozen
class Named:
    """The master as one Sentinel sees it."""

    epoch: int
    host: str
    port: int


class SentinelRedis(OneLink):
    """The master of one name. Whoever the Sentinels name is asked for its role before it is asked for anything else."""

    _log = Logger()

    def __init__(self, opening: Opening, watcher: Watcher) -> None:
        """The Sentinels are those of the configuration."""
        config = opening.config
        super().__init__(opening, f"the master {config.master}", watcher)
        self._opening = opening
        self._master = config.master
        self._sentinels = [host_and_port(address) for address in config.addresses]
        self._listening: list[Deferred[None]] = []

    def start(self) -> None:
        """Connect, and again whenever a connection ends, until `stop`."""
        super().start()
        self._listening = [Deferred.fromCoroutine(self._listen(*sentinel)) for sentinel in self._sentinels]
        for each in self._listening:
            each.addErrback(self._listened)

    async def stop(self) -> None:
        """Close all; what waits, and all that is asked later, fails with RedisUnavailable."""
        for each in self._listening:
            each.cancel()
        await super().stop()

    # --- who is it?

    async def find(self, link: Link) -> tuple[str, int]:
        """Ask all Sentinels; the newest answer counts, once most have answered. Raises RedisUnavailable."""
        config = self._opening.config
        asking = [self._ask(*sentinel) for sentinel in self._sentinels]
        named = await newest(asking, config.connect_seconds / 2, self._opening.reactor)
        return named.host, named.port

    async def prepare(self, link: Link, data: Connection) -> None:
        """See that it is a master, not one that has been replaced. Raises RedisUnavailable when it is not."""
        role = await data.ask("ROLE")
        if role[0] != b"master":
            raise RedisUnavailable(f"it is no master but {role[0].decode('ascii', 'replace')}")

    def refused(self, link: Link, refusal: RedisRefused, pending: Any) -> None:
        """A master that takes no writes any more has been replaced."""
        super().refused(link, refusal, pending)
        if str(refusal).startswith("READONLY "):
            link.drop("it is not the master any more")

    async def _ask(self, host: str, port: int) -> Named:
        connection = await self._opening.sentinel(host, port, Connection)
        try:
            flat = await connection.ask("SENTINEL", "MASTER", self._master)
        finally:
            connection.drop("it was asked")
        return _named(dict(zip(flat[::2], flat[1::2], strict=True)))

    # --- who is it from now on?

    async def _listen(self, host: str, port: int) -> None:
        """Stay with a Sentinel: the one that has replaced the master says so seconds before the others do."""
        while True:
            try:
                await self._hear(host, port)
            except (RedisUnavailable, RedisRefused, TimeoutError) as error:
                self._log.debug("Sentinel {host}:{port} tells nothing: {why}", host=host, port=port, why=str(error))
            await deferLater(self._opening.reactor, self._opening.config.reconnect_max_seconds)

    async def _hear(self, host: str, port: int) -> None:
        config, reactor = self._opening.config, self._opening.reactor
        opening = Deferred.fromCoroutine(self._opening.sentinel(host, port, Subscriber))
        subscriber = await opening.addTimeout(config.connect_seconds, reactor)
        try:
            subscriber.heard = self._switched
            await subscriber.ask("SUBSCRIBE", SWITCHED)
            # Another one may have been named while nobody listened.
            host, port = await self.find(self._link)
            if self._link.data is not None:
                self._follow(host, port)
            while True:
                await deferLater(reactor, PROBE_SECONDS)
                await subscriber.ask("PING")
        finally:
            subscriber.drop("it is not listened to any more")

    def _switched(self, payload: bytes) -> None:
        name, *_, host, port = payload.decode("utf-8", "replace").split(" ")
        if name == self._master:
            self._log.info("the Sentinels name {host}:{port} as the master of {name}", host=host, port=port, name=name)
            self._follow(host, int(port))

    def _follow(self, host: str, port: int) -> None:
        """Turn to this master, unless it is asked already."""
        if self._link.name != address_of(host, port) or self._link.data is None:
            self._link.drop("the Sentinels name another master")
            self._link.try_now()

    def _listened(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            self._log.failure("the Sentinels are not listened to any more, which is an error of ours", failure)


def _named(fields: dict[bytes, bytes]) -> Named:
    try:
        return Named(int(fields[b"config-epoch"]), fields[b"ip"].decode(), int(fields[b"port"]))
    except (KeyError, ValueError) as wrong:
        raise RedisUnavailable(f"a Sentinel describes the master in a way that we do not know: {wrong}") from wrong
