"""What operators see of sites: `/v1/sites`, `rollcall sites`, and metrics."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.sites.links import SiteLinks
from registrar.sites.listing import SitesListed, watch_sites
from rollcall.cluster.sites import OnePlace
from rollcall.ops.metrics import Metrics
from tests.registrar.command.test_nodes import AskingCase
from tests.registrar.sites.two_sites import TwoSites

TWO = '[cluster]\nsite = "fra"\n[location]\nkind = "redis"\n[[site]]\nname = "fra"\n[[site]]\nname = "ams"\n'


class SitesTests(AskingCase):
    """Asked of n1, which knows all of ams."""

    def mount(self) -> None:
        """Have two sites that know each other."""
        self.nodes = TwoSites()
        self.nodes.start()
        self.links: SiteLinks = self.nodes.links["n1"]
        for each in self.nodes.links.values():
            self.addCleanup(each.stop)
        SitesListed(self.links, self.links, "fra", self.nodes.clock.seconds).mount(self.admin.routes)

    def several(self) -> None:
        """Have the configuration say that there are two."""
        self.config.write_text(self.config.read_text() + TWO)

    async def test_table(self) -> None:
        """Each site stands there with its state and its nodes."""
        self.several()
        lines = (await self.ask("sites")).stdout.splitlines()
        self.assertEqual(lines[1].split()[:3], ["fra", "this", "one"])
        self.assertEqual(lines[2].split()[:2], ["ams", "answers"])
        self.assertIn("n2, n3", lines[2])
        self.assertIn("0 found, 0 nobody", lines[3])

    async def test_away(self) -> None:
        """A site that is away is said to be."""
        self.several()
        for name in ("n2", "n3"):
            self.nodes.kill(name)
        self.nodes.wait(2)
        self.assertIn("not reachable", (await self.ask("sites")).stdout)

    async def test_json(self) -> None:
        """Programs get what the admin site says."""
        self.several()
        answer = await self.json("sites")
        self.assertEqual((answer["site"], [site["site"] for site in answer["sites"]]), ("fra", ["fra", "ams"]))
        self.assertEqual([node["node"] for node in answer["sites"][1]["nodes"]], ["n2", "n3"])

    async def test_one_site(self) -> None:
        """With one site only that is said."""
        result = await self.ask("sites")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("one site only", result.stderr)


class OnePlaceTests(AskingCase):
    """A registrar that has no other site."""

    def mount(self) -> None:
        """Have one place."""
        SitesListed(OnePlace(), None, "", lambda: 0.0).mount(self.admin.routes)

    async def test_nothing(self) -> None:
        """It answers with none."""
        self.config.write_text(self.config.read_text() + '[cluster]\nsite = "fra"\n[[site]]\nname = "fra"\n')
        answer = await self.json("sites")
        self.assertEqual(answer, {"site": None, "sites": [], "lookups": {}, "answers": {}})


class MetricsTests(SynchronousTestCase):
    """What Prometheus reads."""

    def test_metrics(self) -> None:
        """Sites, questions and their outcomes are counted, by the sites that are configured."""
        nodes, metrics = TwoSites(), Metrics(process=False)
        nodes.start()
        links = nodes.links["n1"]
        watch_sites(metrics, links)
        looking = Deferred.fromCoroutine(links.lookup("sip:carol@example.com"))
        nodes.settle()
        self.assertIsNone(self.successResultOf(looking))
        text = metrics.render().decode()
        for line in ('rollcall_site_up{site="ams"} 1.0', 'rollcall_site_nodes{site="ams"} 2.0',
                     'rollcall_site_lookups_total{outcome="nobody"} 1.0',
                     'rollcall_site_questions_total{outcome="silent",site="ams"} 0.0'):
            self.assertIn(line, text)
        for each in nodes.links.values():
            each.stop()
