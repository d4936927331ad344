"""Snapshots: when there is a new one, what is in it, and what stays when none can be made."""

from pathlib import Path
from socket import inet_aton
from tempfile import TemporaryDirectory
from typing import Any, cast

import dns.name
import dns.rdatatype
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.keeping import Keeping
from registrar.distribution.dns.listing import DnsListed, watch_keeping
from registrar.distribution.dns.serials import Serials
from registrar.distribution.dns.snapshot import Snapshot
from rollcall.cluster.sites import SiteState
from rollcall.ops.api import ApiError, Call, Reply, Routes
from rollcall.ops.metrics import Metrics
from tests.registrar.distribution.dns.sites import NOW, KnownSites, a_config, a_layout, a_state

UDP = dns.name.from_text("_sip._udp.example.com")
APEX = dns.name.from_text("example.com")
ALL = ("fra", "ams", "nyc")


class KeepingTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = self.enterContext(TemporaryDirectory())
        self.clock = Clock()
        self.clock.advance(NOW)
        self.sites = KnownSites(*(a_state(name, 100, 100) for name in ALL))
        self.groups = {"198.51.100.0": "att/US", "203.0.113.0": "kpn/NL"}
        self.published: list[Snapshot] = []
        self.file = Path(folder) / "dns.serial"
        self.serials = Serials(self.file)
        self.keeping = self.keep()
        self.keeping.start()
        self.addCleanup(self.keeping.stop)

    def keep(self) -> Keeping:
        """Return one that has not started."""
        return Keeping(self.clock, a_config(), a_layout(), self.sites, self.group, self.serials, self.publish, 20_000)

    def group(self, host: str) -> str:
        """Return the access group of a host."""
        return self.groups.get(host, "")

    def publish(self, snapshot: Snapshot) -> None:
        """Note a snapshot."""
        self.published.append(snapshot)

    def become(self, *states: SiteState, seconds: float = 0.25) -> list[str]:
        """Let sites become so; return what is logged in the next while."""
        self.sites.become(*states)
        with capturedLogs() as logs:
            self.clock.pump([0.25] * round(seconds / 0.25))
        return [str(formatEvent(event)) for event in logs if event["log_level"].name != "debug"]

    def told(self, view: str = "fra,ams,nyc") -> list[str]:
        """Return the sites in the SRV records of a view, with their TTL."""
        rrset = self.published[-1].views[view].rrsets[UDP, dns.rdatatype.SRV]
        ordered = sorted(rrset, key=lambda record: record.priority)
        return [f"{record.target.labels[0].decode()} {rrset.ttl}" for record in ordered]

    def test_first(self) -> None:
        """At the start a snapshot of all views is published, with the views' names to choose from."""
        (snapshot,) = self.published
        self.assertEqual((snapshot.version, snapshot.serial, snapshot.origins), (1, int(NOW), (APEX,)))
        self.assertEqual(set(snapshot.views), {"fra,ams,nyc", "nyc,fra,ams", "ams|fra,nyc"})
        self.assertEqual((snapshot.default, snapshot.is_split), ("fra,ams,nyc", True))
        views = [snapshot.select(inet_aton(address)) for address in ("198.51.100.0", "203.0.113.0", "192.0.2.0")]
        self.assertEqual(views, ["nyc,fra,ams", "ams|fra,nyc", "fra,ams,nyc"])
        self.assertEqual(self.told(), ["fra 30", "ams 30", "nyc 30"])

    def test_nothing_new(self) -> None:
        """While nothing changes, no snapshot is made and nothing is said, whatever small loads do."""
        self.assertEqual(self.become(a_state("fra", 95, 100), seconds=60), [])
        self.assertEqual(len(self.published), 1)

    def test_death_and_return(self) -> None:
        """A site that dies is out a look later, with a short TTL; its return is gradual, and all of it is logged."""
        self.assertEqual(self.become(a_state("fra")), ["site fra leaves the answers: no node lives there"])
        self.assertEqual(self.told(), ["ams 5", "nyc 5"])
        self.assertEqual(self.become(a_state("fra", 100, 100)), ["site fra is back in the answers"])
        self.assertEqual(sorted(self.told()), ["ams 5", "fra 5", "nyc 5"])
        self.assertEqual(self.become(seconds=70), ["site fra has its whole share of phones again"])
        self.assertEqual(self.told(), ["fra 30", "ams 30", "nyc 30"])
        self.assertEqual([each.version for each in self.published], list(range(1, len(self.published) + 1)))
        serials = [each.serial for each in self.published]
        self.assertEqual(serials, sorted(set(serials)))

    def test_silence(self) -> None:
        """A site of which nothing is heard leaves, and comes back as one that died."""
        self.assertEqual(self.become(a_state("nyc", 100, reachable=False)),
                         ["site nyc leaves the answers: nothing is heard of it"])
        self.assertEqual(self.told("nyc,fra,ams"), ["fra 5", "ams 5"])

    def test_overload(self) -> None:
        """A site without room comes after the next, until there is room again for a while."""
        self.assertEqual(self.become(a_state("fra", 5, 5)),
                         ["site fra comes after others: hardly anything is free there"])
        self.assertEqual(self.told(), ["ams 5", "fra 5", "nyc 5"])
        self.assertEqual(self.become(a_state("fra", 50, 50), seconds=40),
                         ["site fra has its place again"])

    def test_drained(self) -> None:
        """A site whose nodes are all drained comes after the next, and has its place again as soon as they are not."""
        self.assertEqual(self.become(a_state("fra", 0, 0)),
                         ["site fra comes after others: its nodes are drained or not ready"])
        self.assertEqual(self.told(), ["ams 5", "fra 5", "nyc 5"])
        self.assertEqual(self.become(a_state("fra", 100, 100)), ["site fra has its place again"])
        self.assertEqual(self.told(), ["fra 30", "ams 30", "nyc 30"])

    def test_all_gone(self) -> None:
        """When no site seems to live, all are answered, and that is said once."""
        said = self.become(*(a_state(name) for name in ALL), seconds=5)
        self.assertEqual(len([line for line in said if "no site seems to live" in line]), 1)
        self.assertEqual(self.told(), ["fra 5", "ams 5", "nyc 5"])

    def test_start_among_dead(self) -> None:
        """Who starts while a site is away says so; of those that are well nothing is to be said."""
        self.sites.become(a_state("ams"))
        with capturedLogs() as logs:
            keeping = self.keep()
            keeping.start()
        keeping.stop()
        self.assertEqual([formatEvent(each) for each in logs if each["log_level"].name != "debug"],
                         ["site ams leaves the answers: no node lives there"])

    def test_serial_for_others_only(self) -> None:
        """What changes in no zone that secondaries have needs no new serial number."""
        self.groups["192.0.2.0"] = "att/US"
        self.keeping.reload()
        self.assertEqual([each.serial for each in self.published], [int(NOW)] * 2)
        self.assertEqual(self.published[-1].select(inet_aton("192.0.2.0")), "nyc,fra,ams")

    def test_another_worker(self) -> None:
        """When another worker has counted further for the same content, its number is published."""
        other = Serials(self.file)
        for content in ("another", repr((a_config(), a_layout(), self.keeping.told["fra,ams,nyc"]))):
            serial = other.number(content, NOW)
        self.become()
        self.assertEqual([each.serial for each in self.published], [int(NOW), serial])

    def test_failure(self) -> None:
        """When no snapshot can be made the last one stays; that is said once, and the next look tries again."""
        self.patch(self.sites, "states", lambda: 1 / 0)
        said = self.become(seconds=10)
        self.assertEqual(len(said), 1)
        self.assertIn("stay as they were", said[0])
        self.flushLoggedErrors(ZeroDivisionError)
        self.assertEqual((self.keeping.failures, len(self.published)), (40, 1))
        self.patch(self.sites, "states", lambda: {"fra": a_state("fra"), "ams": a_state("ams", 100)})
        self.become()
        self.assertEqual(self.told(), ["ams 5"])

    def test_stopped(self) -> None:
        """Who has been stopped looks no more."""
        self.keeping.stop()
        self.become(a_state("fra"), seconds=2)
        self.assertEqual(len(self.published), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_listed(self) -> None:
        """The admin site says how sites stand, what is told to whom, and what an address would be told."""
        self.become(a_state("fra"), a_state("ams", 50, 50))
        routes = Routes()
        DnsListed(self.keeping, self.sites, self.group, self.clock.seconds).mount(routes)
        answer, _ = routes.find("GET", ("v1", "dns"))
        reply: Any = cast(Reply, answer(Call({}, {"address": "203.0.113.0"}))).value
        self.assertEqual(reply["zones"], ["example.com"])
        self.assertEqual([(each["site"], each["fitness"], each["weight"], each["nodes"]) for each in reply["sites"]],
                         [("fra", "empty", 0, 0), ("ams", "well", 200, 2), ("nyc", "well", 400, 2)])
        self.assertEqual(reply["views"][0], {
            "view": "fra,ams,nyc", "groups": ["telekom/DE", "*/*"], "ttl_seconds": 5, "answers": [
                {"site": "ams", "priority": 10, "weight": 200}, {"site": "nyc", "priority": 20, "weight": 400}]})
        self.assertEqual(reply["asked"], {"address": "203.0.113.0", "group": "kpn/NL", "view": "ams|fra,nyc"})
        refused = self.assertRaises(ApiError, answer, Call({}, {"address": "x"}))
        self.assertEqual(refused.status, 400)

    def test_metrics(self) -> None:
        """Prometheus sees each site's weight and fitness, and how often answers changed."""
        metrics = Metrics(process=False)
        watch_keeping(metrics, self.keeping)
        self.become(a_state("fra"))
        text = metrics.render().decode()
        for line in ('rollcall_dns_site_weight{site="ams"} 400.0', 'rollcall_dns_snapshots_total 2.0',
                     'rollcall_dns_site_fitness{fitness="empty",site="fra"} 1.0',
                     "rollcall_dns_snapshot_failures_total 0.0"):
            self.assertIn(line, text)
