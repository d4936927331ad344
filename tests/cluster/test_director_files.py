"""keepalived, HAProxy and the kernel accept whatever is written for them, in all its variations."""

import subprocess
from collections.abc import Iterator
from itertools import cycle, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors import haproxy, keepalived, nftables, sysctl
from registrar.distribution.directors.config import DirectorsConfig
from registrar.distribution.directors.layout import Layout, Role
from tests.cluster.namespaces import Namespace, namespace_or_skip
from tests.registrar.distribution.directors.clusters import (
    ALONE,
    BOTH,
    DIRECTORS,
    NODES,
    TCP4,
    TCP6,
    TLS4,
    UDP_OWN,
    VIRTUAL4,
    VIRTUAL6,
    WS4,
    a_layout,
)

ONE_FAMILY: dict[str, Any] = {"addresses": (f"{VIRTUAL4}/24",)}
OTHER_FAMILY: dict[str, Any] = {"addresses": (f"{VIRTUAL6}/64", "2001:db8::20")}
SCHEDULERS = ("mh", "sh", "wlc", "lc", "wrr", "rr", "sed", "nq")
VARIATIONS: tuple[dict[str, Any], ...] = (
    {}, ONE_FAMILY, OTHER_FAMILY, {"unicast": True}, {"sync": False}, {"advert_seconds": 0.05},
    {"sync_interface": "eth1", "sync_id": 0}, {"virtual_router_id": 255, "quorum": 3},
    {"check_fall": 1, "check_rise": 1},
    {"preempt": True, "directors": (evolve(DIRECTORS[0], priority=254), evolve(DIRECTORS[1], priority=52))},
    {"unicast": True, "directors": DIRECTORS[:1]},
    {"check_timeout_seconds": 0.1, "check_seconds": 10}, {"streams_by": "none"}, {"datagrams_by": "none"},
    *({"scheduler": scheduler} for scheduler in SCHEDULERS),
)

Balance = Literal["leastconn", "source", "roundrobin", "random"]


class FilesCase(SynchronousTestCase):
    """Has a namespace with the interfaces of a director."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.folder.chmod(0o755)
        self.place: Namespace = namespace_or_skip()
        self.addCleanup(self.place.close)
        self.place.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
        for name, address in (("eth0", "192.0.2.1/24"), ("eth0", "2001:db8::1/64"), ("eth1", "10.0.0.2/24")):
            self.place.run("ip", "addr", "add", address, "dev", name)
            self.place.run("ip", "link", "set", name, "up")


class KeepalivedTests(FilesCase):
    def test_accepted(self) -> None:
        """keepalived -t has no complaint about any variation, and finds what is wrong with a file that is."""
        number = 0
        for layout, role, name in variations():
            complaint = self.complaint(keepalived.render(layout, role, name))
            self.assertEqual(complaint, "", f"{role} {name} {layout.config}")
            number += 1
        self.assertGreater(number, 40)
        self.assertIn("Unknown keyword", self.complaint(keepalived.render(a_layout(), "director", "lb1").replace(
            "delay_loop", "delay_lop")))

    def complaint(self, text: str) -> str:
        """Return what keepalived says of a file; empty when it is good."""
        path = self.folder / "keepalived.conf"
        path.write_text(text.replace("/run/rollcall-drain", str(self.folder / "drain")))
        # keepalived 2.2.7 -t takes itself for an orphan, and ends itself, when it looks for scripts as another user and
        # its parent has a number: in a namespace of processes it has none.
        with self.place.entered():
            done = subprocess.run(["unshare", "--pid", "--fork", "keepalived", "-t", "-f", str(path)], check=False,
                                  capture_output=True, text=True)
        # It does not count a warning as a fault.
        return done.stderr.strip() or (f"ended with {done.returncode}" if done.returncode else "")


class OthersTests(FilesCase):
    def test_haproxy(self) -> None:
        """haproxy -c accepts every variation without a warning."""
        proxies = ("192.0.2.0/30", "2001:db8::/126")
        tcp, tls = evolve(TCP4, proxy_protocol_from=proxies), evolve(TLS4, proxy_protocol_from=proxies)
        variations = product(({}, ONE_FAMILY, OTHER_FAMILY), ((), ("192.0.2.11:5090",), ("[::]:5090",)), (0, 60))
        balances: Iterator[Balance] = cycle(("leastconn", "source", "roundrobin", "random"))
        for (families, agent, slow), balance in zip(variations, balances, strict=False):
            config = evolve(BOTH, streams_by="haproxy", datagrams_by="none", proxy_balance=balance,
                            proxy_slow_start_seconds=slow, **families)
            path = self.folder / "haproxy.cfg"
            path.write_text(haproxy.render(a_layout(config, (tcp, TCP6, tls, WS4, UDP_OWN), agent)))
            done = subprocess.run(["haproxy", "-c", "-q", "-f", str(path)], check=False, capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, ""), config)

    def test_nftables(self) -> None:
        """The kernel takes the table, again and again, and new weights, in one transaction each."""
        config = evolve(BOTH, streams_by="nftables", datagrams_by="nftables")
        layout = a_layout(config, (TCP4, TCP6, TLS4, UDP_OWN))
        table = nftables.render(layout)
        for text in (table, table, *(nftables.weights(layout, weights) for weights in ({"node1": 0, "node2": 9},
                                                                                       {"node1": 253, "node2": 1}))):
            path = self.folder / "rollcall.nft"
            path.write_text(text)
            self.place.run("nft", "-c", "-f", str(path))
            self.place.run("nft", "-f", str(path))
        listed = self.place.run("nft", "list", "table", "inet", "rollcall")
        self.assertEqual(listed.count("dnat ip to ct mark map @nodes4"), 2)
        self.assertIn("2001:db8::11", listed)

    def test_sysctl(self) -> None:
        """The kernel knows every setting, but for those of ip_vs where it is without it."""
        layout = a_layout(evolve(BOTH, streams_by="haproxy", directors=()))
        roles: tuple[Role, ...] = ("director", "node", "both")
        for role in roles:
            for line in sysctl.render(layout, role).splitlines():
                if not line.startswith("#") and not line.startswith("net.ipv4.vs."):
                    self.place.run("sysctl", "-q", "-w", line.replace(" = ", "="))


def variations() -> Iterator[tuple[Layout, Role, str]]:
    """Yield clusters with a machine of them and its role."""
    for changes in VARIATIONS:
        config = evolve(BOTH, **changes)
        yield a_layout(config), "director", "lb1"
        if "streams_by" not in changes and "datagrams_by" not in changes:
            yield a_layout(config, agent=()), "node", NODES[1].name
    for changes in (ONE_FAMILY, OTHER_FAMILY, {"unicast": True}):
        yield a_layout(evolve(ALONE, **changes)), "both", "node1"
        yield a_layout(evolve(BOTH, directors=(), **changes)), "both", "node2"
    yield a_layout(behind("haproxy")), "director", "lb2"
    yield a_layout(behind("nftables"), (TCP4, TCP6, UDP_OWN)), "director", "lb2"


def behind(means: Literal["haproxy", "nftables"]) -> DirectorsConfig:
    """Return a cluster that has something else than LVS."""
    gateways = ("10.0.0.1/24",) if means == "nftables" else ()
    return evolve(BOTH, streams_by=means, gateways=gateways, datagrams_by="lvs" if means == "haproxy" else "nftables")
