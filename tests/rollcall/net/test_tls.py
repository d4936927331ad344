"""Certificates shown and checked, with handshakes in memory and over loopback."""

import gc
import os
import weakref
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography import x509
from OpenSSL import SSL
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IHandshakeListener, IProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rollcall.net.config import CertificateConfig, TlsConfig
from rollcall.net.tls import Layer, Tls
from tests.rollcall.net.certificates import Authority, an_authority, lock


@implementer(IHandshakeListener)
class End(Protocol):
    """One end of a connection in memory: notes its handshake, its data and its end."""

    def __init__(self) -> None:
        self.done = False
        self.received = b""
        self.error: Any = None

    def handshakeCompleted(self) -> None:
        self.done = True

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.error = reason.value


class Joint(StringTransport):
    """A transport that notes whether it shall end."""

    ended = False

    def loseConnection(self) -> None:
        self.ended = True

    abortConnection = loseConnection


def join(client_layer: Layer, server_layer: Layer) -> tuple[End, End, Any]:
    """Let a client and a server shake hands; return both ends and the client's TLS connection."""
    ends = (End(), End())
    sides: list[Any] = [client_layer(ends[0]), server_layer(ends[1])]
    connection = shake_hands(sides)
    return *ends, connection


def shake_hands(sides: list[Any]) -> Any:
    """Let a client's and a server's side speak until both are silent; return the client's TLS connection."""
    wires = [Joint(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)) for _ in sides]
    for side, wire in zip(sides, wires, strict=True):
        side.makeConnection(wire)
    connection = sides[0]._tlsConnection
    while any(wire.value() for wire in wires):
        for here, there in ((0, 1), (1, 0)):
            data = wires[here].value()
            wires[here].clear()
            if data and not wires[there].ended:
                sides[there].dataReceived(data)
    for side, wire in zip(sides, wires, strict=True):
        if wire.ended:
            side.connectionLost(connectionDone)
    return connection


class TlsTestCase(SynchronousTestCase):
    """Has a folder with an authority."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.authority = an_authority(self.folder)
        self.clock = Clock()

    def tls(self, *shown: CertificateConfig, **settings: Any) -> Tls:
        settings.setdefault("trust_roots_file", self.authority.file)
        return Tls(TlsConfig(certificates=shown, **settings), self.clock)

    def shown_to(self, server: Tls, name: str) -> str:
        """Return the common name of the certificate shown to who asks for `name`."""
        client = self.tls(verify_peers=False)
        _, _, connection = join(client.client_side(name), server.server_side)
        certificate: x509.Certificate = connection.get_peer_certificate(as_cryptography=True)
        return str(certificate.subject.rfc4514_string())


class BusyTests(TlsTestCase):
    def test_waiting_handshakes(self) -> None:
        """When more handshakes wait for their turn than may, no more are to begin until these are done."""
        tls = Tls(TlsConfig(trust_roots_file=self.authority.file), self.clock, max_waiting=2)
        done: list[int] = []
        for number in range(3):
            self.assertFalse(tls.is_busy())
            tls._handshakes.defer(partial(done.append, number))
        self.assertTrue(tls.is_busy())
        tls._handshakes.run(lambda: None)
        self.clock.advance(0)
        self.assertEqual((done, tls.is_busy()), ([0, 1, 2], False))


class ShowingTests(TlsTestCase):
    def test_by_name(self) -> None:
        """The certificate for the name that the client asks for is shown, the first when there is none."""
        server = self.tls(
            self.authority.issue("first.example.com", "also.example.com"),
            self.authority.issue("second.example.com"),
            self.authority.issue("*.example.net"),
        )
        table = (
            ("first.example.com", "CN=first.example.com"),
            ("also.example.com", "CN=first.example.com"),
            ("SECOND.example.com", "CN=second.example.com"),
            ("any.example.net", "CN=*.example.net"),
            ("too.deep.example.net", "CN=first.example.com"),
            ("example.net", "CN=first.example.com"),
            ("unknown.example.org", "CN=first.example.com"),
            ("192.0.2.1", "CN=first.example.com"),
        )
        for name, subject in table:
            self.assertEqual(self.shown_to(server, name), subject, name)

    def test_first_wins(self) -> None:
        """Of two certificates for the same name the first is shown."""
        server = self.tls(
            self.authority.issue("other.example.com", label="zero"),
            self.authority.issue("one.example.com", "sip.example.com", label="one"),
            self.authority.issue("two.example.com", "sip.example.com", label="two"),
        )
        self.assertEqual(self.shown_to(server, "sip.example.com"), "CN=one.example.com")

    def test_unknown_names_touch_no_disk(self) -> None:
        """After the start no file is read, whatever name a client asks for."""
        config = self.authority.issue("sip.example.com")
        server = self.tls(config)
        config.certificate_file.unlink()
        config.key_file.unlink()
        self.assertEqual(self.shown_to(server, "whatever.example.com"), "CN=sip.example.com")

    def test_what_is_shown(self) -> None:
        """Names and expiry can be told to an operator."""
        (shown,) = self.tls(self.authority.issue("a.example.com", "B.example.com", days=30)).shown
        self.assertEqual(shown.names, ("a.example.com", "b.example.com"))
        self.assertEqual(shown.file.name, "a.example.com.pem")
        self.assertGreater(shown.expires_at, 1_700_000_000)

    def test_expired(self) -> None:
        """An expired certificate is shown all the same, but warned about."""
        config = self.authority.issue("sip.example.com")
        self.clock.advance(10**11)
        with capturedLogs() as logs:
            server = self.tls(config)
        self.assertIn("expired", str(formatEvent(logs[0])))
        self.assertEqual(self.shown_to(server, "sip.example.com"), "CN=sip.example.com")

    def test_old_versions(self) -> None:
        """TLS below 1.2 is not spoken, and not below 1.3 when so configured."""
        for minimum, offered, expected in (
            ("1.2", SSL.TLS1_1_VERSION, False),
            ("1.2", SSL.TLS1_2_VERSION, True),
            ("1.3", SSL.TLS1_2_VERSION, False),
            ("1.3", SSL.TLS1_3_VERSION, True),
        ):
            server = self.tls(self.authority.issue("sip.example.com"), minimum_version=minimum)
            client = self.tls(verify_peers=False)
            client._client_context = SSL.Context(SSL.TLS_CLIENT_METHOD)
            client._client_context.set_min_proto_version(SSL.TLS1_VERSION)
            client._client_context.set_max_proto_version(offered)
            client._client_context.set_cipher_list(b"ALL:@SECLEVEL=0")
            _, end, _ = join(client.client_side("sip.example.com"), server.server_side)
            self.assertEqual(end.done, expected, f"{minimum} {offered}")

    def test_no_certificate(self) -> None:
        """Without a certificate nobody can be served."""
        self.assertRaises(ValueError, join, self.tls().client_side("a.example.com"), self.tls().server_side)


class OfferingTests(TlsTestCase):
    def agreed(self, *offered: bytes) -> bytes:
        """Return the protocol agreed on with a client that offers these by ALPN."""
        server = self.tls(self.authority.issue("sip.example.com"))
        client = self.tls(verify_peers=False)
        layer = client.client_side("sip.example.com")

        def offering(protocol: IProtocol) -> IProtocol:
            client._client_context.set_alpn_protos(list(offered))
            return layer(protocol)

        ends = join(offering, server.server_side)
        self.assertTrue(ends[0].done, ends[0].error)
        chosen: bytes = ends[2].get_alpn_proto_negotiated()
        return chosen

    def test_alpn(self) -> None:
        """A browser's http/1.1 and a phone's sip/2 are agreed to; a client that offers anything else is served too."""
        self.assertEqual(self.agreed(b"h2", b"http/1.1"), b"http/1.1")
        self.assertEqual(self.agreed(b"http/1.1", b"sip/2"), b"sip/2")
        self.assertEqual(self.agreed(b"h3"), b"")


class UnusableFilesTests(TlsTestCase):
    def reason(self, config: CertificateConfig, **settings: Any) -> str:
        return str(self.assertRaises(ValueError, self.tls, config, **settings))

    def test_reasons(self) -> None:
        """A file that cannot be used is named, with the reason."""
        good, other = self.authority.issue("a.example.com"), self.authority.issue("b.example.com")
        missing = self.folder / "missing.pem"
        empty = self.folder / "empty.pem"
        empty.write_text("no PEM here")
        table = (
            (CertificateConfig(certificate_file=missing, key_file=good.key_file), missing, "cannot be read"),
            (CertificateConfig(certificate_file=good.certificate_file, key_file=missing), missing, "cannot be read"),
            (CertificateConfig(certificate_file=empty, key_file=good.key_file), empty, "no certificate in PEM"),
            (CertificateConfig(certificate_file=good.certificate_file, key_file=empty), empty, "no private key in PEM"),
            (
                CertificateConfig(certificate_file=good.certificate_file, key_file=other.key_file),
                other.key_file,
                "is not the key",
            ),
        )
        for config, file, words in table:
            reason = self.reason(config)
            self.assertIn(str(file), reason)
            self.assertIn(words, reason)

    def test_passphrase(self) -> None:
        """A key with a passphrase is refused: nobody is there to type it."""
        config = self.authority.issue("a.example.com")
        lock(config.key_file, b"secret")
        self.assertIn("passphrase", self.reason(config))

    def test_trust_roots(self) -> None:
        """Authorities that cannot be read are refused, too."""
        reason = self.reason(self.authority.issue("a.example.com"), trust_roots_file=self.folder / "none.pem")
        self.assertIn("none.pem cannot be read", reason)


class ReloadTests(TlsTestCase):
    def test_renewed(self) -> None:
        """After a reload new connections get the new certificate, through layers made before."""
        config = self.authority.issue("old.example.com", label="cert")
        server = self.tls(config)
        self.assertEqual(self.shown_to(server, "any"), "CN=old.example.com")
        self.authority.issue("new.example.com", label="cert")
        self.assertEqual(self.shown_to(server, "any"), "CN=old.example.com")
        server.reload()
        self.assertEqual(self.shown_to(server, "any"), "CN=new.example.com")
        self.assertEqual(server.shown[0].names, ("new.example.com",))

    def test_failed(self) -> None:
        """A reload that fails says why, and changes nothing, not even the certificates that were good."""
        first, second = (self.authority.issue(f"{each}.example.com", label=each) for each in ("first", "second"))
        server = self.tls(first, second)
        self.authority.issue("renewed.example.com", label="first")
        os.truncate(second.key_file, 10)
        reason = str(self.assertRaises(ValueError, server.reload))
        self.assertIn("second.key", reason)
        self.assertEqual(self.shown_to(server, "first.example.com"), "CN=first.example.com")
        self.assertEqual(self.shown_to(server, "second.example.com"), "CN=second.example.com")


class VerifyingTests(TlsTestCase):
    def meet(self, asked: str, *names: str, issuer: Authority | None = None, **settings: Any) -> tuple[End, End]:
        """Let a client that looks for `asked` meet a server with these names."""
        server = self.tls((issuer or self.authority).issue(*names, **settings))
        client, end, _ = join(self.tls().client_side(asked), server.server_side)
        return client, end

    def test_the_one_meant(self) -> None:
        """A server is accepted by its DNS name, address or SIP domain (RFC 5922 §7.1)."""
        for asked, name in (
            ("sip.example.com", "sip.example.com"),
            ("SIP.example.com.", "sip.example.com"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "::1"),
            ("example.com", "sip:example.com"),
        ):
            client, server = self.meet(asked, "other.example.com", name, label="server")
            self.assertTrue(client.done and server.done, f"{asked} {name} {client.error}")

    def test_somebody_else(self) -> None:
        """A server with another name is refused, and the reason names who was looked for."""
        for asked in ("example.com", "127.0.0.1"):
            client, server = self.meet(asked, "other.example.com")
            self.assertFalse(client.done and server.done)
            self.assertIn("the certificate is not for", str(client.error))
            self.assertIn(asked, str(client.error))

    def test_unknown_authority(self) -> None:
        """A certificate of an authority that we do not trust is refused."""
        client, server = self.meet("a.example.com", "a.example.com", issuer=an_authority(self.folder, "stranger"))
        self.assertFalse(client.done and server.done)
        self.assertIn("verify failed", str(client.error))

    def test_expired(self) -> None:
        """A certificate past its time is refused."""
        client, _ = self.meet("a.example.com", "a.example.com", days=-1)
        self.assertIn("verify failed", str(client.error))

    def test_switched_off(self) -> None:
        """Who does not verify meets anybody, and is warned at the start."""
        with capturedLogs() as logs:
            careless = self.tls(verify_peers=False)
        self.assertIn("not verified", str(formatEvent(logs[0])))
        server = self.tls(an_authority(self.folder, "stranger").issue("other.example.com"))
        client, end, _ = join(careless.client_side("example.com"), server.server_side)
        self.assertTrue(client.done and end.done)

    def test_no_name(self) -> None:
        """What is neither a DNS name nor an address is refused before anything is connected."""
        for name in ("größe.example.com", ""):
            self.assertRaises(ValueError, self.tls().client_side, name)

    def test_system_roots(self) -> None:
        """Without a file the system's authorities count, and do not know ours."""
        server = self.tls(self.authority.issue("a.example.com"))
        client, _, _ = join(self.tls(trust_roots_file=None).client_side("a.example.com"), server.server_side)
        self.assertIn("verify failed", str(client.error))


class TurnTests(TlsTestCase):
    """Many clients greet at once, and each step of a handshake takes all that a turn has for them."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = SlowClock()
        self.server = self.tls(self.authority.issue("sip.example.com"))
        self.client = self.tls(verify_peers=False)

    def greet(self) -> tuple[Any, Joint, End]:
        """Let a client greet; return the server's side, its wire and what speaks there."""
        end = End()
        server: Any = self.server.server_side(end)
        client: Any = self.client.client_side("sip.example.com")(End())
        ours, theirs = (Joint(peerAddress=IPv4Address("TCP", "127.0.0.1", 1)) for _ in range(2))
        client.makeConnection(theirs)
        server.makeConnection(ours)
        server.dataReceived(theirs.value())
        return server, ours, end

    def test_others_wait(self) -> None:
        """A handshake that has to wait is answered a turn later; until then nothing more is read from that client."""
        (_, first, _), (_, second, _) = self.greet(), self.greet()
        self.assertTrue(first.value())
        self.assertEqual((second.value(), second.producerState), (b"", "paused"))
        self.clock.advance(0)
        self.assertTrue(second.value())
        self.assertEqual(second.producerState, "producing")

    def test_who_leaves_while_waiting(self) -> None:
        """The handshake of a client that is gone, or was given up, does not go on."""
        self.greet()
        (gone, first, end), (given_up, second, _) = self.greet(), self.greet()
        gone.connectionLost(Failure(ConnectionLost()))
        given_up.abortConnection()
        for wire in (first, second):
            wire.clear()
            self.clock.advance(0)
            self.assertEqual((wire.value(), wire.producerState), (b"", "paused"))
        self.assertIsInstance(end.error, ConnectionLost)

    def test_who_breaks_after_waiting(self) -> None:
        """A connection on which something breaks in its turn is ended."""
        self.greet()
        server, wire, _ = self.greet()
        server._tlsConnection.bio_write = None
        self.clock.advance(0)
        self.assertTrue(wire.ended)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)


class EndTests(TlsTestCase):
    def test_no_garbage(self) -> None:
        """A connection that breaks leaves nothing for the garbage collector, whichever side is ours."""
        server = self.tls(self.authority.issue("sip.example.com"))
        client = self.tls(verify_peers=False)
        ends = End(), End()
        sides: list[Any] = [client.client_side("sip.example.com")(ends[0]), server.server_side(ends[1])]
        shake_hands(sides)
        self.assertTrue(all(end.done for end in ends))
        connections = [side._tlsConnection for side in sides]
        self.addCleanup(gc.enable)
        gc.disable()
        for side in sides:
            side.connectionLost(Failure(ConnectionLost()))
        handles = [weakref.ref(connection) for connection in connections]
        del connections, sides, side
        self.assertEqual([handle() for handle in handles], [None, None])


class SlowClock(Clock):
    """A clock that goes on by a tick whenever it is looked at."""

    def seconds(self) -> float:
        """Return a later time than before."""
        self.rightNow += 0.02
        return self.rightNow
