"""TLS between the nodes of a cluster: both ends show a certificate, and both have to be from the same authority.

Names in them are not looked at: a node is reached by whatever address its lease says, and who it is proves the
handshake that follows (see member_handshake).
"""

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IReactorTime,
)
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, CertificateOptions, TLSVersion, trustRootFromCertificates
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from rollcall.net.config import MemberConfig
from rollcall.net.tls import ServerSide, Side, read_certificates, read_identity
from rollcall.net.turn_share import TurnShare

HANDSHAKES_TURN_SECONDS = 0.01
"""So much of a turn is for handshakes with who connects to us, as with phones: anybody may try."""

EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
"""RFC 9266 §2."""

EXPORTED_BYTES = 32


class MemberTls:
    """TLS as configured. Raises ValueError with file and reason when a certificate, key or authority is unusable."""

    def __init__(self, config: MemberConfig, clock: IReactorTime) -> None:
        self._config = config
        self._context = _context(config)
        self._handshakes = TurnShare(clock, HANDSHAKES_TURN_SECONDS)
        self._client_layer = _layer(_Creator(lambda: self._context), True, clock)
        self._server_layer = _layer(_Creator(lambda: self._context), False, clock)

    def reload(self) -> None:
        """Read the files again; connections from now on get what is there. On ValueError the old ones stay."""
        self._context = _context(self._config)

    def server_side(self, protocol: IProtocol) -> IProtocol:
        """Put TLS before a protocol that speaks with who connected to us."""
        return ServerSide(self._server_layer, protocol, self._handshakes)

    def client_side(self, protocol: IProtocol) -> IProtocol:
        """Put TLS before a protocol that speaks with whom we connect to."""
        return Side(self._client_layer, protocol)


def channel_of(wire: Any) -> bytes:
    """Return what only the two ends of a TLS connection know, and no other connection has (RFC 9266)."""
    connection: SSL.Connection = wire.getHandle()
    return connection.export_keying_material(EXPORTER_LABEL, EXPORTED_BYTES, b"")


@implementer(IOpenSSLClientConnectionCreator, IOpenSSLServerConnectionCreator)
class _Creator:
    """Makes either end's OpenSSL connection, from the context of the day."""

    def __init__(self, current: Callable[[], SSL.Context]) -> None:
        self._current = current

    def clientConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._current(), None)

    def serverConnectionForTLS(self, protocol: object) -> SSL.Connection:
        return SSL.Connection(self._current(), None)


def _layer(creator: _Creator, is_client: bool, clock: IReactorTime) -> TLSMemoryBIOFactory:
    layer = TLSMemoryBIOFactory(creator, is_client, Factory(), clock)
    layer.protocol = Side
    return layer


def _context(config: MemberConfig) -> SSL.Context:
    if config.certificate_file is None or config.key_file is None or config.authority_file is None:
        raise ValueError("TLS between nodes needs a certificate, its key and an authority")
    certificate, chain, key = read_identity(config.certificate_file, config.key_file)
    roots = [Certificate(crypto.X509.from_cryptography(each)) for each in read_certificates(config.authority_file)]
    options = CertificateOptions(
        privateKey=key,
        certificate=certificate,
        extraCertChain=chain,
        trustRoot=trustRootFromCertificates(roots),
        raiseMinimumTo=TLSVersion.TLSv1_3,
    )
    try:
        return options.getContext()
    except SSL.Error as error:
        raise ValueError(f"{config.certificate_file} is not accepted by OpenSSL: {error}") from error
