"""The rendered keepalived.conf on two real directors: weights, drained nodes and dead nodes."""

from collections import Counter
from collections.abc import Mapping
from math import sqrt
from time import monotonic
from typing import ClassVar

import pytest

from tests.cluster.fleet import Fleet
from tests.cluster.fleet_phone import FleetPhone
from tests.lvs.case import (
    LATE_PHONES,
    REFRESHES_PER_SECOND,
    REGISTRATIONS_PER_SECOND,
    TCP,
    TCP_PHONES,
    UDP,
    UDP_PHONES,
    LvsCase,
)
from tests.lvs.lab import PHONES, SIP_PORT
from tools.laboratory.node import Node

pytestmark = pytest.mark.lvs

DEVIATIONS = 5.0
"""So many standard deviations a share may be off that a hash has drawn: once in a million runs it is off by more."""
GRACE_SECONDS = 600.0
"""How long a drained registrar waits until it closes anything: here until the test has seen that nothing new comes."""
SHORT_GRACE_SECONDS = 3.0
"""The same of the first one, whose phones the test wants to see moving."""
DRAINED_PER_SECOND = 40.0
PATIENCE_SECONDS = 60.0


class DirectorsTests(LvsCase):
    """Three registrars, of which the third is to have half as many phones as each of the others."""

    sections = f"[cluster]\ndrain_grace_seconds = {GRACE_SECONDS}\ndrain_flows_per_second = {DRAINED_PER_SECOND}\n"
    own: ClassVar = {"registrar-1": {"cluster": {"drain_grace_seconds": SHORT_GRACE_SECONDS}}}

    def test_spread(self) -> None:
        """Connections go to the registrars by weight, over TCP and UDP; each is seen with its phone's own address."""
        self.registered()
        phones = self.udp_phones(UDP_PHONES)
        for phone in phones:
            self.assertEqual(phone.register().status, 200)
        for service, transport, number in ((TCP, "tcp", TCP_PHONES), (UDP, "udp", UDP_PHONES)):
            weights = {name: server.weight for name, server in self.real(service).items()}
            held = self.held(transport)
            self.check_by_weight(held, weights, number)
            if transport == "tcp":
                self.wait_active(service, held)
            self.figure(f"{number} phones over {transport.upper()} by weights {weights}: {dict(sorted(held.items()))}")
        tables = self.lab.master.state().text.partition("[services]\n")[2].partition("[flows]")[0]
        self.figure(f"ipvsadm -ln at the master:\n{tables}")
        contacts = self.contacts()
        strange = [each for each in contacts if f"@{each['host']}:{each['port']}" not in each["contact"]]
        self.assertEqual(strange, [], "registrars see other addresses than phones have")
        self.assertEqual({each["host"] for each in contacts}, set(PHONES))
        self.remove(phones)

    def test_drained(self) -> None:
        """A drained registrar gets no new connection, and keeps those that it has."""
        fleet = self.registered(TCP_PHONES)
        node = self.lab.registrars[1]
        before = self.held()[node.name]
        theirs = self.phones_of(fleet, node)
        began = monotonic()
        node.post(f"/v1/nodes/{node.name}/drain")
        self.addCleanup(self.be_served_again, node)
        self.wait_weights(node, lambda weights: weights == [0, 0], "weight 0")
        known = monotonic() - began
        late = self.late()
        late.register_all(REGISTRATIONS_PER_SECOND)
        elsewhere = self.users_on(late)
        fleet.refresh(REFRESHES_PER_SECOND)
        fleet.wait(lambda: all(phone.acknowledged_at > began for phone in theirs), "refreshes of its phones")
        self.assertNotIn(node.name, elsewhere)
        self.assertEqual((len(theirs), [phone.user for phone in theirs if not phone.is_registered]), (before, []))
        self.assertEqual([each for each in fleet.endings if each.user in {phone.user for phone in theirs}], [])
        self.figure(f"drained registrar: weight 0 at both directors after {known:.1f} s; {LATE_PHONES} new phones went "
                    f"to {dict(sorted(elsewhere.items()))}, its {before} connections stayed")
        self.assertEqual(fleet.refusals, [])

    def test_sent_away(self) -> None:
        """Phones that a drained registrar sends away come back by the director, and to the others."""
        fleet = self.registered()
        node = self.lab.registrars[0]
        theirs = self.phones_of(fleet, node)
        self.addCleanup(self.be_served_again, node)
        began = monotonic()
        node.post(f"/v1/nodes/{node.name}/drain")
        fleet.wait(lambda: all(phone.back_at > began for phone in theirs), "return of all phones", PATIENCE_SECONDS)
        took = monotonic() - began
        self.assertNotIn(node.name, self.users_on(fleet))
        self.assertEqual({each.user for each in fleet.endings} - {phone.user for phone in theirs}, set())
        self.figure(f"phones sent away by a drained registrar after {SHORT_GRACE_SECONDS:.0f} s, "
                    f"{DRAINED_PER_SECOND:.0f} in a second: {len(theirs)} phones were with the others after "
                    f"{took:.1f} s, {len(fleet.endings) - len(theirs)} of them had to try again, "
                    f"{len(fleet.refusals)} were told 503")

    def test_killed(self) -> None:
        """A registrar that is killed leaves the virtual servers, and its phones register with the others."""
        fleet = self.registered()
        node = self.lab.registrars[0]
        theirs = self.phones_of(fleet, node)
        began = monotonic()
        self.addCleanup(self.be_started_again, node)
        node.kill()
        self.check_left(fleet, node, theirs, began, "was killed")

    def test_cut_off(self) -> None:
        """A registrar whose cable is cut leaves them, too; phones that refresh go to the others."""
        fleet = self.registered()
        node = self.lab.registrars[0]
        theirs = self.phones_of(fleet, node)
        fleet.refresh(REFRESHES_PER_SECOND)
        began = monotonic()
        self.addCleanup(self.be_reached_again, node)
        self.lab.host(node.name).pull_out()
        self.check_left(fleet, node, theirs, began, "had its cable cut")
        fleet.refresh(0)
        why = Counter(each.why for each in fleet.endings)
        self.figure(f"how the phones of the registrar without a cable noticed it: {dict(why)}")

    def wait_active(self, service: str, held: Mapping[str, int]) -> None:
        """Return when the master has as many connections open to each registrar as that has."""
        places = {f"{self.lab.host(name).ipv4}:{SIP_PORT}": number for name, number in held.items()}
        self.lab.master.wait(lambda state: {place: server.active for place, server in state.services[service].items()}
                             == places, "connections that registrars have")

    def check_by_weight(self, held: Counter[str], weights: Mapping[str, int], number: int) -> None:
        """Check that each registrar has its share, as far as chance lets a hash of so many phones give it."""
        self.assertEqual(sum(held.values()), number)
        for name, weight in weights.items():
            share = weight / sum(weights.values())
            most_off = DEVIATIONS * sqrt(number * share * (1 - share))
            self.assertLessEqual(abs(held[name] - number * share), most_off, f"{held} by {weights}")

    def check_left(self, fleet: Fleet, node: Node, theirs: list[FleetPhone], began: float, what: str) -> None:
        """Check that a registrar leaves all virtual servers of both directors, and its phones go to the others."""
        self.wait_weights(node, lambda weights: weights == [], "end")
        left = monotonic() - began
        fleet.wait(lambda: all(phone.is_registered and phone.back_at > began for phone in theirs),
                   f"return of the phones of {node.name}, which {what}", PATIENCE_SECONDS)
        back = sorted(phone.back_at - began for phone in theirs)
        homes = self.homes()
        self.assertEqual([phone.user for phone in fleet.phones if homes.get(phone.user) in (None, node.name)], [])
        others = [phone.user for phone in fleet.phones if phone not in theirs and phone.lost_at > began]
        self.assertEqual(others, [], "phones of other registrars have lost their connections")
        self.figure(f"registrar {what}: it left both directors after {left:.1f} s; its {len(theirs)} phones were back, "
                    f"with {dict(sorted(self.users_on(fleet).items()))}, within {back[-1]:.1f} s, half of them in "
                    f"{back[len(back) // 2]:.1f} s")
