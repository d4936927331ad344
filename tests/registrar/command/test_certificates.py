"""Certificates: a test authority that lasts, server certificates that fit, and what a file says."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from registrar.command.certificates import RENEW_DAYS, SERVER_DAYS, DemoCertificates, belong_together, describe

NOW = datetime.now(UTC).replace(microsecond=0)  # OpenSSL compares with the real time
NAMES = ["192.0.2.7", "localhost", "::1"]


class DemoCertificatesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = DemoCertificates(Path(self.enterContext(TemporaryDirectory())) / "tls")

    def serials(self) -> tuple[bytes, bytes]:
        return self.files.authority.read_bytes(), self.files.certificate.read_bytes()

    def test_names_and_time(self) -> None:
        """The certificate is for the given addresses and names, and lasts as long as browsers allow."""
        self.assertTrue(self.files.ensure(NAMES, NOW))
        described = describe(self.files.certificate)
        self.assertEqual(set(described.names), set(NAMES))
        self.assertEqual(described.days_left(NOW), SERVER_DAYS)

    def test_clients_accept_it(self) -> None:
        """A client that trusts the authority finds the certificate good for each name, and for no other."""
        self.files.ensure(NAMES, NOW)
        for name in NAMES:
            self.assertEqual(self.handshake(name), "good", name)
        self.assertIn("mismatch", self.handshake("192.0.2.8"))
        self.assertIn("self-signed", self.handshake("localhost", trust=False))

    def handshake(self, name: str, trust: bool = True) -> str:
        """Join a client that looks for `name` and a server in memory; return what the client found."""
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(self.files.certificate, self.files.key)
        client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if trust:
            client_context.load_verify_locations(self.files.authority)
        else:
            server_context.load_cert_chain(self.with_chain(), self.files.key)
        to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context.wrap_bio(to_client, to_server, server_hostname=name)
        server = server_context.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(4):
            for side in (client, server):
                try:
                    side.do_handshake()
                except ssl.SSLWantReadError:
                    continue
                except ssl.SSLCertVerificationError as error:
                    return error.verify_message
        return "good"

    def with_chain(self) -> Path:
        chain = self.files.directory / "chain.pem"
        chain.write_bytes(self.files.certificate.read_bytes() + self.files.authority.read_bytes())
        return chain

    def test_keys_are_private(self) -> None:
        """Only their owner may read the keys."""
        self.files.ensure(NAMES, NOW)
        for file in (self.files.key, self.files.directory / "ca.key"):
            self.assertEqual(file.stat().st_mode & 0o777, 0o600)

    def test_kept(self) -> None:
        """What is good stays as it is."""
        self.files.ensure(NAMES, NOW)
        before = self.serials()
        self.assertFalse(self.files.ensure(list(reversed(NAMES)), NOW + timedelta(days=SERVER_DAYS - RENEW_DAYS)))
        self.assertEqual(self.serials(), before)

    def test_other_names(self) -> None:
        """Other names need another certificate, by the same authority."""
        self.files.ensure(NAMES, NOW)
        authority, certificate = self.serials()
        self.assertTrue(self.files.ensure(["192.0.2.8"], NOW))
        self.assertEqual(self.files.authority.read_bytes(), authority)
        self.assertNotEqual(self.files.certificate.read_bytes(), certificate)
        self.assertEqual(describe(self.files.certificate).names, ("192.0.2.8",))

    def test_renewal(self) -> None:
        """A certificate is renewed before it expires, and the authority, much later, too."""
        self.files.ensure(NAMES, NOW)
        authority, _ = self.serials()
        self.assertTrue(self.files.ensure(NAMES, NOW + timedelta(days=SERVER_DAYS - RENEW_DAYS + 1)))
        self.assertEqual(self.files.authority.read_bytes(), authority)
        self.assertTrue(self.files.ensure(NAMES, NOW + timedelta(days=3640)))
        self.assertNotEqual(self.files.authority.read_bytes(), authority)

    def test_lost_files(self) -> None:
        """Whatever file is lost, the next start makes what is needed to go on."""
        for lost in ("ca.pem", "ca.key", "server.pem", "server.key"):
            self.files.ensure(NAMES, NOW)
            (self.files.directory / lost).unlink()
            self.assertTrue(self.files.ensure(NAMES, NOW), lost)
            self.assertEqual(self.handshake("localhost"), "good")


class DescribeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))

    def test_pairs(self) -> None:
        """A key belongs to its own certificate only."""
        one, other = DemoCertificates(self.directory / "one"), DemoCertificates(self.directory / "other")
        one.ensure(NAMES, NOW)
        other.ensure(NAMES, NOW)
        self.assertTrue(belong_together(one.certificate, one.key))
        self.assertFalse(belong_together(one.certificate, other.key))

    def test_no_certificate(self) -> None:
        """A file that holds no certificate is refused."""
        path = self.directory / "text.pem"
        path.write_text("text")
        self.assertRaises(ValueError, describe, path)
        self.assertRaises(FileNotFoundError, describe, self.directory / "none.pem")

    def test_authority_has_no_names(self) -> None:
        """A certificate without alternative names is described without names."""
        files = DemoCertificates(self.directory)
        files.ensure(NAMES, NOW)
        self.assertEqual(describe(files.authority).names, ())
