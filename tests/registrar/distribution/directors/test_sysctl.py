"""What kernels are told."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.config import DirectorsConfig
from registrar.distribution.directors.layout import Role
from registrar.distribution.directors.sysctl import render
from tests.registrar.distribution.directors.clusters import ALONE, BOTH, TCP4, TCP6, UDP_OWN, a_layout


class RenderTests(SynchronousTestCase):
    def settings(self, config: DirectorsConfig, role: Role) -> dict[str, str]:
        """Return what is set."""
        listeners = (TCP4, TCP6, UDP_OWN)
        lines = render(a_layout(config, listeners), role).splitlines()
        return dict(line.split(" = ") for line in lines if not line.startswith("#"))

    def test_lvs(self) -> None:
        """A director forgets what was with a node that left; with other schedulers it takes no flow in its midst."""
        found = self.settings(BOTH, "director")
        self.assertEqual((found["net.ipv4.vs.expire_nodest_conn"], found["net.ipv4.vs.sloppy_tcp"]), ("1", "1"))
        self.assertEqual(found["net.ipv4.vs.sync_threshold"], "3 0")
        other = self.settings(evolve(BOTH, scheduler="rr", sync=False), "director")
        self.assertFalse({"net.ipv4.vs.sloppy_tcp", "net.ipv4.vs.sync_threshold"} & set(other))

    def test_node(self) -> None:
        """A node behind LVS does not answer ARP for what it has on lo; behind others it need not be told so."""
        found = self.settings(evolve(BOTH, interface="bond0.7"), "node")
        self.assertEqual(found["net.ipv4.conf.all.arp_ignore"], "1")
        self.assertEqual(found["net.ipv4.conf.bond0/7.arp_announce"], "2")
        self.assertEqual(self.settings(evolve(BOTH, streams_by="nftables", datagrams_by="nftables"), "node"), {})

    def test_both(self) -> None:
        """Who is both passes nothing on while it is a backup."""
        found = self.settings(evolve(BOTH, directors=()), "both")
        self.assertEqual(found["net.ipv4.vs.backup_only"], "1")
        self.assertIn("net.ipv4.conf.all.arp_ignore", found)

    def test_others(self) -> None:
        """HAProxy binds addresses that are elsewhere; DNAT passes packets on; addresses on nodes need nothing."""
        self.assertEqual(self.settings(evolve(BOTH, streams_by="haproxy", datagrams_by="none"), "director"),
                         {"net.ipv4.ip_nonlocal_bind": "1", "net.ipv6.ip_nonlocal_bind": "1"})
        self.assertEqual(self.settings(evolve(BOTH, streams_by="nftables"), "director")["net.ipv4.ip_forward"], "1")
        self.assertIn("Nothing need be set", render(a_layout(ALONE), "both"))
