"""A cluster behind two LVS directors: registrars that answer from the virtual address, and phones that know only it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.cluster.hosts import HostLab, HostNode
from tests.cluster.namespaces import NET4, Host, Namespace, Network
from tests.interop.process import wait_until
from tests.lvs.rendered import keepalived_conf, sysctl_conf
from tools.laboratory.child import Child
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections, joined
from tools.laboratory.uml import UmlFiles
from tools.laboratory.uml_director import Director

VIRTUAL = f"{NET4}.200"
SIP_PORT, AGENT_PORT = 5060, 5061
DIRECTORS = (21, 22)
"""The last numbers of their addresses."""
PHONES = tuple(f"{NET4}.{number}" for number in range(110, 150))
"""The addresses of phones; all are on one host."""
MASTER_SECONDS = 20.0


class SwitchedNetwork(Network):
    """See Network; directors need the switch itself."""

    @property
    def switch(self) -> Namespace:
        """Where its ports are."""
        return self._switch


class NodeAddresses(Child):
    """keepalived on a node, for the virtual addresses that it has and tells nobody of."""

    def __init__(self, host: Host, folder: Path) -> None:
        super().__init__(outlives=False)
        self._host = host
        self._folder = folder

    def start(self, configuration: str) -> None:
        """Start it with this keepalived.conf."""
        (self._folder / "keepalived.conf").write_text(configuration)
        files = [word for which in ("pid", "vrrp_pid", "checkers_pid") for word in (f"--{which}", f"{which}.pid")]
        with self._host.entered():
            self.launch(["keepalived", "--dont-fork", "--log-console", "--no-syslog", "--vrrp", "--use-file",
                         "keepalived.conf", *files], self._folder / "keepalived.log", self._folder)


class RealNode(HostNode):
    """A registrar behind directors, with the port that all of them have: a packet comes as the phone has sent it."""

    def __init__(self, host: Host, address: str, folder: Path, name: str, sections: Sections, token: str) -> None:
        super().__init__(host, address, folder, name, sections, token)
        self.addresses = NodeAddresses(host, folder)

    @property
    def tcp(self) -> tuple[str, int]:
        """Where phones connect, which is the same for all nodes."""
        return VIRTUAL, SIP_PORT

    def begin(self) -> None:
        """See Node. What its host has to know comes first."""
        if not self.pid:
            self._prepare_host()
        super().begin()

    def _prepare_host(self) -> None:
        for line in sysctl_conf(self.config, "node").splitlines():
            if line and not line.startswith("#"):
                self.host.run("sysctl", "-q", "-w", line.replace(" ", ""))
        self.addresses.start(keepalived_conf(self.config, "node", self.name))

    def _own_sections(self) -> dict[str, Any]:
        told = {"port": SIP_PORT, "advertise_host": VIRTUAL}
        return super()._own_sections() | {
            "listen": [
                {"name": "tcp", "transport": "tcp", "host": "0.0.0.0"} | told,
                # An answer leaves from the address that was asked, so each has a socket of its own.
                {"name": "udp", "transport": "udp", "host": VIRTUAL, "free_bind": True} | told,
                {"name": "checks", "transport": "udp", "host": self.address} | told,
            ],
            "health": {"agent": [f"{self.address}:{AGENT_PORT}"]},
        }


class LvsLab(HostLab):
    """See HostLab. The directors are started by `start_directors`, when there are files for them."""

    def __init__(self, network: SwitchedNetwork, folder: Path, registrars: int, users: int, sections: str,
                 weights: Sequence[int], own: dict[str, Sections]) -> None:
        """`weights` are those of the registrars."""
        super().__init__(network, folder, registrars, users, sections, own, has_ipv6=False, has_tls=False)
        self._weights = weights
        for address in PHONES:
            self.phones_host.run("ip", "addr", "add", f"{address}/24", "dev", "eth0")
        self.directors = [
            Director(UmlFiles(), network.switch, self.folder / f"director-{place}", f"director-{place}", number)
            for place, number in enumerate(DIRECTORS, 1)
        ]

    def start(self) -> None:
        """See Lab. Return once one director has the virtual address, and both know every registrar."""
        super().start()
        try:
            config = self.registrars[0].config
            for director in self.directors:
                director.configure(keepalived_conf(config, "director", director.name), sysctl_conf(config, "director"))
                director.start()
            self.wait_serving()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """See Lab."""
        for director in self.directors:
            director.kill()
        super().stop()
        for node in self.registrars:
            if isinstance(node, RealNode):
                node.addresses.kill()

    @property
    def master(self) -> Director:
        """The director that has the virtual address."""
        return next(director for director in self.directors if director.has(VIRTUAL))

    @property
    def backup(self) -> Director:
        """The one that has it not."""
        return next(director for director in self.directors if director.running and not director.has(VIRTUAL))

    def told(self) -> str:
        """Return what both directors know, for people."""
        return "\n".join(director.told() for director in self.directors)

    def wait_serving(self) -> None:
        """Return when one director has the virtual address, and both know every registrar for every transport."""
        nodes = len(self.registrars)
        for director in self.directors:
            director.wait(lambda state: len(state.services) == 2 and all(
                len(servers) == nodes and all(server.weight for server in servers.values())
                for servers in state.services.values()), "weight of every registrar")
        wait_until(lambda: any(director.has(VIRTUAL) for director in self.directors) or None, "master", MASTER_SECONDS)

    def _common_sections(self) -> dict[str, Any]:
        nodes = zip(self._names, self._weights, strict=True)
        return super()._common_sections() | {"directors": {
            "addresses": [f"{VIRTUAL}/24"],
            "directors": [{"name": director.name, "addresses": [director.ipv4]} for director in self.directors],
            "nodes": [{"name": name, "addresses": [self.host(name).ipv4], "weight": weight} for name, weight in nodes],
            # The folder of a working copy may be closed to others.
            "check_user": "root",
            "check_seconds": 1, "check_timeout_seconds": 1.0,
        }}

    def _node_on(self, host: Host, folder: Path, name: str, sections: Sections) -> Node:
        mine = joined(sections, self._own.get(name, {}))
        return RealNode(host, self.address(host), folder, name, mine, self.admin_token)
