"""What the admin site says about media nodes: `/v1/media`, the snapshot by which this registrar chooses them."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from attrs import asdict

from registrar.media.choosing import Choosing
from registrar.media.sessions import Sessions
from rollcall.media.following import Following
from rollcall.media.snapshot import MediaNode
from rollcall.ops.api import Call, Reply, Routes

MEDIA = "/v1/media"


class MediaListed:
    """Answers which media nodes there are, how good the ways to them are, and which calls go through them."""

    def __init__(self, following: Following, choosing: Choosing, sessions: Sessions, now: Callable[[], float]) -> None:
        self._following = following
        self._choosing = choosing
        self._sessions = sessions
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(MEDIA, self.listed)

    def listed(self, call: Call) -> Reply:
        """Answer {"snapshot", "rule", "nodes", "tenants", "ways"}.

        `ways` says what is believed of the way from an access group to a node, loss from 0 to 1, and its rating R.
        """
        following, snapshot, board = self._following, self._following.snapshot, self._choosing.board
        age = following.age(self._now())
        return Reply({
            "snapshot": {"version": following.version, "age_seconds": None if age is None else round(age, 1),
                         "is_fresh": following.is_fresh, "problem": following.problem},
            "rule": asdict(snapshot.rule),
            "nodes": self._nodes(snapshot.nodes.values()),
            "tenants": dict(sorted(snapshot.tenants.items())),
            "ways": [{"group": group, "node": node, "r": round(board.rating(group, node), 1),
                      "loss": round(way.loss, 5), "delay_ms": round(way.delay_ms, 1)}
                     for (group, node), way in sorted(snapshot.paths.items()) if node in snapshot.nodes],
        })

    def _nodes(self, nodes: Any) -> list[dict[str, Any]]:
        calls = Counter(session.node for session in self._sessions.own)
        return [self._shown(node, calls[node.id]) for node in sorted(nodes, key=lambda node: node.id)]

    def _shown(self, node: MediaNode, calls: int) -> dict[str, Any]:
        load = (node.sessions + self._choosing.placements.count(node.id)) / node.capacity
        return {"id": node.id, "kind": node.kind, "address": node.address, "region": node.site,
                "groups": node.groups, "state": node.state.value, "capacity": node.capacity, "weight": node.weight,
                "sessions": node.sessions, "load": round(load, 4), "calls": calls}
