"""All other sites together: who of their nodes is taken for one, and what is said of them."""

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from rollcall.cluster.nodes import Node
from rollcall.net.flow import ConnectFailed
from tests.registrar.nodes import EPOCH
from tests.registrar.sites.two_sites import TwoSitesCase


class LinksTests(TwoSitesCase):
    """As n1 sees the nodes of ams."""

    def setUp(self) -> None:
        super().setUp()
        self.links = self.nodes.links["n1"]
        self.there = self.links.states()["ams"].nodes

    def say(self, *nodes: Node) -> list[str]:
        """Have ams say that these live there; return the problems that are logged."""
        self.nodes.links["n2"].answering._nodes = self.nodes.links["n3"].answering._nodes = lambda: nodes
        with capturedLogs() as logged:
            self.nodes.wait(1.5)
        return [event["why"] for event in logged if "is refused: {why}" in event["log_format"]]

    def known(self) -> list[str]:
        """Return whom n1 knows of ams."""
        return [node.node for node in self.links.states()["ams"].nodes]

    def test_states(self) -> None:
        """All sites stand in the order of the configuration, our own with its leases."""
        states = self.links.states()
        self.assertEqual(list(states), ["fra", "ams"])
        self.assertEqual([node.node for node in states["fra"].nodes], ["n1"])
        self.assertEqual((states["fra"].reachable, states["fra"].heard_at), (True, self.nodes.clock.seconds()))
        self.assertEqual([(node.node, node.site) for node in states["ams"].nodes], [("n2", "ams"), ("n3", "ams")])

    def test_name_of_ours(self) -> None:
        """A node that has the name of one of ours is left out; that is logged once, and when it is over."""
        twin = evolve(self.there[0], node="n1")
        (why,) = self.say(twin, *self.there)
        self.assertIn("our own site fra has a node of that name", why)
        self.assertEqual(self.known(), ["n2", "n3"])
        self.assertEqual(self.say(twin, *self.there), [])
        self.assertEqual(self.say(*self.there), [])
        self.assertEqual(len(self.say(twin)), 1)
        self.assertEqual(self.known(), [])

    def test_other_site(self) -> None:
        """A node whose lease names another site than the one that tells of it is left out."""
        (why,) = self.say(evolve(self.there[0], site="lon"), self.there[1])
        self.assertIn("stands in site lon", why)
        self.assertEqual(self.known(), ["n3"])

    def test_flow(self) -> None:
        """A node of the other site is reached as one of that site; one that is nowhere is not."""
        flow = Deferred.fromCoroutine(self.links.flow("n2", EPOCH, *self.nodes.address("n2")))
        self.assertIs(self.successResultOf(flow), self.nodes.between("n1", "n2"))
        self.nodes.kill("n2")
        flow = Deferred.fromCoroutine(self.links.flow("n2", EPOCH, *self.nodes.address("n2")))
        self.failureResultOf(flow, ConnectFailed)

    def test_connection_lost(self) -> None:
        """The end of a connection with a node of a site has it asked anew at once; of others nobody cares."""
        asked = self.links.links[0].questions["answered"]
        for site in ("ams", "lon"):
            self.links._lost(site)
        self.nodes.wait(0.5)
        self.assertEqual(self.links.links[0].questions["answered"], asked + 1)
