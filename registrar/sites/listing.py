"""What operators see of the other sites: `/v1/sites` of the admin site, and metrics."""

from collections.abc import Callable, Mapping
from typing import Any

from registrar.sites.links import SiteLinks
from rollcall.cluster.nodes import Node
from rollcall.cluster.sites import Sites, SiteState
from rollcall.ops.api import Call, Reply, Routes
from rollcall.ops.metrics import Metrics

SITES = "/v1/sites"


class SitesListed:
    """Answers which sites there are, and who lives there."""

    def __init__(self, sites: Sites, links: SiteLinks | None, own: str, now: Callable[[], float]) -> None:
        """`own` is the name of our site; empty when there is only one, and no `links` with others."""
        self._sites = sites
        self._links = links
        self._own = own
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(SITES, self.listed)

    def listed(self, call: Call) -> Reply:
        """Answer {"site": ours, "sites": […], "lookups": {…}, "answers": {…}}; without [[site]] there is none."""
        links = self._links
        return Reply({
            "site": self._own or None,
            "sites": [self._shown(state) for state in self._sites.states().values()],
            "lookups": dict(links.lookups.outcomes) if links is not None else {},
            "answers": dict(links.answering.outcomes) if links is not None else {},
        })

    def _shown(self, state: SiteState) -> dict[str, Any]:
        link = self._links.link(state.name) if self._links is not None else None
        return {
            "site": state.name, "this": state.name == self._own, "reachable": state.reachable,
            "answers": link.is_up if link is not None else True,
            "heard_seconds_ago": round(max(0.0, self._now() - state.heard_at), 1) if state.heard_at else None,
            "nodes": [_node(node) for node in state.nodes],
            "questions": dict(link.questions) if link is not None else {},
        }


def _node(node: Node) -> dict[str, Any]:
    return {
        "node": node.node, "epoch": node.epoch, "of": node.of or None, "host": node.host, "port": node.port,
        "draining": node.draining, "connections": node.connections, "capacity": node.capacity, "weight": node.weight,
    }


def watch_sites(metrics: Metrics, links: SiteLinks) -> None:
    """Export which sites are reached, and what became of questions; labelled by the sites that are configured."""
    metrics.gauge("rollcall_site_up", "1 while a site answers what it is asked; by site.", ("site",),
                  lambda: {(link.name,): float(link.is_up) for link in links.links})
    metrics.gauge("rollcall_site_nodes", "Nodes that live at a site, as it says; 0 when it is not reachable.",
                  ("site",), lambda: {(link.name,): float(len(link.nodes)) for link in links.links})
    metrics.total("rollcall_site_questions_total", "Questions to members of other sites, by what became of them.",
                  ("site", "outcome"), lambda: {(link.name, outcome): float(number) for link in links.links
                                                for outcome, number in link.questions.items()})
    metrics.total("rollcall_site_lookups_total", "Addresses-of-record without bindings here, looked for at other "
                  "sites, by what became of it.", ("outcome",), lambda: _by_outcome(links.lookups.outcomes))
    metrics.gauge("rollcall_site_lookups_waiting", "Addresses-of-record that other sites are asked for now.", (),
                  lambda: float(links.lookups.waiting))
    metrics.total("rollcall_site_answers_total", "Questions of other sites, by what they were told.", ("outcome",),
                  lambda: _by_outcome(links.answering.outcomes))


def _by_outcome(outcomes: Mapping[str, int]) -> dict[tuple[str, ...], float]:
    return {(outcome,): float(number) for outcome, number in outcomes.items()}
