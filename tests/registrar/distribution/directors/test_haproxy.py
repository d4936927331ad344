"""What HAProxy is told. That it understands it is tried in tests/cluster/test_director_files.py."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.config import DirectorsConfig
from registrar.distribution.directors.haproxy import render
from registrar.distribution.directors.layout import CannotRender
from tests.registrar.distribution.directors.clusters import BOTH, LONGEST, TCP4, TCP6, TLS4, UDP_OWN, WS4, a_layout

CONFIG = evolve(BOTH, streams_by="haproxy", datagrams_by="none")
PROXIES = ("192.0.2.0/30",)
LISTENERS = (evolve(TCP4, proxy_protocol_from=PROXIES), TCP6, TLS4, WS4, UDP_OWN)


def sections(config: DirectorsConfig = CONFIG, agent: tuple[str, ...] = ("192.0.2.11:5090",)) -> dict[str, list[str]]:
    """Return the lines of each section, by its first line."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in render(a_layout(config, LISTENERS, agent)).splitlines():
        if line and not line.startswith((" ", "#")):
            name = line
        elif line.startswith(" "):
            found.setdefault(name, []).append(line.strip())
    return found


class RenderTests(SynchronousTestCase):
    def test_ports(self) -> None:
        """Each port for streams is passed on, for both families; datagrams are not."""
        found = sections()
        self.assertEqual([name for name in found if name.startswith("listen")],
                         ["listen sip_ws_80", "listen sip_tcp_5060", "listen sip_tls_5061"])
        self.assertEqual([line for line in found["listen sip_tcp_5060"] if line.startswith("bind")],
                         ["bind 192.0.2.10:5060 tcp-ut 720s", "bind [2001:db8::10]:5060 tcp-ut 720s"])
        self.assertEqual([line for line in found["listen sip_tls_5061"] if line.startswith("bind")],
                         ["bind 192.0.2.10:5061 tcp-ut 720s"])

    def servers(self, name: str, agent: tuple[str, ...]) -> list[str]:
        """Return the nodes of a section."""
        return [line for line in sections(agent=agent)[f"listen {name}"] if line.startswith("server")]

    def test_servers(self) -> None:
        """Nodes get PROXY headers; their agents say whether they live, and their weight."""
        self.assertEqual(self.servers("sip_tls_5061", ("192.0.2.11:5090",)), [
            f"server node{number} 192.0.2.1{number}:5061 send-proxy-v2 weight {weight} check addr 192.0.2.1{number} "
            f"port 5090 agent-addr 192.0.2.1{number} agent-port 5090" for number, weight in ((1, 100), (2, 50))])
        found = sections()
        self.assertIn("tcp-check expect rstring ^(ready|drain)", found["listen sip_tls_5061"])
        self.assertIn("on-marked-down shutdown-sessions", found["defaults"][-1])

    def test_without_agent(self) -> None:
        """Without agents nodes are asked by OPTIONS over the same port, with TLS where that is spoken.

        A node that is drained looks dead in the end, so that nobody's connection is ended for that.
        """
        found = sections(agent=())
        self.assertEqual(self.servers("sip_tls_5061", ())[0],
                         "server node1 192.0.2.11:5061 send-proxy-v2 weight 100 check check-ssl verify none")
        self.assertIn('tcp-check send-lf "OPTIONS sip:example.com SIP/2.0\\r\\n"', found["listen sip_tls_5061"])
        self.assertNotIn("agent", "".join(line for lines in found.values() for line in lines))
        self.assertNotIn("shutdown-sessions", found["defaults"][-1])

    def test_checked_elsewhere(self) -> None:
        """WebSockets are checked by the port for TCP, with a PROXY header, for that expects one too."""
        self.assertEqual(self.servers("sip_ws_80", ())[0],
                         "server node1 192.0.2.11:80 send-proxy-v2 weight 100 check port 5060 check-send-proxy")

    def test_quiet_connections(self) -> None:
        """A connection may be quiet for longer than any registration lasts; the kernel's keepalive is the nodes'."""
        defaults = sections()["defaults"]
        for side in ("client", "server"):
            self.assertIn(f"timeout {side} {LONGEST + 300}s", defaults)
        for line in ("clitcpka-idle 600s", "clitcpka-intvl 30s", "clitcpka-cnt 4"):
            self.assertIn(line, defaults)

    def test_nothing_to_do(self) -> None:
        """What others spread needs no HAProxy."""
        self.assertRaises(CannotRender, render, a_layout())
