"""DNS by TCP (RFC 7766): messages behind their length, several at once, and no peer that holds much or for long."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from registrar.bans import network_of
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.wire import HEADER_BYTES
from rollcall.net.flow import PORT_BYTES, pack_address

LENGTH_BYTES = 2

# No true query is longer, whatever its options are.
MAX_QUERY_BYTES = 4096

# What one connection is answered before the reactor may do something else, in answers or in so many bytes of them:
# dozens of connections may be ready in the same turn, and 16 KiB of a zone take a millisecond to put together.
ANSWERS_PER_TURN = 8
ANSWER_BYTES = 2048

Respond = Callable[[bytes, bytes], Iterator[bytes]]
"""What yields the answers to a query from a packed address: none, one, or the many of a transfer."""


class StreamService(Factory):
    """The connections of one place."""

    noisy = False
    _log = Logger()

    def __init__(self, reactor: Any, config: DnsConfig, respond: Respond) -> None:
        self.queries = self.refused = self.cut = 0
        """Queries, connections that were not let in, and those that were ended because of what they did."""
        self.reactor = reactor
        self.respond = respond
        self.idle_seconds = config.tcp_idle_seconds
        self._most = config.tcp_connections
        self._most_per_source = config.tcp_connections_per_source
        self._open: set[StreamConnection] = set()
        self._sources: Counter[bytes] = Counter()

    def buildProtocol(self, addr: Any) -> "StreamConnection | None":
        """Let a connection in unless there are too many, altogether or from there."""
        source = pack_address(addr.host, addr.port)[PORT_BYTES:]
        network = network_of(source)
        if len(self._open) >= self._most or self._sources[network] >= self._most_per_source:
            self.refused += 1
            self._log.info("dns does not let {host} in by TCP: too many connections", host=addr.host,
                           log_rationed=True)
            return None
        connection = StreamConnection(self, source)
        self._open.add(connection)
        self._sources[network] += 1
        return connection

    def left(self, connection: "StreamConnection", source: bytes) -> None:
        """Count the end of a connection."""
        self._open.discard(connection)
        network = network_of(source)
        self._sources[network] -= 1
        if not self._sources[network]:
            del self._sources[network]

    def stop(self) -> None:
        """End all connections."""
        for connection in tuple(self._open):
            connection.abort()


@implementer(IPushProducer, IHalfCloseableProtocol)
class StreamConnection(Protocol):
    """One connection. While its peer does not take what it is sent, it is not read from either."""

    _log = Logger()

    def __init__(self, service: StreamService, source: bytes) -> None:
        self._service = service
        self._source = source
        self._buffer = bytearray()
        # whether the peer asks no more, and whether we have ended it
        self._is_ended = self._is_over = False
        self._answers: Iterator[bytes] = iter(())
        self._is_blocked = False
        self._idle: IDelayedCall | None = None
        self._later: IDelayedCall | None = None

    def connectionMade(self) -> None:
        """Begin to wait for a query."""
        transport: Any = self.transport
        transport.setTcpNoDelay(True)
        transport.registerProducer(self, True)
        self._alive()

    def dataReceived(self, data: bytes) -> None:
        """Collect queries, and answer those that are whole."""
        self._buffer += data
        self._work()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget it all."""
        self._service.left(self, self._source)
        for call in (self._idle, self._later):
            if call is not None and call.active():
                call.cancel()
        self._buffer.clear()
        self._answers, self._is_blocked = iter(()), True

    def readConnectionLost(self) -> None:
        """The peer asks no more; it may still wait for answers."""
        self._is_ended = True
        self._work()

    def writeConnectionLost(self) -> None:
        """Do nothing: we never end one half."""

    def abort(self) -> None:
        """End it at once."""
        self._is_over = True
        transport: Any = self.transport
        transport.abortConnection()

    # --- called by the transport when the peer is slow

    def pauseProducing(self) -> None:
        """Wait until what was written is taken."""
        self._is_blocked = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._is_blocked = False
        self._alive()
        self._work()

    def stopProducing(self) -> None:
        """Do nothing: connectionLost comes."""

    # --- details

    def _work(self) -> None:
        """Write answers as long as the peer takes them, but so many in one turn only."""
        transport: Any = self.transport
        if self._later is not None or self._is_over:
            return
        left = ANSWERS_PER_TURN
        while left > 0 and not self._is_blocked:
            answer = self._next_answer()
            if answer is None:
                self._wait()
                return
            if answer:
                transport.write(len(answer).to_bytes(LENGTH_BYTES) + answer)
            left -= 1 + len(answer) // ANSWER_BYTES
        if not self._is_blocked:
            self._later = self._service.reactor.callLater(0, self._go_on)
        transport.pauseProducing()

    def _wait(self) -> None:
        """All is answered: wait for more, if more can come."""
        transport: Any = self.transport
        if self._is_over:
            return
        if self._is_ended:
            self._is_over = True
            self._wait_for(self._is_slow_to_end)
            transport.unregisterProducer()
            transport.loseConnection()
        else:
            transport.resumeProducing()

    def _go_on(self) -> None:
        self._later = None
        self._work()

    def _next_answer(self) -> bytes | None:
        """Return what is to be written next, empty for what gets no answer; None when a query has to come first."""
        answer = next(self._answers, None)
        if answer is not None:
            return answer
        query = self._next_query()
        if query is None:
            return None
        self._service.queries += 1
        self._alive()
        self._answers = self._service.respond(query, self._source)
        return next(self._answers, b"")

    def _next_query(self) -> bytes | None:
        """Take one query from the buffer, if there is a whole one."""
        if len(self._buffer) < LENGTH_BYTES:
            return None
        length = int.from_bytes(self._buffer[:LENGTH_BYTES])
        if not HEADER_BYTES <= length <= MAX_QUERY_BYTES:
            self._cut("a query of {length} bytes", length=length)
            return None
        end = LENGTH_BYTES + length
        if len(self._buffer) < end:
            return None
        query = bytes(self._buffer[LENGTH_BYTES:end])
        del self._buffer[:end]
        return query

    def _alive(self) -> None:
        """Something has happened: wait from now."""
        self._wait_for(self._is_idle)

    def _wait_for(self, end: Callable[[], None]) -> None:
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        self._idle = self._service.reactor.callLater(self._service.idle_seconds, end)

    def _is_idle(self) -> None:
        if self._is_blocked or self._buffer:
            self._cut("it was slow")
        else:
            self._is_ended = True
            self._wait()

    def _is_slow_to_end(self) -> None:
        self._cut("it did not take the last answers")

    def _cut(self, why: str, **fields: object) -> None:
        self._service.cut += 1
        self._log.info("dns ends a connection by TCP: " + why, log_rationed=True, **fields)
        self._buffer.clear()
        self.abort()
