"""The internal transport over loopback sockets: nobody but members gets through, whatever is tried."""

import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol, wrapClientTLS
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.ssl import CertificateOptions, TLSVersion
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from rollcall.net.config import MemberConfig
from rollcall.net.flow import Address
from rollcall.net.member_handshake import GREETING, Calling, Life
from rollcall.net.member_tls import MemberTls
from rollcall.net.members import CLOSED
from tests.rollcall.net.certificates import an_authority
from tests.rollcall.net.fakes import OK, OPTIONS
from tests.rollcall.net.member_nodes import KEY, MemberNode, MembersTestCase, Stranger, reactor


class StrangersTests(MembersTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.b = self.node("b", handshake_seconds=0.5)

    async def refused(self, stranger: Stranger, seconds: float = 0.4) -> None:
        """Return when a stranger was cut off, having heard nothing but the greeting, and unheard itself."""
        await self.until(lambda: stranger.is_gone, seconds)
        self.assertTrue(stranger.heard.startswith(GREETING))
        self.assertEqual(stranger.heard.count(b"\n"), 1)
        await self.until(lambda: not self.b.members.connections.flows())
        self.assertEqual((self.b.user.messages.pending, self.b.user.closed.pending, self.b.lost), ([], [], []))

    async def greeted(self, node: MemberNode | None = None) -> Stranger:
        stranger = await self.stranger((node or self.b).local)
        await self.until(lambda: stranger.heard.endswith(b"\n"))
        return stranger

    async def test_sip(self) -> None:
        """Who speaks SIP at once is cut off at once, is counted, and a line says who it was."""
        lines: list[LogEvent] = []
        observer: Any = lines.append
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        for each in (OPTIONS, OK, b"GET / HTTP/1.1\r\n\r\n"):
            stranger = await self.greeted()
            stranger.wire.write(each)
            await self.refused(stranger)
        await self.until(lambda: self.b.transports.tallies.members_refused == 3)
        told = [line for line in lines if "did not prove" in str(line.get("log_format"))]
        self.assertEqual(len(told), 3)
        self.assertTrue(all(line["log_rationed"] and line["peer"][0] == "127.0.0.1" for line in told))

    async def test_silence(self) -> None:
        """Who says nothing is cut off when its time is over."""
        stranger = await self.greeted()
        await self.refused(stranger, 2.0)

    async def test_dripping(self) -> None:
        """Who keeps on saying a little wins no time by that."""
        stranger = await self.greeted()
        began_at = time.monotonic()
        while not stranger.is_gone:
            stranger.wire.write(b"A")
            await deferLater(reactor, 0.02, lambda: None)
            self.assertLess(time.monotonic() - began_at, 2.0)
        await self.refused(stranger)

    async def test_no_end(self) -> None:
        """Who says much without an end of line is cut off before its time is over."""
        stranger = await self.greeted()
        stranger.wire.write(b"A" * 5000)
        await self.refused(stranger)

    async def test_replay(self) -> None:
        """A genuine handshake that somebody has recorded opens nothing when it is said again."""
        genuine = await self.greeted()
        calling = Calling(KEY, Life("a", 1), self.b.life)
        said = calling.receive_data(genuine.heard)
        genuine.wire.write(said)
        await self.until(lambda: genuine.heard.count(b"\n") == 2)
        self.assertEqual(calling.receive_data(genuine.heard.split(b"\n")[1] + b"\n"), b"")
        self.assertEqual((calling.member, self.b.members.connected), (self.b.life, (Life("a", 1),)))
        genuine.wire.loseConnection()
        await self.until(lambda: not self.b.members.connected)
        self.assertEqual(self.b.lost, [("a", 1, CLOSED)])
        self.b.lost.clear()
        await self.b.user.closed.get()
        again = await self.greeted()
        again.wire.write(said + OPTIONS)
        await self.refused(again)

    async def test_other_key(self) -> None:
        """A node of another cluster gets no connection, in neither direction, and no word of what is here."""
        other = self.node("a", key=b"another cluster's secret........")
        self.assertIn("while both proved who they are", await self.failure(other.flow_to(self.b)))
        self.assertIn("while both proved who they are", await self.failure(self.b.flow_to(other)))
        self.assertEqual((self.b.members.connected, other.members.connected), ((), ()))
        self.assertEqual((self.b.lost, other.lost), ([], []))
        self.assertGreaterEqual(self.b.transports.tallies.members_refused, 1)

    async def test_impostor(self) -> None:
        """Who listens where a member should be, and does not know the key, gets no message."""
        a = self.node("a", handshake_seconds=0.5)
        for greeting in (OK, GREETING + b" " + b"A" * 43 + b"\n" + b"YQ MQ " + b"A" * 43 + b"\n", b"A" * 5000):
            heard = await self.listening(greeting)
            flow = Deferred.fromCoroutine(a.members.flow("c", 1, *heard.local))
            await self.failure(flow)
            self.assertNotIn(b"SIP", heard.said)
        self.assertEqual(a.lost, [])

    async def listening(self, greeting: bytes) -> "Impostor":
        impostor = Impostor(greeting)
        self.addCleanup(impostor.port.stopListening)
        return impostor

    async def test_own_name(self) -> None:
        """A second node of the same name is refused by the first: two of one name is a mistake to be seen."""
        twin = await self.greeted()
        twin.wire.write(Calling(KEY, Life("b", 2), self.b.life).receive_data(twin.heard))
        await self.refused(twin)

    async def test_room_for_members(self) -> None:
        """Strangers who fill the listener are put out for a member that comes, the one who came first before others."""
        full = self.node("f", max_connections=3)
        strangers = [await self.greeted(full) for _ in range(3)]
        a = self.node("a")
        await a.flow_to(full)
        await self.until(lambda: strangers[0].is_gone)
        self.assertEqual([each.is_gone for each in strangers], [True, False, False])
        self.assertEqual(full.members.connected, (a.life,))

    async def test_no_room_beside_members(self) -> None:
        """Members themselves are not put out for anybody: who comes then is refused and counted."""
        full = self.node("f", max_connections=1)
        a = self.node("a")
        flow = await a.flow_to(full)
        stranger = await self.stranger(full.local)
        await self.until(lambda: stranger.is_gone)
        self.assertEqual((stranger.heard, full.transports.tallies.refused_full), (b"", 1))
        self.assertTrue(flow.is_open)
        flow.close("enough")
        await self.until(lambda: not full.members.connected)
        await self.node("c").flow_to(full)


class Impostor:
    """Listens, says one thing to who comes, and keeps what it hears."""

    def __init__(self, greeting: bytes) -> None:
        impostor = self
        self.said = b""

        class Speaking(Protocol):
            def connectionMade(self) -> None:
                assert self.transport is not None
                self.transport.write(greeting)

            def dataReceived(self, data: bytes) -> None:
                impostor.said += data

        self.port = reactor.listenTCP(0, Factory.forProtocol(Speaking), interface="127.0.0.1")
        here = self.port.getHost()
        self.local = here.host, here.port


class Between(Factory):
    """Passes on what two ends say to each other over TLS, and keeps it: called by the one, it calls the other."""

    def __init__(self, tls: MemberTls, other: Address) -> None:
        self.tls = tls
        self.other = other
        self.passed: list[bytes] = []

    def buildProtocol(self, addr: object) -> Any:
        here = Passing(self)

        class There(ClientFactory):
            noisy = False

            def buildProtocol(_, addr: object) -> Any:
                here.partner = Passing(self, here)
                return self.tls.client_side(here.partner)

        reactor.connectTCP(*self.other, There())
        return self.tls.server_side(here)


class Passing(Protocol):
    """One side of it."""

    def __init__(self, between: Between, partner: "Passing | None" = None) -> None:
        self.between = between
        self.partner = partner

    def dataReceived(self, data: bytes) -> None:
        self.between.passed.append(data)
        wire: Any = self.partner.transport if self.partner else None
        wire.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        wire: Any = self.partner.transport if self.partner else None
        if wire:
            wire.loseConnection()


class TlsTests(MembersTestCase):
    async def test_members(self) -> None:
        """Two nodes with certificates of the same authority speak over TLS, whatever names are in them."""
        a, b = self.tls_node("a"), self.tls_node("b")
        flow = await a.flow_to(b)
        flow.write(OPTIONS)
        message, back = await b.user.messages.get()
        self.assertEqual((message, back.member, back.transport, back.secure), (OPTIONS, "a", "TLS", True))
        assert b.members.listener is not None
        self.assertEqual(b.members.listener.transport, "TLS")

    async def test_no_certificate(self) -> None:
        """Who shows no certificate is refused before a word is said, also with the right key."""
        b = self.tls_node("b")
        stranger = await self.tls_stranger(b)
        await self.until(lambda: stranger.is_gone)
        self.assertEqual((stranger.heard, b.members.connected), (b"", ()))
        await self.until(lambda: b.transports.tallies.members_refused == 1)

    async def test_old_tls(self) -> None:
        """There is no version of TLS between members but the last: all of them are of this release or a later one."""
        b = self.tls_node("b")
        stranger = await self.tls_stranger(b, lowerMaximumSecurityTo=TLSVersion.TLSv1_2)
        await self.until(lambda: stranger.is_gone)
        self.assertIn("protocol version", stranger.why)

    async def tls_stranger(self, node: MemberNode, **options: Any) -> Stranger:
        stranger = Stranger()
        endpoint = wrapClientTLS(CertificateOptions(verify=False, **options), TCP4ClientEndpoint(reactor, *node.local))
        await connectProtocol(endpoint, stranger)
        return stranger

    async def test_other_authority(self) -> None:
        """A certificate of another authority is none, whichever end shows it."""
        other = an_authority(self.folder, "other")
        b = self.tls_node("b")
        client = self.tls_node("a", authority=other, trusted=self.authority)
        self.assertIn("TLS failed", await self.failure(client.flow_to(b)))
        self.assertIn("TLS failed", await self.failure(b.flow_to(client)))
        self.assertEqual((b.members.connected, client.members.connected), ((), ()))
        self.assertEqual((b.lost, client.lost), ([], []))

    async def test_between(self) -> None:
        """Somebody with a certificate who passes on what two members say does not get to hear them speak SIP."""
        a, b = self.tls_node("a"), self.tls_node("b")
        shown = self.authority.issue("between.example.com")
        tls = MemberTls(MemberConfig(host="127.0.0.1", port=0, tls=True, certificate_file=shown.certificate_file,
                                     key_file=shown.key_file, authority_file=self.authority.file), reactor)
        between = Between(tls, b.local)
        port = reactor.listenTCP(0, between, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        here = port.getHost()
        self.assertIn("both proved", await self.failure(
            Deferred.fromCoroutine(a.members.flow("b", 1, here.host, here.port))))
        await self.until(lambda: b.transports.tallies.members_refused == 1)
        self.assertEqual([each.count(b"\n") for each in between.passed], [1, 1])
        self.assertEqual((a.members.connected, b.members.connected), ((), ()))

    async def test_plain(self) -> None:
        """A node that speaks no TLS and one that wants it do not come together."""
        plain, b = self.node("a", handshake_seconds=0.5), self.tls_node("b")
        await self.failure(plain.flow_to(b))
        await self.failure(b.flow_to(plain))
        self.assertEqual((b.members.connected, plain.members.connected), ((), ()))

    async def test_reload(self) -> None:
        """Connections from a reload on show the certificate that is there then; unusable ones change nothing."""
        a, b = self.tls_node("a"), self.tls_node("b")
        file = self.folder / "a.example.com.pem"
        good = file.read_bytes()
        file.write_bytes(b"no certificate")
        self.assertRaises(ValueError, a.members.reload_certificates)
        self.assertEqual((await a.flow_to(b)).member, "b")
        a.members.keep([])
        a.members.keep([b.way])
        a.members.keep([])
        await self.until(lambda: not b.members.connected)
        stranger = an_authority(self.folder, "stranger").issue("a.example.com", label="a.example.com")
        self.assertEqual(stranger.certificate_file, file)
        a.members.reload_certificates()
        self.assertIn("TLS failed", await self.failure(a.flow_to(b)))
        self.assertNotEqual(good, file.read_bytes())

    def test_unusable(self) -> None:
        """A configuration that cannot work is refused at the start, with what is wrong with it."""
        one, two = self.authority.issue("one.example.com"), self.authority.issue("two.example.com")
        self.assertRaises(ValueError, MemberConfig, host="127.0.0.1", port=0, tls=True)
        error = self.assertRaises(ValueError, MemberNode, "a", tls=True, certificate_file=one.certificate_file,
                                  key_file=two.key_file, authority_file=self.authority.file)
        self.assertIn("is not the key of the certificate", str(error))
        error = self.assertRaises(ValueError, MemberNode, "a", tls=True, certificate_file=one.certificate_file,
                                  key_file=one.key_file, authority_file=self.folder / "nothing.pem")
        self.assertIn("nothing.pem cannot be read", str(error))
