"""A cluster of several hosts: calls between them, a host that falls silent, one without Redis, and strangers."""

import re
from collections.abc import Callable, Iterable
from time import monotonic
from typing import ClassVar

from rollcall.sip.message import Request
from tests.cluster.case import spread
from tests.cluster.fleet import Fleet
from tests.cluster.fleet_call import Call, CallState
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.hosts import HostsCase
from tests.interop.phone import Phone
from tests.interop.process import wait_until
from tools.laboratory.node import Node

PHONES = 60
STAYING = 5
"""Phones of a host that falls silent, so many of which wait for it."""
REGISTRATIONS_PER_SECOND = 300.0
REFRESHES_PER_SECOND = 30.0
CALLS_PER_SECOND = 40.0
LEASE_SECONDS = 2.5
RENEW_SECONDS = 0.8
RECONNECT_WAIT = 2.5
HELD = 4
"""Calls that last while a host has no Redis."""
BACK_SECONDS = 10.0
OVER = "was declared over"
LATE_CSEQ = 3000
"""After those of all INVITEs that a phone has repeated."""
_HOST = re.compile(r"@(\[[^]]+\]|[^:;>]+)")


class HostsTests(HostsCase):
    """Three registrars that speak TLS to each other."""

    users = PHONES
    has_tls = True
    sections = (f"[cluster]\nlease_seconds = {LEASE_SECONDS}\nrenew_seconds = {RENEW_SECONDS}\n"
                f"reconnect_wait = {RECONNECT_WAIT}\n")

    def test_calls(self) -> None:
        """Calls between all hosts are set up, and ended from either side; each phone is told of its own node alone.

        Nobody speaks to himself: what is for another host goes there, and nothing to a loopback address.
        """
        fleet = self.registered()
        hosts = [self.lab.host(node.name) for node in self.lab.registrars]
        before = [host.packets("lo") for host in hosts]
        pairs = [(fleet.at_face(one)[other], fleet.at_face(other)[3 + one]) for one in range(3) for other in range(3)]
        calls = fleet.call_pairs(pairs, CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(calls)
        for call in calls:
            self.check_routes(call)
        fleet.hang_up(calls[::2])
        fleet.hang_up(calls[1::2], by_callee=True)
        self.check_ended(fleet, calls)
        self.assertEqual([host.packets("lo") for host in hosts], before)
        self.figure(f"{len(calls)} calls between hosts over TLS: {spread(call.setup_seconds for call in calls)}")

    def test_silent_host(self) -> None:
        """A host falls silent: its phones are not found once its lease is over, and those that move are called.

        When it is back before the janitor came its bindings are there again, and nothing comes late.
        """
        fleet = self.registered()
        silent = self.lab.registrars[2]
        theirs, others = fleet.at_face(2), fleet.at_face(0)
        staying, moving = theirs[:STAYING], theirs[STAYING:]
        self.lab.host(silent.name).pull_out()
        self.addCleanup(self.lab.host(silent.name).plug_in)
        cut_at = monotonic()
        stuck = fleet.call_pairs(zip(others, staying, strict=False), CALLS_PER_SECOND)
        self.check_lookups(self.lab.registrars[:2], theirs, cut_at, "its host fell silent")
        logged = [len(node.log()) for node in self.lab.registrars[:2]]
        fleet.drop(moving, come_back=True)
        vain = fleet.call_pairs(zip(others[STAYING:], staying, strict=False), CALLS_PER_SECOND)
        fleet.wait_registered(moving)
        self.check_ended(fleet, fleet.call_pairs(zip(others, moving, strict=False), CALLS_PER_SECOND))
        self.check_refused(fleet, [*stuck, *vain], "480")
        self.figure(f"calls to phones of a silent host got 480 after {took(stuck)} when it had just fallen silent, "
                    f"after {took(vain)} when its lease was just over")
        self.assertEqual([node.log().count(f"member {silent.name}", start) for node, start in
                          zip(self.lab.registrars, logged, strict=False)], [0, 0])
        self.lab.host(silent.name).plug_in()
        self.check_back(silent, staying, "its host was reached again")
        self.assertEqual([str(call) for call in (*stuck, *vain) if call.delivered], [])
        self.check_ended(fleet, fleet.call_pairs(zip(others, [*staying, *moving], strict=False), CALLS_PER_SECOND))
        self.check_all(fleet)

    def test_no_redis(self) -> None:
        """A host loses Redis alone: its phones are refreshed and call whom it knows; for the others they are not there.

        When it has Redis again all of them agree, and Redis has what was acknowledged.
        """
        fleet = self.registered()
        alone = self.lab.registrars[0]
        theirs, others = fleet.at_face(0), fleet.at_face(1)
        held = fleet.call_pairs(zip(theirs[:HELD], others[:HELD], strict=True), CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(held)
        self.lab.host(alone.name).lose(self.lab.redis_host)
        self.addCleanup(self.lab.host(alone.name).find, self.lab.redis_host)
        cut_at = monotonic()
        fleet.refresh(REFRESHES_PER_SECOND)
        self.check_lookups(self.lab.registrars[1:], theirs, cut_at, "its host lost Redis")
        vain = fleet.call_pairs(zip(others, theirs[:STAYING], strict=False), CALLS_PER_SECOND)
        known = [*theirs[-2:], *others[:HELD]]
        within = fleet.call_pairs(zip(theirs, known, strict=False), CALLS_PER_SECOND)
        unknown = fleet.call_pairs(zip(theirs, others[HELD : 2 * HELD], strict=False), CALLS_PER_SECOND)
        fleet.hang_up(held[::2])
        self.check_ended(fleet, [*within, *held[::2]])
        self.check_refused(fleet, vain, "480")
        self.check_refused(fleet, unknown, "503")
        journaled = alone.metric("rollcall_location_events_total", event="journal_written")
        self.figure(f"calls to phones of a host without Redis got 480 after {took(vain)}; {journaled:.0f} refreshes of "
                    "its own were answered by its journal")
        self.assertGreater(journaled, 0)
        self.lab.host(alone.name).find(self.lab.redis_host)
        self.check_back(alone, theirs, "its host had Redis again")
        fleet.refresh(0)
        fleet.hang_up(held[1::2], by_callee=True)
        self.check_ended(fleet, held)
        self.check_ended(fleet, fleet.call_pairs(zip(others, theirs, strict=False), CALLS_PER_SECOND))
        self.wait_converged()
        self.check_all_accepted(fleet)
        self.assertEqual(fleet.endings, [])
        self.check_all(fleet)

    def test_emptied_redis(self) -> None:
        """Somebody empties Redis: no node is taken for dead, and all that was acknowledged is there again."""
        fleet = self.registered()
        logged = [len(node.log()) for node in self.lab.registrars]
        self.server.ask("FLUSHALL")
        for node in self.lab.registrars:
            wait(lambda here: len(self.found(here, fleet.phones)) == PHONES, node, "return of all bindings")
        self.wait_converged()
        self.check_all(fleet)
        for node, start in zip(self.lab.registrars, logged, strict=True):
            self.assertNotIn("has ended", node.log()[start:])
            self.assertEqual(len(node.get("/v1/nodes")["nodes"]), len(self.lab.registrars))

    # --- what is done and looked at

    def registered(self) -> Fleet:
        """Return phones that are registered, as many with each registrar."""
        fleet = self.fleet()
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        return fleet

    def check_routes(self, call: Call) -> None:
        """Check that each phone sends to its own node what is within a call, and that all that is named are nodes."""
        faces = [host for host, _ in self.lab.tcp]
        for phone, routes in ((call.caller, call.callers_routes), (call.callee, call.callees_routes)):
            named = [found[1] for route in routes if (found := _HOST.search(route))]
            self.assertEqual(named[0], faces[phone.face], call)
            self.assertLessEqual(set(named), set(faces), call)

    def check_ended(self, fleet: Fleet, calls: Iterable[Call]) -> None:
        """Check that calls have gone as they should."""
        calls = list(calls)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])

    def check_refused(self, fleet: Fleet, calls: Iterable[Call], status: str) -> None:
        """Check that calls have failed as they should."""
        calls = list(calls)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if not call.why.startswith(status)], [])

    def check_lookups(self, nodes: Iterable[Node], phones: list[FleetPhone], since: float, what: str) -> None:
        """Look phones up until no node finds one of them: until the lease is over."""
        ended = {}
        for node in nodes:
            wait(lambda here: not self.found(here, phones), node, "end of the lease")
            ended[node.name] = monotonic() - since
        self.figure(f"until nobody found a phone of a node after {what}: "
                    + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in ended.items())
                    + f" (lease of {LEASE_SECONDS:g} s)")
        # So long nodes that have just had Redis back, by the test before, wait for others to renew their leases.
        self.assertLess(max(ended.values()), LEASE_SECONDS + 2 * RENEW_SECONDS)

    def check_back(self, node: Node, phones: list[FleetPhone], what: str) -> None:
        """Wait until every registrar finds these phones again, which have registered with that node."""
        since = monotonic()
        for each in self.lab.registrars:
            wait(lambda here: bool(here.metric("rollcall_redis_up")), each, "Redis")
            wait(lambda here: len(self.found(here, phones)) == len(phones), each, f"the phones of {node.name}")
        self.figure(f"all phones found again {monotonic() - since:.1f} s after {what}")

    def found(self, node: Node, phones: list[FleetPhone]) -> set[str]:
        """Return which of these phones' contacts a registrar finds."""
        return {each["contact"] for each in node.contacts()} & {phone.acknowledged_contact for phone in phones}

    def check_all(self, fleet: Fleet) -> None:
        """Check every record, as each registrar sees it and as it stands in Redis."""
        for node in self.lab.registrars:
            self.check_promises(fleet, node)
        self.compare(fleet)


class OtherLivesTests(HostsCase):
    """Three registrars that have nothing but IPv6 addresses; the third one has another secret than the others."""

    users = 3
    has_ipv6 = True
    sections = (f"[cluster]\nlease_seconds = {LEASE_SECONDS}\nrenew_seconds = {RENEW_SECONDS}\n"
                f"reconnect_wait = {RECONNECT_WAIT}\njanitor_seconds = 1.0\n")
    own: ClassVar = {"registrar-3": {"registrar": {"secret_file": "other.secret"}}}
    expected = (OVER,)

    def test_calls(self) -> None:
        """Calls go over IPv6 alone, both ways, and each phone is told of its own node."""
        alice, bob = self.phone(0), self.phone(1)
        self.check_call(alice, bob)
        self.check_call(bob, alice)

    def test_silent_for_long(self) -> None:
        """A host is back after its phones were removed: its life is over, it says so and ends; a new one serves."""
        alice, bob = self.phone(0), self.phone(1)
        here, silent = self.lab.registrars[:2]
        host = self.lab.host(silent.name)
        host.pull_out()
        self.addCleanup(host.plug_in)
        wait_until(lambda: b"ended_at" in (self.server.ask("GET", f"node:{silent.name}") or b"") or None,
                   "the end of the life of the silent host", BACK_SECONDS)
        wait_until(lambda: not self.bound(here, bob) or None, "removal of what it had", BACK_SECONDS)
        self.assertTrue(silent.running)
        host.plug_in()
        plugged_at = monotonic()
        self.assertNotEqual(silent.wait_ended(BACK_SECONDS), 0, "systemd starts anew only what has failed")
        self.figure(f"a host that came back too late ended itself within {monotonic() - plugged_at:.1f} s")
        self.assertIn(OVER, silent.log())
        silent.start()
        self.assertEqual(self.bound(here, bob), [])
        bob = self.phone(1)
        self.assertEqual(self.bound(here, bob), [bob.contact])
        self.check_call(alice, bob)

    def test_stranger(self) -> None:
        """A node with another secret gets through to nobody, nor anybody to it; both say so, and callers are told."""
        alice, carol = self.phone(0), self.phone(2)
        self.invited(alice, carol)
        self.invited(carol, alice)
        self.assertEqual([caller.final().status for caller in (alice, carol)], [480, 480])
        here, _, stranger = self.lab.registrars
        for one, other in ((here, stranger), (stranger, here)):
            self.assertIn(f"no connection with member {other.name}", one.log())
            peer = re.escape(other.tcp[0])
            self.assertRegex(one.log(), rf"'{peer}', \d+\) did not prove to be a member .* has another key")

    def test_twin(self) -> None:
        """Who has the name of a living node does not start, and does that node no harm."""
        alice, bob = self.phone(0), self.phone(1)
        living = self.lab.registrars[0]
        twin = self.lab.twin(living.name)
        twin.begin()
        self.addCleanup(twin.stop)
        self.assertNotEqual(twin.wait_ended(BACK_SECONDS), 0)
        self.assertIn(f"there is a node {living.name} already", twin.log())
        self.assertTrue(living.is_ready())
        self.check_call(alice, bob)
        self.assertNotIn(OVER, living.log())

    # --- what is done

    def phone(self, index: int) -> Phone:
        """Return the phone of a user that is registered with the registrar of the same number."""
        user = self.lab.users[index]
        with self.lab.phones_host.entered():
            phone = Phone("TCP", self.lab.tcp[index], user.username, self.lab.domain, user.password,
                          self.lab.phones_host.ipv6)
        self.addCleanup(phone.close)
        self.assertEqual(phone.register().status, 200)
        return phone

    def invited(self, caller: Phone, callee: Phone) -> Request:
        """Let one phone call the other and prove who it is; return the INVITE."""
        invite = caller.make("INVITE", f"sip:{callee.user}@{callee.domain}", [("Contact", f"<{caller.contact}>")])
        caller.send(invite)
        challenge = caller.final()
        caller.acknowledge(invite, challenge)
        again = caller.authorised(invite, challenge)
        caller.send(again)
        return again

    def check_call(self, caller: Phone, callee: Phone) -> None:
        """Let one phone call the other and hang up; either is told to send what is within the call to its own node."""
        invite = self.invited(caller, callee)
        came = callee.request()
        callee.answer(came, 200)
        answered = caller.final()
        self.assertEqual(answered.status, 200)
        for phone, route in ((caller, answered.values("Record-Route")[-1]), (callee, came.values("Record-Route")[0])):
            self.assertIn(f"@[{phone.server[0]}]:{phone.server[1]};", route)
        caller.send(caller.within("ACK", invite, answered))
        self.assertEqual(callee.request().method, "ACK")
        caller.send(caller.within("BYE", invite, answered, cseq=LATE_CSEQ))
        callee.answer(callee.request(), 200)
        self.assertEqual(caller.final().status, 200)

    def bound(self, node: Node, phone: Phone) -> list[str]:
        """Return the contacts that a registrar finds for the user of a phone."""
        return [each["contact"] for each in node.contacts(f"aor=sip:{phone.user}@{phone.domain}")]


def wait(look: Callable[[Node], bool], node: Node, what: str) -> None:
    """Return when `look` says so of a registrar."""
    wait_until(lambda: look(node) or None, f"{what}, as {node.name} sees it", BACK_SECONDS)


def took(calls: Iterable[Call]) -> str:
    """Return how long calls took until they were over."""
    return spread(call.ended_at - call.begun_at for call in calls)
