"""A node joins two that have all phones: a third of them move to it, at a pace, and no call is lost."""

from collections.abc import Sequence
from time import monotonic, sleep

import pytest

from tests.cluster.case import ClusterCase, spread
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import NOT_PLACED, Call, CallState
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.test_drain import within
from tests.interop.phone import Phone, Silence
from tools.laboratory.node import Node

REGISTRATIONS_PER_SECOND = 300.0
CALLS_PER_SECOND = 20.0
RENEW_SECONDS = 0.5
SETTLE_SECONDS = 1.5
AGAIN_SECONDS = 2.0
"""Those that are there when the third one joins have been there longer."""
DOUBLES = 3
"""Users whose phones have two connections to the first node."""
TOLERANCE = 0.1
URN = "urn:uuid:00000000-0000-4000-8000-{:012x}"


class DirectedFleet(Fleet):
    """Phones that somebody spreads by the weights of the nodes, as DNS, LVS and HAProxy do."""

    weights: Sequence[int] = ()

    def _next_face(self, phone: FleetPhone) -> int:
        return self._chance.choices(range(len(self.faces)), self.weights)[0]


class RebalanceCase(ClusterCase):
    """Two registrars with phones, and one that comes later.

    Phones that have just set up a call are left where they are, so that only some `talkers` of them do that.
    """

    phones = 0
    pace = 0.0
    held = talkers = 0
    hold_seconds = 0.0
    patience_seconds = 60.0

    def setUp(self) -> None:
        self.others, self.late = self.lab.registrars[:2], self.lab.registrars[2]
        self.late.stop()
        self.weights: set[tuple[int, ...]] = set()

    def check_moves(self) -> None:
        """Check that the third node gets its share, those with two connections giving one away first."""
        fleet = self.directed_fleet()
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        doubles = [self.a_double(index) for index in range(DOUBLES)]
        in_calls = fleet.phones[-3 * self.held:]
        held = fleet.call_at_random(self.held, 2 * CALLS_PER_SECOND, in_calls, in_calls, hold_seconds=None)
        fleet.wait_answered(held)
        sleep(AGAIN_SECONDS + self.hold_seconds)
        before = self.loads(self.others[0])
        self.late.begin()
        self.late.wait_ready()
        joined_at, started = monotonic(), fleet.loop.now()
        talkers = fleet.phones[:self.talkers]
        number = round(CALLS_PER_SECOND * (SETTLE_SECONDS + self.phones / 6 / self.pace))
        calls = fleet.call_at_random(number, CALLS_PER_SECOND, talkers, talkers, hold_seconds=1.0)
        fleet.wait(lambda: self.is_balanced(fleet), "balance", self.patience_seconds)
        took = monotonic() - joined_at
        fleet.wait_registered(fleet.phones)
        fleet.wait_calls(calls)
        fleet.hang_up(held)
        fleet.wait_calls(held)
        self.figure(f"connections before: {before}; {took:.1f} s after the third was ready (of which it waits "
                    f"{SETTLE_SECONDS:g} s): {self.loads(self.others[0])}; weights meanwhile: {sorted(self.weights)}")
        self.check_doubles(doubles)
        self.check_pace(fleet, started)
        self.check_calls([*calls, *held])
        for node in self.lab.registrars:
            self.check_gone_on(fleet, node)

    # --- what is looked at

    def directed_fleet(self) -> DirectedFleet:
        """Return phones that begin at the first two nodes."""
        made = DirectedFleet(self.lab.tcp, self.lab.users[:self.phones], self.lab.domain,
                             Behaviour(refused_seconds=0.05))
        made.weights = (1, 1, 0)
        made.start()
        self.addCleanup(made.stop)
        return made

    def loads(self, node: Node) -> dict[str, int]:
        """Return how many connections each node has, as one of them knows it."""
        return {each["node"]: each["connections"] for each in node.get("/v1/nodes")["nodes"]}

    def is_balanced(self, fleet: DirectedFleet) -> bool:
        """Whether no node has more than its share any longer, and none is about to close some.

        What is heard of weights here the fleet goes by from then on.
        """
        nodes = {each["node"]: each for each in self.late.get("/v1/nodes")["nodes"]}
        fleet.weights = [nodes[node.name]["weight"] for node in self.lab.registrars]
        self.weights.add(tuple(fleet.weights))
        loads = {name: node["connections"] for name, node in nodes.items()}
        most = (1 + TOLERANCE) * sum(loads.values()) / len(loads)
        moving = sum(node.metric("rollcall_rebalance_surplus") for node in self.lab.registrars)
        return len(loads) == 3 and max(loads.values()) <= most and not moving

    def a_double(self, index: int) -> tuple[Phone, Phone]:
        """Return a phone that has registered over two connections (RFC 5626)."""
        user = self.lab.users[self.phones + index]
        flows = [Phone("TCP", self.others[0].tcp, user.username, self.lab.domain, user.password) for _ in range(2)]
        for reg_id, flow in enumerate(flows, 1):
            self.addCleanup(flow.close)
            contact = f'<{flow.contact}>;reg-id={reg_id};+sip.instance="<{URN.format(index)}>"'
            answer = flow.register(contact=contact, headers=[("Supported", "path, outbound")])
            self.assertEqual(answer.status, 200)
        return flows[0], flows[1]

    def check_doubles(self, doubles: list[tuple[Phone, Phone]]) -> None:
        """Check that each phone with two connections has lost one of them and kept the other."""
        ended = []
        for flows in doubles:
            ended.append(0)
            for flow in flows:
                with self.assertRaises(Silence) as silence:
                    flow.receive(0.02)
                ended[-1] += "closed" in str(silence.exception)
        self.assertEqual(ended, DOUBLES * [1])

    def check_pace(self, fleet: Fleet, since: float) -> None:
        """Check that no node closed more in a second than it may, and show how many registered at a time."""
        closed = [node.metric("rollcall_rebalance_closed_total") for node in self.lab.registrars]
        for face in range(2):
            endings = sorted(ending.at for ending in fleet.endings if ending.face == face and ending.at > since)
            self.assertLessEqual(max(within(endings, 2.0)), self.pace * 2.5)
        back = sorted(phone.back_at for phone in fleet.phones if phone.lost_at > since)
        self.figure(f"connections closed by each: {closed}, at {self.pace:g} a second; at most "
                    f"{max(within(back, 1.0))} phones registered within a second; until each was back: "
                    f"{spread(phone.back_at - phone.lost_at for phone in fleet.phones if phone.lost_at > since)}")
        self.assertGreater(min(closed[:2]), 0)
        self.assertEqual((fleet.refusals, fleet.unanswered), ([], []))

    def check_calls(self, calls: list[Call]) -> None:
        """Check that every call that was placed came to its end in order."""
        placed = [call for call in calls if call.why != NOT_PLACED]
        self.assertEqual([str(call) for call in placed if call.state is not CallState.ENDED], [])
        moved = sum({call.caller.lost_at, call.callee.lost_at} != {0.0} for call in placed)
        self.figure(f"calls lost: 0 of {len(placed)}, {moved} of them with a phone that moved")

    def check_gone_on(self, fleet: Fleet, node: Node) -> None:
        """Check that a registrar sees each phone where it is."""
        seen = self.bindings(node)
        self.assertEqual({phone.user: [phone.contact] for phone in fleet.phones},
                         {phone.user: [each["contact"] for each in seen[phone.user]] for phone in fleet.phones})


def sections(pace: float, capacity: int) -> str:
    """Return the configuration of all registrars."""
    return (f"[cluster]\nlease_seconds = {2 * RENEW_SECONDS}\nrenew_seconds = {RENEW_SECONDS}\ncapacity = {capacity}\n"
            f"[rebalance]\nenabled = true\nflows_per_second = {pace}\ntolerance = {TOLERANCE}\n"
            f"settle_seconds = {SETTLE_SECONDS}\nagain_seconds = {AGAIN_SECONDS}\nback_seconds = 2.0\n")


class RebalanceTests(RebalanceCase):
    """With few phones."""

    phones, talkers, pace, held = 90, 20, 10.0, 10
    users = phones + DOUBLES
    sections = sections(pace, 200)

    def test_moves(self) -> None:
        """Whoever has more than its share gives it away, phones with two connections first, and calls go on."""
        self.check_moves()


@pytest.mark.long
class RebalanceManyTests(RebalanceCase):
    """With many."""

    phones, talkers, pace, held = 3000, 300, 50.0, 100
    hold_seconds = 33.0
    users = phones + DOUBLES
    sections = sections(pace, 5000)

    def test_moves(self) -> None:
        """The same with thousands of phones."""
        self.check_moves()
