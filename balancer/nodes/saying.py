"""What operators and nodes say of nodes: checked, taken here, and told to all balancers."""

from typing import Annotated, Any, Literal

import msgspec
from attrs import asdict
from twisted.logger import Logger

from balancer.nodes.config import NodeConfig
from balancer.nodes.registry import Happening, Nodes, NotAccepted
from balancer.nodes.sharing import Sharing
from balancer.nodes.statistics import LoadReport
from rollcall.cluster.redis import Redis
from rollcall.media.snapshot import DEFAULT_GROUP, Kind


class Announcement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/nodes: a node as [[node]] would have it."""

    id: str
    address: str
    kind: Kind = "rtpengine"
    transport: Literal["udp", "tcp"] = "udp"
    capacity: int = 1000
    region: Annotated[str, msgspec.Meta(max_length=64)] = ""
    weight: int = 1
    groups: tuple[str, ...] = (DEFAULT_GROUP,)
    draining: bool = False
    capture_id: int = 0
    media_hosts: tuple[str, ...] = ()

    def as_config(self) -> NodeConfig:
        """Return what it says. Raises ValueError, the name of the field first."""
        given = msgspec.structs.asdict(self)
        for name, value in given.items():  # one after another, so that the mistake has a name
            try:
                NodeConfig(**{"id": "x", "address": "127.0.0.1:1", name: value})
            except ValueError as problem:
                raise ValueError(f"{name}: allowed is {problem}") from problem
        return NodeConfig(**given)


class Saying:
    """Says what is said here to all balancers, and takes what is said to any of them."""

    _log = Logger()

    def __init__(self, reactor: Any, nodes: Nodes, redis: Redis | None) -> None:
        """`redis` is None for a balancer that works alone."""
        self._reactor = reactor
        self._nodes = nodes
        self.sharing = Sharing(reactor, redis, nodes.limits.forget_seconds, self._heard, self._away)
        nodes.on_change.append(self._changed)

    def announce(self, config: NodeConfig) -> None:
        """A node says that it is there, for the time of a lease. Raises NotAccepted."""
        self._nodes.check(config)
        self.sharing.say(f"node:{config.id}", asdict(config))

    def withdraw(self, node_id: str) -> None:
        """A node that had announced itself says that it leaves. Raises LookupError, NotAccepted."""
        self._nodes.check_withdrawal(node_id)
        self.sharing.say(f"node:{node_id}", None)

    def drain(self, node_id: str, is_draining: bool | None) -> None:
        """An operator says whether a node drains; None: as it is configured or announced. Raises LookupError."""
        self._must_be_there(node_id)
        self.sharing.say(f"drain:{node_id}", is_draining)

    def report(self, node_id: str, load: LoadReport) -> None:
        """A node says what its load is. Raises LookupError."""
        self._must_be_there(node_id)
        self.sharing.say(f"load:{node_id}", load)

    def _must_be_there(self, node_id: str) -> None:
        if self._nodes.find(node_id) is None:
            raise LookupError(node_id)

    def _away(self) -> None:
        """Let no lease end while renewals at other balancers cannot be heard, and until there was time for new ones."""
        self._nodes.hold_leases(self._reactor.seconds())

    def _changed(self, happening: Happening) -> None:
        """Have nothing said any more of a node that is gone."""
        if happening.kind == "gone" and happening.was_said_to_drain:
            self.sharing.say(f"drain:{happening.node_id}", None)

    def _heard(self, field: str, value: bytes, said_at: float) -> bool:
        what, _, node_id = field.partition(":")
        now = self._reactor.seconds()
        try:
            if what == "node":
                return self._announced(node_id, value, said_at, now)
            if self._nodes.find(node_id) is None:
                return value == b"null"
            if what == "drain":
                self._nodes.drain(node_id, msgspec.json.decode(value, type=bool | None), now)
            elif what == "load":
                report = msgspec.json.decode(value, type=LoadReport)
                self._nodes.reported(node_id, report.as_load(), said_at, now)
        except (ValueError, NotAccepted) as problem:
            self._log.warn("what was said of media node {node} is not taken: {problem}", node=node_id,
                           problem=str(problem), log_rationed=True)
        return True

    def _announced(self, node_id: str, value: bytes, said_at: float, now: float) -> bool:
        said = msgspec.json.decode(value, type=Announcement | None)
        leased_until = said_at + self._nodes.limits.lease_seconds
        if said is not None and now < leased_until + self._nodes.limits.forget_seconds:
            self._nodes.announce(said.as_config(), leased_until, now)
        elif said is None and self._nodes.find(node_id) is not None:
            self._nodes.withdraw(node_id, now)
        return True
