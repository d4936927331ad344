"""What a configuration of transports may say."""

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import (
    CertificateConfig,
    EngineConfig,
    KeepaliveConfig,
    LimitsConfig,
    ListenerConfig,
    NetConfig,
    ResolverConfig,
    TlsConfig,
)
from rollcall.ops.config import ConfigError, loads

GOOD = """
[[listeners]]
name = "phones"
transport = "tls"
host = "::"
port = 5061
proxy_protocol_from = ["10.0.0.0/8", "2001:db8::/32"]

[[listeners]]
name = "browsers"
transport = "wss"
port = 443
allowed_origins = ["https://phone.example.com"]

[keepalive]
idle = 120

[limits]
first_request_seconds = 5

[tls]
certificates = [{certificate_file = "cert.pem", key_file = "/etc/key.pem"}]

[resolver]
servers = ["192.0.2.53"]

[engine]
coalesce_ms = 3
"""


class ConfigTests(SynchronousTestCase):
    def test_toml(self) -> None:
        """A file's tables become the configuration, its paths relative to the file."""
        config = loads(GOOD, NetConfig, Path("/srv/rollcall.toml"))
        self.assertEqual([each.name for each in config.listeners], ["phones", "browsers"])
        self.assertEqual(config.keepalive, KeepaliveConfig(idle=120))
        self.assertEqual(config.limits, LimitsConfig(first_request_seconds=5.0))
        shown = CertificateConfig(certificate_file=Path("/srv/cert.pem"), key_file=Path("/etc/key.pem"))
        self.assertEqual(config.tls, TlsConfig(certificates=(shown,)))
        self.assertEqual(config.resolver, ResolverConfig(servers=("192.0.2.53",)))
        self.assertEqual(config.engine, EngineConfig(coalesce_ms=3.0))

    def test_wrong_values(self) -> None:
        """Each wrong value is named with its key."""
        table = (
            ('"tls"', '"sctp"', "listeners[0].transport"),
            ('"::"', '"[::]"', "listeners[0].host"),
            ('"::"', '"example.com"', "listeners[0].host"),
            ("5061", "70000", "listeners[0].port"),
            ("10.0.0.0/8", "10.0.0.1/8", "listeners[0].proxy_protocol_from"),
            ("idle = 120", "idle = 0", "keepalive.idle"),
            ("first_request_seconds = 5", "first_request_seconds = 0", "limits.first_request_seconds"),
            ('"192.0.2.53"', '"dns.example.com"', "resolver.servers"),
            ("coalesce_ms = 3", "coalesce_ms = 30", "engine.coalesce_ms"),
        )
        for old, new, key in table:
            self.assertIn(old, GOOD)
            error = self.assertRaises(ConfigError, loads, GOOD.replace(old, new), NetConfig)
            assert isinstance(error, ConfigError)
            self.assertIn(key, [problem.key for problem in error.problems], new)

    def test_names_differ(self) -> None:
        """Two listeners cannot have the same name."""
        one = ListenerConfig(name="phones", transport="udp")
        error = self.assertRaises(ValueError, NetConfig, listeners=(one, one))
        self.assertIn("phones", str(error))

    def test_certificate_needed(self) -> None:
        """A secure listener needs a certificate to show."""
        one = ListenerConfig(name="phones", transport="wss")
        error = self.assertRaises(ValueError, NetConfig, listeners=(one,))
        self.assertIn("phones", str(error))

    def test_user_timeout(self) -> None:
        """Unless set, unacknowledged data may wait as long as a silent peer may."""
        self.assertEqual(KeepaliveConfig(idle=5, interval=1, probes=3).user_timeout_ms, 8000)
        self.assertEqual(KeepaliveConfig(idle=5, user_timeout=2).user_timeout_ms, 2000)
