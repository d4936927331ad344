"""The whole name server: its places, transfers beside other answers, and what is counted."""

from typing import Any

import dns.message
from dns.rcode import Rcode
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.observing import watch_dns
from registrar.distribution.dns.server import AGAIN_SECONDS, DnsServer
from rollcall.ops.metrics import Metrics
from tests.interop.process import free_ports
from tests.registrar.distribution.dns.zones import a_query, a_snapshot

SECONDARY, STRANGER = bytes((192, 0, 2, 53)), bytes((192, 0, 2, 99))


class Reactor(MemoryReactorClock):
    """Keeps what listens and is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[Any] = []
        self.said: list[bytes] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> Any:
        """See IReactorUDP."""
        protocol.transport = self
        return self

    def write(self, data: bytes, place: Any) -> None:
        """See IUDPTransport."""
        self.told.append(place)
        self.said.append(data)

    def stopListening(self) -> None:
        """See IListeningPort."""


def answered(data: bytes) -> bytes:
    """Return what a secondary answers to a NOTIFY."""
    return dns.message.make_response(dns.message.from_wire(data)).to_wire()


class DnsServerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = Reactor()
        self.place = f"127.0.0.1:{free_ports()[0]}"

    def server(self, *places: str, **arguments: Any) -> DnsServer:
        """Return a server that is stopped at the end."""
        config = DnsConfig(listen=places or (self.place,), secondaries=("192.0.2.53:53",))
        server = DnsServer(self.reactor, config, **arguments)
        self.addCleanup(lambda: self.successResultOf(server.stop()))
        return server

    def over_stream(self, server: DnsServer, query: dns.message.Message, host: bytes) -> dns.message.Message:
        """Return the one answer to a query by TCP."""
        data, = server.stream_services[0].respond(query.to_wire(), host)
        return dns.message.from_wire(data)

    def test_life(self) -> None:
        """It listens by UDP and TCP, tells secondaries when it begins and of what is new then, and stops."""
        server = self.server()
        server.publish(a_snapshot())
        self.assertEqual(self.reactor.told, [])
        server.start()
        self.assertEqual((len(self.reactor.readers), len(self.reactor.adoptedPorts)), (1, 1))
        server.publish(a_snapshot(1))
        self.assertEqual(self.reactor.told, [("192.0.2.53", 53)])
        server.publish(a_snapshot(2))
        self.assertEqual(len(self.reactor.told), 2)
        self.successResultOf(server.stop())
        self.assertEqual(self.reactor.readers, set())

    def test_one_tells(self) -> None:
        """Of several processes one tells the secondaries, and they share a place."""
        servers = [self.server(shared=True, notifies=notifies) for notifies in (True, False)]
        for server in servers:
            server.publish(a_snapshot())
            server.start()
        self.assertEqual(len(self.reactor.told), 1)

    def test_tells_again(self) -> None:
        """Where workers share a place a secondary that has heard is told once more: it may have asked another."""
        server = self.server(shared=True)
        server.publish(a_snapshot())
        server.start()
        server.notifying.answered(self.reactor.said[0], ("192.0.2.53", 53))
        self.assertEqual(server.notifying.told, 0)  # that was no answer yet
        server.notifying.answered(answered(self.reactor.said[0]), ("192.0.2.53", 53))
        self.assertEqual((server.notifying.told, len(self.reactor.told)), (1, 1))
        self.reactor.advance(AGAIN_SECONDS)
        self.assertEqual(len(self.reactor.told), 2)
        server.notifying.answered(answered(self.reactor.said[1]), ("192.0.2.53", 53))
        self.reactor.advance(100.0)
        self.assertEqual(len(self.reactor.told), 2)

    def test_taken(self) -> None:
        """A place that is taken is named, and then nothing listens."""
        self.server().start()
        other = self.server(f"127.0.0.1:{free_ports()[0]}", self.place)
        error = self.assertRaises(OSError, other.start)
        self.assertIn(self.place, str(error))
        self.assertEqual(len(self.reactor.readers), 1)

    def test_virtual_addresses(self) -> None:
        """An address that another machine has now is listened on only where that is wanted."""
        for host in ("192.0.2.77", "[2001:db8::77]"):
            place = f"{host}:{free_ports()[0]}"
            self.assertRaises(OSError, self.server(place).start)
            server = DnsServer(self.reactor, DnsConfig(listen=(place,), free_bind=True))
            self.addCleanup(server.stop)
            server.start()
            self.assertEqual(len(server.datagram_services), 1)

    def test_transfers(self) -> None:
        """A secondary gets a zone by TCP; strangers, and zones that are not ours, are refused; both are counted."""
        server = self.server()
        server.start()
        self.assertEqual(self.over_stream(server, a_query(kind="AXFR"), SECONDARY).rcode(), Rcode.REFUSED)
        server.publish(a_snapshot())
        self.assertGreater(len(self.over_stream(server, a_query(kind="AXFR"), SECONDARY).answer), 5)
        for query, host in ((a_query(kind="AXFR"), STRANGER), (a_query(kind="IXFR"), STRANGER),
                            (a_query("example.org", "AXFR"), SECONDARY),
                            (a_query("fra.sip.example.com", "AXFR"), SECONDARY)):
            self.assertEqual(self.over_stream(server, query, host).rcode(), Rcode.REFUSED)
        self.assertEqual((server.transfers, server.transfers_refused), (1, 5))

    def test_version_of_transfer(self) -> None:
        """A transfer that has begun shows what was published then."""
        server = self.server()
        server.start()
        server.publish(a_snapshot(1))
        begun = server.stream_services[0].respond(a_query(kind="AXFR").to_wire(), SECONDARY)
        server.publish(a_snapshot(2))
        self.assertEqual(dns.message.from_wire(next(begun)).answer[0][0].serial, 7)

    def test_streams(self) -> None:
        """Other queries by TCP are answered, broken ones with an error, and what is no query not at all."""
        server = self.server()
        server.publish(a_snapshot())
        server.start()
        self.assertEqual(self.over_stream(server, a_query(), STRANGER).rcode(), Rcode.NOERROR)
        query = a_query(kind="AXFR", edns=True)
        query.use_edns(1)
        self.assertEqual(self.over_stream(server, query, SECONDARY).rcode(), Rcode.BADVERS)
        respond = server.stream_services[0].respond
        self.assertEqual([len(data) for data in respond(b"\0\0\1\0" + bytes(8), STRANGER)], [12])
        self.assertEqual(list(respond(b"\0\0\x80\0" + bytes(8), STRANGER)), [])

    def test_metrics(self) -> None:
        """What happens is exported."""
        server = self.server()
        metrics = Metrics(process=False)
        watch_dns(metrics, server)
        self.assertIn("rollcall_dns_serial 0.0", metrics.render().decode())
        server.publish(a_snapshot())
        server.start()
        server.answers.datagrams([(a_query(name).to_wire(), b"\0\1\xc0\0\2\1") for name in (
            "sip.example.com", "sip.example.com", "x.sip.example.com")], 1.0)
        self.over_stream(server, a_query(kind="AXFR"), STRANGER)
        page = metrics.render().decode()
        for line in ('answers_total{answer="data"} 2.0', 'answers_total{answer="refused"} 1.0', "serial 7.0",
                     'answers_total{answer="no_such_name"} 1.0', 'transfers_total{outcome="refused"} 1.0',
                     'queries_total{transport="udp"} 0.0', 'connections_closed_total{reason="cut"} 0.0'):
            self.assertIn("rollcall_dns_" + line, page)
