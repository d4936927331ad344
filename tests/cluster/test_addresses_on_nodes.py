"""Virtual addresses on the nodes themselves: real keepalived beside each, with what our command writes for it."""

from pathlib import Path
from time import monotonic
from typing import ClassVar

import pytest

from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.hosts import HostsCase
from tests.cluster.namespaces import DEVICE
from tests.interop.process import InteropError, wait_until
from tools.laboratory.balancers import BesidePhones, rendered
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections

PHONES = 20
VIRTUAL, SIP_PORT, AGENT_PORT = "10.77.0.10", 5060, 5090
REGISTRATIONS_PER_SECOND = 200.0
SETTLED_SECONDS = 30.0
QUIET_SECONDS = 6.0
"""Longer than a backup waits before it takes over: whoever means to take something has done so by then."""


class Keepalived(BesidePhones):
    """keepalived beside a registrar."""

    def start(self, text: str) -> None:
        """Start it with this configuration."""
        (self.folder / "keepalived.conf").write_text(text)
        files = [word for option, name in (("-p", "main"), ("-r", "vrrp"), ("-c", "checkers"))
                 for word in (option, str(self.folder / f"{name}.pid"))]
        self.begin("keepalived", "-n", "-l", "-D", "-P", "-f", str(self.folder / "keepalived.conf"), *files)


@pytest.mark.long
class AddressTests(HostsCase):
    """Two registrars, of which one has the address."""

    registrars = 2
    users = PHONES
    sections = "[cluster]\ndrain_grace_seconds = 4.0\ndrain_flows_per_second = 200.0\n"
    keepalived: ClassVar[dict[str, Keepalived]]

    @classmethod
    def setUpClass(cls) -> None:
        addresses = {f"registrar-{number}": f"10.77.0.{10 + number}" for number in (1, 2)}
        cls.own = {name: cls.own_of(address, addresses) for name, address in addresses.items()}
        super().setUpClass()
        cls.keepalived = {}
        for node in cls.lab.registrars:
            made = Keepalived(cls.lab.host(node.name), node.folder / "keepalived", "keepalived")
            made.start(rendered("keepalived", node.config, "--role", "both", "--name", node.name))
            cls.keepalived[node.name] = made

    @classmethod
    def tearDownClass(cls) -> None:
        for each in cls.keepalived.values():
            each.stop()
        super().tearDownClass()

    @classmethod
    def own_of(cls, own: str, addresses: dict[str, str]) -> Sections:
        """Return what stands in one node's configuration: the section is the same on both."""
        return {
            "listen": [{"name": "tcp", "transport": "tcp", "host": "0.0.0.0", "port": SIP_PORT,
                        "advertise_host": VIRTUAL}],
            "health": {"agent": [f"{own}:{AGENT_PORT}"]},
            "directors": {
                "streams_by": "none", "datagrams_by": "none", "addresses": [f"{VIRTUAL}/24"], "interface": DEVICE,
                "nodes": [{"name": name, "addresses": [address]} for name, address in addresses.items()],
                "drain_file": str(Path("/run") / f"rollcall-drain-{own}"), "check_user": "root"}}

    def holders(self) -> list[Node]:
        """Return who has the virtual address."""
        return [node for node in self.lab.registrars
                if f" {VIRTUAL}/" in self.lab.host(node.name).run("ip", "-4", "addr", "show", "dev", DEVICE)]

    def wait_holder(self, *wanted: Node) -> Node:
        """Return the one that has the address, once exactly one has it, and that is one of these."""
        def found() -> Node | None:
            holders = self.holders()
            return holders[0] if len(holders) == 1 and holders[0] in (wanted or self.lab.registrars) else None
        return wait_until(found, "one holder of the address", SETTLED_SECONDS)

    def registered(self) -> Fleet:
        """Return phones that have registered at the virtual address."""
        behaviour = Behaviour(refused_seconds=0.1)
        made = self.fleet_of([(VIRTUAL, SIP_PORT)], self.lab.users, behaviour, self.lab.phones_host)
        made.register_all(REGISTRATIONS_PER_SECOND)
        return made

    def moved(self, fleet: Fleet, began: float, wanted: Node, what: str) -> None:
        """Wait until this node has the address, and all phones; show how long each took."""
        self.wait_holder(wanted)
        moved = monotonic() - began
        wait_until(lambda: {each["node"] for each in wanted.contacts()} == {wanted.name} or None, "all phones there",
                   SETTLED_SECONDS)
        fleet.wait_registered(fleet.phones, SETTLED_SECONDS)
        self.figure(f"{what}: the address was at the other node after {moved:.1f} s, all {PHONES} phones after "
                    f"{monotonic() - began:.1f} s")

    def test_moves(self) -> None:
        """The address leaves a node that is killed or drained, and does not go back for one that has come back."""
        first = self.wait_holder()
        second = next(node for node in self.lab.registrars if node is not first)
        fleet = self.registered()
        fleet.refresh(PHONES)
        began = monotonic()
        first.kill()
        self.moved(fleet, began, second, "the registrar was killed")
        first.start()
        self.assertRaises(InteropError, wait_until, lambda: self.holders() != [second] or None, "a move", QUIET_SECONDS)
        began = monotonic()
        first.post(f"/v1/nodes/{second.name}/drain", {"undo": False})
        self.moved(fleet, began, first, "the node was drained")
        fleet.refresh(0)
