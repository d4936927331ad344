"""The resolver against a DNS client that answers from a table, and once against a real DNS server on loopback."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.names import dns, server
from twisted.names.common import ResolverBase
from twisted.names.error import DNSNameError, DNSServerError
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rollcall.net.config import ResolverConfig
from rollcall.net.resolver import Answer, AnswerCache, Resolver, Unresolvable
from rollcall.sip.headers import parse_via
from rollcall.sip.targets import Preferences, Question, Target
from rollcall.sip.uri import parse_sip_uri

CONFIG = ResolverConfig(hosts_file=None)
ONLY_IPV4 = Preferences(address_kinds=("A",))

Sections = tuple[list[Any], list[Any], list[Any]]


def record(name: str, payload: Any, ttl: int = 300) -> dns.RRHeader:
    """Return a record as the client hands it over."""
    return dns.RRHeader(name.encode(), payload.TYPE, dns.IN, ttl, payload)


def soa(minimum: int) -> dns.RRHeader:
    """Return the SOA of a negative answer."""
    return record("example.com", dns.Record_SOA(minimum=minimum), ttl=900)


class TableClient:
    """Answers queries from a table of deferreds, failures and sections; keeps what was asked."""

    def __init__(self, table: dict[tuple[str, int], Any]) -> None:
        self.table = table
        self.asked: list[tuple[str, int]] = []

    def query(self, query: dns.Query, timeout: Sequence[float]) -> "Deferred[Sections]":
        key = (str(query.name), query.type)
        self.asked.append(key)
        found = self.table.get(key, ([], [], []))
        if isinstance(found, Deferred):
            return found
        if isinstance(found, Exception):
            return fail(Failure(found))
        return succeed(found if isinstance(found, tuple) else ([found], [], []))


class ResolverTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()

    def resolver(self, table: dict[tuple[str, int], Any], config: ResolverConfig = CONFIG) -> Resolver:
        self.client = TableClient(table)
        return Resolver(self.clock, config, ONLY_IPV4, self.client)

    def resolve(self, resolver: Resolver, uri: str) -> "Deferred[list[Target]]":
        return Deferred.fromCoroutine(resolver.resolve(parse_sip_uri(uri)))

    def test_whole_way(self) -> None:
        """NAPTR leads to SRV leads to A, and the records of each kind are understood."""
        resolver = self.resolver(
            {
                ("example.com", dns.NAPTR): record(
                    "example.com", dns.Record_NAPTR(1, 1, b"s", b"SIP+D2T", b"", b"_sip._tcp.example.com")
                ),
                ("_sip._tcp.example.com", dns.SRV): record(
                    "_sip._tcp.example.com", dns.Record_SRV(0, 0, 5070, b"sip.example.com")
                ),
                ("sip.example.com", dns.A): (
                    [
                        record("sip.example.com", dns.Record_CNAME(b"host.example.com")),
                        record("host.example.com", dns.Record_A("192.0.2.4")),
                    ],
                    [],
                    [],
                ),
            }
        )
        found = self.successResultOf(self.resolve(resolver, "sip:example.com"))
        self.assertEqual(found, [Target("TCP", "192.0.2.4", 5070)])

    def test_ipv6_addresses(self) -> None:
        """AAAA records become targets after A records."""
        self.client = TableClient(
            {
                ("example.com", dns.A): record("example.com", dns.Record_A("192.0.2.4")),
                ("example.com", dns.AAAA): record("example.com", dns.Record_AAAA("2001:db8::4")),
            }
        )
        resolver = Resolver(self.clock, CONFIG, dns_client=self.client)
        found = self.successResultOf(self.resolve(resolver, "sip:example.com:5060"))
        self.assertEqual([target.host for target in found], ["192.0.2.4", "2001:db8::4"])

    def test_answers_are_remembered_for_their_ttl(self) -> None:
        """A question is asked again only once its answer has lapsed."""
        resolver = self.resolver({("example.com", dns.A): record("example.com", dns.Record_A("192.0.2.4"), ttl=60)})
        for _ in range(3):
            self.successResultOf(self.resolve(resolver, "sip:example.com:5060"))
        self.assertEqual(len(self.client.asked), 1)
        self.clock.advance(60)
        self.successResultOf(self.resolve(resolver, "sip:example.com:5060"))
        self.assertEqual(len(self.client.asked), 2)

    def test_ttl_is_bounded(self) -> None:
        """No zone makes us remember longer than the configuration says."""
        config = ResolverConfig(hosts_file=None, max_ttl_seconds=100)
        table = {("example.com", dns.A): record("example.com", dns.Record_A("192.0.2.4"), ttl=10**6)}
        resolver = self.resolver(table, config)
        self.successResultOf(self.resolve(resolver, "sip:example.com:5060"))
        self.clock.advance(100)
        self.successResultOf(self.resolve(resolver, "sip:example.com:5060"))
        self.assertEqual(len(self.client.asked), 2)

    def test_no_such_name(self) -> None:
        """NXDOMAIN is an answer: it is final, and remembered as long as the SOA says (RFC 2308)."""
        denial = dns.Message()
        denial.authority = [soa(minimum=20)]
        resolver = self.resolver({("example.com", dns.A): DNSNameError(denial)})
        failure = self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.assertFalse(failure.value.temporary)
        self.assertIn("example.com", str(failure.value))
        self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.assertEqual(len(self.client.asked), 1)
        self.clock.advance(20)
        self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.assertEqual(len(self.client.asked), 2)

    def test_no_records(self) -> None:
        """An answer without records is negative, too."""
        resolver = self.resolver({("example.com", dns.A): ([], [soa(minimum=3600)], [])})
        self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.clock.advance(CONFIG.negative_ttl_seconds - 1)
        self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.assertEqual(len(self.client.asked), 1)

    def test_server_failure_is_temporary(self) -> None:
        """SERVFAIL says nothing about the name: somebody may try later."""
        resolver = self.resolver({("example.com", dns.A): DNSServerError(dns.Message())})
        failure = self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.assertTrue(failure.value.temporary)

    def test_silence(self) -> None:
        """A question that nobody answers ends at the time limit, and counts as temporary."""
        resolver = self.resolver({("example.com", dns.A): Deferred()})
        resolving = self.resolve(resolver, "sip:example.com:5060")
        self.clock.advance(CONFIG.timeout_seconds - 0.1)
        self.assertNoResult(resolving)
        self.clock.advance(0.1)
        failure = self.failureResultOf(resolving, Unresolvable)
        self.assertTrue(failure.value.temporary)

    def test_failing_part_way(self) -> None:
        """When NAPTR gets no answer the search goes on by SRV and addresses."""
        resolver = self.resolver(
            {
                ("example.com", dns.NAPTR): DNSServerError(dns.Message()),
                ("example.com", dns.A): record("example.com", dns.Record_A("192.0.2.4")),
            }
        )
        found = self.successResultOf(self.resolve(resolver, "sip:example.com"))
        self.assertEqual(found, [Target("UDP", "192.0.2.4", 5060)])

    def test_same_question_at_the_same_time(self) -> None:
        """Who asks what is being asked waits for the same query."""
        answer: Deferred[Sections] = Deferred()
        resolver = self.resolver({("example.com", dns.A): answer})
        first = self.resolve(resolver, "sip:example.com:5060")
        second = self.resolve(resolver, "sip:example.com:5061")
        self.assertEqual(len(self.client.asked), 1)
        answer.callback(([record("example.com", dns.Record_A("192.0.2.4"))], [], []))
        self.assertEqual(self.successResultOf(first), [Target("UDP", "192.0.2.4", 5060)])
        self.assertEqual(self.successResultOf(second), [Target("UDP", "192.0.2.4", 5061)])

    def test_one_of_two_gives_up(self) -> None:
        """Somebody who stops waiting does not take the answer from the others."""
        answer: Deferred[Sections] = Deferred()
        resolver = self.resolver({("example.com", dns.A): answer})
        first = self.resolve(resolver, "sip:example.com:5060")
        second = self.resolve(resolver, "sip:example.com:5060")
        first.cancel()
        first.addErrback(lambda _: None)
        answer.callback(([record("example.com", dns.Record_A("192.0.2.4"))], [], []))
        self.assertEqual(self.successResultOf(second), [Target("UDP", "192.0.2.4", 5060)])

    def test_names_that_cannot_be(self) -> None:
        """A name that DNS cannot carry is not asked for."""
        resolver = self.resolver({})
        long_label = "a" * 64
        for host in (f"{long_label}.example.com", ".".join(["abc"] * 80)):
            self.failureResultOf(self.resolve(resolver, f"sip:{host}:5060"), Unresolvable)
        self.assertEqual(self.client.asked, [])

    def test_broken_client(self) -> None:
        """A failure inside the DNS client is logged, and to the caller like no answer."""
        resolver = self.resolver({("example.com", dns.A): RuntimeError("broken")})
        failure = self.failureResultOf(self.resolve(resolver, "sip:example.com:5060"), Unresolvable)
        self.assertTrue(failure.value.temporary)
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_responses(self) -> None:
        """A response whose way back failed is resolved by its Via."""
        resolver = self.resolver({("example.com", dns.A): record("example.com", dns.Record_A("192.0.2.4"))})
        resolving = Deferred.fromCoroutine(resolver.resolve_response(parse_via("SIP/2.0/TCP example.com:5070")))
        self.assertEqual(self.successResultOf(resolving), [Target("TCP", "192.0.2.4", 5070)])


class HostsFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.hosts = Path(self.enterContext(TemporaryDirectory())) / "hosts"
        self.hosts.write_text("192.0.2.7 pbx.example.com pbx # ours\n2001:db8::7 pbx.example.com\n")
        self.client = TableClient({})
        self.resolver = Resolver(self.clock, ResolverConfig(hosts_file=self.hosts), dns_client=self.client)

    def resolve(self, uri: str) -> list[Target]:
        return self.successResultOf(Deferred.fromCoroutine(self.resolver.resolve(parse_sip_uri(uri))))

    def test_hosts_file_is_first(self) -> None:
        """A name in the hosts file is never asked of DNS: not its services, not its addresses."""
        self.assertEqual(
            self.resolve("sip:pbx.example.com"), [Target("UDP", "192.0.2.7", 5060), Target("UDP", "2001:db8::7", 5060)]
        )
        self.assertEqual(self.client.asked, [])

    def test_changes_are_seen(self) -> None:
        """An edited hosts file counts soon."""
        self.resolve("sip:pbx:5060")
        self.hosts.write_text("192.0.2.8 pbx\n")
        self.clock.advance(10)
        self.assertEqual(self.resolve("sip:pbx:5060"), [Target("UDP", "192.0.2.8", 5060)])


class AnswerCacheTests(SynchronousTestCase):
    def test_bounded(self) -> None:
        """The answers longest unused make room for new ones."""
        cache = AnswerCache(2)
        first, second, third = (Question(name, "A") for name in "abc")
        answer = Answer((), 60)
        cache.put(first, answer, 0)
        cache.put(second, answer, 0)
        self.assertIs(cache.get(first, 1), answer)
        cache.put(third, answer, 1)
        self.assertIsNone(cache.get(second, 1))
        self.assertIs(cache.get(first, 1), answer)
        self.assertEqual(len(cache), 2)

    def test_lapsed_answers_go(self) -> None:
        """An answer that lapsed is dropped when somebody asks."""
        cache = AnswerCache(2)
        cache.put(Question("a", "A"), Answer((), 60), 0)
        self.assertIsNone(cache.get(Question("a", "A"), 60))
        self.assertEqual(len(cache), 0)

    def test_no_room(self) -> None:
        """A cache of no size remembers nothing, and an answer without a time to live is not remembered."""
        none, some = AnswerCache(0), AnswerCache(1)
        none.put(Question("a", "A"), Answer((), 60), 0)
        some.put(Question("a", "A"), Answer((), 0), 0)
        self.assertEqual((len(none), len(some)), (0, 0))


class ZoneServer(ResolverBase):
    """A DNS server's side that knows one name."""

    def _lookup(self, name: bytes, cls: int, kind: int, timeout: object) -> "Deferred[Sections]":
        if kind == dns.A and name == b"sip.example.com":
            return succeed(([record("sip.example.com", dns.Record_A("192.0.2.4"))], [], []))
        if kind == dns.SRV and name == b"_sip._udp.example.com":
            payload = dns.Record_SRV(0, 0, 5070, b"sip.example.com")
            return succeed(([record("_sip._udp.example.com", payload)], [], []))
        return fail(Failure(dns.DomainError(name)))


class RealServerTests(TestCase):
    async def test_over_the_wire(self) -> None:
        """Twisted's own client, made as the configuration says, finds a server over loopback."""
        reactor: Any = global_reactor
        factory = server.DNSServerFactory(clients=[ZoneServer()])
        protocol = dns.DNSDatagramProtocol(factory, reactor=reactor)
        port = reactor.listenUDP(0, protocol, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        config = ResolverConfig(servers=("127.0.0.1",), port=port.getHost().port, hosts_file=None)
        resolver = Resolver(reactor, config)
        found = await resolver.resolve(parse_sip_uri("sip:example.com"))
        self.assertEqual(found, [Target("UDP", "192.0.2.4", 5070)])
        with self.assertRaises(Unresolvable):
            await resolver.resolve(parse_sip_uri("sip:nowhere.example.com"))
