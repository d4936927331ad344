"""What is said of certificates and keys before anything is connected."""

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.cluster.redis_cluster import ClusterRedis
from rollcall.cluster.sentinel import SentinelRedis
from rollcall.cluster.single import SingleRedis, host_and_port
from tests.rollcall.cluster.memory_redis import Told
from tests.rollcall.net.certificates import an_authority


class MakingTests(SynchronousTestCase):
    """From a configuration to Redis."""

    def made(self, **settings: Any) -> object:
        """Return what is made of these settings."""
        return make_redis(Clock(), RedisConfig(**settings), Told())

    def test_modes(self) -> None:
        """Each mode has its way."""
        self.assertIsInstance(self.made(), SingleRedis)
        self.assertIsInstance(self.made(mode="sentinel"), SentinelRedis)
        self.assertIsInstance(self.made(mode="cluster"), ClusterRedis)

    def test_addresses(self) -> None:
        """An IPv6 address stands in brackets."""
        self.assertEqual(host_and_port("192.0.2.7:6379"), ("192.0.2.7", 6379))
        self.assertEqual(host_and_port("[2001:db8::7]:6379"), ("2001:db8::7", 6379))

    def test_certificates(self) -> None:
        """Good files are taken; what is wrong with a bad one is told with its name."""
        kept = tempfile.TemporaryDirectory()
        self.addCleanup(kept.cleanup)
        folder = Path(kept.name)
        authority = an_authority(folder)
        one, other = authority.issue("one.example"), authority.issue("other.example")
        good = {
            "tls": True,
            "tls_authority_file": authority.file,
            "tls_certificate_file": one.certificate_file,
            "tls_key_file": one.key_file,
        }
        self.assertIsInstance(self.made(**good), SingleRedis)
        nonsense = folder / "nonsense.pem"
        nonsense.write_text("nonsense")
        for name, file in (
            ("tls_authority_file", nonsense),
            ("tls_authority_file", folder / "missing.pem"),
            ("tls_certificate_file", nonsense),
            ("tls_key_file", nonsense),
            ("tls_key_file", other.key_file),
        ):
            with self.assertRaises(ValueError) as caught:
                self.made(**{**good, name: file})
            self.assertIn(str(file), str(caught.exception))
