"""Tests of which media node a registrar gives a call."""

from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.media.choosing import Choosing, Place, host_of
from rollcall.media.selection import NoNode, Reason, Wanted
from rollcall.media.snapshot import MediaNode, NodeState, Snapshot
from tests.registrar.media.scripted import a_node


class ChoosingTests(SynchronousTestCase):
    """m1 is preferred to m2, which has more calls."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.choosing = Choosing(self.clock.seconds, 5.0, lambda: 0.0)
        self.follow(a_node("m1"), a_node("m2", sessions=500))

    def follow(self, *nodes: MediaNode) -> None:
        """Have these nodes published."""
        self.choosing.followed(Snapshot(nodes={node.id: node for node in nodes}))

    def chosen(self) -> str | Reason:
        """Return the id of the node that the next call gets, or why it gets none."""
        choice = self.choosing.choose(Wanted())
        return choice.reason if isinstance(choice, NoNode) else choice.id

    def test_placed(self) -> None:
        """A choice counts at its node before the balancer has seen the call."""
        self.assertEqual((self.chosen(), self.choosing.placements.count("m1")), ("m1", 1))

    def test_left_out(self) -> None:
        """A node that has failed gets no call for a while, whatever is published meanwhile."""
        self.choosing.failed("m1")
        self.follow(a_node("m1"), a_node("m2", sessions=500))
        self.assertEqual((self.chosen(), self.choosing.serves("m1")), ("m2", False))
        self.clock.advance(5)
        self.assertEqual((self.chosen(), self.choosing.serves("m1")), ("m1", True))

    def test_nobody_else(self) -> None:
        """Who has failed gets calls all the same when nobody else can have them."""
        for name in ("m1", "m2"):
            self.choosing.failed(name)
        self.assertEqual(self.chosen(), "m1")

    def test_none(self) -> None:
        """Without a node there is a reason."""
        self.follow(a_node("m1", state=NodeState.DOWN))
        with capturedLogs() as events:
            self.assertEqual((self.chosen(), self.choosing.serves("m1")), (Reason.DOWN, False))
            self.choosing.choose(Wanted(group="gold"))
        self.assertEqual([formatEvent(event) for event in events], [
            "no media node of group general can have a call: all are down",
            "no media node of group gold can have a call: none is in it"])

    def test_unpublished(self) -> None:
        """A node that is not published any more may still be asked about its calls."""
        self.assertTrue(self.choosing.serves("m9"))

    def test_nodes_that_speak_sip(self) -> None:
        """Requests from B2BUAs are known by their addresses; rtpengines speak no SIP, and names are not looked up."""
        self.follow(a_node("m1", address="192.0.2.50:22222"), a_node("f1", "freeswitch", address="192.0.2.60:5060"),
                    a_node("f2", "other", address="[2001:db8::60]:5060"), a_node("f3", "other", address="f3.test:5060"))
        hosts = ("192.0.2.50", "192.0.2.60", "2001:db8::60", "f3.test", "")
        self.assertEqual([self.choosing.is_node(host) for host in hosts], [False, True, True, False, False])
        self.assertEqual(host_of("[2001:DB8:0::60]:5060"), "2001:db8::60")


class PlaceTests(ChoosingTests):
    """One call goes from node to node until one takes it."""

    def test_in_turn(self) -> None:
        """Each node is tried once."""
        place, tried = Place(self.choosing, Wanted()), []
        while (node := place.node) is not None:
            tried.append(node.id)
            place.failed(node)
        self.assertEqual(tried, ["m1", "m2"])

    def test_two_who_fail_together(self) -> None:
        """When two offers of one call have failed at one node, the call goes to one other node only."""
        place = Place(self.choosing, Wanted())
        node = place.node
        assert node is not None
        place.failed(node)
        second = place.node
        place.failed(node)
        self.assertIs(place.node, second)

    def test_only_rtpengines(self) -> None:
        """What needs a relay goes to no B2BUA."""
        self.follow(a_node("f1", "freeswitch"), a_node("m2", sessions=999))
        self.assertIsNone(Place(self.choosing, Wanted()).node)
