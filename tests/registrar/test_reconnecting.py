"""Tests of calls that wait for a phone whose connection was lost, until it is back on whatever node."""

from registrar import reconnecting
from registrar.location.contract import Snapshot
from registrar.reconnecting import watch_reconnecting
from rollcall.sip.transaction import cancellation
from tests.registrar.examples import PHONE, TABLET
from tests.registrar.nodes import Call, NodesCase


class WaitingCase(NodesCase):
    """Alice on n1 calls Bob, who was last on n2."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.nodes.phone("alice", "n1")
        self.bob = self.nodes.phone("bob", "n2", instance=PHONE)
        self.call = Call(self.alice, self.bob)

    def outcomes(self) -> dict[str, int]:
        """Return what became of those who waited on n1."""
        node = self.nodes["n1"].reconnecting
        assert node is not None
        return {outcome: number for outcome, number in node.outcomes.items() if number}

    def complete(self) -> None:
        """See that Bob's phone rings, and have it answer."""
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.assertEqual(self.bob.requests["INVITE"].uri, self.bob.contact)
        self.call.answer()
        self.call.acknowledge()
        self.assertEqual(self.bob.heard(), ["ACK"])


class LostTests(WaitingCase):
    """The phone was lost before the call came."""

    def test_comes_back(self) -> None:
        """The caller hears 100, and the phone rings as soon as it is back, wherever that is."""
        for number, node in enumerate(("n1", "n2", "n3")):
            self.bob.lose()
            self.call = Call(self.alice, self.bob, f"call-{node}")
            self.call.invite()
            self.nodes.wait(4)
            self.assertEqual(self.alice.answers(), [100])
            self.bob.register(node)
            self.nodes.wait(0.5)
            self.complete()
            self.assertEqual(self.outcomes(), {"returned": number + 1})

    def test_caller_moves_later(self) -> None:
        """A call that had to wait is one like any other: its caller may move, too."""
        self.bob.lose()
        self.call.invite()
        self.bob.register("n3")
        self.wait_a_turn()
        self.complete()
        self.alice.lose()
        self.alice.register("n2")
        self.exchange(self.call, "BYE", self.bob, self.alice)

    def test_stays_away(self) -> None:
        """When it is not back in time the call ends as 480; the time counts from the loss, not from the call."""
        self.bob.lose()
        self.nodes.wait(6)
        self.call.invite()
        self.nodes.wait(3.5)
        self.assertEqual(self.alice.answers(), [100])
        self.nodes.wait(1)
        self.assertEqual(self.alice.answers(), [480])
        self.assertEqual(self.outcomes(), {"stayed_away": 1})

    def test_lost_long_ago(self) -> None:
        """A phone that was lost long ago is not waited for."""
        self.bob.lose()
        self.nodes.wait(10.5)
        self.call.invite()
        self.assertEqual((self.alice.answers(), self.outcomes()), ([480], {}))

    def test_clock_that_is_ahead(self) -> None:
        """What a node with a wrong clock has written makes nobody wait longer than is allowed."""
        ahead = Snapshot(2, (), lost_at=self.nodes.clock.seconds() + 3600)
        self.nodes.location.put("sip:bob@example.com", ahead)
        self.call.invite()
        self.nodes.wait(10.5)
        self.assertEqual(self.alice.answers(), [100, 480])

    def test_never_there(self) -> None:
        """Who never registered is not waited for, either."""
        self.call.invite("sip:carol@example.com")
        self.assertEqual(self.alice.answers(), [404])

    def test_cancelled(self) -> None:
        """The caller may give up meanwhile: 487, and the phone that comes back does not ring."""
        self.bob.lose()
        self.call.invite()
        self.nodes.wait(1)
        self.alice.send(cancellation(self.call.invite_sent))
        self.assertEqual(self.alice.answers(), [100, 200, 487])
        self.bob.register("n3")
        self.nodes.wait(1)
        self.assertEqual((self.bob.heard(), self.outcomes()), ([], {"cancelled": 1}))

    def test_too_many(self) -> None:
        """No more wait than are allowed to: the next one is 480 at once."""
        self.bob.lose()
        for number in range(2):
            Call(self.alice, self.bob, f"call-{number}").invite()
        self.assertEqual(self.alice.answers(), [100, 100])
        self.call.invite()
        self.assertEqual((self.alice.answers(), self.outcomes()), ([100, 480], {"too_many": 1}))
        self.nodes.wait(11)

    def test_share_of_one_record(self) -> None:
        """Those who wait for one phone leave the others their share."""
        self.patch(reconnecting, "MAX_WAITING_PER_RECORD", 1)
        carol = self.nodes.phone("carol", "n3")
        self.bob.lose()
        carol.lose()
        self.call.invite()
        Call(self.alice, self.bob, "call-2").invite()
        self.assertEqual(self.alice.answers(), [100, 100, 480])
        Call(self.alice, carol, "call-3").invite()
        self.assertEqual(self.alice.answers(), [100])
        self.nodes.wait(11)

    def test_only_calls(self) -> None:
        """Nothing but an INVITE waits before a dialog has begun."""
        self.bob.lose()
        self.call.invite(method="MESSAGE")
        self.assertEqual(self.alice.answers(), [480])

    def test_node_has_ended(self) -> None:
        """What hung on a node that has ended is nowhere from then on, but may come back."""
        self.nodes.kill("n2")
        self.call.invite()
        self.nodes.wait(2)
        self.assertEqual(self.alice.answers(), [100])
        self.bob.register("n3")
        self.nodes.wait(0.5)
        self.complete()

    def test_node_has_just_begun(self) -> None:
        """A node whose lease has not come to us yet is waited for: its phones are there as soon as it is known."""
        self.nodes.unknown.add("n2")
        self.call.invite()
        self.nodes.wait(1)
        self.assertEqual((self.alice.answers(), self.bob.heard()), ([100], []))
        self.nodes.unknown.clear()
        self.nodes.wait(1)
        self.complete()

    def test_node_listens_just_now(self) -> None:
        """So is one whose lease does not say yet where phones reach it: its phones are to be told of none but it."""
        self.nodes.unannounced.add("n2")
        self.call.invite()
        self.nodes.wait(1)
        self.assertEqual((self.alice.answers(), self.bob.heard()), ([100], []))
        self.nodes.unannounced.clear()
        self.nodes.wait(1)
        self.complete()
        route, *_ = self.bob.requests["INVITE"].values("Record-Route")
        self.assertIn("@192.0.2.2:5060;", route)

    def test_node_ended_long_ago(self) -> None:
        """After that its phones are not waited for, whatever the record says."""
        self.nodes.kill("n2")
        self.nodes.wait(11)
        self.call.invite()
        self.assertEqual(self.alice.answers(), [480])

    def test_another_phone_rings(self) -> None:
        """A user who has another phone is called there, without waiting for the one that was lost."""
        tablet = self.nodes.phone("bob2", "n3", user="bob", instance=TABLET)
        self.nodes.kill("n2")
        self.call.invite()
        self.assertEqual(tablet.heard(), ["INVITE"])
        tablet.answer(486)
        self.assertEqual(self.alice.answers(), [100, 486])

    def test_gruu(self) -> None:
        """A GRUU waits for its phone as well."""
        self.bob.lose()
        self.call.invite(f"sip:bob@example.com;gr={PHONE}")
        self.nodes.wait(1)
        self.bob.register("n1")
        self.nodes.wait(0.5)
        self.complete()

    def test_store_is_away(self) -> None:
        """A store that cannot be asked for some time does not end the wait, nor does it hide the phone for ever."""
        self.bob.lose()
        self.call.invite()
        self.nodes.location.down = True
        self.nodes.wait(2)
        self.nodes.location.down = False
        self.bob.register("n2")
        self.nodes.wait(1.5)
        self.complete()

    def test_nobody_tells(self) -> None:
        """A change that nobody tells of is seen within a second."""
        self.bob.lose()
        self.call.invite()
        self.nodes.location.changes.tell = lambda key: None  # type: ignore[method-assign]
        self.bob.register("n3")
        self.nodes.wait(1.5)
        self.complete()


class BreakingTests(WaitingCase):
    """The phone is lost while it is called."""

    def test_node_ends_while_it_rings(self) -> None:
        """When the node of a ringing phone is killed, the phone rings again as soon as it is back."""
        self.call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.nodes.kill("n2")
        self.nodes.wait(2)
        self.assertEqual(self.alice.answers(), [100, 180])
        self.bob.register("n3")
        self.nodes.wait(0.5)
        self.complete()
        self.assertEqual(self.outcomes(), {"returned": 1})

    def test_node_is_unreachable(self) -> None:
        """A node that is gone, though nobody knows it yet, is no reason to give up, either."""
        self.nodes.kill("n2", lease_ends=False)
        self.call.invite()
        self.nodes.wait(1)
        self.assertEqual(self.alice.answers(), [100])
        self.bob.register("n1")
        self.nodes.wait(0.5)
        self.complete()
        self.nodes.end_lease("n2")

    def test_connection_between_nodes_breaks(self) -> None:
        """When the nodes lose each other for a moment, the phone is cancelled and then rings again where it is."""
        self.call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.nodes.part("n1", "n2")
        self.assertEqual(self.bob.heard(), ["CANCEL"])
        self.bob.answer(487)
        self.nodes.wait(2)
        self.assertEqual(self.bob.heard(), ["ACK", "INVITE"])
        self.bob.requests.pop("ACK")
        self.call.answer()
        self.call.acknowledge()
        self.assertEqual(self.bob.heard(), ["ACK"])

    def test_flow_was_gone(self) -> None:
        """A record that is behind the truth leads to a node that says 430; the phone is waited for."""
        del self.nodes["n2"].network.transports.flows[self.bob.flow.id]
        self.call.invite()
        self.assertEqual((self.alice.answers(), self.bob.heard()), ([100], []))
        self.bob.register("n3")
        self.nodes.wait(0.5)
        self.complete()

    def test_flow_breaks(self) -> None:
        """A connection that breaks before the phone has said anything: the call goes on over the next one."""
        self.call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.lose()
        self.nodes.wait(1)
        self.assertEqual(self.alice.answers(), [100])
        self.bob.register("n2")
        self.nodes.wait(0.5)
        self.complete()

    def test_again_and_again(self) -> None:
        """A phone that breaks off each time it is called is called six times at most."""
        self.call.invite()
        for number in range(6):
            self.assertEqual(self.bob.heard(), ["INVITE"], number)
            self.bob.lose()
            self.bob.register("n2")
            self.nodes.wait(0.5)
        self.assertEqual(self.bob.heard(), [])
        self.assertEqual(self.alice.answers()[-1], 480)

    def test_cancelled_while_it_rings(self) -> None:
        """A call that was cancelled does not wait when the connection breaks then."""
        self.call.invite()
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(180)
        self.alice.send(cancellation(self.call.invite_sent))
        self.nodes.kill("n2")
        self.nodes.wait(1)
        self.assertEqual(self.alice.answers(), [100, 180, 200, 487])
        self.assertEqual(self.outcomes(), {})

    def test_refused_meanwhile(self) -> None:
        """Who has answered is not waited for: one phone is lost, the other one busy, and that is the answer."""
        tablet = self.nodes.phone("bob2", "n3", user="bob", instance=TABLET)
        self.call.invite()
        self.assertEqual((self.bob.heard(), tablet.heard()), (["INVITE"], ["INVITE"]))
        tablet.answer(486)
        self.nodes.kill("n2")
        self.assertEqual(self.alice.answers(), [100, 486])


class MetricsTests(WaitingCase):
    """What operators see."""

    def test_counts(self) -> None:
        """Who waits now and what became of the others is exported."""
        registrar = self.nodes["n1"]
        assert registrar.reconnecting is not None
        watch_reconnecting(registrar.metrics, registrar.reconnecting)
        self.bob.lose()
        self.call.invite()
        self.assertEqual(registrar.counted("rollcall_reconnect_waiting"), 1)
        self.nodes.wait(11)
        self.assertEqual(registrar.counted("rollcall_reconnect_waiting"), 0)
        self.assertEqual(registrar.counts("rollcall_reconnect_waits_total"), {("stayed_away",): 1})
