"""Which media node each call gets: by what balancers have published, what we have placed since, and who has failed us.

A node that did not answer is left out for a while, whatever is published: we know it first.
"""

from collections.abc import Callable
from ipaddress import ip_address
from random import random

from attrs import define, evolve, field
from twisted.logger import Logger

from rollcall.media.selection import Board, Chosen, NoNode, Placements, Reason, Wanted
from rollcall.media.snapshot import MediaNode, NodeState, Snapshot, node_group
from rollcall.ops.allowed import is_address

WHY_NONE = {
    Reason.NO_NODE: "none is in it",
    Reason.FULL: "all are full",
    Reason.DRAINING: "all are draining",
    Reason.DOWN: "all are down",
}


class Choosing:
    """One registrar's choices."""

    _log = Logger()

    def __init__(self, now: Callable[[], float], left_out_seconds: float, chance: Callable[[], float] = random) -> None:
        """`now` is any clock that only goes forward, in seconds; `chance` gives numbers from 0 to 1."""
        self.placements = Placements()
        self._now = now
        self._left_out_seconds = left_out_seconds
        self._chance = chance
        self._board = Board(Snapshot())
        self._left_out: dict[str, float] = {}
        self._hosts: frozenset[str] = frozenset()

    @property
    def board(self) -> Board:
        """The snapshot that is chosen by."""
        return self._board

    def followed(self, snapshot: Snapshot) -> None:
        """Choose by this from now on."""
        self._board = Board(snapshot)
        self.placements.followed(snapshot, self._now())
        hosts = {host_of(node.address) for node in snapshot.nodes.values() if node.kind != "rtpengine"}
        self._hosts = frozenset(hosts - {""})

    def choose(self, wanted: Wanted) -> MediaNode | NoNode:
        """Return the node for a call, which counts as placed; who has failed us lately gets it when nobody else can."""
        now = self._now()
        self.placements.lapse(now)
        for name in [name for name, until in self._left_out.items() if until <= now]:
            del self._left_out[name]
        choice = self._board.choose(self._careful(wanted), self.placements, self._chance)
        if isinstance(choice, NoNode) and self._left_out:
            choice = self._board.choose(wanted, self.placements, self._chance)
        if not isinstance(choice, Chosen):
            self._log.warn("no media node of group {group} can have a call: {why}", group=wanted.group,
                           why=WHY_NONE[choice.reason], log_rationed=True)
            return choice
        self.placements.placed(choice.node.id, now)
        return choice.node

    def second(self, wanted: Wanted) -> MediaNode | None:
        """Return who would get a call, which does not count as placed."""
        choice = self._board.choose(self._careful(wanted), self.placements, self._chance)
        return choice.node if isinstance(choice, Chosen) else None

    def failed(self, node_id: str) -> None:
        """Leave out a node that has not answered."""
        self._left_out[node_id] = self._now() + self._left_out_seconds

    def group(self, caller: str, callee: str) -> str:
        """Return which node group a call between these AORs uses; either may be empty."""
        return node_group(self._board.snapshot.tenants, caller, callee)

    def node(self, node_id: str) -> MediaNode | None:
        """Return what is published of a node."""
        return self._board.snapshot.nodes.get(node_id)

    def serves(self, node_id: str) -> bool:
        """Say whether a node may be asked about the calls that it has, as far as we know."""
        node = self.node(node_id)
        is_down = node is not None and node.state is NodeState.DOWN
        return not is_down and self._left_out.get(node_id, 0.0) <= self._now()

    def is_node(self, host: str) -> bool:
        """Say whether a node that speaks SIP has this numeric address."""
        return host in self._hosts

    def _careful(self, wanted: Wanted) -> Wanted:
        return evolve(wanted, without=wanted.without | self._left_out.keys()) if self._left_out else wanted


@define(eq=False)
class Place:
    """Where one call goes: the node that has it now, and those that have failed it."""

    choosing: Choosing
    wanted: Wanted
    _node: MediaNode | None = None
    _failed: set[str] = field(factory=set)

    @property
    def node(self) -> MediaNode | None:
        """The node that its next offer goes to; None: nobody is left."""
        if self._node is None:
            choice = self.choosing.choose(evolve(self.wanted, without=frozenset(self._failed)))
            # Whoever was tried stands at the end of the choice, not outside.
            if isinstance(choice, NoNode) or choice.id in self._failed or choice.kind != "rtpengine":
                return None
            self._node = choice
        return self._node

    def failed(self, node: MediaNode) -> None:
        """Go to another one from now on."""
        self._failed.add(node.id)
        if self._node is not None and self._node.id == node.id:
            self._node = None


def host_of(address: str) -> str:
    """Return the numeric address in host:port as flows write it, without brackets; empty when it is a name."""
    host = address.rpartition(":")[0].removeprefix("[").removesuffix("]")
    return str(ip_address(host)) if is_address(host) else ""
