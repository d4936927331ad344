"""Registrars behind real HAProxy, and behind the kernel's table, as our own commands set them up.

Phones know the virtual address alone; the registrars see the phones' own addresses all the same.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import pytest

from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.hosts import HostsCase
from tests.cluster.namespaces import DEVICE, Host
from tests.interop.process import wait_until
from tools.laboratory.balancers import ROLLCALL, HaproxyProcess, NftTable, NftWeights, rendered
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections

PHONES = 40
DIRECTOR = 3
# Phones are in a network of their own, so that nodes answer them by way of the director, as DNAT needs it.
VIRTUAL, OUTSIDE, PHONES_ADDRESS = "10.78.0.10", "10.78.0.3", "10.78.0.100"
SIP_PORT, TLS_PORT, AGENT_PORT = 5060, 5061, 5090
REGISTRATIONS_PER_SECOND = 200.0
SETTLED_SECONDS = 20.0


class DirectedCase(HostsCase):
    """Two registrars and a director."""

    registrars = 2
    users = PHONES
    sections = "[cluster]\ndrain_grace_seconds = 1.0\ndrain_flows_per_second = 200.0\n"
    streams_by: ClassVar[str]
    director: ClassVar[Host]
    folder: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        addresses = {f"registrar-{number}": f"10.77.0.{10 + number}" for number in (1, 2)}
        cls.own = {name: cls.own_of(address, addresses) for name, address in addresses.items()}
        super().setUpClass()
        cls.director = cls._network.host(DIRECTOR)
        cls.folder = cls.lab.folder / "director"
        for host, address in ((cls.director, VIRTUAL), (cls.director, OUTSIDE), (cls.lab.phones_host, PHONES_ADDRESS)):
            host.run("ip", "addr", "add", f"{address}/24", "dev", DEVICE)
        for node in cls.lab.registrars:
            cls.lab.host(node.name).run("ip", "route", "add", "10.78.0.0/24", "via", cls.director.ipv4)

    @classmethod
    def own_of(cls, own: str, addresses: dict[str, str]) -> Sections:
        """Return what stands in one node's configuration: all have the same [directors]."""
        ports = {"tcp": SIP_PORT, "tls": TLS_PORT, "udp": SIP_PORT}
        listeners: list[dict[str, object]] = [
            {"name": name, "transport": name, "host": own, "port": port} for name, port in ports.items()]
        if cls.streams_by == "haproxy":
            for listener in listeners[:2]:
                listener["proxy_protocol_from"] = ["10.77.0.3/32"]
        return {
            "listen": listeners, "health": {"agent": [f"{own}:{AGENT_PORT}"]},
            "directors": {
                "streams_by": cls.streams_by, "datagrams_by": "nftables", "addresses": [f"{VIRTUAL}/24"],
                "directors": [{"name": "director", "addresses": ["10.77.0.3"]}],
                "nodes": [{"name": name, "addresses": [address]} for name, address in addresses.items()],
                "check_seconds": 1, "check_timeout_seconds": 1.0, "proxy_slow_start_seconds": 0}}

    @property
    def config(self) -> Path:
        """The configuration of which all is rendered: that of any node will do."""
        return self.lab.registrars[0].config

    def registered(self) -> Fleet:
        """Return phones that have registered by way of the virtual address."""
        behaviour = Behaviour(refused_seconds=0.1)
        made = self.fleet_of([(VIRTUAL, SIP_PORT)], self.lab.users, behaviour, self.lab.phones_host)
        made.register_all(REGISTRATIONS_PER_SECOND)
        return made

    def spread(self) -> Counter[str]:
        """Return how many bindings hang on connections of each node, as one that runs sees it."""
        return Counter(contact["node"] for contact in self.running().contacts())

    def running(self) -> Node:
        """Return a registrar that runs."""
        return next(node for node in self.lab.registrars if node.running)

    def check_seen(self) -> None:
        """Check that all bindings came from the phones' own address, and that both nodes have some."""
        self.assertEqual({contact["host"] for contact in self.running().contacts()}, {PHONES_ADDRESS})
        spread = self.spread()
        self.assertEqual((len(spread), spread.total()), (2, PHONES), spread)
        self.figure(f"{type(self).__name__}: {PHONES} phones, seen by their own address, on nodes {dict(spread)}")

    def check_reached(self, transport: str, port: int) -> None:
        """Check that a phone reaches a node by this transport: the command fails when there is no 200."""
        self.lab.phones_host.run(ROLLCALL, "check-sip", f"{VIRTUAL}:{port}", "--transport", transport, "--domain",
                                 self.lab.domain)

    def drain(self, node: Node, undo: bool = False) -> None:
        """Drain a node by way of the other one."""
        other = next(each for each in self.lab.registrars if each is not node)
        other.post(f"/v1/nodes/{node.name}/drain", {"undo": undo})

    def check_all_at(self, fleet: Fleet, node: Node, what: str, began: float) -> None:
        """Check that soon every phone is registered at this node, and none elsewhere."""
        wait_until(lambda: self.spread() == {node.name: PHONES} or None, f"all phones at {node.name}: {what}",
                   SETTLED_SECONDS)
        fleet.wait_registered(fleet.phones, SETTLED_SECONDS)
        self.figure(f"{type(self).__name__}: {what}: all {PHONES} phones at the other node after "
                    f"{monotonic() - began:.1f} s")

    def check_moves(self, fleet: Fleet, is_back: Callable[[], Any]) -> None:
        """Drain the first node, undo it, then kill the second one; `is_back` tells that the first one gets new ones."""
        first, second = self.lab.registrars
        began = monotonic()
        self.drain(first)
        self.check_all_at(fleet, second, "one node was drained", began)
        self.check_drained()
        self.drain(first, undo=True)
        wait_until(lambda: is_back() or None, "new phones for the node that was drained", SETTLED_SECONDS)
        began = monotonic()
        second.kill()
        self.check_all_at(fleet, first, "one node was killed", began)


    def check_drained(self) -> None:
        """Check that the director takes the first node for what it is now."""


class HaproxyTests(DirectedCase):
    """HAProxy with PROXY headers, agent and checks."""

    streams_by = "haproxy"

    def test_moves(self) -> None:
        """Phones' own addresses are seen; a drained node gets none and keeps none; a killed one's go to the other."""
        self.proxy = proxy = HaproxyProcess(self.director, self.folder, rendered("haproxy", self.config))
        proxy.start()
        self.addCleanup(proxy.stop)
        server = ("sip_tcp_5060", self.lab.registrars[0].name)
        wait_until(lambda: set(proxy.states().values()) == {"UP"} or None, "both nodes in HAProxy", SETTLED_SECONDS)
        fleet = self.registered()
        self.check_seen()
        self.check_reached("tls", TLS_PORT)
        self.check_moves(fleet, lambda: proxy.states()[server] == "UP")

    def check_drained(self) -> None:
        """See DirectedCase: it is not down, for HAProxy would have ended its connections then."""
        state = self.proxy.states()["sip_tcp_5060", self.lab.registrars[0].name]
        self.assertTrue(state.startswith("DRAIN"), state)
        self.assertNotIn("is DOWN", self.proxy.log())


class NftablesTests(DirectedCase):
    """The kernel's table, with weights that `rollcall nftables weights` keeps."""

    streams_by = "nftables"

    def spreading(self) -> NftWeights:
        """Return what keeps the weights of a new table."""
        NftTable(self.director, self.folder, rendered("nftables", self.config)).load()
        weights = NftWeights(self.director, self.folder, self.config)
        weights.start()
        self.addCleanup(weights.stop)
        return weights

    def test_moves(self) -> None:
        """The same behind DNAT: a connection keeps its node until this node closes it."""
        weights = self.spreading()
        fleet = self.registered()
        self.check_seen()
        self.check_reached("tls", TLS_PORT)
        self.check_reached("udp", SIP_PORT)
        self.check_moves(fleet, lambda: weights.log().splitlines()[-1].startswith("Weights: registrar-1 100"))

    @pytest.mark.long
    def test_silence(self) -> None:
        """A host falls silent: whoever says something then is reset by the other node's kernel, and comes to it."""
        first, second = self.lab.registrars
        if not second.running:
            second.start()
        self.spreading()
        fleet = self.registered()
        self.assertEqual(len(self.spread()), 2)
        began = monotonic()
        self.lab.host(second.name).pull_out()
        self.addCleanup(self.lab.host(second.name).plug_in)
        fleet.refresh(PHONES)
        self.check_all_at(fleet, first, "one node's cable was cut, and its phones refreshed", began)
        fleet.refresh(0)
