"""Client-initiated connections (RFC 5626): what a registration over a flow means, and which of its flows a phone is
called over.

sipp has one connection, so phones with several are ours; so are those that send bytes which are no messages.
"""

import socket
from time import sleep

from tests.interop.phone import Phone, Silence
from tests.interop.script import ANY, DOMAIN, HERE, Script, bound, has, lacks, literal, says
from tests.interop.sipp_case import EVERYBODY, EXACT, TRANSPORTS, SippCase

INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e128>"'
OTHER_INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e129>"'
SUPPORTED = "Supported: path, outbound"
FIRST_HOP = "Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKphone"
EDGE = "<sip:edge@[local_ip]:[local_port];lr;ob>"


def flow(number: object = 1, uri: str = "sip:phone@192.0.2.1", more: str = f";{INSTANCE}") -> str:
    """Return the Contact line of a flow."""
    return f"Contact: <{uri}>;reg-id={number}{more}"


class RegistrationTests(SippCase):
    """What the registrar makes of reg-id and instance (§6)."""

    def setUp(self) -> None:
        super().setUp()
        self.bob: Script = self.script("bob")

    def finish(self) -> None:
        for transport in TRANSPORTS:
            self.play(self.bob, transport)
            self.assertEqual(self.phone(self.bob.user).register(0, "*").status, 200)

    def test_answer(self) -> None:
        """A phone that supports outbound is told that it is applied, and is shown what it has registered."""
        self.bob.register(flow(), SUPPORTED)
        self.bob.expect(200, has("Require", "outbound"), says(f";reg-id=1;{literal(INSTANCE)}\r"))
        self.finish()

    def test_flow_timer(self) -> None:
        """A phone with a connection is told how often to send something over it."""
        self.bob.register(flow(), SUPPORTED)
        self.bob.expect(200, has("Flow-Timer", "120"))
        self.play(self.bob, "tcp")

    def test_without_support(self) -> None:
        """A phone that does not say so is registered by the same rules, but not told of them."""
        self.bob.register(flow())
        self.bob.expect(200, lacks("Require"), lacks("Flow-Timer"))
        self.bob.register(flow(uri="sip:moved@192.0.2.2"))
        self.bob.expect(200, bound(f"<sip:moved@192[.]0[.]2[.]2>{ANY}"))
        self.finish()

    def test_same_flow(self) -> None:
        """Instance and reg-id are the name of a binding, whatever its Contact is; another reg-id is another flow."""
        self.bob.register(flow(), SUPPORTED)
        self.bob.expect(200)
        self.bob.register(flow(uri="sip:moved@192.0.2.2"), SUPPORTED)
        self.bob.expect(200, bound(f"<sip:moved@192[.]0[.]2[.]2>{ANY};reg-id=1;{ANY}"))
        self.bob.register(flow(2, "sip:moved@192.0.2.2"), SUPPORTED)
        self.bob.expect(200, bound(*(f"<sip:moved@192[.]0[.]2[.]2>{ANY};reg-id={number};{ANY}" for number in (1, 2))))
        self.bob.register(f"{flow(1)};expires=0", SUPPORTED)
        self.bob.expect(200, bound(f"<sip:moved@192[.]0[.]2[.]2>{ANY};reg-id=2;{ANY}"))
        self.finish()

    def test_other_instance(self) -> None:
        """Two phones may have the same reg-id."""
        self.bob.register(flow(), SUPPORTED)
        self.bob.expect(200)
        self.bob.register(flow(more=f";{OTHER_INSTANCE}"), SUPPORTED)
        self.bob.expect(200, bound(f"{ANY}a95a0e128{ANY}", f"{ANY}a95a0e129{ANY}"))
        self.finish()

    def test_without_instance(self) -> None:
        """A reg-id without an instance is ignored."""
        self.bob.register(flow(more=""), SUPPORTED)
        self.bob.expect(200, lacks("Require"), bound("<sip:phone@192[.]0[.]2[.]1>;expires=[0-9]*"))
        self.finish()

    def test_malformed(self) -> None:
        """A reg-id is a number from 1 on."""
        for number in (0, "one", 2**31):
            self.bob.register(flow(number), SUPPORTED)
            self.bob.expect(400)
        self.finish()

    def test_several_contacts(self) -> None:
        """A REGISTER is for one flow; only removals may come with it."""
        self.bob.register(flow(), flow(2, "sip:phone@192.0.2.2"), SUPPORTED)
        self.bob.expect(400)
        self.bob.register(flow(), "Contact: <sip:plain@192.0.2.3>", SUPPORTED)
        self.bob.expect(400)
        self.bob.register(flow(), f"{flow(2)};expires=0", SUPPORTED)
        self.bob.expect(200)
        self.finish()

    def test_first_hop(self) -> None:
        """Behind a proxy that does not support outbound a phone that wants it is told so by 439."""
        self.bob.register(flow(), SUPPORTED, FIRST_HOP)
        self.bob.expect(439)
        self.bob.register(flow(), SUPPORTED, FIRST_HOP, "Path: <sip:edge.example;lr>")
        self.bob.expect(439)
        self.bob.register(flow(), "Supported: path", FIRST_HOP)
        self.bob.expect(200, lacks("Require"), bound(f"{ANY}1>;expires=[0-9]*;{literal(INSTANCE)}"))
        self.finish()

    def test_edge(self) -> None:
        """Behind one that does it is applied; the flow is the edge proxy's to time."""
        self.bob.register(flow(), SUPPORTED, FIRST_HOP, "Path: <sip:edge.example;lr;ob>")
        self.bob.expect(200, has("Require", "outbound"), lacks("Flow-Timer"))
        self.finish()


class FlowCase(SippCase):
    """A phone of Bob with several flows, and Alice who calls with sipp."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.script("alice")
        self.bob = self.subscriber("bob", "unused")

    def a_flow(self, number: int | None, transport: str = "TCP", instance: str = INSTANCE) -> Phone:
        """Return the socket of one registered flow; without a number it is a contact with an instance alone."""
        phone = self.phone(self.bob.user, transport)
        reg_id = f";reg-id={number}" if number else ""
        answer = phone.register(600, f"<{phone.contact}>{reg_id};{instance}", [("Supported", "path, outbound")])
        self.assertEqual(answer.status, 200)
        return phone

    def check_rings(self, phone: Phone, *silent: Phone) -> None:
        """Alice calls: this flow rings, and is busy; the others hear nothing."""
        self.alice = self.script("alice")
        self.alice.invite(self.bob.user)
        self.alice.refused(486)
        calling = self.start(self.alice)
        request = phone.request()
        phone.answer(request, 486)
        calling.check()
        self.assertEqual(phone.request().method, "ACK")
        for other in silent:
            self.check_silent(other)

    def check_unreachable(self) -> None:
        self.alice = self.script("alice")
        self.alice.invite(self.bob.user)
        self.alice.refused(480)
        self.play(self.alice)

    def check_closed(self, phone: Phone) -> None:
        """Find that the server has ended this connection."""
        with self.assertRaisesRegex(Silence, "closed the connection"):
            phone.receive()


class FlowTests(FlowCase):
    """Calls to a phone with flows (§7)."""

    def test_newest_flow(self) -> None:
        """Of a phone's flows one is used, the newest; the other when that has gone, and none when both have."""
        first, second = self.a_flow(1), self.a_flow(2)
        self.check_rings(second, first)
        second.close()
        self.registrar.wait_contacts(self.bob.user, 1)
        self.check_rings(first)
        first.close()
        self.registrar.wait_contacts(self.bob.user, 0)
        self.check_unreachable()

    def test_refusal_is_for_all_flows(self) -> None:
        """A phone that is busy is not asked again over its other flow, for UDP as for TCP."""
        flows = [self.a_flow(1), self.a_flow(2), self.a_flow(3, "UDP")]
        self.check_rings(flows[2], *flows[:2])

    def test_two_phones(self) -> None:
        """Two phones with two flows each: each rings once."""
        flows = [self.a_flow(number, instance=name) for name in (INSTANCE, OTHER_INSTANCE) for number in (1, 2)]
        self.alice.invite(self.bob.user)
        self.alice.refused(486)
        calling = self.start(self.alice)
        for phone in flows[1::2]:
            phone.answer(phone.request(), 486)
        calling.check()
        for phone in flows[::2]:
            self.check_silent(phone)

    def test_failed_flow(self) -> None:
        """When an edge proxy has lost a flow (430) the phone is called over its other one; the caller hears of none."""
        phone = self.script("bob")
        phone.register(f"Contact: {HERE.format(user=phone.user)};reg-id=1;{INSTANCE}", SUPPORTED)
        phone.expect(200)
        phone.ready()
        phone.receive("INVITE", lacks("Route"))
        phone.answer(180)
        phone.accept()
        phone.hung_up()
        called = self.serve(phone, "tcp")
        edge = self.script("bob")
        edge.register(flow(2), SUPPORTED, FIRST_HOP, f"Path: {EDGE}", cseq=2)
        edge.expect(200, has("Require", "outbound"))
        edge.ready()
        edge.receive("INVITE", has("Route", f"<sip:edge@{ANY};ob>"))
        edge.refuse(430)
        passed = self.serve(edge)
        self.alice.invite(self.bob.user)
        self.alice.expect(180)
        self.alice.expect(200)
        self.alice.acknowledge()
        self.alice.hang_up()
        self.play(self.alice)
        passed.check()
        called.check()

    def test_only_flow_failed(self) -> None:
        """When there is no other flow the phone is not there: no caller is told about flows (§11.5)."""
        edge = self.script("bob")
        edge.register(flow(), SUPPORTED, FIRST_HOP, f"Path: {EDGE}")
        edge.expect(200)
        edge.ready()
        edge.receive("INVITE")
        edge.refuse(430)
        passed = self.serve(edge)
        self.check_unreachable()
        passed.check()

    def test_connection_lost(self) -> None:
        """A phone without outbound is bound to its connection too: both end together."""
        phone = self.phone(self.bob.user, "TCP")
        self.assertEqual(phone.register().status, 200)
        self.check_rings(phone)
        phone.close()
        self.registrar.wait_contacts(self.bob.user, 0)
        self.check_unreachable()

    def test_comes_back(self) -> None:
        """A phone that comes back over a new connection is called there, and its old one is closed."""
        for number in (1, None):
            old = self.a_flow(number)
            new = self.a_flow(number)
            self.check_closed(old)
            self.check_rings(new)
            new.close()
            self.registrar.wait_contacts(self.bob.user, 0)

    def test_comes_back_beside_another(self) -> None:
        """The old connection stays when somebody else is bound to it."""
        old = self.a_flow(1)
        carol = self.script("carol")
        request = old.make("REGISTER", f"sip:{DOMAIN}", [("Contact", f"<{old.contact}>")], to=f"<{carol.address}>")
        old.send(request)
        self.assertEqual(old.final().status, 200)
        new = self.a_flow(1)
        self.check_rings(new, old)
        self.assertEqual(len(self.registrar.contacts(carol.user)), 1)

    def test_unregisters(self) -> None:
        """A phone that unregisters keeps its connection."""
        phone = self.a_flow(1)
        phone.send(phone.make("REGISTER", f"sip:{DOMAIN}", [("Contact", "*"), ("Expires", "0")],
                              to=f"<{self.bob.address}>"))
        self.assertEqual(phone.final().status, 200)
        self.check_unreachable()
        self.check_silent(phone)

    def test_crlf_keepalive(self) -> None:
        """A double CRLF is answered with a single one, between messages and in pieces (§3.5.1)."""
        with socket.create_connection(("127.0.0.1", self.registrar.ports["tcp"]), 10) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pieces in ((b"\r\n\r\n",), (b"\r\n", b"\r\n"), (b"\r", b"\n\r\n"), (b"\r\n\r", b"\n")):
                for piece in pieces:
                    connection.sendall(piece)
                    sleep(0.02)  # so that pieces arrive as such; were they joined, the answer would be the same
                self.assertEqual(_exactly(connection, 2), b"\r\n")

    def test_stun_keepalive(self) -> None:
        """A STUN binding request over UDP is told the address that it came from (§3.5.2, RFC 5389 §15.2)."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as phone:
            phone.bind(("127.0.0.1", 0))
            phone.settimeout(10)
            transaction = bytes(range(12))
            phone.sendto(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + transaction, ("127.0.0.1", self.registrar.ports["udp"]))
            answer = phone.recv(1500)
            port = phone.getsockname()[1] ^ 0x2112
        self.assertEqual((answer[:2], answer[4:20]), (b"\x01\x01", b"\x21\x12\xa4\x42" + transaction))
        mapped = b"\x00\x20\x00\x08\x00\x01" + port.to_bytes(2, "big") + bytes.fromhex("5e12a443")
        self.assertIn(mapped, answer[20:])


class ImpatientTests(FlowCase):
    """A server with a short T1."""

    sections = EVERYBODY + EXACT + "[transactions]\nt1_seconds = 0.03\n"

    def test_silent_flow(self) -> None:
        """A UDP flow over which nothing comes back is given up after 64*T1, and the other one is tried (§7)."""
        other, dead = self.a_flow(1), self.a_flow(2, "UDP")
        self.alice.invite(self.bob.user)
        self.alice.refused(486)
        calling = self.start(self.alice)
        other.answer(other.request(), 486)
        calling.check()
        asked = self.arrived(dead)
        self.assertEqual(len({message.serialise() for message in asked}), 1)


def _exactly(connection: socket.socket, number: int) -> bytes:
    data = b""
    while len(data) < number:
        data += connection.recv(number - len(data)) or b"closed"
    return data
