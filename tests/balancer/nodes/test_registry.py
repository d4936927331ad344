"""All nodes that a balancer knows, and what becomes of them."""

from attrs import evolve
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.config import NodeConfig
from balancer.nodes.registry import Happening, Nodes, NotAccepted
from balancer.nodes.statistics import Load
from rollcall.media.reports import Counts
from rollcall.media.snapshot import MediaNode, NodeState, is_another_life
from tests.balancer.nodes.examples import FS, LIMITS, M1, M2, a_load

JOINED = NodeConfig(id="m9", address="192.0.2.9:22222", capture_id=9)


class NodesCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.nodes = Nodes([M1, M2, FS], LIMITS)
        self.happened: list[Happening] = []
        self.nodes.on_change.append(self.happened.append)

    def kinds(self) -> list[tuple[str, str, NodeState]]:
        """Return what has happened since the last time."""
        told = [(each.kind, each.node_id, each.state) for each in self.happened]
        self.happened.clear()
        return told

    def answer(self, name: str, now: float, load: Load | None = None, is_full: bool = False) -> MediaNode:
        self.nodes.answered(name, load, now - 0.001, now, is_full)
        return self.nodes.nodes(now)[name]

    def lose(self, name: str, now: float, number: int = 3) -> MediaNode:
        for _ in range(number):
            self.nodes.missed(name, "silence", False, now)
        return self.nodes.nodes(now)[name]


class StateTests(NodesCase):
    def test_at_the_beginning(self) -> None:
        """Nodes are known before they were asked, as suspect; all are settled once each was asked."""
        self.assertEqual({node.state for node in self.nodes.nodes(0.0).values()}, {NodeState.SUSPECT})
        self.answer("m1", 1.0, a_load())
        self.lose("m2", 1.0, 1)
        self.assertFalse(self.nodes.is_settled)
        self.answer("fs", 1.0)
        self.assertTrue(self.nodes.is_settled)
        self.nodes.announce(JOINED, 15.0, 1.0)
        self.assertTrue(self.nodes.is_settled)

    def test_what_registrars_are_told(self) -> None:
        """A node that answers is up, with its calls at the moment when it was asked."""
        node = self.answer("m1", 200.0, a_load(sessions=7))
        self.assertEqual(node, MediaNode(
            id="m1", address="192.0.2.1:22222", site="DE", capacity=100, state=NodeState.UP, sessions=7,
            polled_at=199.999, started_at=100.0))
        self.assertEqual(self.kinds(), [("state", "m1", NodeState.UP)])

    def test_death_is_told_once(self) -> None:
        """Each new state is told once, death among them; the last figures stay."""
        self.answer("m1", 1.0, a_load(sessions=7))
        self.kinds()
        node = self.lose("m1", 2.0, 9)
        self.assertEqual((node.state, node.sessions, node.polled_at), (NodeState.DOWN, 7, 0.999))
        self.assertEqual(self.kinds(), [("state", "m1", NodeState.SUSPECT), ("state", "m1", NodeState.DOWN)])

    def test_restarted(self) -> None:
        """A process that has begun anew between two answers is told, and registrars see another life of it."""
        before = self.answer("m1", 200.0, a_load(uptime=100.0))
        self.kinds()
        after = self.answer("m1", 201.0, a_load(uptime=0.0))
        self.assertEqual(self.kinds(), [("restarted", "m1", NodeState.SUSPECT), ("state", "m1", NodeState.SUSPECT)])
        self.assertTrue(is_another_life(before, after))
        self.assertFalse(is_another_life(after, self.answer("m1", 202.0, a_load(uptime=1.0))))

    def test_restarted_again_and_again(self) -> None:
        """Lives that last a second only are told apart, too."""
        node = self.answer("m1", 200.0, a_load(uptime=1.0))
        for now in (201.0, 202.0, 203.0):
            before, node = node, self.answer("m1", now, a_load(uptime=0.5 - (now - 200) / 10))
            self.assertTrue(is_another_life(before, node))

    def test_a_clock_that_is_set(self) -> None:
        """The balancer's clock may be set: a life that goes on is the same."""
        before = self.answer("m1", 200.0, a_load(uptime=100.0))
        self.assertFalse(is_another_life(before, self.answer("m1", 5000.0, a_load(uptime=101.0))))

    def test_full(self) -> None:
        """A node that says that it has no room is full, not dead, whatever its figures are."""
        node = self.answer("fs", 1.0, is_full=True)
        self.assertEqual((node.state, node.sessions), (NodeState.UP, node.capacity))
        node = self.answer("fs", 2.0)
        self.assertEqual(node.sessions, 0)

    def test_ports_bound_the_capacity(self) -> None:
        """A node has no more room than it has ports, whatever its configured capacity is."""
        self.assertEqual(self.answer("m1", 1.0, a_load(sessions=7, room=3)).capacity, 10)
        self.assertEqual(self.answer("m1", 2.0, a_load(sessions=7, room=3000)).capacity, 100)

    def test_unknown_nodes(self) -> None:
        """What is heard of a node that has left meanwhile changes nothing."""
        self.nodes.answered("m7", a_load(), 1.0, 1.0)
        self.nodes.missed("m7", "silence", False, 1.0)
        self.assertEqual(self.kinds(), [])


class LoadTests(NodesCase):
    def test_counts_of_registrars(self) -> None:
        """A node that does not tell its load has as many calls as registrars say, for as long as they say so."""
        self.answer("fs", 10.0)
        self.nodes.counted(Counts(at=0.0, registrar="r1", calls={"fs": 3}), 10.0)
        node = self.nodes.nodes(11.0)["fs"]
        self.assertEqual((node.sessions, node.polled_at), (3, 10.0))
        self.assertEqual(self.nodes.nodes(16.0)["fs"].sessions, 0)

    def test_an_rtpengine_without_figures(self) -> None:
        """So it is with an rtpengine whose statistics cannot be had; a dead one keeps what it said last."""
        self.answer("m1", 10.0, a_load(sessions=7))
        for now in (11.0, 13.0, 16.0):
            self.nodes.counted(Counts(at=0.0, registrar="r1", calls={"m1": 3}), now)
            node = self.answer("m1", now)
        self.assertEqual(node.sessions, 3)
        self.assertEqual(self.lose("m1", 17.0).sessions, 7)

    def test_reports_of_the_node(self) -> None:
        """What a node reports by itself counts before what registrars say, until it is old; no old word undoes it."""
        self.answer("fs", 10.0)
        self.nodes.counted(Counts(at=0.0, registrar="r1", calls={"fs": 3}), 13.0)
        self.nodes.reported("fs", Load(sessions=8), 12.0, 12.5)
        self.nodes.reported("fs", Load(sessions=99), 11.0, 12.5)
        node = self.nodes.nodes(13.0)["fs"]
        self.assertEqual((node.sessions, node.polled_at), (8, 12.0))
        self.assertEqual(self.nodes.nodes(17.5)["fs"].sessions, 3)
        self.assertRaises(LookupError, self.nodes.reported, "m7", Load(sessions=1), 1.0, 1.0)

    def test_a_report_of_another_life(self) -> None:
        """A B2BUA that reports how long it has run is known to have begun anew."""
        self.answer("fs", 10.0)
        self.nodes.reported("fs", Load(sessions=8, uptime_seconds=500.0), 10.0, 10.0)
        self.kinds()
        self.nodes.reported("fs", Load(sessions=0, uptime_seconds=2.0), 13.0, 13.0)
        self.assertEqual(self.kinds()[0], ("restarted", "fs", NodeState.SUSPECT))


class DrainTests(NodesCase):
    def drained_after(self, name: str, loads: list[tuple[float, Load | None]]) -> list[NodeState]:
        self.answer(name, 0.0, loads[0][1])
        self.nodes.drain(name, True, 0.0)
        return [self.answer(name, now, load).state for now, load in loads]

    def test_empty_for_a_while(self) -> None:
        """A draining node is drained only when it has had neither calls nor packets for five seconds on end."""
        states = self.drained_after("m1", [
            (0.0, a_load(1, 50.0)), (1.0, a_load(0, 50.0)), (2.0, a_load(0, 0.0)), (6.0, a_load(1, 0.0)),
            (7.0, a_load(0, 0.0)), (11.9, a_load(0, 0.0)), (12.0, a_load(0, 0.0))])
        self.assertEqual(states, [NodeState.DRAINING] * 6 + [NodeState.DRAINED])

    def test_idle_before(self) -> None:
        """A node that was idle for long is drained no sooner: a call may be on its way when it is told."""
        for now in range(20):
            self.answer("m1", float(now), a_load())
        self.nodes.drain("m1", True, 20.0)
        self.nodes.drain("m1", True, 23.0)
        states = [self.answer("m1", now, a_load()).state for now in (20.0, 24.9, 25.0)]
        self.assertEqual(states, [NodeState.DRAINING, NodeState.DRAINING, NodeState.DRAINED])

    def test_silence_is_not_emptiness(self) -> None:
        """While it owes answers nobody knows that it is empty, and its time begins anew; a dead one is down."""
        self.drained_after("m1", [(0.0, a_load())])
        self.assertIs(self.lose("m1", 4.0, 1).state, NodeState.DRAINING)
        self.assertIs(self.answer("m1", 6.0, a_load()).state, NodeState.DRAINING)
        self.assertIs(self.answer("m1", 11.0, a_load()).state, NodeState.DRAINED)
        self.assertIs(self.lose("m1", 12.0).state, NodeState.DOWN)

    def test_by_counts_of_registrars(self) -> None:
        """A node without figures is drained when registrars have no calls there; when nobody counts, it never is."""
        states = self.drained_after("fs", [(0.0, None), (10.0, None)])
        self.assertEqual(states, [NodeState.DRAINING] * 2)
        for now in (11.0, 14.0, 16.0):
            self.nodes.counted(Counts(at=0.0, registrar="r1", calls={}), now)
            node = self.answer("fs", now)
        self.assertIs(node.state, NodeState.DRAINED)
        self.nodes.counted(Counts(at=0.0, registrar="r1", calls={"fs": 1}), 17.0)
        self.assertIs(self.answer("fs", 17.0).state, NodeState.DRAINING)

    def test_undoing(self) -> None:
        """A node that drains no longer is up again; every step is told."""
        self.answer("m1", 0.0, a_load())
        self.kinds()
        self.nodes.drain("m1", True, 1.0)
        self.nodes.drain("m1", False, 2.0)
        self.assertEqual(self.kinds(), [("state", "m1", NodeState.DRAINING), ("state", "m1", NodeState.UP)])
        self.assertRaises(LookupError, self.nodes.drain, "m7", True, 1.0)

    def test_configured(self) -> None:
        """A node that is configured to drain does, until an operator says otherwise, and when he takes that back."""
        nodes = Nodes([evolve(M1, draining=True)], LIMITS)
        nodes.answered("m1", a_load(1), 0.0, 0.0)
        for said, state in ((None, NodeState.DRAINING), (False, NodeState.UP), (None, NodeState.DRAINING)):
            nodes.drain("m1", said, 1.0)
            self.assertIs(nodes.nodes(1.0)["m1"].state, state)


class AnnouncementTests(NodesCase):
    def test_joining(self) -> None:
        """A node that announces itself is told, known, and up with its first answer."""
        self.nodes.announce(JOINED, 15.0, 0.0)
        self.assertEqual(self.kinds(), [("joined", "m9", NodeState.SUSPECT)])
        self.assertIs(self.answer("m9", 1.0, a_load()).state, NodeState.UP)
        self.assertTrue(self.nodes.shown(1.0)[-1]["is_announced"])

    def test_a_lease_that_had_ended_before(self) -> None:
        """Of one whose lease had ended before it was asked it is told that, and not that it was not asked."""
        self.nodes.announce(JOINED, 15.0, 16.0)
        self.assertEqual(self.nodes.shown(16.0)[-1]["state"], "draining")
        self.assertEqual(self.nodes.shown(16.0)[-1]["why"], "it has not announced itself again")
        self.lose("m9", 17.0)
        self.assertEqual(self.nodes.shown(17.0)[-1]["why"], "silence")

    def test_a_lease_that_ends(self) -> None:
        """A node that does not announce itself again gets no new calls; it is up again when it does."""
        self.nodes.announce(JOINED, 15.0, 0.0)
        self.assertIs(self.answer("m9", 14.0, a_load(1)).state, NodeState.UP)
        self.assertIs(self.answer("m9", 15.0, a_load(1)).state, NodeState.DRAINING)
        self.nodes.announce(JOINED, 31.0, 16.0)
        self.assertIs(self.nodes.nodes(16.0)["m9"].state, NodeState.UP)

    def test_gone(self) -> None:
        """One that is silent as well is down, and forgotten an age later; one that answers never is."""
        self.nodes.announce(JOINED, 15.0, 0.0)
        self.answer("m9", 1.0, a_load())
        self.assertIs(self.lose("m9", 16.0).state, NodeState.DOWN)
        self.nodes.forget_lapsed(74.9)
        self.assertIn("m9", self.nodes.nodes(74.9))
        self.kinds()
        self.nodes.forget_lapsed(75.0)
        self.assertEqual(self.kinds(), [("gone", "m9", NodeState.DOWN)])
        self.assertNotIn("m9", self.nodes.nodes(75.0))
        self.nodes.announce(JOINED, 90.0, 80.0)
        self.answer("m9", 81.0, a_load(1))
        self.nodes.forget_lapsed(10_000.0)
        self.assertIn("m9", self.nodes.nodes(75.0))

    def test_changing(self) -> None:
        """A node may announce itself with other facts; its address is known at once."""
        self.nodes.announce(JOINED, 15.0, 0.0)
        self.assertIsNone(self.nodes.node_of(None, "", "198.18.0.1"))
        self.nodes.announce(evolve(JOINED, weight=5, media_hosts=("198.18.0.0/15",)), 15.0, 1.0)
        self.assertEqual(self.nodes.nodes(1.0)["m9"].weight, 5)
        self.assertEqual(self.nodes.node_of(None, "", "198.18.0.1"), "m9")

    def test_what_the_log_says(self) -> None:
        """Of new facts those are told that differ, and of a state what it means for the node."""
        self.nodes.announce(JOINED, 15.0, 0.0)
        self.answer("m9", 1.0, a_load())
        with capturedLogs() as events:
            self.nodes.announce(evolve(JOINED, weight=5, groups=("gold",)), 15.0, 1.0)
            self.lose("m9", 2.0)
        told = [formatEvent(event) for event in events]
        self.assertEqual(told[0], "media node m9 says of itself now: weight = 5, groups = ('gold',)")
        self.assertEqual(told[-1], "media node m9 is down: silence; it gets no calls")

    def test_leaving(self) -> None:
        """A node that says that it leaves is gone at once."""
        self.nodes.announce(JOINED, 15.0, 0.0)
        self.nodes.withdraw("m9", 1.0)
        self.assertEqual(self.kinds()[-1][:2], ("gone", "m9"))
        self.assertRaises(LookupError, self.nodes.withdraw, "m9", 2.0)
        self.assertRaises(NotAccepted, self.nodes.withdraw, "m1", 2.0)

    def test_refused(self) -> None:
        """Nobody takes a configured node's id, another's address or capture id, or more places than there are."""
        for config, why in (
            (evolve(JOINED, id="m1"), "this id is in the configuration"),
            (evolve(JOINED, address=M1.address), "node m1 has this address"),
            (evolve(JOINED, capture_id=1), "node m1 has this capture_id"),
        ):
            with self.assertRaisesRegex(NotAccepted, why):
                self.nodes.announce(config, 15.0, 0.0)
        for number in (10, 11):
            self.nodes.announce(evolve(JOINED, id=f"m{number}", address=f"192.0.2.{number}:1", capture_id=0), 15.0, 0.0)
        self.assertRaises(NotAccepted, self.nodes.announce, JOINED, 15.0, 0.0)


class NodeOfTests(NodesCase):
    def test_a_changing_world(self) -> None:
        """Whose a report is changes with the nodes that join and leave."""
        self.assertIsNone(self.nodes.node_of(9, "m9", "192.0.2.9"))
        self.nodes.announce(JOINED, 15.0, 0.0)
        for bearing in ((9, "", ""), (None, "m9", ""), (0, "", "192.0.2.9")):
            self.assertEqual(self.nodes.node_of(*bearing), "m9")
        self.nodes.withdraw("m9", 1.0)
        self.assertIsNone(self.nodes.node_of(9, "m9", "192.0.2.9"))
