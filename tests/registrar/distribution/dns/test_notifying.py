"""News of zones for secondaries: who is told, how often, and what ends it."""

from typing import Any

import dns.message
from dns.flags import Flag
from dns.name import Name
from dns.opcode import Opcode
from dns.rdatatype import RdataType
from dns.rrset import RRset
from twisted.internet.error import CannotListenError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.notifying import TRIES, Notifying
from tests.registrar.distribution.dns.zones import ORIGIN, ZONE, rrsets

SECONDARY, OTHER = ("192.0.2.53", 53), ("192.0.2.54", 53)


class Port:
    """A UDP port that keeps what is written to it."""

    def __init__(self, net: "Net", host: str, protocol: Any) -> None:
        self.net = net
        self.host = host
        self.is_open = True
        protocol.transport = self

    def write(self, data: bytes, address: Any) -> None:
        """See IUDPTransport."""
        if self.host in self.net.gone:
            raise OSError(22, "no such address")
        self.net.sent.append((self.host, address, data))

    def stopListening(self) -> None:
        """See IListeningPort."""
        self.is_open = False


class Net(Clock):
    """A reactor with UDP ports."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[tuple[str, Any, bytes]] = []
        self.gone: set[str] = set()
        self.ports: list[tuple[Port, Any]] = []

    def listenUDP(self, port: int, protocol: Any, interface: str = "") -> Port:
        """See IReactorUDP."""
        if interface in self.gone:
            raise CannotListenError(interface, port, OSError("no such address"))
        made = Port(self, interface, protocol)
        self.ports.append((made, protocol))
        return made


def news(serial: int) -> dict[Name, RRset]:
    """Return the SOA of a zone."""
    return {ORIGIN: rrsets(ZONE, serial=serial)[ORIGIN, RdataType.SOA]}


class NotifyingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.net = Net()
        self.notifying = Notifying(self.net, [SECONDARY], ["192.0.2.1", "2001:db8::1"])
        self.addCleanup(self.notifying.stop)

    def answer(self, data: bytes, place: Any = SECONDARY) -> None:
        """Have a secondary answer a message."""
        response = dns.message.make_response(dns.message.from_wire(data))
        self.net.ports[-1][1].datagramReceived(response.to_wire(), place)

    def test_message(self) -> None:
        """A NOTIFY has the zone as its question and the new SOA (RFC 1996 §3.7), and comes from our address."""
        self.notifying.tell(news(8))
        (host, place, data), = self.net.sent
        message = dns.message.from_wire(data)
        self.assertEqual((host, place, message.opcode(), message.flags & (Flag.AA | Flag.RD | Flag.QR)),
                         ("192.0.2.1", SECONDARY, Opcode.NOTIFY, Flag.AA))
        self.assertEqual((message.question[0].name, message.question[0].rdtype, message.answer[0][0].serial),
                         (ORIGIN, RdataType.SOA, 8))

    def test_answered(self) -> None:
        """A secondary that answers is told no more, until there is something new."""
        self.notifying.tell(news(8))
        self.answer(self.net.sent[0][2])
        self.notifying.tell(news(8))
        self.net.advance(1000)
        self.assertEqual((len(self.net.sent), self.notifying.told), (1, 1))
        self.notifying.tell(news(9))
        self.assertEqual(len(self.net.sent), 2)

    def test_unanswered(self) -> None:
        """One that does not answer is told some times more, ever later, and then no more."""
        self.notifying.tell(news(8))
        for _ in range(200):
            self.net.advance(1)
        self.assertEqual((len(self.net.sent), self.notifying.unanswered), (TRIES, 1))
        self.assertEqual(self.net.getDelayedCalls(), [])

    def test_others_answer(self) -> None:
        """What others send, broken or to another message, is no answer."""
        self.notifying.tell(news(8))
        data = self.net.sent[0][2]
        self.answer(data, OTHER)
        self.answer(b"\0\0" + data[2:])
        self.net.ports[-1][1].datagramReceived(b"x", SECONDARY)
        self.net.ports[-1][1].datagramReceived(data, SECONDARY)
        self.net.ports[-1][1].connectionRefused()
        self.assertEqual(self.notifying.told, 0)

    def test_newer(self) -> None:
        """News that were not heard give way to newer ones."""
        self.notifying.tell(news(8))
        self.notifying.tell(news(9))
        self.net.advance(1)
        self.assertEqual([dns.message.from_wire(data).answer[0][0].serial for _, _, data in self.net.sent], [8, 9, 9])
        self.answer(self.net.sent[0][2])
        self.assertEqual(self.notifying.told, 0)

    def test_addresses(self) -> None:
        """Each try leaves from another address of the secondary's family; one that is elsewhere now is passed over."""
        self.notifying = Notifying(self.net, [SECONDARY], ["192.0.2.1", "::1", "192.0.2.2"])
        self.addCleanup(self.notifying.stop)
        self.net.gone = {"192.0.2.1"}
        self.notifying.tell(news(8))
        self.assertEqual(self.net.sent, [])
        self.net.advance(1)
        self.assertEqual([host for host, _, _ in self.net.sent], ["192.0.2.2"])
        self.net.gone = {"192.0.2.2"}
        for _ in range(2):
            self.net.advance(2)
        self.assertEqual([host for host, _, _ in self.net.sent], ["192.0.2.2", "192.0.2.1"])

    def test_no_way(self) -> None:
        """A secondary of a family that we have no address of is not told."""
        self.notifying = Notifying(self.net, [("2001:db8::53", 53)], ["192.0.2.1"])
        self.notifying.tell(news(8))
        self.assertEqual((self.net.sent, self.notifying.unanswered), ([], 1))

    def test_stop(self) -> None:
        """Nothing is left of it when it stops."""
        self.notifying.tell(news(8))
        self.notifying.stop()
        self.assertEqual((self.net.getDelayedCalls(), self.net.ports[0][0].is_open), ([], False))
