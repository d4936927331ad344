"""A node is drained under registrations and calls: its phones move over at a pace, no call is lost; it is undone."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from socket import create_connection
from time import monotonic, sleep
from typing import Any, ClassVar

from tests.cluster.case import ClusterCase, spread
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import NOT_PLACED, Call, CallState
from tests.cluster.fleet_phone import FleetPhone
from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK, free_ports
from tools.laboratory.lab import Lab
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections, joined

PHONES = 900
HELD = 120
CALLS = 350
REGISTRATIONS_PER_SECOND = 500.0
REFRESHES_PER_SECOND = 100.0
CALLS_PER_SECOND = 35.0
RING_SECONDS = 0.5
TALK_SECONDS = 1.0
PACE = 50
"""Connections closed in a second; a third of the phones are gone after six."""
WINDOW_SECONDS = 2.0
"""Phones hear of the end of their connections a little later than it came, each by another time."""
LATE_SECONDS = 0.5
RENEW_SECONDS = 0.5
GRACE_SECONDS = 1.0
"""Until directors have heard of it nobody is refused and nothing is closed."""
HEARD_SECONDS = 3.0
"""A node hears of what is wished with its next renewal; the machine may be busy."""


class AgentLab(Lab):
    """A lab whose registrars tell directors of their weight, too."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.agents = {name: (LOOPBACK, port) for name, port in
                       zip(self._names, free_ports(len(self._names)), strict=True)}

    def _node(self, name: str, sections: Sections) -> Node:
        host, port = self.agents[name]
        return super()._node(name, joined(sections, {"health": {"agent": [f"{host}:{port}"]}}))


class DrainTests(ClusterCase):
    """Three registrars; the third one is drained."""

    lab: ClassVar[AgentLab]

    users = PHONES + 2
    sections = (f"[cluster]\nlease_seconds = {2 * RENEW_SECONDS}\nrenew_seconds = {RENEW_SECONDS}\n"
                f"drain_flows_per_second = {PACE}\ndrain_grace_seconds = {GRACE_SECONDS}\n")

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = AgentLab(Path(cls._folder.name), cls.registrars, cls.redis, cls.users, cls.sections)
        cls.lab.start()

    def setUp(self) -> None:
        self.others, self.drained = self.lab.registrars[:2], self.lab.registrars[2]

    def test_drain(self) -> None:
        """Every phone is registered elsewhere, nobody moved faster than at the pace, and every call went on.

        The node that is told is another one than the one that is drained.
        """
        fleet = self.fleet(PHONES, Behaviour(answer_seconds=RING_SECONDS))
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        theirs = fleet.at_face(2)
        self.check_listed(theirs)
        held = fleet.call_at_random(HELD, 2 * CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(held)
        fleet.refresh(REFRESHES_PER_SECOND)
        calls = fleet.call_at_random(CALLS, CALLS_PER_SECOND, hold_seconds=TALK_SECONDS)
        sleep(1.0)
        self.assertEqual(self.rollcall("drain", self.drained.name), {"nodes": [self.drained.name], "draining": True})
        told_at = monotonic()
        self.check_health(told_at)
        self.check_nobody_new()
        fleet.wait(lambda: not any(phone.face == 2 for phone in theirs), "departure of all phones", 20.0)
        fleet.wait_registered(fleet.phones)
        fleet.wait_calls(calls)
        fleet.refresh(0)
        fleet.hang_up(held[::2])
        fleet.hang_up(held[1::2], by_callee=True)
        fleet.wait_calls(held)
        self.check_moved(fleet, theirs, told_at)
        self.check_calls(fleet, calls, held)
        self.check_undone(fleet)

    # --- what is looked at

    def rollcall(self, *arguments: str) -> Any:
        """Return what the command answers with the configuration of the first node."""
        command = [sys.executable, "-m", "registrar.command", *arguments, "--json", "--config"]
        done = subprocess.run([*command, self.others[0].config], capture_output=True, check=True, text=True, timeout=20)
        return json.loads(done.stdout)

    def check_listed(self, theirs: list[FleetPhone]) -> None:
        """Check that the commands list the phones of a node, at any node, and its connections at itself."""
        contacts = self.rollcall("contacts", "--node", self.drained.name)["contacts"]
        self.assertEqual({each["aor"] for each in contacts}, {phone.aor for phone in theirs})
        flows = self.drained.get(f"/v1/flows?size={PHONES}")["flows"]
        self.assertEqual({aor for flow in flows for aor in flow["aors"]}, {phone.aor for phone in theirs})

    def check_health(self, told_at: float) -> None:
        """Check that whoever asks for the node's health hears that it is drained, and that all nodes know it."""
        while "draining" not in self.drained.readiness():
            self.assertLess(monotonic() - told_at, HEARD_SECONDS)
            sleep(0.02)
        self.figure(f"the command was told to another node; the drained one heard it after {monotonic() - told_at:.2f} "
                    f"s (leases are renewed every {RENEW_SECONDS:g} s)")
        with Phone("UDP", self.drained.tcp, "watch", self.lab.domain) as asking:
            asking.send(asking.make("OPTIONS", f"sip:{self.lab.domain}"))
            answer = asking.final()
            self.assertEqual((answer.status, bool(answer.get("Retry-After"))), (503, True))
        self.check_agreed(told_at, True)
        self.assertEqual(self.draining(), [self.drained.name])
        self.assertEqual([node.is_ready() for node in self.others], [True, True])

    def check_agreed(self, told_at: float, drained: bool) -> None:
        """Check that another node, by the lease, and the agent for directors say the same as the node itself."""
        state, wanted = (self.drained.name, drained), b"drain\n" if drained else b"ready up"
        while True:
            lease = self.others[1].get("/v1/nodes")["nodes"][2]
            said = self.asked_agent()
            if (lease["node"], lease["draining"]) == state and said.startswith(wanted):
                break
            self.assertLess(monotonic() - told_at, HEARD_SECONDS)
            sleep(0.02)
        self.assertEqual(lease["weight"] == 0, drained)
        self.figure(f"{'drained' if drained else 'undone'}: {monotonic() - told_at:.2f} s after the command its lease "
                    f"says weight {lease['weight']} and its agent {said.decode().strip()!r}")

    def asked_agent(self) -> bytes:
        """Return what the agent of the drained node says."""
        with create_connection(self.lab.agents[self.drained.name], 5.0) as asking:
            return b"".join(iter(lambda: asking.recv(100), b""))

    def draining(self) -> list[str]:
        """Return who is drained, as the first node knows it."""
        return [node["node"] for node in self.rollcall("nodes")["nodes"] if node["draining"]]

    def check_nobody_new(self) -> None:
        """Check that a phone that comes by datagrams is sent away and moves over, and that no connection is taken."""
        user = self.lab.users[-1]
        self.check_refused_later()
        for node, status in ((self.drained, 503), (self.others[0], 200)):
            with Phone("UDP", node.tcp, user.username, self.lab.domain, user.password) as phone:
                self.assertEqual(phone.register().status, status)

    def check_refused_later(self) -> None:
        """Wait until the grace is over, in which connections are taken as ever: directors may not know of it yet."""
        heard_at, taken = monotonic(), 0
        while True:
            try:
                create_connection(self.drained.tcp, 1.0).close()
            except ConnectionRefusedError:
                break
            taken += 1
            self.assertLess(monotonic() - heard_at, GRACE_SECONDS + HEARD_SECONDS)
            sleep(0.02)
        self.figure(f"{taken} connections were taken in the grace, the first one was refused after "
                    f"{monotonic() - heard_at:.2f} s (configured {GRACE_SECONDS:g})")

    def check_moved(self, fleet: Fleet, theirs: list[FleetPhone], told_at: float) -> None:
        """Check where the phones are, and how fast they went."""
        endings = sorted(ending.at for ending in fleet.endings if ending.face == 2)
        took = endings[-1] - endings[0]
        most = max(within(endings, WINDOW_SECONDS))
        self.figure(f"{len(endings)} phones moved over, the last connection ended {endings[-1] - told_at:.1f} s after "
                    f"the command; {(len(endings) - 1) / took:.1f} a second (configured {PACE}), at most {most} in "
                    f"{WINDOW_SECONDS:g} s")
        self.figure(f"from the end of the connection to the 200 of another node: "
                    f"{spread(phone.back_at - phone.lost_at for phone in theirs)}")
        self.assertEqual(len(endings), len(theirs))
        self.assertEqual([ending for ending in fleet.endings if ending.face != 2], [])
        self.assertLessEqual(most, PACE * (WINDOW_SECONDS + LATE_SECONDS))
        self.assertLessEqual((len(endings) - PACE) / PACE, took + LATE_SECONDS)
        self.assertEqual((fleet.refusals, fleet.unanswered, fleet.at_face(2)), ([], [], []))
        self.assertEqual(self.drained.get("/v1/flows")["flows"], [])
        self.assertEqual(self.drained.metric("rollcall_drained_flows_total"), len(theirs))
        for node in self.lab.registrars:
            self.check_promises(fleet, node)

    def check_calls(self, fleet: Fleet, calls: list[Call], held: list[Call]) -> None:
        """Check that every call came to its end in order."""
        moved = [call for call in held if {call.caller.lost_at, call.callee.lost_at} != {0.0}]
        # Who is on the way to another node at that moment places no call.
        placed = [call for call in (*calls, *held) if call.why != NOT_PLACED]
        lost = [str(call) for call in placed if call.state is not CallState.ENDED]
        self.assertLessEqual(len(calls) + len(held) - len(placed), 0.02 * len(calls))
        self.figure(f"calls lost: {len(lost)} of {len(calls)} that came meanwhile and {len(held)} that held, "
                    f"{len(moved)} of them with a phone that moved")
        self.assertEqual(lost, [])

    def check_undone(self, fleet: Fleet) -> None:
        """Check that phones come again when it is undone, and that they stay."""
        self.rollcall("drain", self.drained.name, "--undo")
        self.check_agreed(monotonic(), False)
        fleet.wait(self.drained.is_ready, "readiness of the node")
        self.assertEqual(self.draining(), [])
        user = self.lab.users[-2]
        with Phone("TCP", self.drained.tcp, user.username, self.lab.domain, user.password) as phone:
            self.assertEqual(phone.register().status, 200)
            (contact,) = self.others[0].contacts(f"aor=sip:{user.username}@{self.lab.domain}")
            self.assertEqual(contact["node"], self.drained.name)
            sleep(1.5)
            self.assertEqual(phone.register().status, 200)


def within(moments: list[float], seconds: float) -> Iterator[int]:
    """Yield for each moment how many there are from then on within so many seconds."""
    last = 0
    for first, moment in enumerate(moments):
        while last < len(moments) and moments[last] < moment + seconds:
            last += 1
        yield last - first

