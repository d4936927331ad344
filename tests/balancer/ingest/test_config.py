"""Where reports are taken, as an operator says it."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.config import IngestConfig
from rollcall.ops.config import ConfigError, loads


class IngestConfigTests(SynchronousTestCase):
    def mistakes(self, text: str) -> list[str]:
        """Return which settings are wrong."""
        error = self.assertRaises(ConfigError, loads, text, IngestConfig)
        return [problem.key for problem in error.problems]

    def test_defaults(self) -> None:
        """Nothing listens unless it is said where, and only nodes and this machine may send."""
        config = IngestConfig()
        self.assertEqual((config.hep_udp, config.hep_tcp, config.rtcp, config.auth_key), ((), (), (), None))
        self.assertEqual(config.senders, ("127.0.0.0/8", "::1/128"))

    def test_listeners(self) -> None:
        """Listeners have an address of this machine, IPv6 in brackets, and a port."""
        config = loads('hep_udp = ["192.0.2.5:9060", "[::]:9060"]\nrtcp = [{node = "m1", address = "0.0.0.0:5005"}]',
                       IngestConfig)
        self.assertEqual((len(config.hep_udp), config.rtcp[0].node), (2, "m1"))
        for text in ('hep_udp = ["9060"]', 'hep_udp = ["media.example.com:9060"]', 'hep_udp = ["[::]:1", "[::]:1"]'):
            self.assertEqual(self.mistakes(text), ["hep_udp"], text)

    def test_copies(self) -> None:
        """Ports for plain RTCP name their node, differ from one another, and take from somebody."""
        one = '{node = "m1", address = "127.0.0.1:5005"}'
        self.assertEqual(self.mistakes(f"rtcp = [{one}, {one}]"), ["rtcp"])
        self.assertEqual(self.mistakes('rtcp = [{node = "a b", address = "x:1", senders = []}]'),
                         ["rtcp[0].node", "rtcp[0].address", "rtcp[0].senders"])

    def test_secrets(self) -> None:
        """The key is shown nowhere, and is not empty."""
        self.assertNotIn("s3cret", repr(loads('auth_key = "s3cret"', IngestConfig)))
        self.assertEqual(self.mistakes('auth_key = ""'), ["auth_key"])

    def test_bad_values(self) -> None:
        """Senders are networks; what is counted is at least one."""
        self.assertEqual(
            self.mistakes('senders = ["10.0.0.1/8"]\nmax_reports_per_second = 0\nmax_reports_per_sender = 0\n'
                          "max_connections = 0\nidle_seconds = 0"),
            ["senders", "max_reports_per_second", "max_reports_per_sender", "max_connections", "idle_seconds"])
