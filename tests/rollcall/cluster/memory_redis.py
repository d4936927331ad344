"""Servers of Redis in memory, for tests of how they are spoken to: they say what they are told to."""

from collections.abc import Callable, Sequence
from typing import Any

import hiredis
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.python.failure import Failure

Reply = bytes | int | str | None | Exception | list[Any]
"""What a server answers: a bulk, a number, a status, nothing, an error, several."""


def resp(reply: Reply) -> bytes:
    """Return a reply as it goes over the wire."""
    if reply is None:
        return b"$-1\r\n"
    if isinstance(reply, Exception):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, str):
        return b"+%s\r\n" % reply.encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, list):
        return b"*%d\r\n" % len(reply) + b"".join(map(resp, reply))
    return b"$%d\r\n%s\r\n" % (len(reply), reply)


class MemoryTransport:
    """Our end of a connection to a server in memory. What is written arrives in a later turn."""

    def __init__(self, network: "MemoryNetwork", protocol: Any, server: "MemoryServer") -> None:
        self.network, self.protocol, self.server = network, protocol, server
        self.reader = hiredis.Reader()
        self.is_open = True
        self.is_subscriber = False
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Take what we say."""
        self.writes.append(data)
        self.network.callLater(0, self._arrives, data)

    def abortConnection(self) -> None:
        """End it from our side."""
        self.end(ConnectionAborted())

    loseConnection = abortConnection

    def end(self, why: Exception | None = None) -> None:
        """End it."""
        if self.is_open:
            self.is_open = False
            self.server.connections.remove(self)
            self.network.callLater(0, self.protocol.connectionLost, Failure(why or ConnectionDone()))

    def say(self, reply: Reply) -> None:
        """Let the server say something."""
        if self.is_open:
            self.protocol.dataReceived(resp(reply))

    def _arrives(self, data: bytes) -> None:
        self.reader.feed(data)
        while self.is_open and (words := self.reader.gets()) is not False:
            self.server.take(self, tuple(words))


class MemoryServer:
    """A server that answers the usual greeting, and OK to all else unless `answers` knows better."""

    def __init__(self, run_id: str = "life-1") -> None:
        self.run_id = run_id
        self.role: bytes = b"master"
        self.is_refusing = False
        self.is_silent = False
        self.connections: list[MemoryTransport] = []
        self.asked: list[tuple[bytes, ...]] = []
        """All but what every connection begins with."""
        self.answers: dict[bytes, Reply | Callable[[tuple[bytes, ...]], Reply]] = {}
        """By the first word, or the first two."""

    @property
    def data(self) -> MemoryTransport:
        """The connection for commands."""
        return next(each for each in self.connections if not each.is_subscriber)

    @property
    def subscriber(self) -> MemoryTransport:
        """The connection that listens."""
        return next(each for each in self.connections if each.is_subscriber)

    def publish(self, channel: bytes, payload: Reply) -> None:
        """Tell whoever listens."""
        self.subscriber.say([b"message", channel, payload])

    def take(self, connection: MemoryTransport, words: tuple[bytes, ...]) -> None:
        """Answer a command, or not."""
        if self.is_silent:
            return
        two = b" ".join(words[:2])
        if two in self.answers or words[0] in self.answers:
            self.asked.append(words)
            found = self.answers.get(two, self.answers.get(words[0]))
            connection.say(found(words) if callable(found) else found)
        else:
            connection.say(self._usual(connection, words))

    def _usual(self, connection: MemoryTransport, words: tuple[bytes, ...]) -> Reply:
        if words[0] == b"INFO":
            return b"# Server\r\nrun_id:%s\r\n" % self.run_id.encode()
        if words[0] == b"ROLE":
            return [self.role, 0, []]
        if words[0] == b"SUBSCRIBE":
            connection.is_subscriber = True
            return [b"subscribe", words[1], 1]
        if words[0] == b"PING":
            return [b"pong", b""] if connection.is_subscriber else "PONG"
        if words[:2] == (b"CLIENT", b"ID"):
            return 7
        if words[0] not in (b"AUTH", b"SELECT", b"CLIENT") and words[:2] != (b"EVAL", b"return 1"):
            self.asked.append(words)
        return "OK"


class MemoryNetwork(Clock):
    """A reactor whose connections lead to servers in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[tuple[str, int], MemoryServer] = {}
        self.attempts: list[float] = []

    def server(self, port: int, run_id: str = "") -> MemoryServer:
        """Return a new server on a port of 192.0.2.1."""
        made = self.servers["192.0.2.1", port] = MemoryServer(run_id or f"life-{port}")
        return made

    def connectTCP(self, host: str, port: int, factory: Any, timeout: float = 30) -> "MemoryConnector":
        """Connect, or refuse, in a later turn."""
        self.attempts.append(self.seconds())
        connector = MemoryConnector()
        self.callLater(0, self._connect, connector, (host, port), factory)
        return connector

    def turns(self, number: int = 30) -> None:
        """Let so many turns pass without time."""
        for _ in range(number):
            self.advance(0)

    def pass_by(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass in small steps."""
        for _ in range(round(seconds / step)):
            self.advance(step)
            self.turns()

    def _connect(self, connector: "MemoryConnector", address: tuple[str, int], factory: Any) -> None:
        server = self.servers.get(address)
        if connector.is_over:
            return
        if server is None or server.is_refusing:
            factory.clientConnectionFailed(connector, Failure(ConnectionRefusedError()))
            return
        protocol = factory.buildProtocol(None)
        connector.transport = MemoryTransport(self, protocol, server)
        server.connections.append(connector.transport)
        protocol.makeConnection(connector.transport)


class MemoryConnector:
    """What connectTCP returns."""

    def __init__(self) -> None:
        self.transport: MemoryTransport | None = None
        self.is_over = False

    def disconnect(self) -> None:
        """End the connection, or the attempt."""
        self.is_over = True
        if self.transport is not None:
            self.transport.end()


class Told:
    """A watcher that remembers what it was told."""

    def __init__(self) -> None:
        self.news: list[tuple[Any, ...]] = []

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """Remember."""
        self.news.append(("connected", server, run_id, may_have_lost))

    def disconnected(self, server: str, why: str) -> None:
        """Remember."""
        self.news.append(("disconnected", server, why))

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """Remember."""
        self.news.append(("invalidated", keys))

    def leases_changed(self) -> None:
        """Remember."""
        self.news.append(("leases",))
