"""A node dies under registrations and calls: its phones move, its connections are found by nobody, no call is lost."""

import re
from collections.abc import Iterable
from time import monotonic, sleep

from tests.cluster.case import ClusterCase, spread
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import Call, CallState
from tests.cluster.fleet_phone import FleetPhone
from tests.interop.phone import Phone
from tools.laboratory.node import Node

PHONES = 1500
AWAY = 60
"""Phones of the node that dies that do not come back."""
HELD = 150
CALLS = 450
REGISTRATIONS_PER_SECOND = 500.0
REFRESHES_PER_SECOND = 150.0
CALLS_PER_SECOND = 45.0
CALLS_BEFORE = 4.0
"""So many seconds of calls come before the death."""
RING_SECONDS = 1.0
TALK_SECONDS = 1.0
LEASE_SECONDS = 3.0
RENEW_SECONDS = 1.0
RECONNECT_WAIT = 6.0
BACK_WITHIN = 4.0
"""Phones come back within so many seconds, in which calls to them wait."""
EARLY = 20
"""Of these, so many are called in the second after the death."""
HANGING_PHONES = 450
HANGING_CALLS = 200
REGISTER_PATIENCE = 2.0
"""After so long phones give a node up that hangs."""
PROBED = 10
"""Of the phones that stay away, so many are looked up again and again."""
LONG_SECONDS = 0.5
"""A call that took longer to its phone has waited for it."""
# What is said of a way that turned out to lead nowhere.
_NOT_ALL = "Fork: enough of these for a minute"
_NO_WAY = re.compile(r"no way to \S+ member registrar-3,")


class NodeDeathTests(ClusterCase):
    """Three registrars; the third one dies."""

    users = PHONES + 2
    sections = (f"[cluster]\nlease_seconds = {LEASE_SECONDS}\nrenew_seconds = {RENEW_SECONDS}\n"
                f"reconnect_wait = {RECONNECT_WAIT}\n")

    def setUp(self) -> None:
        self.living, self.dying = self.lab.registrars[:2], self.lab.registrars[2]

    def test_killed(self) -> None:
        """Nothing acknowledged is lost, calls wait for phones on their way back, and nobody is called who is not there.

        Calls that hold survive; a phone that came by datagrams is served by the others; and when the node lives again,
        no connection of its former life is back.
        """
        fleet = self.fleet(PHONES, Behaviour(jitter_seconds=BACK_WITHIN, answer_seconds=RING_SECONDS))
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        self.register_by_datagrams()
        away = fleet.at_face(2)[:AWAY]
        fleet.stay_away(away)
        others = [phone for phone in fleet.phones if phone.is_wanted]
        held = fleet.call_at_random(HELD, 3 * CALLS_PER_SECOND, others, others, hold_seconds=None)
        fleet.wait_answered(held)
        fleet.refresh(REFRESHES_PER_SECOND)
        calls = fleet.call_at_random(CALLS, CALLS_PER_SECOND, others, others, hold_seconds=TALK_SECONDS)
        sleep(CALLS_BEFORE)
        killed_at = monotonic()
        self.dying.kill()
        logged = [len(node.log()) for node in self.living]
        vain = fleet.call_pairs(zip(others, away[:EARLY], strict=False), EARLY)
        self.check_lookups(away, killed_at)
        late = [len(node.log()) for node in self.living]
        fleet.wait_registered(others)
        fleet.wait_calls([*calls, *vain])
        fleet.refresh(0)
        fleet.hang_up(held[::2])
        fleet.hang_up(held[1::2], by_callee=True)
        fleet.wait_calls(held)
        self.show_calls(fleet, calls, held, killed_at)
        self.check_away(fleet, away, vain)
        self.check_by_datagrams()
        self.figure(f"INVITEs on their way to connections of the dead node: {self.ways(logged)} in all, "
                    f"{self.ways(late)} after its lease had ended")
        self.assertEqual(self.ways(late), 0)
        self.assertEqual((fleet.refusals, fleet.unanswered), ([], []))
        self.assertEqual([str(call) for call in (*calls, *held) if is_lost(call)], [])
        for node in self.living:
            self.check_promises(fleet, node, gone=away)
        self.check_restarted(fleet, away)

    def test_hangs(self) -> None:
        """A node that hangs closes nothing: its lease ends, and the calls that are stuck in it find their phones.

        When it goes on, what it still had to say of them is not believed, and they are called where they are now.
        """
        behaviour = Behaviour(jitter_seconds=1.0, register_patience_seconds=REGISTER_PATIENCE)
        fleet = self.fleet(HANGING_PHONES, behaviour)
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        theirs, others = fleet.at_face(2), fleet.at_face(0) + fleet.at_face(1)
        fleet.refresh(REFRESHES_PER_SECOND)
        calls = fleet.call_at_random(HANGING_CALLS, CALLS_PER_SECOND, others, theirs)
        sleep(1.0)
        paused_at = monotonic()
        self.dying.pause()
        self.check_lookups(theirs, paused_at)
        fleet.wait(lambda: not any(phone.face == 2 for phone in theirs), "departure of all phones", 20.0)
        fleet.wait_registered(fleet.phones)
        fleet.wait_calls(calls)
        self.dying.resume()
        later = fleet.call_at_random(HANGING_CALLS // 4, CALLS_PER_SECOND, others, theirs)
        fleet.wait(self.dying.is_ready, "readiness of the node that hung")
        fleet.wait_calls(later)
        fleet.refresh(0)
        stuck = [call for call in calls if call.delivered and until_delivered(call) > LONG_SECONDS]
        self.figure(f"calls failed while a node hung: {sum(map(is_lost, calls))} of {len(calls)}; {len(stuck)} waited: "
                    f"{spread(map(until_delivered, stuck))}; {without_ack(calls)} ACKs were lost")
        self.assertEqual([str(call) for call in (*calls, *later) if is_lost(call)], [])
        self.assertEqual([str(call) for call in later if len(call.delivered) != 1], [])
        for node in self.lab.registrars:
            self.check_promises(fleet, node)

    # --- what is looked at

    def check_lookups(self, away: list[FleetPhone], killed_at: float) -> None:
        """Look phones up at the living nodes until none is found at the dead one; not later than its lease says."""
        ended_at: dict[str, float] = {}
        while len(ended_at) < len(self.living):
            for node in self.living:
                if node.name not in ended_at and not any(self.is_found(node, phone) for phone in away[:PROBED]):
                    ended_at[node.name] = monotonic() - killed_at
            self.assertLess(monotonic() - killed_at, LEASE_SECONDS + 2 * RENEW_SECONDS, ended_at)
            sleep(0.02)
        times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in ended_at.items())
        self.figure(f"until no lookup returned a connection of the node: {times} "
                    f"(lease of {LEASE_SECONDS:g} s, renewed every {RENEW_SECONDS:g} s)")

    def is_found(self, node: Node, phone: FleetPhone) -> bool:
        """Tell whether a registrar finds a phone bound."""
        return bool(node.contacts(f"aor={phone.aor}"))

    def show_calls(self, fleet: Fleet, calls: list[Call], held: list[Call], killed_at: float) -> None:
        """Put down what became of the calls, and of the phones that moved."""
        moved = [phone for phone in fleet.phones if phone.lost_at >= killed_at and phone.is_wanted]
        theirs = [call for call in calls if call.is_callers_loss]
        cut_off = sum(call.state is CallState.FAILED and "ended" in call.why for call in theirs)
        again = [call for call in calls if len(call.delivered) > 1]
        waited = [call for call in calls if call.delivered and until_delivered(call) > LONG_SECONDS]
        self.figure(f"calls failed: {sum(map(is_lost, calls))} of {len(calls) - len(theirs)} placed around the death, "
                    f"{sum(map(is_lost, held))} of {len(held)} that held through it; {cut_off} callers were cut off "
                    f"themselves before the answer, {len(theirs) - cut_off} had no registrar to call by; "
                    f"{without_ack([*calls, *held])} ACKs were lost")
        soon = [call for call in calls if call.answered_at and call not in waited]
        self.figure(f"{len(waited)} calls waited for their phone: {spread(map(until_delivered, waited))}; "
                    f"{len(again)} of them rang when the connection ended, and rang again; delivery of the {len(soon)} "
                    f"others: {spread(map(until_delivered, soon))}")
        self.figure(f"{len(moved)} phones moved; from the end of the connection to the next 200: "
                    f"{spread(phone.back_at - phone.lost_at for phone in moved)}")

    def check_away(self, fleet: Fleet, away: list[FleetPhone], vain: list[Call]) -> None:
        """Check that whoever calls a phone that stays away is told so: at the end of the wait, or at once after it."""
        self.assertEqual({call.why.partition(" ")[0] for call in vain if not call.is_callers_loss}, {"480"},
                         [str(call) for call in vain])
        callers = [phone for phone in fleet.phones if phone.is_registered]
        pairs = list(zip(callers, away, strict=False))
        calls = fleet.call_pairs(pairs, CALLS_PER_SECOND)
        fleet.wait_calls(calls)
        self.assertEqual({call.why.partition(" ")[0] for call in calls}, {"480"}, [str(call) for call in calls[:5]])
        self.figure(f"calls to phones that stayed away: {len(vain)} just after the death got 480 within "
                    f"{max(call.ended_at - call.begun_at for call in vain):.1f} s (reconnect_wait is "
                    f"{RECONNECT_WAIT:g} s), {len(calls)} later ones at once: "
                    f"{spread(call.ended_at - call.begun_at for call in calls)}")

    def ways(self, since: list[int]) -> int:
        """Return how often the living nodes have tried to reach the dead one, from these places in their logs."""
        logs = [node.log()[place:] for node, place in zip(self.living, since, strict=True)]
        self.assertFalse([log for log in logs if _NOT_ALL in log], "who knows what was left out")
        return sum(len(_NO_WAY.findall(log)) for log in logs)

    def check_restarted(self, fleet: Fleet, away: list[FleetPhone]) -> None:
        """Check that a new life of the node serves, and that nothing of the former one is back."""
        self.dying.start()
        for node in self.lab.registrars:
            self.check_promises(fleet, node, gone=away)
        back = away[:PROBED]
        fleet.register(back)
        fleet.wait_registered(back)
        calls = fleet.call_pairs([(phone, back[-1 - index]) for index, phone in enumerate(back[: PROBED // 2])], 50.0)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])

    # --- a phone without a connection

    def register_by_datagrams(self) -> None:
        """Register the last user by datagrams with the node that will die."""
        user = self.lab.users[-1]
        self.datagrams = Phone("UDP", self.dying.tcp, user.username, self.lab.domain, user.password)
        self.addCleanup(self.datagrams.close)
        self.assertEqual(self.datagrams.register().status, 200)

    def check_by_datagrams(self) -> None:
        """Check that a living node calls it from its own socket."""
        user = self.lab.users[-2]
        with Phone("TCP", self.living[0].tcp, user.username, self.lab.domain, user.password) as caller:
            self.assertEqual(caller.register().status, 200)
            uri = f"sip:{self.datagrams.user}@{self.lab.domain}"
            invite = caller.make("INVITE", uri, [("Contact", f"<{caller.contact}>")])
            caller.send(invite)
            challenge = caller.final()
            caller.acknowledge(invite, challenge)
            caller.send(caller.authorised(invite, challenge))
            came = self.datagrams.request()
            self.assertEqual((came.method, came.uri), ("INVITE", self.datagrams.contact))
            # RFC 3261 §18.2.2: the answer goes to where the request came from.
            self.datagrams.server = self.living[0].tcp
            self.datagrams.answer(came, 200)
            self.assertEqual(caller.final().status, 200)


def until_delivered(call: Call) -> float:
    """Return how long it took until the INVITE was where it was answered."""
    return call.delivered[-1][0] - call.begun_at


def is_lost(call: Call) -> bool:
    """Tell whether a call has failed although its caller was there all the time."""
    return call.state is CallState.FAILED and not call.is_callers_loss


def without_ack(calls: Iterable[Call]) -> int:
    """Return how many were answered whose ACK ended with the node: nobody knows then that it is to be repeated."""
    return sum(bool(call.answered_at) and not call.confirmed_at for call in calls)
