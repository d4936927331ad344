"""Answers kept for all subnets of a view: they are those that each would have had by itself."""

from random import Random
from struct import pack

from dns.edns import GenericOption, OptionType
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.answers import Answers
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.subnets import MAX_QUESTIONS
from rollcall.net.flow import pack_address
from tests.registrar.distribution.dns.zones import NEAR, ZONE, a_query, a_snapshot

CLIENT = pack_address("198.51.100.7", 4000)
PREFIXES = ("/24", "/56", "/25", "/16", "/48", "/32")


def by_octets(address: bytes) -> str:
    """Select a view by something of the address that differs between neighbours."""
    return "near" if address[1] % 2 else "far"


class SubnetAnswersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.keeping, self.plain = Answers(DnsConfig(), lambda host: False), Answers(
            DnsConfig(max_cached=0), lambda host: False)
        for answers in (self.keeping, self.plain):
            answers.publish(a_snapshot(1, {"far": ZONE, "near": NEAR}, by_octets))

    def both(self, data: bytes) -> None:
        """Ask both, and have them answer the same."""
        kept, made = (answers.datagrams([(data, CLIENT)], 1.0) for answers in (self.keeping, self.plain))
        self.assertEqual(kept, made)

    @property
    def questions(self) -> int:
        """How many questions are kept for all subnets."""
        shown = self.keeping._shown
        assert shown is not None
        return len(shown.subnets)

    def test_same(self) -> None:
        """Names in any letters, of any type, for subnets of any length, are answered as they would be."""
        random = Random(3)
        for _ in range(2000):
            name = random.choice(("fra.sip.example.com.", "SIP.example.com.", "many.sip.EXAMPLE.com."))
            kind = random.choice(("A", "SRV", "NAPTR", "TYPE65", "TYPE97"))
            prefix = random.choice(PREFIXES)
            bits = int(prefix[1:])
            if bits > 32 or random.random() < 0.2:
                network = f"2001:{random.randrange(16):x}:{random.randrange(4):x}::{prefix}"
            else:
                network = f"{random.randrange(1, 100)}.{random.randrange(4)}.0.0{prefix}"
            self.both(a_query(name, kind, subnet=network, payload=random.choice((512, 1232))).to_wire())
        self.assertGreater(self.questions, 10)

    def test_malformed_beside_good(self) -> None:
        """What looks like a kept question but is none is not answered from what was kept."""
        good = a_query(subnet="10.0.1.0/24").to_wire()
        self.both(good)
        self.assertEqual(self.questions, 1)
        option = pack("!HHHBB", 8, 7, 1, 24, 0)
        for other in (pack("!HHHBB", 8, 7, 1, 23, 0), pack("!HHHBB", 8, 7, 2, 24, 0), pack("!HHHBB", 8, 7, 1, 24, 1),
                      pack("!HHHBB", 10, 7, 1, 24, 0)):
            self.both(good.replace(option, other))
        for data in (good + b"x", good[:-1], good[:2] + b"\x41" + good[3:], good[:2] + b"\x81" + good[3:]):
            self.both(data)

    def test_other_length(self) -> None:
        """A question that is cut short, or too long, by just the difference between the families is malformed."""
        short, long = a_query(subnet="10.0.1.0/24").to_wire(), a_query(subnet="2001:db8:0:100::/56").to_wire()
        self.both(short)
        self.both(long)
        self.assertEqual(self.questions, 2)
        self.both(short + bytes(4))
        self.both(long[:-4])

    def test_elsewhere(self) -> None:
        """A subnet that is not the last thing is not kept so, nor one beside other options."""
        cookie = GenericOption(OptionType.COOKIE, b"12345678")
        self.both(a_query(subnet="10.0.1.0/24", options=[cookie]).to_wire())
        self.both(a_query(subnet="10.0.0.0/16").to_wire())
        self.assertEqual(self.questions, 0)

    def test_bounded(self) -> None:
        """Only so many questions are kept."""
        most = 0
        for number in range(MAX_QUESTIONS * 2):
            self.both(a_query(kind=f"TYPE{300 + number}", subnet="10.0.1.0/24").to_wire())
            most = max(most, self.questions)
        self.assertEqual(most, MAX_QUESTIONS)

    def test_publish(self) -> None:
        """A new version is answered from at once."""
        data = a_query(kind="SOA", subnet="10.0.1.0/24").to_wire()
        self.both(data)
        for answers in (self.keeping, self.plain):
            answers.publish(a_snapshot(2, {"far": ZONE, "near": NEAR}, by_octets))
        self.both(data)
