"""The other sites of a registrar, joined: who lives there, who is registered there, and how their nodes are reached.

What is bound at another site is reached as what is bound at another node of our own: through the node that has the
phone's flow, by the flow's token. So nothing is allowed to a node of another site that is not to one of ours.
"""

from collections.abc import Callable, Iterable, Mapping
from zlib import crc32

from attrs import evolve, frozen
from twisted.logger import Logger

from registrar.location.contract import LocationStore
from registrar.owners import Cluster
from registrar.owners import Node as Owner
from registrar.sites.answering import Answering
from registrar.sites.asking import Asking
from registrar.sites.link import SiteLink
from registrar.sites.lookup import Lookup
from rollcall.cluster.config import ClusterConfig, SiteConfig
from rollcall.cluster.nodes import Node
from rollcall.cluster.sites import SiteState
from rollcall.net.flow import Flow
from rollcall.net.member_handshake import Admission, Life
from rollcall.net.members import Members
from rollcall.net.transactions import Transactions


@frozen(kw_only=True)
class SiteParts:
    """What the links with other sites are made of."""

    sites: tuple[SiteConfig, ...]
    """All that are configured, our own one too."""
    config: ClusterConfig
    me: tuple[str, int]
    """Our node's name and epoch."""
    members: Members
    nodes: Callable[[], tuple[Node, ...]]
    """The nodes that live at our own site."""
    cluster: Cluster
    """The same, one by one."""
    location: LocationStore
    transactions: Transactions
    now: Callable[[], float]
    worker: int = 0
    """The number of ours among those that share our ports."""


class SiteLinks:
    """All other sites. See `rollcall.cluster.sites.Sites` and `registrar.reconnecting.Elsewhere`."""

    _log = Logger()

    def __init__(self, parts: SiteParts) -> None:
        self._parts = parts
        self._own = parts.config.site
        self._asking = Asking(parts.members.reach, parts.transactions, parts.worker)
        first = crc32(parts.me[0].encode())
        self.links = tuple([
            SiteLink(site, parts.config, self._asking.ask, self._admitted, parts.transactions.wheel, parts.now, first)
            for site in parts.sites if site.name != self._own])
        self.lookups = Lookup(self.links, parts.config, parts.now)
        self.lookup = self.lookups.lookup
        self.answering = Answering(parts.me, parts.nodes, parts.cluster, parts.location, parts.now)
        self.cluster: Cluster = SitesCluster(parts.cluster, self.node, self.latest_epoch)
        self._refused: dict[str, dict[str, str]] = {}
        """By site and name why nodes are refused, so that it is said once."""
        if self.links:
            parts.members.join_sites(Admission(self._own, self._refuses), self._lost)

    def start(self) -> None:
        """Begin to ask the other sites; the internal listener is there by then."""
        for link in self.links:
            link.start()

    def stop(self) -> None:
        """Ask no more."""
        for link in self.links:
            link.stop()

    def states(self) -> Mapping[str, SiteState]:
        """See Sites."""
        states = {link.name: link.state for link in self.links}
        if self._own:
            states[self._own] = SiteState(name=self._own, nodes=self._parts.nodes(), heard_at=self._parts.now(),
                                          reachable=True)
        return {site.name: states[site.name] for site in self._parts.sites if site.name in states}

    def link(self, name: str) -> SiteLink | None:
        """Return what there is with another site."""
        return next((link for link in self.links if link.name == name), None)

    def node(self, name: str) -> Node | None:
        """Return a node that lives at another site, and can be reached as far as we know."""
        found = (node for link in self.links for node in link.nodes if node.node == name)
        return next(found, None)

    def latest_epoch(self, name: str) -> int | None:
        """Return the latest life of a node of another site, be it out of reach; None of others."""
        epochs = (link.latest_epoch(name) for link in self.links)
        return next((epoch for epoch in epochs if epoch is not None), None)

    async def flow(self, node: str, epoch: int, host: str, port: int) -> Flow:
        """Return the connection with a life of a node, wherever that is. Raises ConnectFailed; see MemberFlows."""
        elsewhere = self.node(node) if self._parts.cluster.node(node) is None else None
        site = elsewhere.site if elsewhere is not None else ""
        return await self._parts.members.flow(node, epoch, host, port, site)

    # --- who is taken for a node of another site

    def _refuses(self, life: Life) -> str:
        """Say why a node that has proven to be one of another site is not taken; see Admission."""
        if life.site not in {link.name for link in self.links}:
            return f"there is no [[site]] {life.site} in this node's configuration"
        return self._conflict(life.node, life.site)

    def _lost(self, site: str) -> None:
        link = self.link(site)
        if link is not None:
            link.hurry()

    def _conflict(self, node: str, site: str) -> str:
        if node == self._parts.me[0] or self._parts.cluster.node(node) is not None:
            return f"our own site {self._own} has a node of that name, too; all nodes need different names"
        for link in self.links:
            if link.name != site and any(each.node == node for each in link.nodes):
                return f"site {link.name} has a node of that name, too; all nodes need different names"
        return ""

    def _admitted(self, site: str, nodes: Iterable[Node]) -> tuple[Node, ...]:
        """Return the nodes that a site says it has, but those that would be taken for others."""
        taken, refused = [], {}
        for node in nodes:
            why = self._conflict(node.node, site)
            if not why and node.site not in ("", site):
                why = f"its lease says that it stands in site {node.site}"
            if why:
                refused[node.node] = why
            else:
                taken.append(evolve(node, site=site))
        self._tell(site, self._refused.get(site, {}), refused)
        self._refused[site] = refused
        return tuple(taken)

    def _tell(self, site: str, before: Mapping[str, str], refused: Mapping[str, str]) -> None:
        """Log who is refused, and who is not any more, once each."""
        for node, why in refused.items():
            if before.get(node) != why:
                self._log.error("node {node} of site {site} is refused: {why}", node=node, site=site, why=why)
        for node in before.keys() - refused.keys():
            self._log.info("node {node} of site {site} is refused no longer", node=node, site=site)


class SitesCluster:
    """The Cluster of who reaches phones at other sites, too: our own nodes, and those."""

    def __init__(self, own: Cluster, elsewhere: Callable[[str], Node | None],
                 latest_epoch: Callable[[str], int | None]) -> None:
        self._own = own
        self._elsewhere = elsewhere
        self._latest_epoch = latest_epoch

    def is_living(self, node: str, epoch: int) -> bool:
        """See Cluster. A life of another site's node that we have not heard of may have begun a moment ago.

        Our own Redis is not asked about nodes of other sites: it would take them all for dead.
        """
        latest = None if self._own.node(node) is not None else self._latest_epoch(node)
        if latest is None:
            return self._own.is_living(node, epoch)
        return epoch >= latest and self._elsewhere(node) is not None

    def ended_at(self, node: str, epoch: int) -> float | None:
        """See Cluster."""
        return self._own.ended_at(node, epoch)

    def node(self, name: str) -> Owner | None:
        """See Cluster."""
        return self._own.node(name) or self._elsewhere(name)
