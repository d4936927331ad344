"""How a connection to a server of Redis is opened: TCP or TLS, who we are there, and which database."""

import random
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import crypto
from twisted.internet.protocol import ClientFactory
from twisted.internet.ssl import (
    Certificate,
    optionsForClientTLS,
    platformTrust,
    trustRootFromCertificates,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from rollcall.cluster.config import RedisConfig
from rollcall.cluster.connection import Connection
from rollcall.cluster.redis import RedisUnavailable

Kind = TypeVar("Kind", bound=Connection)
Layer = Callable[[ClientFactory], Any]
"""Puts TLS before what a factory makes, or nothing."""


class Opening:
    """Opens connections as one configuration says."""

    def __init__(self, reactor: Any, config: RedisConfig, chance: Callable[[], float] = random.random) -> None:
        """`reactor` provides IReactorTCP and IReactorTime; `chance`, 0.0 to 1.0, is in all pauses.

        Raises ValueError when a certificate or key is unusable.
        """
        self.reactor = reactor
        self.chance = chance
        self.config = config
        self._layer: Callable[[str], Layer] = _tls(config) if config.tls else lambda host: lambda factory: factory

    async def server(self, host: str, port: int, kind: type[Kind]) -> Kind:
        """Return a connection to a server, as our user. Raises RedisUnavailable, or RedisRefused."""
        return await self._open(host, port, kind, self.config.username, self.config.password)

    async def sentinel(self, host: str, port: int, kind: type[Kind]) -> Kind:
        """Return a connection to a Sentinel. Raises RedisUnavailable, or RedisRefused."""
        return await self._open(host, port, kind, self.config.sentinel_username, self.config.sentinel_password)

    async def _open(self, host: str, port: int, kind: type[Kind], username: str, password: str) -> Kind:
        connection = kind(self.reactor, self.config.timeout_seconds)
        factory = _Once(connection)
        seconds = self.config.connect_seconds
        connector = self.reactor.connectTCP(host, port, self._layer(host)(factory), timeout=seconds)
        try:
            await connection.opened
            if password:
                await connection.ask("AUTH", *([username] if username else []), password)
        except BaseException:
            connector.disconnect()
            connection.drop("not opened")
            raise
        return connection


class _Once(ClientFactory):
    """Makes the one connection, or says why there is none."""

    noisy = False

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> Any:
        """It is connected."""
        return self._connection

    def clientConnectionFailed(self, connector: Any, reason: Failure) -> None:
        """It is not."""
        if not self._connection.opened.called:
            self._connection.opened.errback(RedisUnavailable(reason.getErrorMessage()))


def _tls(config: RedisConfig) -> Callable[[str], Layer]:
    shown = _certificate(config)
    trusted = _authorities(config)

    def layer(host: str) -> Layer:
        options = optionsForClientTLS(config.tls_server_name or host, trusted, extraCertificateOptions=shown)
        return partial(TLSMemoryBIOFactory, options, True)

    return layer


def _authorities(config: RedisConfig) -> Any:
    if config.tls_authority_file is None:
        return platformTrust()
    try:
        found = x509.load_pem_x509_certificates(config.tls_authority_file.read_bytes())
    except (OSError, ValueError) as wrong:
        raise ValueError(f"redis.tls_authority_file {config.tls_authority_file}: {wrong}") from wrong
    return trustRootFromCertificates([Certificate(crypto.X509.from_cryptography(each)) for each in found])


def _certificate(config: RedisConfig) -> dict[str, Any]:
    if config.tls_certificate_file is None or config.tls_key_file is None:
        return {}
    try:
        certificate, *chain = x509.load_pem_x509_certificates(config.tls_certificate_file.read_bytes())
        key = load_pem_private_key(config.tls_key_file.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as wrong:
        both = f"{config.tls_certificate_file} and tls_key_file {config.tls_key_file}"
        raise ValueError(f"redis.tls_certificate_file {both}: {wrong}") from wrong
    if key.public_key() != certificate.public_key():
        raise ValueError(f"{config.tls_key_file} is not the key of the certificate in {config.tls_certificate_file}")
    return {"privateKey": key, "certificate": certificate, "extraCertChain": chain}
