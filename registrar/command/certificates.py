"""Certificates: a test authority of our own for a first try, and what a certificate file says about itself."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_DAYS = 3650
SERVER_DAYS = 397  # browsers refuse longer ones
RENEW_DAYS = 30
CLOCK_SKEW = timedelta(hours=1)


@frozen
class Described:
    """What the first certificate of a file says."""

    names: tuple[str, ...]
    """The host names and addresses it is good for."""
    not_after: datetime

    def days_left(self, now: datetime) -> int:
        """Return the whole days until it expires; negative afterwards."""
        return (self.not_after - now).days


@frozen
class DemoCertificates:
    """Where the test authority and the server's certificate are."""

    directory: Path

    @property
    def authority(self) -> Path:
        """What phones and browsers must trust."""
        return self.directory / "ca.pem"

    @property
    def certificate(self) -> Path:
        """The server's certificate."""
        return self.directory / "server.pem"

    @property
    def key(self) -> Path:
        """The server's private key."""
        return self.directory / "server.key"

    def ensure(self, names: Sequence[str], now: datetime) -> bool:
        """Make what is missing, lapses soon or is for other names; say whether the certificate is new.

        The authority stays as long as it can, because people have told their phones to trust it.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        if self._authority_is_good(now):
            if self._certificate_is_good(names, now):
                return False
        else:
            self._make_authority(now)
        self._make_certificate(names, now)
        return True

    def _authority_is_good(self, now: datetime) -> bool:
        there = self.authority.exists() and self._authority_key.exists()
        return there and describe(self.authority).days_left(now) >= RENEW_DAYS

    def _certificate_is_good(self, names: Sequence[str], now: datetime) -> bool:
        if not (self.certificate.exists() and self.key.exists()):
            return False
        described = describe(self.certificate)
        return set(described.names) == set(names) and described.days_left(now) >= RENEW_DAYS

    @property
    def _authority_key(self) -> Path:
        return self.directory / "ca.key"

    def _make_authority(self, now: datetime) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("Rollcall test authority")
        certificate = (
            _builder(name, name, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        _write_private(self._authority_key, _pem_of_key(key))
        self.authority.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def _make_certificate(self, names: Sequence[str], now: datetime) -> None:
        authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
        authority_key = serialization.load_pem_private_key(self._authority_key.read_bytes(), None)
        assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            _builder(_name(names[0]), authority.subject, key.public_key(), now, SERVER_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .sign(authority_key, hashes.SHA256())
        )
        _write_private(self.key, _pem_of_key(key))
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def describe(path: Path) -> Described:
    """Return what the first certificate in this PEM file says. Raises OSError, or ValueError when it holds none."""
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return Described((), certificate.not_valid_after_utc)
    names = alternatives.get_values_for_type(x509.DNSName)
    addresses = alternatives.get_values_for_type(x509.IPAddress)
    return Described((*names, *(str(address) for address in addresses)), certificate.not_valid_after_utc)


def belong_together(certificate: Path, key: Path) -> bool:
    """Say whether this private key is the certificate's. Raises OSError, or ValueError when a file is no PEM."""
    public = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    try:
        private = serialization.load_pem_private_key(key.read_bytes(), None)
    except TypeError as error:
        raise ValueError("the key is protected by a passphrase") from error
    return _public_bytes(public) == _public_bytes(private.public_key())


def _public_bytes(key: object) -> bytes:
    encoded: bytes = key.public_bytes(  # type: ignore[attr-defined]  # every kind of public key has it
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - CLOCK_SKEW)
        .not_valid_after(now.astimezone(UTC) + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # an old file might be readable for others
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
