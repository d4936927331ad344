"""What keepalived is told. That it understands every file is tried in tests/cluster/test_director_files.py."""

import re
from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.keepalived import render
from registrar.distribution.directors.layout import CannotRender, Role
from tests.registrar.distribution.directors.clusters import ALONE, BOTH, DIRECTORS, NODES, a_layout


def blocks(text: str) -> dict[str, str]:
    """Return what stands in each outermost block, by its first line."""
    found = re.findall(r"(?ms)^(\w[^\n]*) \{\n(.*?)^\}$", text)
    return dict(found)


class DirectorTests(SynchronousTestCase):
    def test_virtual_servers(self) -> None:
        """Each port of each virtual address is one, with its protocol; all nodes are its real servers."""
        found = blocks(render(a_layout(), "director", "lb1"))
        lines = render(a_layout(), "director", "lb1").splitlines()
        servers = [line for line in lines if line.startswith("virtual_server")]
        self.assertEqual(servers, [
            "virtual_server 192.0.2.10 80 {", "virtual_server 192.0.2.10 5060 {", "virtual_server 192.0.2.10 5060 {",
            "virtual_server 192.0.2.10 5061 {", "virtual_server 2001:db8::10 5060 {",
            "virtual_server 2001:db8::10 5060 {"])
        self.assertEqual([line.split()[1] for line in lines if line.startswith("    protocol")],
                         ["TCP", "TCP", "UDP", "TCP", "TCP", "UDP"])
        body = found["virtual_server 192.0.2.10 5061"]
        self.assertEqual(re.findall(r"real_server (\S+ \d+)", body), ["192.0.2.11 5061", "192.0.2.12 5061"])
        self.assertEqual(re.findall(r"(?m)^        weight (\d+)", body), ["100", "50"])
        self.assertIn("lvs_method DR\n", body)
        self.assertNotIn("inhibit_on_failure", body)

    def test_checks(self) -> None:
        """A check says the service's own port, the agent and the configured weight; it may take its own time-outs."""
        body = blocks(render(a_layout(evolve(BOTH, check_fall=3)), "director", "lb1"))["virtual_server 192.0.2.10 5061"]
        self.assertIn('misc_path "/bin/true check-sip 192.0.2.12:5061 --transport tls --domain example.com --timeout 2 '
                      '--agent 192.0.2.12:5090 --weight 50 --quiet"\n', body)
        for line in ("misc_timeout 4", "misc_dynamic", "retry 2"):
            self.assertIn(f"            {line}\n", body)

    def test_without_agent(self) -> None:
        """Without an agent the answer to OPTIONS alone counts; a node has its weight back when its drain is undone."""
        text = render(a_layout(agent=()), "director", "lb1")
        self.assertNotIn("--agent", text)
        self.assertIn("--timeout 2 --weight 50 --quiet", text)

    def test_virtual_addresses(self) -> None:
        """An instance for each family, of version 3, in one group; nobody is preferred."""
        found = blocks(render(a_layout(), "director", "lb1"))
        self.assertIn("vrrp_version 3\n", found["global_defs"])
        self.assertIn("        SIP4\n        SIP6\n", found["vrrp_sync_group SIP"])
        for family, address in ((4, "192.0.2.10/24 dev eth0"), (6, "2001:db8::10/64 dev eth0")):
            self.assertIn(f"        {address}\n", found[f"vrrp_instance SIP{family}"])
            self.assertIn("priority 100\n", found[f"vrrp_instance SIP{family}"])
        self.assertNotIn("track_script", found["vrrp_sync_group SIP"])

    def test_one_family(self) -> None:
        """One instance alone has no group, and follows the file that drains it by itself."""
        found = blocks(render(a_layout(evolve(BOTH, addresses=("192.0.2.10/24",))), "director", "lb1"))
        self.assertNotIn("vrrp_sync_group SIP", found)
        self.assertIn("track_file", found["vrrp_instance SIP4"])

    def test_unicast(self) -> None:
        """Without multicast a director names the others by their addresses of the family."""
        found = blocks(render(a_layout(evolve(BOTH, unicast=True)), "director", "lb1"))
        self.assertIn("unicast_src_ip 2001:db8::1\n    unicast_peer {\n        2001:db8::2\n    }",
                      found["vrrp_instance SIP6"])

    def test_synchronisation(self) -> None:
        """Directors tell each other of connections by the interface that is set, or not at all."""
        self.assertIn("lvs_sync_daemon eth9 SIP4 id 7\n",
                      render(a_layout(evolve(BOTH, sync_interface="eth9", sync_id=7)), "director", "lb1"))
        self.assertNotIn("lvs_sync", render(a_layout(evolve(BOTH, sync=False)), "director", "lb1"))

    def test_quiet_connections(self) -> None:
        """LVS remembers a connection for longer than the nodes' kernels do: 600 + 4 * 30 s and some."""
        self.assertIn("lvs_timeouts tcp 900 ", render(a_layout(), "director", "lb1"))

    def test_scheduler(self) -> None:
        """Only those schedulers that hash have settings of theirs."""
        text = render(a_layout(evolve(BOTH, scheduler="wlc")), "director", "lb1")
        self.assertIn("lvs_sched wlc\n    lvs_method", text)

    def test_haproxy_and_gateways(self) -> None:
        """A director with HAProxy needs it to run; gateways of nodes move with the virtual addresses."""
        config = evolve(BOTH, streams_by="haproxy", datagrams_by="nftables", gateways=("10.0.0.1/24",))
        found = blocks(render(a_layout(config), "director", "lb2"))
        self.assertIn('"/usr/bin/pgrep -x haproxy"', found["vrrp_script haproxy"])
        self.assertIn("10.0.0.1/24 dev eth1\n", found["vrrp_instance SIP4"])
        self.assertNotIn("10.0.0.1", found["vrrp_instance SIP6"])
        self.assertFalse([name for name in found if name.startswith("virtual_server")])

    def test_no_link(self) -> None:
        """What looks for HAProxy is no link: keepalived runs what it leads to, so that pidof would be killall5."""
        found = blocks(render(a_layout(evolve(BOTH, streams_by="haproxy")), "director", "lb1"))
        command = Path(found["vrrp_script haproxy"].split('"')[1].split()[0])
        self.assertEqual(command.resolve().name, command.name)


class NodeTests(SynchronousTestCase):
    def test_node(self) -> None:
        """A node behind LVS has the virtual addresses on lo, and nothing else."""
        found = blocks(render(a_layout(), "node", "node1"))
        self.assertEqual(list(found), ["global_defs", "static_ipaddress"])
        self.assertEqual(found["static_ipaddress"],
                         "    192.0.2.10/32 dev lo scope host\n    2001:db8::10/128 dev lo\n")

    def test_addresses_on_nodes(self) -> None:
        """Without directors a dead node gives the addresses away, and one that is not ready when another one is."""
        found = blocks(render(a_layout(ALONE), "both", "node1"))
        self.assertIn("weight 0\n", found["vrrp_script alive"])
        self.assertIn("--alive --quiet --agent 192.0.2.11:5090", found["vrrp_script alive"])
        self.assertNotIn("--agent", found["vrrp_script ready"])
        self.assertIn("weight -51\n", found["vrrp_script ready"])
        self.assertIn("192.0.2.11:", found["vrrp_script ready"])
        self.assertIn("sync_group_tracking_weight\n", found["vrrp_sync_group SIP"])
        self.assertNotIn("static_ipaddress", found)

    def test_node_that_is_a_director(self) -> None:
        """A machine that is both has the virtual addresses on lo too, for what the other director passes to it."""
        config = evolve(BOTH, directors=())
        found = blocks(render(a_layout(config), "both", "node1"))
        self.assertIn("static_ipaddress", found)
        self.assertIn("virtual_server 192.0.2.10 5061", found)
        self.assertNotIn("vrrp_script alive", found)

    def test_who_is_not_there(self) -> None:
        """A machine that is not what it shall be gets no file."""
        for role, name in (("director", "node1"), ("node", "lb1"), ("both", "lb1")):
            with self.subTest(role=role):
                self.assertRaises(CannotRender, render, a_layout(), role, name)
        self.assertRaises(CannotRender, render, a_layout(ALONE), "node", "node1")

    def test_node_that_is_called_a_director(self) -> None:
        """A node that holds virtual addresses gets no file without checks of its registrar: both roles are its own."""
        for config in (ALONE, evolve(BOTH, directors=())):
            refused = self.assertRaises(CannotRender, render, a_layout(config), "director", "node1")
            self.assertIn('its role is "both"', str(refused))

    def test_one_word_of_a_keyword(self) -> None:
        """keepalived 2.2 wants each keyword on a line of its own: no line has a brace and something behind it."""
        roles: tuple[tuple[Role, str], ...] = (("director", DIRECTORS[0].name), ("node", NODES[0].name))
        for role, name in roles:
            for line in render(a_layout(), role, name).splitlines():
                self.assertRegex(line, r"^[^{}]*\{?$|^ *\}$")
