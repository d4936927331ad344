"""Two sites in memory: n1 is fra's only node, n2 and n3 are those of ams. Each site has bindings of its own."""

from collections.abc import Callable
from typing import Any, cast

from registrar.forking import Way
from registrar.reconnecting import Reconnecting
from registrar.sending import Forwarded
from registrar.sites.links import SiteLinks, SiteParts
from rollcall.cluster.config import ClusterConfig, SiteConfig
from rollcall.cluster.nodes import Node
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.net.member_handshake import Admission, Life
from rollcall.net.members import Members
from rollcall.sip.message import Request
from tests.layers import Layer
from tests.registrar.joined import Registrar
from tests.registrar.network import Network
from tests.registrar.nodes import (
    EPOCH,
    MAX_WAITING,
    WAIT_SECONDS,
    InternalFlow,
    MemoryCluster,
    NodeRegistrar,
    Nodes,
    NodesCase,
    NodeTransports,
    SharedLocation,
)

SITE_OF = {"n1": "fra", "n2": "ams", "n3": "ams"}
CONFIG = ClusterConfig(reconnect_wait=WAIT_SECONDS)
PORT = 5070


class OwnCluster(MemoryCluster):
    """The Cluster of one site's nodes."""

    def __init__(self, nodes: Nodes, name: str) -> None:
        super().__init__(nodes, name)
        self._site = SITE_OF[name]

    def is_living(self, node: str, epoch: int) -> bool:
        """See Cluster."""
        return SITE_OF[node] == self._site and super().is_living(node, epoch)

    def node(self, name: str) -> Node | None:
        """See Cluster."""
        return super().node(name) if SITE_OF.get(name) == self._site else None

    def living(self) -> tuple[Node, ...]:
        """Return all of them."""
        nodes = map(self.node, SITE_OF)
        return tuple(node for node in nodes if node is not None)


class MemoryMembers:
    """The Members of one node: connections with those of its own site, and of the other."""

    def __init__(self, nodes: "TwoSites", name: str) -> None:
        self.admission: Admission | None = None
        self.reached: list[str] = []
        """Who was reached by his address, one by one."""
        self._nodes = nodes
        self._name = name

    def join_sites(self, admission: Admission, lost: Callable[[str], None]) -> None:
        """Know of other sites."""
        self.admission = admission

    async def reach(self, site: str, host: str, port: int) -> Flow:
        """Return the connection with whoever is there."""
        there = next((name for name in SITE_OF if self._nodes.address(name) == (host, port)), "")
        if SITE_OF.get(there) != site or there in self._nodes.dead:
            raise ConnectFailed(f"nobody of {site} at {host}:{port}")
        self.reached.append(there)
        return self._nodes.between(self._name, there)

    async def flow(self, node: str, epoch: int, host: str, port: int, site: str = "") -> Flow:
        """Return the connection with a life of a node."""
        elsewhere = SITE_OF[node] if SITE_OF[node] != SITE_OF[self._name] else ""
        if site != elsewhere or (host, port) != self._nodes.address(node) or node in self._nodes.dead:
            raise ConnectFailed(f"{node} is not there")
        return self._nodes.between(self._name, node)


class NotedMedia:
    """The Media of one node: leads nothing anywhere, and notes which requests come in from outside."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def trusts(self, flow: Flow) -> bool:
        """See Media."""
        return False

    async def entered(self, forwarded: Forwarded, way: Way) -> tuple[Way, None]:
        """Note a request."""
        self.entries.append(forwarded.request.method)
        return way, None

    async def acknowledged(self, forwarded: Forwarded) -> Forwarded:
        """Note an ACK."""
        self.entries.append("ACK")
        return forwarded

    def refused(self, request: Request, status: int) -> None:
        """Note what was refused."""
        self.entries.append(f"{request.method} {status}")


class TwoSites(Nodes):
    """Whole registrars; what is said between sites may vanish."""

    def __init__(self) -> None:
        self.links: dict[str, SiteLinks] = {}
        self.media = {name: NotedMedia() for name in SITE_OF}
        self.members: dict[str, MemoryMembers] = {}
        self.locations: dict[str, SharedLocation] = {}
        self.is_cut = False
        super().__init__()

    def settle(self) -> None:
        """See Nodes."""
        if self.is_cut:
            self.wire = type(self.wire)(each for each in self.wire if SITE_OF[each[0][0]] == SITE_OF[each[0][1]])
        super().settle()

    def between(self, near: str, far: str) -> InternalFlow:
        """See Nodes; a connection says where its other end is."""
        flow = super().between(near, far)
        flow.site = "" if SITE_OF[near] == SITE_OF[far] else SITE_OF[far]
        return flow

    def start(self) -> None:
        """Let all ask who lives at the other site, and hear it."""
        for links in self.links.values():
            links.start()
        self.wait(0.5)

    def _joined(self, name: str, layer: Layer) -> Registrar:
        site, own = SITE_OF[name], OwnCluster(self, name)
        location = self.locations.setdefault(site, SharedLocation(Layer(clock=self.clock)))
        members = self.members[name] = MemoryMembers(self, name)
        links = self.links[name] = SiteLinks(SiteParts(
            sites=tuple(SiteConfig(name=each, members=tuple(
                f"{self.address(node)[0]}:{PORT}" for node in SITE_OF if SITE_OF[node] == each))
                for each in ("fra", "ams")),
            config=ClusterConfig(site=site, reconnect_wait=WAIT_SECONDS), me=(name, EPOCH),
            members=cast(Members, members), nodes=own.living, cluster=own, location=location,
            transactions=layer.transactions, now=self.clock.seconds))
        reconnecting = Reconnecting(
            location=location, wheel=layer.wheel, now=self.clock.seconds, cluster=links.cluster,
            changes=location.changes, wait_seconds=WAIT_SECONDS, max_waiting=MAX_WAITING, elsewhere=links)
        network = Network(layer, name, EPOCH, NodeTransports(f"192.0.2.{name[1:]}"), links.cluster, links)
        joined = NodeRegistrar(with_passwords=False, takes_short_way=False, network=network, reconnecting=reconnecting,
                               media=lambda registrar: self.media[name])
        joined.requests.serve_sites(links.answering)
        return joined


class TwoSitesCase(NodesCase):
    """Phones of two sites that know each other."""

    nodes: TwoSites

    def setUp(self) -> None:
        self.nodes = TwoSites()
        self.nodes.start()

    def tearDown(self) -> None:
        """Ask no more, and see that nothing is left."""
        for links in self.nodes.links.values():
            links.stop()
        super().tearDown()
        self.assertEqual([links.lookups.waiting for links in self.nodes.links.values()], [0, 0, 0])

    def outcomes(self, name: str = "n1") -> dict[str, int]:
        """Return what became of those whom a node looked for at the other site."""
        return {outcome: number for outcome, number in self.nodes.links[name].lookups.outcomes.items() if number}

    def said(self, name: str, what: Callable[[InternalFlow], Any], far: str) -> Any:
        """Return something of the connection of two nodes."""
        return what(self.nodes.between(name, far))


def refuses(nodes: TwoSites, name: str, life: Life) -> str:
    """Return why a node of another site is not let in at a node."""
    admission = nodes.members[name].admission
    assert admission is not None
    return admission.refuses(life)
