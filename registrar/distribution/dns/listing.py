"""What the admin site says about the name server: `/v1/dns`, which sites are told to whom, and why."""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from registrar.distribution.dns.keeping import WHY, Keeping
from rollcall.cluster.sites import Sites
from rollcall.ops.api import ApiError, Call, Reply, Routes
from rollcall.ops.metrics import Metrics

DNS = "/v1/dns"


class DnsListed:
    """Answers what is answered by DNS."""

    def __init__(self, keeping: Keeping, sites: Sites, group: Callable[[str], str], now: Callable[[], float]) -> None:
        """`group` returns the access group of an address."""
        self._keeping = keeping
        self._sites = sites
        self._group = group
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(DNS, self.listed)

    def listed(self, call: Call) -> Reply:
        """Answer {"serial", "version", "zones", "sites", "views"}; with ?address= also "asked": what is told there."""
        keeping = self._keeping
        answer = {
            "serial": keeping.serial, "version": keeping.version,
            "zones": [origin.to_text(omit_final_dot=True) for origin in keeping.layout.origins],
            "sites": [self._site(place.name, place.addresses) for place in keeping.layout.places],
            "views": [self._view(name) for name in keeping.told],
        }
        if (address := call.text("address")) is not None:
            answer["asked"] = self._asked(address)
        return Reply(answer)

    def _site(self, name: str, addresses: tuple[str, ...]) -> dict[str, Any]:
        standing, state = self._keeping.standings.get(name), self._sites.states().get(name)
        return {"site": name, "addresses": addresses, "fitness": standing.fitness.value if standing else None,
                "weight": standing.weight if standing else None,
                # That of a site that nobody hears of means nothing.
                "share": standing.share if standing and standing.fitness not in WHY else None,
                "nodes": len(state.nodes) if state is not None else None,
                "heard_seconds_ago": round(self._now() - state.heard_at, 1) if state and state.heard_at else None}

    def _view(self, name: str) -> dict[str, Any]:
        keeping = self._keeping
        return {"view": name, "groups": keeping.preferences.groups(name), "ttl_seconds": keeping.told[name].ttl,
                "answers": [{"site": offer.site, "priority": offer.priority, "weight": offer.weight}
                            for offer in keeping.told[name].offers]}

    def _asked(self, address: str) -> dict[str, Any]:
        try:
            packed = ip_address(address).packed
        except ValueError:
            raise ApiError(400, f"address: an IPv4 or IPv6 address is allowed, not {address[:50]!r}") from None
        return {"address": address, "group": self._group(address), "view": self._keeping.view_of(packed)}


def watch_keeping(metrics: Metrics, keeping: Keeping) -> None:
    """Export how sites are told to be."""
    metrics.gauge("rollcall_dns_site_weight", "What is free at a site, in hundreds of connections, as DNS tells it.",
                  ("site",), lambda: {(site,): float(each.weight) for site, each in keeping.standings.items()})
    metrics.gauge("rollcall_dns_site_fitness", "1 for what each site is: well, returning, overloaded, and so on.",
                  ("site", "fitness"),
                  lambda: {(site, each.fitness.value): 1.0 for site, each in keeping.standings.items()})
    metrics.total("rollcall_dns_snapshots_total", "How often the answers have changed.", (),
                  lambda: float(keeping.version))
    metrics.total("rollcall_dns_snapshot_failures_total", "Answers that could not be made; the last ones stay.", (),
                  lambda: float(keeping.failures))
