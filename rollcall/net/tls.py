"""TLS on both sides: the certificates we show (SNI, RFC 6066 §3) and the check of those we are shown (RFC 5922 §7).

Everything is in memory once it was loaded: a client that names what it likes never makes us read the disk.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL, crypto
from service_identity.cryptography import extract_patterns
from service_identity.exceptions import CertificateError, VerificationError
from service_identity.hazmat import DNS_ID, URI_ID, IPAddress_ID, ServiceID, verify_service_identity
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, platformTrust, trustRootFromCertificates
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rollcall.net.config import CertificateConfig, TlsConfig
from rollcall.net.listening import numeric_host
from rollcall.net.turn_share import TurnShare

VERSIONS = {"1.2": TLSVersion.TLSv1_2, "1.3": TLSVersion.TLSv1_3}

# As registered with IANA for ALPN: SIP, and what opens a WebSocket.
PROTOCOLS = (b"sip/2", b"http/1.1")

Layer = Callable[[IProtocol], IProtocol]
"""Puts TLS before a protocol."""


@frozen
class ShownCertificate:
    """A certificate that we show."""

    file: Path
    names: tuple[str, ...]
    """The DNS names it is for, lower case; "*.example.com" for any one label there."""
    expires_at: float
    """In seconds since the epoch."""
    context: SSL.Context


class Tls:
    """TLS as configured. Raises ValueError with file and reason when a certificate, key or authority is unusable."""

    _log = Logger()

    def __init__(self, config: TlsConfig, clock: IReactorTime, max_waiting: int = 32) -> None:
        """While more than `max_waiting` handshakes wait for their turn it `is_busy`."""
        self._config = config
        self._max_waiting = max_waiting
        self._clock = clock
        self.shown: tuple[ShownCertificate, ...] = ()
        self._creator = _ServerCreator({}, None)
        self._client_context = _client_context(config)
        self._server_layer = self._bare_layer(_Indirect(lambda: self._creator), is_client=False)
        self._handshakes = TurnShare(clock, config.handshakes_turn_seconds)
        self.reload()
        if not config.verify_peers:
            self._log.warn("servers we connect to over TLS are not verified: tls.verify_peers is off")

    def reload(self) -> None:
        """Read every certificate again and show those from now on; on ValueError the old ones stay."""
        shown = tuple(_load(each, self._config) for each in self._config.certificates)
        for each in shown:
            if each.expires_at < self._clock.seconds():
                self._log.warn("certificate {file} has expired", file=each.file)
        by_name: dict[str, SSL.Context] = {}
        for each in reversed(shown):  # of two for the same name the first wins
            by_name.update((name, each.context) for name in each.names)
        self._creator = _ServerCreator(by_name, shown[0].context if shown else None)
        self.shown = shown

    def server_side(self, protocol: IProtocol) -> IProtocol:
        """Put TLS before a protocol that speaks with a client."""
        return ServerSide(self._server_layer, protocol, self._handshakes)

    def is_busy(self) -> bool:
        """Say whether so many handshakes wait for their turn that no more are to begin."""
        return len(self._handshakes) > self._max_waiting

    def client_side(self, server_name: str) -> Layer:
        """Return what puts TLS before a protocol that speaks with `server_name`, a DNS name or IP address.

        Raises ValueError when it is neither.
        """
        creator = _ClientCreator(self._client_context, server_name, self._config.verify_peers)
        return lambda protocol: Side(self._bare_layer(creator, is_client=True), protocol)

    def _bare_layer(self, creator: Any, is_client: bool) -> TLSMemoryBIOFactory:
        layer = TLSMemoryBIOFactory(creator, is_client, Factory(), self._clock)
        # A SIP message is one write: Twisted's gathering of small writes would delay it by a turn of the reactor.
        layer.protocol = Side
        return layer


class Side(TLSMemoryBIOProtocol):
    """One end of a connection that leaves nothing behind."""

    def _tlsShutdownFinished(self, reason: Failure | None) -> None:
        super()._tlsShutdownFinished(reason)
        if reason is not None:
            # It holds the frame that holds it, and so the whole connection until a full garbage collection.
            reason.cleanFailure()


class ServerSide(Side):
    """Our end of a connection whose client greets first; until the handshake is done it has to share the turns."""

    def __init__(self, layer: TLSMemoryBIOFactory, protocol: IProtocol, handshakes: TurnShare) -> None:
        super().__init__(layer, protocol)
        self._handshakes: TurnShare | None = handshakes

    def dataReceived(self, data: bytes) -> None:
        """Take what comes over the wire, now or in its turn."""
        handshakes = self._handshakes
        if handshakes is None:
            super().dataReceived(data)
        elif handshakes.has_room():
            handshakes.run(partial(self._go_on, data))
        else:
            transport: Any = self.transport
            transport.pauseProducing()  # so nothing can overtake what waits
            handshakes.defer(partial(self._resume, data))

    def _resume(self, data: bytes) -> None:
        transport: Any = self.transport
        if not self.connected or self._aborted:
            return
        transport.resumeProducing()
        try:
            self._go_on(data)
        except Exception:
            transport.abortConnection()  # as the reactor does with one whose protocol breaks
            raise

    def _go_on(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._handshakeDone:
            self._handshakes = None


@implementer(IOpenSSLServerConnectionCreator)
class _ServerCreator:
    """Chooses the certificate by the name that the client asks for."""

    def __init__(self, by_name: dict[str, SSL.Context], default: SSL.Context | None) -> None:
        self._by_name = by_name
        self._default = default
        if default is not None:
            default.set_tlsext_servername_callback(self._choose)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        if self._default is None:
            raise ValueError("there is no certificate to show")
        return SSL.Connection(self._default, None)

    def _choose(self, connection: SSL.Connection) -> None:
        name = (connection.get_servername() or b"").decode("ascii", "replace").lower().rstrip(".")
        context = self._by_name.get(name) or self._by_name.get("*." + name.partition(".")[2])
        if context is not None:
            connection.set_context(context)


@implementer(IOpenSSLServerConnectionCreator)
class _Indirect:
    """Asks for the creator of the day, so that a reload reaches listeners that are open."""

    def __init__(self, current: Callable[[], _ServerCreator]) -> None:
        self._current = current

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return self._current().serverConnectionForTLS(protocol)


@implementer(IOpenSSLClientConnectionCreator)
class _ClientCreator:
    """Connects to one server and sees that it is the one meant (RFC 5922 §7.3)."""

    def __init__(self, context: SSL.Context, server_name: str, verify: bool) -> None:
        self._context = context
        self._server_name = server_name
        self._verify = verify
        self._ids: tuple[ServiceID, ...]
        try:
            self._ids = (IPAddress_ID(numeric_host(server_name)),)
            self._sni = b""
        except ValueError:
            name = server_name.rstrip(".")
            self._sni = name.encode("ascii")  # UnicodeEncodeError is a ValueError
            self._ids = (DNS_ID(name), URI_ID(f"sip:{name}"))

    def clientConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        connection = SSL.Connection(self._context, None)
        if self._sni:
            connection.set_tlsext_host_name(self._sni)
        if self._verify:
            connection.set_verify(SSL.VERIFY_PEER, self._checker(protocol))
        return connection

    def _checker(self, protocol: Any) -> Callable[[Any, crypto.X509, int, int, int], bool]:
        def check(connection: object, certificate: crypto.X509, error: int, depth: int, chain_is_good: int) -> bool:
            if depth or not chain_is_good:
                return bool(chain_is_good)
            if _is_one_of(certificate.to_cryptography(), self._ids):
                return True
            reason = f"the certificate is not for {self._server_name}"
            protocol.failVerification(Failure(SSL.Error([("", "", reason)])))
            return False

        return check


def _is_one_of(certificate: x509.Certificate, ids: tuple[ServiceID, ...]) -> bool:
    try:
        patterns = extract_patterns(certificate)
    except CertificateError:
        return False
    for each in ids:
        try:
            verify_service_identity(patterns, obligatory_ids=[each], optional_ids=[])
        except (VerificationError, CertificateError):
            continue
        return True
    return False


def _client_context(config: TlsConfig) -> SSL.Context:
    trusted = platformTrust()
    if config.trust_roots_file is not None:
        roots = [crypto.X509.from_cryptography(each) for each in read_certificates(config.trust_roots_file)]
        trusted = trustRootFromCertificates([Certificate(root) for root in roots])
    options = CertificateOptions(
        trustRoot=trusted if config.verify_peers else None, raiseMinimumTo=VERSIONS[config.minimum_version]
    )
    return options.getContext()


def _load(config: CertificateConfig, tls: TlsConfig) -> ShownCertificate:
    certificate, chain, key = read_identity(config.certificate_file, config.key_file)
    options = CertificateOptions(
        privateKey=key,
        certificate=certificate,
        extraCertChain=chain,
        raiseMinimumTo=VERSIONS[tls.minimum_version],
    )
    try:
        context = options.getContext()
    except SSL.Error as error:
        raise ValueError(f"{config.certificate_file} is not accepted by OpenSSL: {error}") from error
    # Twisted's own choice looks for a factory that our connections do not have, and fails the handshake.
    context.set_alpn_select_callback(_choose_protocol)
    expires_at = certificate.not_valid_after_utc.timestamp()
    return ShownCertificate(config.certificate_file, _names(certificate), expires_at, context)


def _choose_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    """Agree to what we speak if the client offers it, else to nothing, which most clients take (RFC 7301 §3.2)."""
    return next((name for name in PROTOCOLS if name in offered), SSL.NO_OVERLAPPING_PROTOCOLS)


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return ()
    return tuple(name.lower() for name in extension.value.get_values_for_type(x509.DNSName))


def read_certificates(file: Path) -> list[x509.Certificate]:
    """Return the certificates in a PEM file. Raises ValueError."""
    try:
        return x509.load_pem_x509_certificates(_read(file))
    except ValueError as error:
        raise ValueError(f"{file} holds no certificate in PEM: {error}") from error


def read_identity(certificate_file: Path, key_file: Path) -> tuple[Any, list[Any], Any]:
    """Return a certificate, its chain, and its private key. Raises ValueError, also when they do not belong together.

    Twisted's annotations still name pyOpenSSL's own classes, which pyOpenSSL no longer wants.
    """
    certificate, *chain = read_certificates(certificate_file)
    key = read_key(key_file)
    if key.public_key() != certificate.public_key():
        raise ValueError(f"{key_file} is not the key of the certificate in {certificate_file}")
    return certificate, chain, key


def read_key(file: Path) -> Any:
    """Return the private key in a PEM file, which has no passphrase. Raises ValueError."""
    data = _read(file)
    try:
        return load_pem_private_key(data, password=None)
    except TypeError as error:
        raise ValueError(f"{file} holds a key with a passphrase; it has to be without") from error
    except ValueError as error:
        raise ValueError(f"{file} holds no private key in PEM: {error}") from error


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
