"""What carriers' proxies are answered over SIP."""

from typing import Any

from attrs import evolve
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase, TestCase

from balancer.placing import PlacementConfig, Placing
from balancer.redirect import Redirect, RedirectConfig
from rollcall.media.snapshot import MediaNode, NodeState, Quality, Snapshot
from rollcall.ops.metrics import Metrics
from rollcall.sip.message import Request, Response, check_request, parse_message
from tests.flows import LISTENERS, MemoryFlow
from tests.interop.process import free_ports

PROXY = ("192.0.2.10", 5060)
SDP = b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\nm=audio 9000 RTP/AVP 0\r\n"


def a_node(name: str, **changes: Any) -> MediaNode:
    """Return a B2BUA."""
    return evolve(MediaNode(id=name, kind="freeswitch", address=f"{name}.example.net:5060", capacity=10), **changes)


def an_invite(uri: str = "sip:+4930123@example.com", **headers: str) -> Request:
    """Return an INVITE as a proxy sends it."""
    fields = {
        "Via": "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-1", "Max-Forwards": "70",
        "From": "<sip:alice@carrier.example>;tag=f", "To": f"<{uri}>", "Call-ID": "c1", "CSeq": "1 INVITE",
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    return Request.new(fields["CSeq"].split()[1], uri, fields.items(), SDP)


class RedirectCase(SynchronousTestCase):
    nodes = (a_node("fs1"), a_node("fs2"), a_node("fs3"), a_node("rtp1", kind="rtpengine"))

    def setUp(self) -> None:
        self.clock = Clock()
        self.metrics = Metrics(process=False)
        self.placing = Placing(PlacementConfig(), lambda: 0.0)
        self.follow(*self.nodes)
        self.asked: list[str] = []
        self.redirect = self.made()

    def made(self, **settings: Any) -> Redirect:
        config = RedirectConfig(**{"networks": ("192.0.2.0/24",)} | settings)
        return Redirect(self.clock, config, self.placing, self.group_of, Metrics(process=False), lambda: 0.0)

    def group_of(self, host: str) -> str:
        self.asked.append(host)
        return {"203.0.113.5": "telco/DE", "192.0.2.10": "exchange/DE"}.get(host, "")

    def follow(self, *nodes: MediaNode, **further: Any) -> None:
        self.placing.follow(Snapshot(nodes={node.id: node for node in nodes}, **further), 0.0)

    def answers(self, request: Request, peer: tuple[str, int] = PROXY, redirect: Redirect | None = None,
                transport: str = "UDP") -> list[Response]:
        flow = MemoryFlow(transport, peer, LISTENERS[transport])
        messages = (redirect or self.redirect).messages
        messages.message_received(request.serialise(), flow)
        taken = flow.take()
        assert all(isinstance(each, Response) for each in taken)
        return taken  # type: ignore[return-value]

    def answer(self, request: Request, **further: Any) -> Response:
        only, = self.answers(request, **further)
        return only

    def contacts(self, request: Request, **further: Any) -> list[str]:
        answer = self.answer(request, **further)
        self.assertEqual(answer.status, 302)
        return answer.values("Contact")


class InviteTests(RedirectCase):
    def test_nodes_in_their_order(self) -> None:
        """302 names the chosen node first and further ones with a lower q, each once, rtpengines not among them."""
        contacts = self.contacts(an_invite())
        self.assertEqual([each.rpartition(";")[2] for each in contacts], ["q=1.0", "q=0.9", "q=0.8"])
        self.assertEqual({each.partition(";")[0] for each in contacts},
                         {f"<sip:+4930123@fs{number}.example.net:5060>" for number in (1, 2, 3)})

    def test_by_quality(self) -> None:
        """The caller's side is where its media come from; without a group of that, where the proxy is."""
        bad = {("telco/DE", name): Quality(0.2, 50.0) for name in ("fs1", "fs3")}
        self.follow(*self.nodes, paths=bad | {("telco/DE", "fs2"): Quality(0.0, 10.0)})
        self.assertIn("@fs2.", self.contacts(an_invite())[0])
        self.assertEqual(self.asked, ["203.0.113.5"])
        request = an_invite(Via="SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-2")
        request.body = b""
        self.contacts(request)
        self.assertEqual(self.asked[1:], ["192.0.2.10"])

    def test_calls_count(self) -> None:
        """A redirected call counts until its node says how many it has: a small one is full, alternatives are free."""
        self.follow(a_node("fs1", capacity=1), a_node("fs2", capacity=1))
        firsts = [self.contacts(an_invite(Via=f"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-{number}"))[0]
                  for number in range(2)]
        self.assertEqual({first.partition("@")[2][:3] for first in firsts}, {"fs1", "fs2"})
        full = self.answer(an_invite(Via="SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-9"))
        self.assertEqual(full.status, 503)

    def test_no_node(self) -> None:
        """Without a node for it the answer is 503, and when to ask again."""
        for nodes in ((), (a_node("fs1", state=NodeState.DOWN),), (a_node("fs1", state=NodeState.DRAINING),),
                      (a_node("rtp1", kind="rtpengine"),)):
            self.follow(*nodes)
            answer = self.answer(an_invite(Via=f"SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-{len(self.asked)}"))
            self.assertEqual(answer.status, 503)
            self.assertTrue(5 <= int(answer.get("Retry-After") or "") <= 10)

    def test_tenants(self) -> None:
        """The node group is that of the callee, or of the caller, as everywhere."""
        self.follow(a_node("fs1"), a_node("fs2", groups=("gold",)), a_node("fs3", groups=("robots",)),
                    tenants={"example.com": "gold", "sip:robot@carrier.example": "robots"})
        self.assertEqual([each[:19] for each in self.contacts(an_invite())], ["<sip:+4930123@fs2.e"])
        request = an_invite(From="<sip:robot@carrier.example>;tag=f", Via="SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-2")
        self.assertEqual([each[:19] for each in self.contacts(request)], ["<sip:+4930123@fs3.e"])

    def test_whom_to_call(self) -> None:
        """The user part is kept as it came, a telephone number becomes one; other schemes are refused."""
        for number, (uri, contact) in enumerate((
            ("sip:a%20b;x=1@example.com;transport=tcp", "<sip:a%20b;x=1@fs1.example.net:5060>"),
            ("sip:example.com", "<sip:fs1.example.net:5060>"),
            ("tel:+49-30-123;phone-context=x", "<sip:+49-30-123@fs1.example.net:5060>"),
        )):
            self.follow(a_node("fs1"))
            via = f"SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-{number}"
            self.assertEqual(self.contacts(an_invite(uri, Via=via)), [f"{contact};q=1.0"])
        for number, uri in enumerate(("sips:a@example.com", "urn:service:sos")):
            via = f"SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK-x{number}"
            self.assertEqual(self.answer(an_invite(uri, Via=via)).status, 416)

    def test_settings(self) -> None:
        """How many nodes are named, and of which kinds, is set by the operator."""
        self.assertEqual(len(self.contacts(an_invite(), redirect=self.made(contacts=1))), 1)
        self.follow(a_node("rtp1", kind="rtpengine"))
        self.assertIn("@rtp1.", self.contacts(an_invite(), redirect=self.made(kinds=("rtpengine",)))[0])

    def test_repeated(self) -> None:
        """A repeated INVITE gets the same answer again and counts once; it is sent again until it is acknowledged."""
        flow = MemoryFlow("UDP", PROXY, LISTENERS["UDP"])
        messages, request = self.redirect.messages, an_invite()
        for _ in range(2):
            messages.message_received(request.serialise(), flow)
        self.clock.advance(0.6)
        self.assertEqual(len(set(flow.written)), 1)
        self.assertEqual(len(flow.written), 3)
        self.assertEqual(sum(self.placing.uncounted.counts.values()), 1)
        answer = flow.take()[0]
        acknowledgement = an_invite(CSeq="1 ACK", To=answer.get("To") or "")
        messages.message_received(acknowledgement.serialise(), flow)
        self.clock.pump([1.0] * 60)
        self.assertEqual((flow.written, len(self.redirect.transactions)), ([], 0))


class OtherRequestTests(RedirectCase):
    def test_options(self) -> None:
        """Who asks whether we live is told so, and what we take."""
        answer = self.answer(an_invite(CSeq="1 OPTIONS"))
        self.assertEqual((answer.status, answer.get("Allow")), (200, "INVITE, ACK, CANCEL, OPTIONS"))

    def test_others(self) -> None:
        """Other methods are not allowed, and there are no dialogs here."""
        self.assertEqual(self.answer(an_invite(CSeq="1 REGISTER")).status, 405)
        self.assertEqual(self.answer(an_invite(CSeq="1 BYE", To="<sip:b@example.com>;tag=t")).status, 481)

    def test_cancel(self) -> None:
        """A CANCEL comes too late, but is answered as the standard says; one that means nothing is told so."""
        self.answer(an_invite())
        self.assertEqual(self.answer(an_invite(CSeq="1 CANCEL")).status, 200)
        via = "SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-other"
        self.assertEqual(self.answer(an_invite(CSeq="1 CANCEL", Via=via)).status, 481)

    def test_strangers(self) -> None:
        """Whoever is in no network of ours is not answered at all, malformed or not, and nothing is kept of him."""
        flow = MemoryFlow("UDP", ("198.51.100.1", 5060), LISTENERS["UDP"])
        messages = self.redirect.messages
        for data in (an_invite().serialise(), an_invite().serialise().replace(b"CSeq: 1", b"CSeq: x")):
            messages.message_received(data, flow)
        self.assertEqual((flow.written, len(self.redirect.transactions)), ([], 0))

    def test_malformed(self) -> None:
        """A malformed request of a proxy of ours is told so."""
        flow = MemoryFlow("TCP", PROXY, LISTENERS["TCP"])
        data = an_invite().serialise().replace(b"Max-Forwards: 70", b"Max-Forwards: many")
        self.redirect.messages.message_received(data, flow)
        self.assertEqual([each.status for each in flow.take() if isinstance(each, Response)], [400])


class ConfigTests(SynchronousTestCase):
    def test_listeners(self) -> None:
        """Each address is a socket of its own."""
        config = RedirectConfig(udp=("127.0.0.1:5060", "[::1]:5060"), tcp=("127.0.0.1:5060",))
        self.assertEqual([(each.transport, each.host, each.port) for each in config.listeners],
                         [("udp", "127.0.0.1", 5060), ("udp", "::1", 5060), ("tcp", "127.0.0.1", 5060)])
        self.assertEqual(len({each.name for each in config.listeners}), 3)
        self.assertEqual(RedirectConfig().listeners, ())


class ListeningTests(TestCase):
    async def test_over_a_socket(self) -> None:
        """It answers over its sockets while it runs, and where the proxy's Via says."""
        reactor: Any = global_reactor
        port, = free_ports(1)
        placing = Placing(PlacementConfig(), lambda: 0.0)
        placing.follow(Snapshot(nodes={"fs1": a_node("fs1")}), 0.0)
        redirect = Redirect(reactor, RedirectConfig(udp=(f"127.0.0.1:{port}",)), placing, lambda host: "",
                            Metrics(process=False), lambda: 0.0)
        redirect.startService()
        self.addCleanup(redirect.stopService)
        answered: Deferred[bytes] = Deferred()

        class Proxy(DatagramProtocol):
            def datagramReceived(self, datagram: bytes, addr: Any) -> None:
                if not answered.called:
                    answered.callback(datagram)

        proxy = reactor.listenUDP(0, Proxy(), interface="127.0.0.1")
        self.addCleanup(proxy.stopListening)
        request = an_invite(Via=f"SIP/2.0/UDP 127.0.0.1:{proxy.getHost().port};branch=z9hG4bK-1")
        check_request(request)
        proxy.write(request.serialise(), ("127.0.0.1", port))
        answer = parse_message(await answered)
        assert isinstance(answer, Response)
        self.assertEqual((answer.status, answer.get("Contact")), (302, "<sip:+4930123@fs1.example.net:5060>;q=1.0"))
