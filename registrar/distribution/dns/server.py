"""The name server as one thing: its sockets, what they answer from, and who is told of changes."""

from collections.abc import Iterator
from typing import Any

from dns.name import Name
from dns.rdatatype import RdataType
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.logger import Logger

from registrar.distribution.dns.answers import DATA, Answers
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.notifying import Notifying
from registrar.distribution.dns.serving_tcp import StreamService
from registrar.distribution.dns.serving_udp import DatagramService
from registrar.distribution.dns.snapshot import Snapshot
from registrar.distribution.dns.transfer import Secondaries, messages
from registrar.distribution.dns.wire import IN, Query, Type, WireError, is_query, parse_query
from rollcall.net.config import KeepaliveConfig, ListenerConfig
from rollcall.net.flow import Address
from rollcall.net.listening import datagram_socket, family_of, stream_socket

# The kernel's room for queries that we have not read yet: as much as SIP's, a query of 100 bytes takes 768 of it.
RECEIVE_BUFFER_BYTES = 1_048_576

BACKLOG = 128

# Workers hear of other sites about once a second, each by itself. A secondary that is told by one of them may ask
# another, who has the old zone still, and be content; so it is told once more when all of them know.
AGAIN_SECONDS = 2.0


class DnsServer:
    """Listens at the places of [dns] listen and answers from the last snapshot published."""

    _log = Logger()

    def __init__(self, reactor: Any, config: DnsConfig, shared: bool = False, notifies: bool = True) -> None:
        """With `shared` several processes have the same places; one of them `notifies` the secondaries."""
        self.transfers = self.transfers_refused = 0
        """Zones sent to secondaries, and questions for one by others."""
        self.datagram_services: list[DatagramService] = []
        self.stream_services: list[StreamService] = []
        self._reactor = reactor
        self._config = config
        self._shared = shared
        self._secondaries = Secondaries(config)
        self.answers = Answers(config, self._secondaries.may_transfer)
        hosts = [_address(place)[0] for place in config.listen]
        told = map(_address, config.secondaries) if notifies else ()
        self._tells = bool(config.secondaries) and notifies
        self.notifying = Notifying(reactor, tuple(told), hosts)
        self._ports: list[IListeningPort] = []
        self._is_running = False
        self._telling_again: IDelayedCall | None = None

    def publish(self, snapshot: Snapshot) -> None:
        """Answer from this snapshot from now on, and tell secondaries. Raises ValueError when it is not whole."""
        self.answers.publish(snapshot)
        if self._is_running:
            self._tell(snapshot)

    def start(self) -> None:
        """Listen. Raises OSError that names the place; nothing listens then."""
        for place in self._config.listen:
            try:
                self._listen(place)
            except OSError as problem:
                self.stop()
                raise OSError(problem.errno, f"[dns] listen {place}: {problem.strerror}") from problem
            self._log.info("the name server answers at {place}", place=place)
        self._is_running = True
        if self.answers.snapshot is not None:
            self._tell(self.answers.snapshot)

    def stop(self) -> "Deferred[Any]":
        """Answer no more; harmless twice."""
        self._is_running = False
        if self._telling_again is not None and self._telling_again.active():
            self._telling_again.cancel()
        self.notifying.stop()
        for datagrams in self.datagram_services:
            datagrams.stop()
        for streams in self.stream_services:
            streams.stop()
        ports, self._ports = self._ports, []
        return DeferredList([maybeDeferred(port.stopListening) for port in ports])

    def _listen(self, place: str) -> None:
        udp, tcp = (self._listener(place, transport) for transport in ("udp", "tcp"))
        datagrams = DatagramService(self._reactor, datagram_socket(udp), self._config, self.answers, place)
        self.datagram_services.append(datagrams)
        streams = StreamService(self._reactor, self._config, self._over_stream)
        with stream_socket(tcp, KeepaliveConfig()) as bound:
            self._ports.append(self._reactor.adoptStreamPort(bound.fileno(), family_of(tcp.host), streams))
        self.stream_services.append(streams)
        datagrams.start()

    def _listener(self, place: str, transport: Any) -> ListenerConfig:
        host, port = _address(place)
        return ListenerConfig(name=f"dns {place}", transport=transport, host=host, port=port, reuse_port=self._shared,
                              free_bind=self._config.free_bind, backlog=BACKLOG,
                              receive_buffer_bytes=RECEIVE_BUFFER_BYTES)

    def _tell(self, snapshot: Snapshot) -> None:
        if not self._tells:
            return
        rrsets = snapshot.views[snapshot.default].rrsets
        soas = {origin: rrsets[origin, RdataType.SOA] for origin in snapshot.origins}
        self.notifying.tell(soas)
        if self._shared:
            if self._telling_again is not None and self._telling_again.active():
                self._telling_again.cancel()
            self._telling_again = self._reactor.callLater(AGAIN_SECONDS, self.notifying.tell, soas, True)

    def _over_stream(self, data: bytes, host: bytes) -> Iterator[bytes]:
        """Return what answers a query that came by TCP."""
        transfer = self._transfer(data, host)
        if transfer is not None:
            return transfer
        answer = self.answers.over_stream(data, host)
        return iter(()) if answer is None else iter((answer,))

    def _transfer(self, data: bytes, host: bytes) -> Iterator[bytes] | None:
        """Return the messages of a transfer that is asked for and allowed; the others are refused in the usual way."""
        query = _parsed(data)
        if query is None:
            return None
        zone = self._zone(query)
        snapshot = self.answers.snapshot
        if snapshot is None or zone is None or not self._secondaries.may_transfer(host):
            self.transfers_refused += 1
            return None
        self.transfers += 1
        self.answers.counts[DATA] += 1
        return messages(data, query, zone, snapshot, self._config.udp_payload_bytes)

    def _zone(self, query: Query) -> Name | None:
        origins = self.answers.snapshot.origins if self.answers.snapshot is not None else ()
        return next((origin for origin in origins if origin.to_digestable() == query.name), None)


def _parsed(data: bytes) -> Query | None:
    """Return a question for a transfer that can be answered; None for any other, which is answered elsewhere."""
    if not is_query(data):
        return None
    try:
        query = parse_query(data)
    except WireError:
        return None
    is_transfer = query.type in (Type.AXFR, Type.IXFR) and query.class_ == IN
    return query if is_transfer and not (query.edns is not None and query.edns.version) else None


def _address(place: str) -> Address:
    host, _, port = place.rpartition(":")
    return host.strip("[]"), int(port)
