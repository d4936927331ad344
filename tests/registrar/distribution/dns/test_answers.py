"""Answers to datagrams and over streams, read by dnspython."""

from random import Random
from typing import Any

import dns.edns
import dns.message
from attrs import evolve
from dns.edns import OptionType
from dns.flags import Flag
from dns.message import Message
from dns.opcode import Opcode
from dns.rcode import Rcode
from dns.rdatatype import RdataType
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.answers import KINDS, Answers
from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.snapshot import View
from rollcall.net.flow import pack_address
from tests.registrar.distribution.dns.zones import NEAR, ZONE, a_query, a_snapshot, subnet_of

CLIENT = pack_address("198.51.100.7", 4000)
NOW = 1_800_000_000.0
SPLIT = {"far": ZONE, "near": NEAR}


def by_first_octet(address: bytes) -> str:
    """Select the view "near" for 10.0.0.0/8 and 2001::/16."""
    return "near" if address[0] == 10 or address[:2] == b"\x20\x01" else "far"


class AnswersCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.start()
        self.now = NOW

    def start(self, views: dict[str, str] | None = None, **config: Any) -> None:
        """Answer from one version."""
        self.answers = Answers(DnsConfig(**config), lambda host: host[0] == 192)
        self.views = views
        self.answers.publish(a_snapshot(1, views, by_first_octet if views else lambda address: "all"))

    def raw(self, data: bytes, address: bytes = CLIENT) -> bytes | None:
        """Return what is answered by UDP."""
        found = self.answers.datagrams([(data, address)], self.now)
        self.assertTrue(all(to == address for _, to in found))
        return found[0][0] if found else None

    def ask(self, query: Message, address: bytes = CLIENT) -> Message:
        """Return an answer that belongs to the query, the same the second time."""
        data = query.to_wire()
        answer = self.raw(data, address)
        assert answer is not None
        self.assertEqual(self.raw(data, address), answer)
        found = dns.message.from_wire(answer)
        self.assertTrue(query.is_response(found))
        self.assertFalse(found.flags & Flag.RA)
        return found

    def texts(self, answer: Message) -> list[str]:
        """Return the records of the answer section without names and TTLs."""
        return sorted(str(rdata) for rrset in answer.answer for rdata in rrset)

    def count(self, kind: str) -> int:
        """Return how many answers of a kind there were."""
        return self.answers.counts[KINDS.index(kind)]


class RecordTests(AnswersCase):
    def test_types(self) -> None:
        """Each type of record is answered, with authority and without recursion."""
        for name, kind, count in (("sip.example.com", "NAPTR", 2), ("_sip._udp.sip.example.com", "SRV", 2),
                                  ("sip.example.com", "A", 1), ("sip.example.com", "AAAA", 1),
                                  ("sip.example.com", "SOA", 1), ("sip.example.com", "NS", 2),
                                  ("sip.example.com", "ANY", 1)):
            answer = self.ask(a_query(name, kind))
            self.assertEqual((answer.rcode(), len(self.texts(answer))), (Rcode.NOERROR, count), kind)
            self.assertEqual(answer.flags, Flag.QR | Flag.AA | Flag.RD)

    def test_flags(self) -> None:
        """Recursion that was not desired is not said to be, and AD, CD and Z are not repeated."""
        for flags in (0, Flag.AD | Flag.CD, 0x40):
            self.assertEqual(self.ask(a_query(flags=flags)).flags, Flag.QR | Flag.AA)

    def test_letter_case(self) -> None:
        """The name comes back in the letters it came in, from the cache too, and the ID is the query's."""
        random = Random(1)
        for _ in range(50):
            name = "".join(random.choice((letter.upper(), letter)) for letter in "_sip._udp.sip.example.com.")
            query = a_query(name, "SRV", edns=True)
            answer = self.raw(query.to_wire())
            assert answer is not None
            self.assertEqual(answer[:2], query.to_wire()[:2])
            parsed = dns.message.from_wire(answer)
            self.assertEqual((parsed.question[0].name.to_text(), parsed.answer[0].name.to_text()), (name, name))

    def test_types_that_differ_like_letters(self) -> None:
        """A type whose number is that of another one in lower case is not mistaken for it in the cache."""
        for number in (65, 97, 65, 97):
            answer = dns.message.from_wire(self.raw(a_query("fra.sip.example.com", f"TYPE{number}").to_wire()) or b"")
            self.assertEqual(answer.question[0].rdtype, number)

    def test_missing(self) -> None:
        """NODATA and NXDOMAIN have the SOA with the negative TTL; a name that exists only below has no data."""
        for name, rcode in (("fra.sip.example.com", Rcode.NOERROR), ("_udp.sip.example.com", Rcode.NOERROR),
                            ("nobody.sip.example.com", Rcode.NXDOMAIN)):
            answer = self.ask(a_query(name, "TXT"))
            soa = answer.authority[0]
            self.assertEqual((answer.rcode(), answer.answer, soa.ttl, str(soa.name)),
                             (rcode, [], 30, "sip.example.com."))
            self.assertTrue(answer.flags & Flag.AA)

    def test_refused(self) -> None:
        """Other domains, classes and transfers by UDP are refused or not implemented, and not in authority."""
        for query, rcode in ((a_query("example.org"), Rcode.REFUSED), (a_query(rdclass="CH"), Rcode.REFUSED),
                             (a_query("version.bind", "TXT", rdclass="CH"), Rcode.REFUSED),
                             (a_query(kind="AXFR"), Rcode.NOTIMP), (a_query(kind="IXFR"), Rcode.REFUSED),
                             (a_query(kind="MAILA"), Rcode.NOTIMP), (a_query(kind="TSIG"), Rcode.FORMERR)):
            answer = self.ask(query)
            self.assertEqual((answer.rcode(), answer.flags & Flag.AA), (rcode, 0), query)

    def test_incremental_by_datagram(self) -> None:
        """A secondary that asks for changes by UDP hears the serial, so that it comes by TCP (RFC 1995 §2)."""
        answer = self.ask(a_query(kind="IXFR"), pack_address("192.0.2.53", 53))
        self.assertEqual(answer.answer[0][0].serial, 7)
        self.assertEqual(self.ask(a_query(kind="IXFR")).rcode(), Rcode.REFUSED)
        inner = a_query("fra.sip.example.com", "IXFR")
        self.assertEqual(self.ask(inner, pack_address("192.0.2.53", 53)).rcode(), Rcode.REFUSED)

    def test_opcodes(self) -> None:
        """UPDATE and NOTIFY are not implemented."""
        for opcode in (Opcode.UPDATE, Opcode.NOTIFY, Opcode.STATUS):
            query = a_query(kind="SOA", edns=True)
            query.set_opcode(opcode)
            answer = dns.message.from_wire(self.raw(query.to_wire()) or b"")
            self.assertEqual((answer.rcode(), answer.opcode(), answer.id, answer.edns),
                             (Rcode.NOTIMP, opcode, query.id, 0))

    def test_answers_are_not_answered(self) -> None:
        """What is no query gets no answer, so that servers do not talk for ever."""
        response = dns.message.make_response(a_query())
        for data in (response.to_wire(), b"", b"\0" * 11):
            self.assertIsNone(self.raw(data))
        self.assertEqual(self.answers.ignored, 3)

    def test_before_anything_is_known(self) -> None:
        """Without a snapshot it is the server that fails."""
        self.answers = Answers(DnsConfig(), lambda host: False)
        self.assertEqual(self.ask(a_query()).rcode(), Rcode.SERVFAIL)
        self.assertEqual(self.count("failed"), 2)


class EdnsTests(AnswersCase):
    def test_opt(self) -> None:
        """A query with OPT has an answer with OPT, which repeats DO; one without has none (RFC 6891 §7)."""
        answer = self.ask(a_query(edns=True, want_dnssec=True))
        self.assertEqual((answer.edns, answer.payload, answer.ednsflags), (0, 1232, 0x8000))
        self.assertEqual(self.ask(a_query()).edns, -1)
        self.assertEqual(self.ask(a_query("example.org", edns=True)).edns, 0)

    def test_version(self) -> None:
        """Another version of EDNS is BADVERS, told with version 0."""
        query = a_query(edns=True)
        query.use_edns(1)
        answer = self.ask(query)
        self.assertEqual((answer.rcode(), answer.edns), (Rcode.BADVERS, 0))

    def test_truncation(self) -> None:
        """What does not fit is empty and truncated, keeps its OPT, and is whole by TCP."""
        for query in (a_query("many.sip.example.com", "SRV"), a_query("many.sip.example.com", "SRV", edns=True)):
            answer = self.ask(query)
            self.assertTrue(answer.flags & Flag.TC)
            self.assertEqual((answer.answer, answer.edns), ([], query.edns))
            whole = dns.message.from_wire(self.answers.over_stream(query.to_wire(), CLIENT[2:]) or b"")
            self.assertEqual((len(self.texts(whole)), whole.flags & Flag.TC), (60, 0))

    def test_size(self) -> None:
        """No answer is longer than the asker takes, nor than we send; what helps along is left out before TC is set."""
        for payload, most in ((512, 512), (700, 700), (4096, 1232), (0, 512)):
            for name, kind in (("many.sip.example.com", "SRV"), ("sip.example.com", "NAPTR")):
                answer = self.raw(a_query(name, kind, edns=True, payload=payload).to_wire())
                assert answer is not None
                self.assertLessEqual(len(answer), most)
        small = self.ask(a_query(kind="NAPTR"))
        large = self.ask(a_query(kind="NAPTR", edns=True))
        self.assertEqual(small.flags & Flag.TC, 0)
        self.assertEqual(self.texts(small), self.texts(large))

    def test_other_options(self) -> None:
        """Cookies are not needed, and queries that have them fill no cache."""
        query = a_query(edns=True, options=[dns.edns.GenericOption(OptionType.COOKIE, b"12345678")])
        self.assertEqual(self.ask(query).options, ())
        self.assertEqual(self.answers._kept, 0)


class SubnetTests(AnswersCase):
    def test_one_view(self) -> None:
        """Where all networks see the same, an answer is for all of them: its scope is 0."""
        self.assertEqual(subnet_of(self.ask(a_query(subnet="192.0.2.0/24"))), ("192.0.2.0", 24, 0))

    def test_views(self) -> None:
        """The view is that of the client's subnet, of both families, for which the answer is only."""
        self.start(SPLIT)
        for subnet, near in (("10.1.2.0/24", True), ("192.0.2.0/24", False), ("10.0.0.0/9", True),
                             ("2001:db8::/56", True), ("2a00::/32", False), ("65.66.67.0/24", False)):
            answer = self.ask(a_query("fra.sip.example.com", subnet=subnet))
            self.assertEqual(answer.rcode(), Rcode.NXDOMAIN if near else Rcode.NOERROR, subnet)
            address, _, bits = subnet.rpartition("/")
            self.assertEqual(subnet_of(answer), (address, int(bits), int(bits)))

    def test_resolver(self) -> None:
        """Without a subnet, or with one of no bits, the view is that of the address the query comes from."""
        self.start(SPLIT)
        for address, near in (("10.1.2.3", True), ("192.0.2.1", False), ("2001:db8::1", True), ("10.1.2.3", True)):
            source = pack_address(address, 53)
            rcode = Rcode.NXDOMAIN if near else Rcode.NOERROR
            for query in (a_query("fra.sip.example.com"), a_query("fra.sip.example.com", subnet="0.0.0.0/0")):
                self.assertEqual(self.ask(query, source).rcode(), rcode, address)
                whole = dns.message.from_wire(self.answers.over_stream(query.to_wire(), source[2:]) or b"")
                self.assertEqual(whole.rcode(), rcode)
            self.assertEqual(subnet_of(self.ask(a_query(subnet="0.0.0.0/0"), source)), ("0.0.0.0", 0, 0))

    def test_link_local(self) -> None:
        """A resolver on the same link, whose address has a scope, is answered, too."""
        self.assertEqual(self.ask(a_query(), pack_address("fe80::1", 53) + b"\0\0\0\2").rcode(), Rcode.NOERROR)


class CacheTests(AnswersCase):
    def test_publish(self) -> None:
        """A new version is answered from at once, whatever was kept of the old one."""
        for version in (1, 2, 3):
            self.answers.publish(a_snapshot(version))
            self.assertEqual(self.ask(a_query(kind="SOA")).answer[0][0].serial, 6 + version)

    def test_what_is_not_whole(self) -> None:
        """A snapshot without a SOA or its default view is not taken, and the one before stays."""
        good = a_snapshot(2)
        without = {key: rrset for key, rrset in good.views["all"].rrsets.items() if key[1] != RdataType.SOA}
        for faulty in (evolve(good, default="other"), evolve(good, views={"all": View("all", without)})):
            self.assertRaises(ValueError, self.answers.publish, faulty)
        self.assertEqual(self.ask(a_query(kind="SOA")).answer[0][0].serial, 7)

    def test_bounded(self) -> None:
        """No more is kept than may be, and nothing of names that do not exist."""
        self.start(SPLIT, max_cached=10)
        for number in range(100):
            self.ask(a_query(subnet=f"192.0.{number}.0/24"))
            self.assertEqual(self.ask(a_query(f"x{number}.sip.example.com")).rcode(), Rcode.NXDOMAIN)
            shown = self.answers._shown
            assert shown is not None
            self.assertLessEqual(sum(map(len, shown.caches.values())), 10)

    def test_nothing_kept(self) -> None:
        """Without a cache the answers are the same."""
        self.start(max_cached=0)
        self.assertEqual(self.texts(self.ask(a_query())), ["192.0.2.10"])


class RateTests(AnswersCase):
    def flood(self, query: Message, count: int, address: bytes = CLIENT) -> list[bytes]:
        """Return the answers to many of the same query at one moment."""
        return [answer for answer, _ in self.answers.datagrams([(query.to_wire(), address)] * count, self.now)]

    def test_limit(self) -> None:
        """Beyond rate and burst every second answer is truncated and the others are not sent, until time has passed."""
        self.start(answers_per_second=10.0, burst_seconds=2.0)
        answers = [dns.message.from_wire(answer) for answer in self.flood(a_query(edns=True), 41)]
        whole = [answer for answer in answers if answer.answer]
        cut = [answer for answer in answers if answer.flags & Flag.TC]
        self.assertEqual((len(whole), len(cut)), (21, 10))
        self.assertTrue(all(answer.edns == 0 and not answer.answer for answer in cut))
        self.assertEqual(self.answers.rates.limited, 20)
        self.now += 1.0
        answers = [dns.message.from_wire(answer) for answer in self.flood(a_query(), 30)]
        self.assertEqual(sum(bool(answer.answer) for answer in answers), 10)

    def test_apart(self) -> None:
        """Other networks, and other kinds of answers to the same one, are not held back by a flood."""
        self.start(answers_per_second=10.0, burst_seconds=1.0)
        self.flood(a_query("example.org"), 1000)
        self.assertEqual(self.ask(a_query()).rcode(), Rcode.NOERROR)
        self.assertEqual(self.ask(a_query("example.org"), pack_address("203.0.113.1", 1)).rcode(), Rcode.REFUSED)

    def test_streams(self) -> None:
        """TCP has no rate: its addresses are true."""
        self.start(answers_per_second=1.0, burst_seconds=1.0)
        for _ in range(20):
            self.assertIsNotNone(self.answers.over_stream(a_query().to_wire(), CLIENT[2:]))

    def test_clock_set_back(self) -> None:
        """A clock that is set back leaves nobody without answers."""
        self.start(answers_per_second=1.0, burst_seconds=1.0, slip=0)
        self.flood(a_query(), 10)
        self.now -= 3600
        self.assertEqual(len(self.flood(a_query(), 1)), 1)


class NoiseTests(AnswersCase):
    def test_mutations(self) -> None:
        """After 10,000 random, cut and changed packets, each answered with a header of its own or not, all is well."""
        self.start(SPLIT, answers_per_second=0.0)
        random = Random(20)
        good = [a_query(subnet="10.1.0.0/16"), a_query("_sip._udp.sip.example.com", "SRV", edns=True),
                a_query("many.sip.example.com", "SRV"), a_query(kind="NAPTR", want_dnssec=True)]
        wires = [query.to_wire() for query in good]
        answered = 0
        for number in range(10_000):
            data = bytearray(random.choice(wires) if number % 10 else random.randbytes(random.randrange(200)))
            for _ in range(random.randrange(1, 5)):
                at = random.randrange(len(data) + 1)
                data[at:at + random.randrange(4)] = random.randbytes(random.randrange(4))
            for answer in (self.raw(bytes(data)), self.answers.over_stream(bytes(data), CLIENT[2:])):
                if answer is not None:
                    answered += 1
                    self.assertEqual((answer[:2], answer[2] & 0x80), (bytes(data[:2]), 0x80))
            answer = self.raw(bytes(data))
            self.assertLessEqual(len(answer or b""), 1232)
        self.assertGreater(answered, 5000)
        for query in good:
            self.ask(query)
