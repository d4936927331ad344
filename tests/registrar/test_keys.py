"""Tests for registrar.keys."""

from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from registrar.keys import SECRET_BYTES, derive, load_or_create_secret


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "secret"

    def test_a_secret_outlives_the_process(self) -> None:
        """The first call makes the secret, every other one returns the same."""
        first = load_or_create_secret(self.path)
        self.assertEqual(len(first), SECRET_BYTES)
        self.assertEqual(load_or_create_secret(self.path), first)

    def test_only_the_owner_reads_it(self) -> None:
        """The file is made without rights for group and others."""
        load_or_create_secret(self.path)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_a_cut_file_is_refused(self) -> None:
        """A file that holds too little is an error that names it, not a weak key."""
        self.path.write_bytes(b"short")
        with self.assertRaisesRegex(ValueError, self.path.name):
            load_or_create_secret(self.path)

    def test_purposes_have_different_keys(self) -> None:
        """Keys for two purposes differ, and each is the same every time."""
        secret = bytes(range(32))
        self.assertNotEqual(derive(secret, "nonces"), derive(secret, "gruu"))
        self.assertEqual(derive(secret, "nonces"), derive(secret, "nonces"))
