"""What a cluster is, and what is wrong with one."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.config import DirectorConfig, DirectorsConfig, RealServerConfig
from registrar.distribution.directors.layout import CannotRender, layout_of, warnings
from registrar.distribution.health.config import HealthConfig
from rollcall.net.config import KeepaliveConfig
from rollcall.ops.allowed import NotAllowed
from tests.registrar.distribution.directors.clusters import (
    ALL,
    ALONE,
    BOTH,
    DIRECTORS,
    LONGEST,
    NODES,
    TCP4,
    TCP6,
    UDP4,
    UDP6,
    UDP_OWN,
    VIRTUAL4,
    a_layout,
    a_listener,
)

PROXIES = ("192.0.2.0/30", "2001:db8::/126")


class ServiceTests(SynchronousTestCase):
    def services(self, config: DirectorsConfig = BOTH, listeners: tuple[object, ...] = ALL) -> list[str]:
        """Return the services in short: family, transport and port, and how it is checked."""
        layout = a_layout(config, listeners)  # type: ignore[arg-type]
        return [f"{each.family} {each.transport}:{each.port} {each.check_transport}:{each.check_port}"
                for each in layout.services]

    def test_from_listeners(self) -> None:
        """Every port that a virtual address reaches is a service, checked by itself or by another of the process."""
        self.assertEqual(self.services(), [
            "4 ws:80 tcp:5060", "4 tcp:5060 tcp:5060", "4 udp:5060 udp:5060", "4 tls:5061 tls:5061",
            "6 tcp:5060 tcp:5060", "6 udp:5060 tcp:5060"])

    def test_own_address_by_dnat(self) -> None:
        """DNAT and HAProxy go to a node's own address: what is bound to the virtual one they do not reach."""
        config = evolve(BOTH, addresses=(f"{VIRTUAL4}/24",), streams_by="nftables", datagrams_by="nftables")
        self.assertEqual(self.services(config, (UDP4, UDP_OWN, a_listener("tcp", "192.0.2.11"))),
                         ["4 tcp:5060 tcp:5060", "4 udp:5060 udp:5060"])
        self.assertIn("no [[listen]]", self.problem(config, (UDP4,)))

    def test_proxy_header(self) -> None:
        """LVS does not check by a listener that expects PROXY headers of directors; HAProxy does, and says one."""
        config = evolve(BOTH, addresses=(f"{VIRTUAL4}/24",), streams_by="haproxy")
        tcp = evolve(TCP4, proxy_protocol_from=PROXIES)
        self.assertEqual(self.services(config, (UDP4, UDP_OWN, tcp)), ["4 tcp:5060 tcp:5060", "4 udp:5060 udp:5060"])
        self.assertTrue(a_layout(config, (UDP4, UDP_OWN, tcp)).services[0].check_expects_proxy)
        self.assertIn("udp 5060 cannot be checked", self.problem(config, (UDP4, tcp)))

    def problem(self, config: DirectorsConfig, listeners: tuple[object, ...] = ALL) -> str:
        """Return what is wrong with a cluster."""
        return str(self.assertRaises(CannotRender, a_layout, config, listeners))

    def test_nothing_said(self) -> None:
        """Without addresses and nodes nothing can be written, and all that is missing is said at once."""
        said = self.problem(DirectorsConfig())
        self.assertIn("addresses is empty", said)
        self.assertIn("nodes is empty", said)

    def test_addresses_of_the_site(self) -> None:
        """The virtual addresses are those of the own site when none are given."""
        layout = a_layout(evolve(BOTH, addresses=()), site=(VIRTUAL4, "2001:db8::10"))
        self.assertEqual([str(each) for each in layout.addresses], ["192.0.2.10/32", "2001:db8::10/128"])

    def test_family_without_address(self) -> None:
        """A node or director needs an address of each family that there is a virtual one of."""
        lame = evolve(NODES[0], addresses=("192.0.2.11",))
        self.assertIn("node1 has no IPv6 address", self.problem(evolve(BOTH, nodes=(lame,))))

    def test_unknown_name(self) -> None:
        """A machine that is not listed is named beside those that are."""
        error = self.assertRaises(CannotRender, a_layout().holder, "lb9")
        self.assertEqual(str(error), "lb9 is not a director of [directors]; there are: lb1, lb2")

    def test_nodes_hold_the_addresses(self) -> None:
        """Without directors the nodes themselves hold the virtual addresses."""
        self.assertEqual([each.name for each in a_layout(ALONE).holders], ["node1", "node2"])


class CheckTests(SynchronousTestCase):
    def test_agent_of_the_other_family(self) -> None:
        """An agent is asked by the family that it listens to, whatever family is checked."""
        layout = a_layout(agent=("192.0.2.11:5090",))
        self.assertEqual([layout.agent(NODES[1], family) for family in (4, 6)], ["192.0.2.12:5090"] * 2)
        self.assertEqual(a_layout(agent=("[2001:db8::11]:5090",)).agent(NODES[0], 4), "[2001:db8::11]:5090")
        self.assertEqual(a_layout(agent=()).agent(NODES[0], 4), "")

    def test_command(self) -> None:
        """The check's command is that of the configuration, else of the machine that renders."""
        layout = a_layout()
        self.assertEqual(layout.check(layout.services[1], NODES[0]),
                         "/bin/true check-sip 192.0.2.11:5060 --transport tcp --domain example.com --timeout 2")
        self.assertEqual(a_layout(evolve(BOTH, check_command="")).check_command, "/usr/bin/rollcall check-sip")
        layout = layout_of(evolve(BOTH, check_command=""), ALL, (), "example.com", HealthConfig(), KeepaliveConfig(),
                           LONGEST, "/opt/my programs/rollcall")
        self.assertEqual(layout.check_command, "'/opt/my programs/rollcall' check-sip")


class WarningTests(SynchronousTestCase):
    def warned(self, config: DirectorsConfig, *listeners: object) -> list[str]:
        """Return the names of listeners that are warned of."""
        layout = a_layout(config, (UDP4, UDP6, UDP_OWN, TCP4, TCP6))
        found = warnings(layout, listeners, HealthConfig())  # type: ignore[arg-type]
        return [warning.split()[1] for warning in found]

    def test_datagrams_of_all_addresses(self) -> None:
        """What a UDP socket for all addresses sends has the wrong source when the virtual address is the node's."""
        everywhere = a_listener("udp", "0.0.0.0")
        self.assertEqual(self.warned(BOTH, everywhere, UDP4), [everywhere.name])
        self.assertEqual(self.warned(ALONE, everywhere), [everywhere.name])
        self.assertEqual(self.warned(evolve(BOTH, datagrams_by="nftables"), everywhere), [])

    def test_address_that_is_elsewhere(self) -> None:
        """A socket for a virtual address alone has to be bound while another machine has that address."""
        bound = evolve(UDP4, free_bind=False)
        self.assertEqual(self.warned(BOTH, bound, UDP4), [bound.name])

    def test_proxies_not_listed(self) -> None:
        """With HAProxy a listener that does not expect PROXY headers of every director is warned of."""
        config = evolve(BOTH, streams_by="haproxy")
        one = evolve(TCP4, proxy_protocol_from=("192.0.2.1/32",))
        self.assertEqual(self.warned(config, TCP4, one), [TCP4.name, one.name])
        self.assertEqual(self.warned(config, evolve(TCP4, proxy_protocol_from=PROXIES)), [])
        self.assertEqual(self.warned(BOTH, TCP4), [])


    def test_agents(self) -> None:
        """Agents that directors cannot reach, or that do not answer them, are warned of."""
        def warned(**health: tuple[str, ...]) -> list[str]:
            return warnings(a_layout(), (), HealthConfig(**health))  # type: ignore[arg-type]

        (loopback,) = warned(agent=("127.0.0.1:5090",), agent_networks=("192.0.2.0/24",))
        self.assertIn("agent is bound to 127.0.0.1", loopback)
        found = warned(agent=("192.0.2.11:5090",), agent_networks=("192.0.2.1/32",))
        self.assertEqual(found, ["[health] agent_networks has not the address of lb2: the agents do not answer it"])
        self.assertEqual(warned(), [])

    def test_nodes_that_ask(self) -> None:
        """Nodes that are directors ask each other; those that only hold virtual addresses ask themselves."""
        health = HealthConfig(agent=("192.0.2.11:5090",), agent_networks=("203.0.113.0/24",))
        lvs = a_layout(evolve(BOTH, directors=()))
        self.assertEqual(len([each for each in warnings(lvs, (), health) if "agent_networks" in each]), len(NODES))
        alone = a_layout(evolve(BOTH, directors=(), streams_by="none", datagrams_by="none"))
        self.assertEqual(warnings(alone, (), health), [])


class ConfigTests(SynchronousTestCase):
    def test_priorities(self) -> None:
        """Directors of different priority need `preempt`: without it whoever has the addresses keeps them."""
        uneven = (DIRECTORS[0], evolve(DIRECTORS[1], priority=90))
        self.assertRaises(NotAllowed, evolve, BOTH, directors=uneven)
        self.assertTrue(evolve(BOTH, directors=uneven, preempt=True).preempt)

    def test_directors_without_nodes(self) -> None:
        """Directors have nodes to spread connections over."""
        self.assertRaises(NotAllowed, evolve, BOTH, nodes=())

    def test_what_would_break_a_file(self) -> None:
        """Nothing that has a meaning of its own in the files can be set."""
        for wrong in ({"interface": "eth0; reboot"}, {"drain_file": '/run/"x'}, {"check_command": "rollcall"},
                      {"check_command": '/bin/x "y"'}, {"addresses": ("192.0.2.10/33",)}, {"virtual_router_id": 0},
                      {"addresses": ("fe80::1%\n}\nglobal_defs {/64",)}, {"gateways": ("fe80::1%x/64",)},
                      {"virtual_router_id": 256}, {"advert_seconds": 41.0}):
            self.assertRaises(NotAllowed, DirectorsConfig, **wrong)
        self.assertRaises(NotAllowed, RealServerConfig, name="a b", addresses=("192.0.2.1",))
        self.assertRaises(NotAllowed, RealServerConfig, name="a", addresses=("192.0.2.1", "192.0.2.2"))
        self.assertRaises(NotAllowed, RealServerConfig, name="a", addresses=())
        self.assertRaises(NotAllowed, RealServerConfig, name="a", addresses=('fe80::1%\n}\nscript "/bin/x',))
        self.assertRaises(NotAllowed, DirectorConfig, name="a", addresses=("192.0.2.1",), priority=255)
