"""Two sites with real registrars and a Redis each: calls across, a cut link, a killed node, two nodes of one name."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from signal import SIGKILL
from time import monotonic, sleep
from typing import ClassVar

import pytest

from rollcall.sip.message import Request
from rollcall.sip.transaction import cancellation
from tests.cluster.case import spread
from tests.cluster.fleet import Fleet
from tests.cluster.fleet_call import Call, CallState
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.sites_case import SitesCase
from tests.interop.phone import Phone
from tests.interop.process import wait_until
from tools.laboratory.node import Node

CALLS_PER_SECOND = 60.0
RECONNECT_WAIT = 2.5
POLL_SECONDS = 0.5
DEAD_SECONDS = 1.5
QUESTION_SECONDS = 0.5
NEGATIVE_SECONDS = 2.0
TIMES = (f"[cluster]\nlease_seconds = 2.0\nrenew_seconds = 0.5\nreconnect_wait = {RECONNECT_WAIT}\n"
         f"site_poll_seconds = {POLL_SECONDS}\nsite_dead_seconds = {DEAD_SECONDS}\n"
         f"site_question_seconds = {QUESTION_SECONDS}\nsite_negative_seconds = {NEGATIVE_SECONDS}\n")
BACK_SECONDS = 15.0
REPEATED = 6
PHONES = 24
"""Of the fleet; the next user has another phone, and the last one has none."""
NOBODY = PHONES + 1
LATE_CSEQ = 3000
"""After those of all INVITEs that a phone has repeated."""


class TwoSitesTests(SitesCase):
    """fra and ams, with two registrars each."""

    users = NOBODY + 1
    sections = TIMES

    def test_across(self) -> None:
        """Phones of one site call those of the other, and either side hangs up."""
        fleet = self.registered(PHONES)
        fra, ams = self.at(fleet, self.fra), self.at(fleet, self.ams)
        across = fleet.call_pairs([*zip(fra, ams, strict=True), *zip(ams, fra[1:], strict=False)], CALLS_PER_SECOND,
                                  hold_seconds=None)
        fleet.wait_answered(across)
        local = fleet.call_pairs([*pairwise(fra), *pairwise(ams)],
                                 CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(local)
        fleet.hang_up([*across[::2], *local])
        fleet.hang_up(across[1::2], by_callee=True)
        self.check_ended(fleet, [*across, *local])
        self.figure(f"{len(local)} calls within a site: {setup(local)}; {len(across)} to the other: {setup(across)}")

    def test_cancelled(self) -> None:
        """A caller that gives up stops the phone of the other site from ringing; by UDP and by TCP."""
        for transport in ("TCP", "UDP"):
            alice, bob = self.registered_phone(self.fra, 0), self.registered_phone(self.ams, PHONES, transport)
            invite = self.invited(alice, bob)
            came = bob.request()
            bob.answer(came, 180)
            alice.send(cancellation(invite))
            self.assertEqual(bob.request().method, "CANCEL")
            bob.answer(came, 487)
            self.assertEqual([alice.final().status for _ in range(2)], [200, 487])
            self.assertEqual(bob.request().method, "ACK")
            self.assertEqual(bob.register(expires=0).status, 200)
            alice.close()
            bob.close()

    def test_nobody(self) -> None:
        """Who has never registered gets the answer that he gets with one site, and is asked for once in a while."""
        fleet = self.fleet(number=NOBODY + 1)
        self.wait_known()
        fleet.register(fleet.phones[:4])
        fleet.wait_registered(fleet.phones[:4])
        caller, absent = fleet.phones[0], fleet.phones[NOBODY]
        asked = self.asked()
        began = monotonic()
        calls = [self.one_call(fleet, caller, absent) for _ in range(REPEATED)]
        self.check_refused(calls, "480")
        most = 1 + int((monotonic() - began) / NEGATIVE_SECONDS)
        self.assertLessEqual(1, self.asked() - asked)
        self.assertLessEqual(self.asked() - asked, most)
        self.figure(f"480 for who is registered at neither site: {took(calls)}, {len(calls)} calls, "
                    f"{self.asked() - asked:.0f} question(s)")

    def test_link_cut(self) -> None:
        """While the link is cut each site goes on alone, at its own pace; when it is back calls cross it again."""
        fleet = self.registered(PHONES)
        fra, ams = self.at(fleet, self.fra), self.at(fleet, self.ams)
        within = [*pairwise(fra), *pairwise(ams)]
        before = self.called(fleet, within)
        self.cut()
        first = self.one_call(fleet, fra[0], ams[0])
        rest = [self.one_call(fleet, fra[0], callee) for callee in ams[1:4]]
        during = self.called(fleet, within)
        self.check_refused([first, *rest], "480")
        self.figure(f"calls within a site: {setup(before)}; while the link to the other was cut: {setup(during)}; "
                    f"480 for its phones after {took([first])} the first time, then {took(rest)}")
        for lab, other in ((self.fra, self.ams), (self.ams, self.fra)):
            for node in lab.registrars:
                wait_until(lambda: not self.known(node, other.site) or None, "end of what was known",  # noqa: B023
                           BACK_SECONDS)
        self.mend()
        mended_at = monotonic()
        self.wait_known(BACK_SECONDS)
        self.figure(f"both sites knew each other again {monotonic() - mended_at:.1f} s after the link was back")
        sleep(NEGATIVE_SECONDS)
        self.called(fleet, [*zip(fra, ams, strict=True), *zip(ams, fra, strict=True)])

    def test_node_killed(self) -> None:
        """The node that was asked so far is killed: the next member is asked, and calls to the other node's phones go
        through at once. It is started again: its phones are called in their new life."""
        fleet = self.registered(PHONES)
        fra, ams = self.at(fleet, self.fra), self.at(fleet, self.ams)
        asked = {self.one_asked(node) for node in self.fra.registrars}
        killed = self.ams.node(asked.pop())
        staying = [phone for phone in ams if self.registrars[phone.face] is not killed]
        killed.signal(SIGKILL)
        calls = self.called(fleet, zip(fra, staying, strict=False))
        self.figure(f"calls to the other node of a site, one of whose nodes was killed just now: {setup(calls)}")
        killed.wait_ended(BACK_SECONDS)
        fleet.wait_registered(fleet.phones)
        self.called(fleet, zip(fra, ams, strict=False))
        killed.start()
        self.wait_known()
        self.called(fleet, zip(ams, fra, strict=False))

    # --- what is done and looked at

    def called(self, fleet: Fleet, pairs: Iterable[tuple[FleetPhone, FleetPhone]]) -> list[Call]:
        """Let phones call each other, and see that all calls go as they should."""
        calls = fleet.call_pairs(list(pairs), CALLS_PER_SECOND)
        self.check_ended(fleet, calls)
        return calls

    def one_call(self, fleet: Fleet, caller: FleetPhone, callee: FleetPhone) -> Call:
        """Let one phone call another, and return when that is over."""
        call = fleet.call(caller, callee)
        fleet.wait_calls([call])
        return call

    def check_ended(self, fleet: Fleet, calls: Iterable[Call]) -> None:
        """Check that calls have gone as they should."""
        calls = list(calls)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])

    def check_refused(self, calls: Iterable[Call], status: str) -> None:
        """Check that calls have failed as they should."""
        self.assertEqual([str(call) for call in calls if not call.why.startswith(status)], [])

    def asked(self) -> float:
        """Return how often nodes of ams were asked for somebody."""
        return sum(node.metric("rollcall_site_answers_total", outcome=outcome) for node in self.ams.registrars
                   for outcome in ("found", "nobody"))

    def one_asked(self, node: Node) -> str:
        """Return which node of ams a node of fra asks now."""
        before = {each.name: self.polled(each) for each in self.ams.registrars}
        sleep(2 * POLL_SECONDS)
        return max(self.ams.registrars, key=lambda each: self.polled(each) - before[each.name]).name

    def polled(self, node: Node) -> float:
        """Return how often a node was asked who lives there."""
        return node.metric("rollcall_site_answers_total", outcome="nodes")

    def invited(self, caller: Phone, callee: Phone) -> Request:
        """Let one phone call the other and prove who it is; return the INVITE."""
        self.wait_known()
        invite = caller.make("INVITE", f"sip:{callee.user}@{callee.domain}", [("Contact", f"<{caller.contact}>")])
        caller.send(invite)
        challenge = caller.final()
        caller.acknowledge(invite, challenge)
        again = caller.authorised(invite, challenge)
        caller.send(again)
        return again


@pytest.mark.long
class WorkersTests(SitesCase):
    """Each registrar has two workers, each of which is a node."""

    users = PHONES
    workers = 2
    sections = TIMES

    def test_across(self) -> None:
        """Calls cross whichever worker has the caller's connection, and whichever has the callee's."""
        fleet = self.registered(PHONES)
        fra, ams = self.at(fleet, self.fra), self.at(fleet, self.ams)
        calls = fleet.call_pairs([*zip(fra, ams, strict=True), *zip(ams, fra, strict=True)], CALLS_PER_SECOND)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
        self.figure(f"{len(calls)} calls between sites whose registrars have two workers: {setup(calls)}")


@pytest.mark.long
class ManyTests(SitesCase):
    """Hundreds of calls, for figures."""

    sites: ClassVar = {"fra": 1, "ams": 1}
    users = 400
    sections = TIMES

    def test_many(self) -> None:
        """Calls within a site and across the link are all set up; the figures tell what a question costs."""
        fleet = self.registered(self.users)
        fra, ams = self.at(fleet, self.fra), self.at(fleet, self.ams)
        for what, pairs in (("within a site", zip(fra[::2], fra[1::2], strict=True)),
                            ("to the other site", zip(fra, ams, strict=True)),
                            ("within a site again", zip(ams[::2], ams[1::2], strict=True))):
            calls = fleet.call_pairs(list(pairs), CALLS_PER_SECOND)
            fleet.wait_calls(calls)
            self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
            self.figure(f"{len(calls)} calls {what}, {CALLS_PER_SECOND:g} in a second: {setup(calls)}")


@pytest.mark.long
class OneNameTests(SitesCase):
    """Both sites have a node of one name, by somebody's mistake."""

    sites: ClassVar = {"fra": 1, "ams": 2}
    names: ClassVar = {"ams": ("ams-1", "fra-1")}
    users = 6
    sections = TIMES

    def test_one_name(self) -> None:
        """Neither is let in at the other site, and logs say why; each is known at its own site alone, and serves on."""
        here, there, twin = self.registrars
        for node, why in ((here, "has the name of this node"), (twin, "has the name of this node"),
                          (there, "our own site ams has a node of that name")):
            wait_until(lambda: why in node.log() or None, f"line in the log of {node.name}", BACK_SECONDS)  # noqa: B023
        wait_until(lambda: self.known(there, "fra") == [] or None, "end of what was known before its twin began",
                   BACK_SECONDS)
        self.assertEqual(self.known(twin, "fra"), [])
        self.assertIn(self.known(here, "ams"), ([], ["ams-1"]))
        fleet = self.fleet()
        fleet.register_all()
        phones = fleet.phones
        calls = fleet.call_pairs([(phones[0], phones[3]), (phones[1], phones[2])], CALLS_PER_SECOND)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
        self.assertEqual([node.log().count("has ended") for node in self.registrars], [0, 0, 0])


def setup(calls: Sequence[Call]) -> str:
    """Return how long calls took until they were answered."""
    return spread(call.setup_seconds for call in calls)


def took(calls: Iterable[Call]) -> str:
    """Return how long calls took until they were over."""
    return spread(call.ended_at - call.begun_at for call in calls)
