"""Redis on one server."""

from collections.abc import Iterable

from rollcall.cluster.asking import Asking
from rollcall.cluster.connection import Connection
from rollcall.cluster.link import Link
from rollcall.cluster.opening import Opening
from rollcall.cluster.redis import Watcher


class OneLink(Asking):
    """Redis with one server at a time: a single one, or the master that Sentinels name."""

    def __init__(self, opening: Opening, name: str, watcher: Watcher) -> None:
        """`name` is how the server is called until its address is known."""
        self._link = Link(opening, name, self, watcher)
        super().__init__(self._link.send)

    def start(self) -> None:
        """Connect, and again whenever a connection ends, until `stop`."""
        self._link.start()

    async def stop(self) -> None:
        """Close all; what waits, and all that is asked later, fails with RedisUnavailable."""
        self._link.stop()

    @property
    def problem(self) -> str | None:
        """Why the server cannot be asked now."""
        return self._link.problem

    def link_of(self, key: bytes) -> Link:
        """Return the one link."""
        return self._link

    def links(self) -> Iterable[Link]:
        """Return the one link."""
        return (self._link,)

    async def find(self, link: Link) -> tuple[str, int]:
        """Return host and port of the server. Raises RedisUnavailable."""
        raise NotImplementedError

    async def prepare(self, link: Link, data: Connection) -> None:
        """Look whether it is the right server."""

    def opened(self, link: Link) -> bool:
        """Nobody else serves these keys."""
        return False

    def failed(self, link: Link) -> None:
        """There is no other to turn to."""


class SingleRedis(OneLink):
    """One server, at one address."""

    def __init__(self, opening: Opening, watcher: Watcher) -> None:
        """The address is that of the configuration."""
        (address,) = opening.config.addresses
        super().__init__(opening, address, watcher)
        self._address = host_and_port(address)

    async def find(self, link: Link) -> tuple[str, int]:
        """Return host and port of the server."""
        return self._address


def host_and_port(address: str) -> tuple[str, int]:
    """Return both parts of "192.0.2.7:6379" or "[2001:db8::7]:6379"."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)
