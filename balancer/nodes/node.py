"""One media node as a balancer knows it: what was configured or announced, what was said since, and how it answers."""

from collections.abc import Callable
from typing import Any

from balancer.nodes.config import NodeConfig, NodesConfig
from balancer.nodes.health import Health, Phase
from balancer.nodes.statistics import Load
from rollcall.media.snapshot import LIFE_SECONDS, MediaNode, NodeState

Counted = Callable[[str, float], tuple[int, float] | None]
"""(node id, now) → how many calls registrars have on a node, and since when that is so; None: nobody counts."""


class Node:
    """One node. Moments are by the balancer's clock."""

    def __init__(self, config: NodeConfig, limits: NodesConfig, counted: Counted) -> None:
        self.config = config
        self.health = Health(limits)
        self.said_draining: bool | None = None
        """What an operator has said; None: nothing, so that what is configured or announced counts."""
        self.leased_until: float | None = None
        """When it has to announce itself again; None for one that is configured."""
        self.load: Load | None = None
        """What it has said last."""
        self.loaded_at = 0.0
        self.is_full = False
        """It answers that it has no room, whatever its figures are."""
        self.answer_ms = 0.0
        """How long its last answer took."""
        self.told = NodeState.SUSPECT
        """The state that others have heard of."""
        self._limits = limits
        self._counted = counted
        self._started_at = 0.0
        self._idle_since: float | None = None
        self._said_at = 0.0

    # --- what happens to it

    def answered(self, load: Load | None, asked_at: float, now: float, is_full: bool = False) -> bool:
        """It has answered a question, with its load if it says; return whether its process has begun anew."""
        is_another_life = load is not None and self._take(load, asked_at)
        self.health.answered(now, is_another_life)
        self.is_full = is_full
        self.answer_ms = (now - asked_at) * 1000
        self._look(now)
        return is_another_life

    def missed(self, why: str, is_refused: bool, now: float) -> None:
        """It has not answered a question."""
        self.health.missed(why, is_refused)
        self._look(now)

    def reported(self, load: Load, at: float, now: float) -> bool:
        """It has told its load by itself, at this moment; return whether its process has begun anew."""
        if at < self.loaded_at:
            return False
        is_another_life = self._take(load, at)
        if is_another_life:
            self.health.answered(now, is_another_life)
        self._look(now)
        return is_another_life

    def say(self, is_draining: bool | None, now: float) -> None:
        """An operator says whether it drains; None: as it is configured or announced."""
        if is_draining is not self.said_draining:
            self.said_draining, self._said_at = is_draining, now

    def set(self, config: NodeConfig, now: float) -> None:
        """It has announced itself, perhaps with other facts."""
        if config.draining is not self.config.draining:
            self._said_at = now
        self.config = config

    # --- what is known of it

    def is_draining(self, now: float) -> bool:
        """Tell whether it is to get no new calls; one that has not announced itself again gets none either."""
        if self.has_lapsed(now):
            return True
        return self.config.draining if self.said_draining is None else self.said_draining

    def has_lapsed(self, now: float) -> bool:
        """Tell whether it had to announce itself again, and has not."""
        return self.leased_until is not None and now >= self.leased_until

    def state(self, now: float) -> NodeState:
        """Return its state."""
        if self.health.state is NodeState.DOWN or not self.is_draining(now):
            return self.health.state
        return NodeState.DRAINED if self._is_empty(now) else NodeState.DRAINING

    def why(self, now: float) -> str:
        """Return why it is not up; empty when it is."""
        if self.health.state is NodeState.DOWN or not self.is_draining(now):
            return self.health.why
        return "it has not announced itself again" if self.has_lapsed(now) else "it was said to drain"

    def sessions(self, now: float) -> tuple[int, float]:
        """Return how many calls it has, and since when that is so."""
        last = (self.load.sessions, self.loaded_at) if self.load is not None else (0, 0.0)
        if self._has_word(now) or (self.load is not None and self.health.state is NodeState.DOWN):
            return last
        return self._counted(self.config.id, now) or last

    def media_node(self, now: float) -> MediaNode:
        """Return what whoever sends it calls has to know."""
        config = self.config
        sessions, polled_at = self.sessions(now)
        room = self.load.room if self.load is not None else None
        capacity = config.capacity if room is None else max(1, min(config.capacity, sessions + room))
        return MediaNode(
            id=config.id, kind=config.kind, address=config.address, site=config.region, capacity=capacity,
            weight=config.weight, groups=config.groups, state=self.state(now),
            sessions=max(sessions, capacity) if self.is_full else sessions, polled_at=polled_at,
            started_at=self._started_at)

    def shown(self, now: float) -> dict[str, Any]:
        """Return what an API says of it."""
        node, load = self.media_node(now), self.load
        return {
            "id": node.id, "kind": node.kind, "address": node.address, "region": node.site,
            "groups": list(node.groups), "weight": node.weight, "state": node.state.value, "why": self.why(now),
            "is_announced": self.leased_until is not None, "capacity": node.capacity, "sessions": node.sessions,
            "load": round(node.sessions / node.capacity, 4),
            "packets_per_second": load.packets_per_second if load is not None else None,
            "errors_per_second": load.errors_per_second if load is not None else None,
            "answer_ms": round(self.answer_ms, 3),
            "idle_seconds": None if self._idle_since is None else round(now - self._idle_since, 1),
        }

    # --- details

    def _take(self, load: Load, at: float) -> bool:
        is_another_life = self.load is not None and self.load.is_before(load)
        if load.uptime_seconds is not None and (is_another_life or not self._started_at):
            # Two lives are told apart even when the first was a very short one.
            another = self._started_at + LIFE_SECONDS + 1 if is_another_life else 0.0
            self._started_at = max(round(at - load.uptime_seconds), another)
        self.load, self.loaded_at = load, at
        return is_another_life

    def _has_word(self, now: float) -> bool:
        """Tell whether it has said of late what its load is."""
        believed_seconds = max(self._limits.load_seconds, 2 * self._limits.poll_seconds)
        return self.load is not None and now - self.loaded_at < believed_seconds

    def _is_empty(self, now: float) -> bool:
        """Tell whether nothing has come for long, and not only because it was idle before it drained."""
        if self._idle_since is None:
            return False
        since = self.leased_until if self.leased_until is not None and self.has_lapsed(now) else self._said_at
        return now - max(self._idle_since, since) >= self._limits.drained_seconds

    def _look(self, now: float) -> None:
        """Note since when it has had neither calls nor packets, as far as somebody knows."""
        if not self._is_idle(now):
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = now

    def _is_idle(self, now: float) -> bool:
        if self.health.phase not in (Phase.UP, Phase.RETURNING):
            return False
        if self._has_word(now):
            return self.load is not None and self.load.is_idle
        counted = self._counted(self.config.id, now)
        return self.config.kind != "rtpengine" and counted is not None and counted[0] == 0
