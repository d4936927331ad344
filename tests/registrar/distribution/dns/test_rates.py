"""Rates of networks: who is counted together, who is not counted, and that their number is bounded."""

from ipaddress import ip_address
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.rates import Rates


def rates(**changes: Any) -> Rates:
    """Return rates of two kinds of answers."""
    return Rates(DnsConfig(**changes), 2)


def packed(host: str) -> bytes:
    """Return a packed address."""
    return ip_address(host).packed


class RatesTests(SynchronousTestCase):
    def test_networks(self) -> None:
        """Addresses of one network share a row, others do not, and IPv4 is never taken for IPv6."""
        found = rates()
        row = found.row(packed("192.0.2.1"), 0.0)
        self.assertIs(found.row(packed("192.0.2.200"), 0.0), row)
        self.assertIsNot(found.row(packed("192.0.3.1"), 0.0), row)
        row = found.row(packed("2001:db8:0:1::1"), 0.0)
        self.assertIs(found.row(packed("2001:db8:0:ff::1"), 0.0), row)
        self.assertIsNot(found.row(packed("2001:db8:0:100::1"), 0.0), row)
        self.assertEqual(len(found), 4)

    def test_bits(self) -> None:
        """What is a network is configured, to the bit."""
        found = rates(rate_ipv4_bits=23)
        self.assertIs(found.row(packed("192.0.2.1"), 0.0), found.row(packed("192.0.3.1"), 0.0))
        self.assertIsNot(found.row(packed("192.0.2.1"), 0.0), found.row(packed("192.0.4.1"), 0.0))

    def test_unlimited(self) -> None:
        """Some networks have no limit, and without a rate nobody has one."""
        found = rates(unlimited_networks=("192.0.2.0/28",))
        self.assertIsNone(found.row(packed("192.0.2.15"), 0.0))
        self.assertIsNotNone(found.row(packed("192.0.2.16"), 0.0))
        self.assertIsNone(rates(answers_per_second=0.0).row(packed("192.0.2.16"), 0.0))

    def test_bounded(self) -> None:
        """Beyond the most, the oldest row goes that has its whole rate again, or else the oldest."""
        found = rates(max_networks=16)
        for number in range(16):
            row = found.row(packed(f"192.0.{number}.1"), 0.0)
            assert row is not None
            row[0] = 100.0 if number < 3 else 0.0
        busy = found.row(packed("192.0.0.1"), 0.0)
        found.row(packed("198.51.100.1"), 50.0)
        self.assertEqual(len(found), 16)
        self.assertIs(found.row(packed("192.0.0.1"), 50.0), busy)
        for number in range(1000):
            row = found.row(packed(f"10.{number // 250}.{number % 250}.1"), 50.0)
            assert row is not None
            row[1] = 100.0
        self.assertEqual(len(found), 16)

    def test_slips(self) -> None:
        """Every so manieth of what is beyond the rate is sent truncated; all are counted."""
        for slip, expected in ((0, [False] * 6), (1, [True] * 6), (3, [False, False, True] * 2)):
            found = rates(slip=slip)
            row = found.row(packed("192.0.2.1"), 0.0)
            assert row is not None
            self.assertEqual([found.slips(row) for _ in range(6)], expected)
            self.assertEqual(found.limited, 6)
