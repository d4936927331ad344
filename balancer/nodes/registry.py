"""All media nodes that a balancer knows: those of its configuration, and those that have announced themselves."""

from collections.abc import Callable, Iterable
from typing import Any

from attrs import asdict, frozen
from twisted.logger import Logger

from balancer.nodes.config import NodeConfig, NodesConfig
from balancer.nodes.counting import RegistrarCounts
from balancer.nodes.health import Phase
from balancer.nodes.node import Node
from balancer.nodes.statistics import Load
from balancer.nodes.whose import Whose
from rollcall.media.reports import Counts
from rollcall.media.snapshot import MediaNode, NodeState

THEN = {NodeState.DOWN: "; it gets no calls", NodeState.DRAINED: "; it may be switched off"}
"""What the log adds about a state."""


class NotAccepted(Exception):
    """Why a node may not announce itself, or not leave."""


@frozen
class Happening:
    """What has become of a node."""

    kind: str
    """"state", "restarted", "joined", or "gone"."""
    node_id: str
    state: NodeState
    was_said_to_drain: bool = False
    """Whether an operator had said something of its draining."""


class Nodes:
    """Knows every node, and tells what becomes of them."""

    _log = Logger()

    def __init__(self, configured: Iterable[NodeConfig], limits: NodesConfig) -> None:
        self.on_change: list[Callable[[Happening], object]] = []
        """Who is told; nobody may raise."""
        self.limits = limits
        self._counts = RegistrarCounts(limits.load_seconds)
        self._nodes: dict[str, Node] = {}
        self._whose: Whose | None = None
        self._is_settled = False
        for config in configured:
            self._nodes[config.id] = Node(config, limits, self._counts.counted)

    # --- what is known

    @property
    def is_settled(self) -> bool:
        """Whether every node there was at the beginning has been asked."""
        if not self._is_settled:
            self._is_settled = all(node.health.phase is not Phase.NEW for node in self._nodes.values())
        return self._is_settled

    def nodes(self, now: float) -> dict[str, MediaNode]:
        """Return all of them by their ids."""
        return {name: node.media_node(now) for name, node in self._nodes.items()}

    def media_node(self, node_id: str, now: float) -> MediaNode | None:
        """Return one of them; cheaper than all."""
        node = self._nodes.get(node_id)
        return node.media_node(now) if node is not None else None

    def shown(self, now: float) -> list[dict[str, Any]]:
        """Return what an API says of all, in the order of the configuration."""
        return [node.shown(now) for node in self._nodes.values()]

    def find(self, node_id: str) -> Node | None:
        """Return one of them."""
        return self._nodes.get(node_id)

    def all(self) -> tuple[Node, ...]:
        """Return all of them."""
        return tuple(self._nodes.values())

    def node_of(self, capture_id: int | None, name: str, host: str) -> str | None:
        """Return the id of the node that a report is from: by the id or name that it bears, or where it came from.

        `capture_id` is None or 0, and `name` empty, where it bears none; `host` is numeric, or empty.
        """
        if self._whose is None:
            self._whose = Whose(node.config for node in self._nodes.values())
        return self._whose.find(capture_id, name, host)

    # --- what happens

    def answered(self, node_id: str, load: Load | None, asked_at: float, now: float, is_full: bool = False) -> None:
        """A node has answered a question."""
        node = self._nodes.get(node_id)
        if node is not None:
            self._take(node, node.answered(load, asked_at, now, is_full), now)

    def missed(self, node_id: str, why: str, is_refused: bool, now: float) -> None:
        """A node has not answered a question."""
        node = self._nodes.get(node_id)
        if node is not None:
            node.missed(why, is_refused, now)
            self._take(node, False, now)

    def reported(self, node_id: str, load: Load, at: float, now: float) -> None:
        """A node has told its load by itself, at this moment. Raises LookupError."""
        node = self._nodes[node_id]
        self._take(node, node.reported(load, at, now), now)

    def counted(self, counts: Counts, now: float) -> None:
        """A registrar has told how many calls it has."""
        self._counts.heard(counts, now)

    # --- what is said

    def announce(self, config: NodeConfig, leased_until: float, now: float) -> None:
        """A node says that it is there, until this moment. Raises NotAccepted."""
        self.check(config)
        node = self._nodes.get(config.id)
        if node is None:
            node = self._nodes[config.id] = Node(config, self.limits, self._counts.counted)
            self._log.info("media node {node} has announced itself at {address}", node=config.id,
                           address=config.address)
            self._tell("joined", node, now)
        elif node.config != config:
            self._log.info("media node {node} says of itself now: {words}", node=config.id,
                           words=_different(node.config, config))
            node.set(config, now)
        self._whose = None
        node.leased_until = leased_until
        self._take(node, False, now)

    def check(self, config: NodeConfig) -> None:
        """Raise NotAccepted unless such a node may announce itself."""
        node = self._nodes.get(config.id)
        if node is not None and node.leased_until is None:
            raise NotAccepted("a node of this id is in the configuration")
        others = [other for other in self._nodes.values() if other is not node]
        taken = [other for other in others if other.config.address == config.address]
        if taken:
            raise NotAccepted(f"node {taken[0].config.id} has this address")
        taken = [other for other in others if config.capture_id and other.config.capture_id == config.capture_id]
        if taken:
            raise NotAccepted(f"node {taken[0].config.id} has this capture_id")
        announced = sum(other.leased_until is not None for other in others)
        if node is None and announced >= self.limits.max_announced:
            raise NotAccepted(f"no more than {self.limits.max_announced} nodes may announce themselves")

    def withdraw(self, node_id: str, now: float) -> None:
        """A node that has announced itself leaves. Raises as check_withdrawal does."""
        self.check_withdrawal(node_id)
        self._remove(self._nodes[node_id], now)

    def check_withdrawal(self, node_id: str) -> None:
        """Raise NotAccepted when this node is one of the configuration, LookupError when there is none."""
        if self._nodes[node_id].leased_until is None:
            raise NotAccepted("this node is in the configuration")

    def drain(self, node_id: str, is_draining: bool | None, now: float) -> None:
        """An operator says whether a node drains; None: as it is configured or announced. Raises LookupError."""
        node = self._nodes[node_id]
        node.say(is_draining, now)
        self._take(node, False, now)

    def hold_leases(self, now: float) -> None:
        """Let every lease that has not ended last for its full time from now."""
        for node in self._nodes.values():
            if node.leased_until is not None and not node.has_lapsed(now):
                node.leased_until = max(node.leased_until, now + self.limits.lease_seconds)

    def forget_lapsed(self, now: float) -> None:
        """Forget nodes that have neither announced themselves nor answered for long."""
        for node in self.all():
            if node.leased_until is not None and now - node.leased_until >= self.limits.forget_seconds \
                    and node.health.state is NodeState.DOWN:
                self._remove(node, now)

    # --- details

    def _remove(self, node: Node, now: float) -> None:
        del self._nodes[node.config.id]
        self._whose = None
        self._log.info("media node {node} is gone", node=node.config.id)
        self._tell("gone", node, now)

    def _take(self, node: Node, is_another_life: bool, now: float) -> None:
        """Tell what is different of a node to which something has happened."""
        if is_another_life:
            self._log.warn("media node {node} was started again: its calls are gone", node=node.config.id)
            self._tell("restarted", node, now)
        state = node.state(now)
        if state is not node.told:
            log = self._log.warn if state is NodeState.DOWN else self._log.info
            log("media node {node} is {state}: {why}{then}", node=node.config.id, state=state.value,
                why=node.why(now) or "it answers", then=THEN.get(state, ""))
            node.told = state
            self._tell("state", node, now)

    def _tell(self, kind: str, node: Node, now: float) -> None:
        happening = Happening(kind, node.config.id, node.state(now), node.said_draining is not None)
        for told in self.on_change:
            told(happening)


def _different(old: NodeConfig, new: NodeConfig) -> str:
    """Return the settings that are different, as they are now."""
    before = asdict(old)
    return ", ".join(f"{name} = {value!r}" for name, value in asdict(new).items() if value != before[name])
