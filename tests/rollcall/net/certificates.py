"""Certificates made for a test, valid for the years around its clock's zero and around now."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from rollcall.net.config import CertificateConfig


@frozen
class Authority:
    """Signs certificates; `file` is its own."""

    folder: Path
    file: Path
    key: Any
    certificate: x509.Certificate

    def issue(self, *names: str, label: str = "", days: int = 30) -> CertificateConfig:
        """Write a certificate for DNS names, addresses and URIs, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _signed(names[0], key.public_key(), self.certificate.subject, self.key, days, names)
        stem = label or names[0].replace("*", "any").replace(":", "_")
        config = CertificateConfig(certificate_file=self.folder / f"{stem}.pem", key_file=self.folder / f"{stem}.key")
        config.certificate_file.write_bytes(
            certificate.public_bytes(Encoding.PEM) + self.certificate.public_bytes(Encoding.PEM)
        )
        config.key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return config


def an_authority(folder: Path, label: str = "authority") -> Authority:
    """Write a self-signed authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
    certificate = _signed(label, key.public_key(), name, key, 3650, None)
    file = folder / f"{label}.pem"
    file.write_bytes(certificate.public_bytes(Encoding.PEM))
    return Authority(folder, file, key, certificate)


def lock(key_file: Path, passphrase: bytes) -> None:
    """Put a passphrase on a key file."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    key = load_pem_private_key(key_file.read_bytes(), None)
    key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase)))


def _signed(
    label: str, public_key: Any, issuer: x509.Name, issuer_key: Any, days: int, names: tuple[str, ...] | None
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)]))
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=3650))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is not None:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    if name.startswith("sip:"):
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
