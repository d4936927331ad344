"""Any node finds any phone: three registrars without affinity, and calls from everywhere to everywhere."""

from collections import Counter

from tests.cluster.case import ClusterCase, spread
from tests.cluster.fleet_call import CallState

PHONES = 3000
CALLS = 1000
FEW_PHONES = 300
FEW_CALLS = 100
# Two cores carry three registrars, Redis and all phones.
REGISTRATIONS_PER_SECOND = 700.0
CALLS_PER_SECOND = 110.0
REFRESHES_PER_SECOND = 100.0


class AnyNodeCase(ClusterCase):
    """Calls from everywhere to everywhere."""

    def check_calls(self, phones: int, number: int) -> None:
        """Register so many phones, evenly spread; let so many calls of random ones reach random ones, and end."""
        fleet = self.fleet(phones)
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        self.assertEqual([len(fleet.at_face(face)) for face in range(self.registrars)],
                         [phones // self.registrars] * self.registrars)
        fleet.refresh(REFRESHES_PER_SECOND)
        calls = fleet.call_at_random(number, CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(calls)
        fleet.hang_up(calls[::2])
        fleet.hang_up(calls[1::2], by_callee=True)
        fleet.wait_calls(calls)
        fleet.refresh(0)
        delivered = [call for call in calls if call.delivered]
        across = [call for call in delivered if call.caller.face != call.callee.face]
        within = [call for call in delivered if call.caller.face == call.callee.face]
        refreshes = len(fleet.register_seconds) - phones
        self.figure(f"{len(delivered)} of {number} INVITEs from random nodes to random phones were delivered, "
                    f"{len(across)} of them to another registrar than the caller's")
        self.figure(f"from INVITE to 200 across registrars: {spread(call.setup_seconds for call in across)}; "
                    f"within one: {spread(call.setup_seconds for call in within)}")
        self.figure(f"{phones} first registrations at {REGISTRATIONS_PER_SECOND:.0f}/s, then {refreshes} refreshes: "
                    f"{spread(fleet.register_seconds)}")
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
        self.assertEqual(Counter(len(call.delivered) for call in calls), {1: number})
        self.assertEqual([str(call) for call in calls if not call.confirmed_at], [], "without an ACK")
        self.assertEqual((fleet.refusals, fleet.unanswered, fleet.endings), ([], [], []))


class AnyNodeTests(AnyNodeCase):
    """Three registrars that share one Redis server."""

    users = PHONES

    def test_calls(self) -> None:
        """A phone is reached from every node, whichever it hangs on, while others refresh; and each may hang up."""
        self.check_calls(PHONES, CALLS)

    def test_listings(self) -> None:
        """Every node lists the bindings of all phones, also those that moved, and not those that were removed."""
        fleet = self.fleet(300)
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        fleet.drop(fleet.phones[:100], come_back=True)
        fleet.wait(lambda: len(fleet.endings) == 100, "end of 100 connections")
        fleet.wait_registered(fleet.phones)
        fleet.unregister(fleet.phones[200:])
        fleet.wait(lambda: len(fleet.removed()) == 100, "removal of 100 bindings")
        for node in self.lab.registrars:
            self.check_promises(fleet, node)


class AnyWorkerTests(AnyNodeCase):
    """Two registrars with two workers each, so that there are four nodes, and a Redis Cluster."""

    registrars = 2
    workers = 2
    redis = "cluster"
    users = FEW_PHONES

    def test_calls(self) -> None:
        """A phone is reached from every worker of every registrar, whichever holds its connection."""
        self.check_calls(FEW_PHONES, FEW_CALLS)
        self.assertEqual(len({each["node"] for each in self.lab.registrars[0].get("/v1/nodes")["nodes"]}), 4)
