"""What registrars have to know to choose a media node: one versioned whole, and the changes from one to the next.

The balancer's master publishes them in order (see rollcall.cluster.snapshots); both ends are plain values here.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Literal, TypeVar

import msgspec
from attrs import evolve, field, frozen

from rollcall.ops.allowed import at_least, between

Kind = Literal["rtpengine", "freeswitch", "other"]
Policy = Literal["quality", "random", "weighted", "round-robin", "hash", "least-loaded"]

DEFAULT_GROUP = "general"
"""The node group of a tenant that has none, and of a node that names none."""

LIFE_SECONDS = 5.0
"""Balancers may differ by so much in when a node's process began: by their clocks, and by the second it is told in."""

UNKNOWN = ""
"""The access group of whoever is in no list of prefixes."""

Key = TypeVar("Key")
Value = TypeVar("Value")

# "From G to N": an access group ("carrier/region") and the id of a node.
PathKey = tuple[str, str]


class NodeState(Enum):
    """Whether a node gets new calls: only while it is up, or suspect and nobody else can have them."""

    UP = "up"
    SUSPECT = "suspect"
    """It has missed an answer."""
    DOWN = "down"
    """It is believed to be dead, and its calls with it."""
    DRAINING = "draining"
    """It keeps its calls and gets no new ones."""
    DRAINED = "draining: empty"
    """It was draining, and has had neither calls nor packets for a while: it may be switched off."""


@frozen(kw_only=True)
class MediaNode:
    """A media node as whoever sends it calls has to know it."""

    id: str
    kind: Kind = "rtpengine"
    address: str
    """host:port of rtpengine's ng port, or of the SIP port of others; IPv6 in brackets."""
    site: str = ""
    """Where it stands: a region's name, as in access groups."""
    capacity: int = 1000
    """Calls at once."""
    weight: int = 1
    groups: tuple[str, ...] = (DEFAULT_GROUP,)
    """The node groups that it is in."""
    state: NodeState = NodeState.UP
    sessions: int = 0
    """Its calls when it was last asked, or by other counts when it cannot be asked."""
    polled_at: float = 0.0
    """When that was, by the balancer's clock, in seconds since the epoch."""
    started_at: float = 0.0
    """When its process began, by the same clock; 0 where it does not say. See is_another_life."""


@frozen
class Quality:
    """What is believed of the way between an access group and a node, in one direction."""

    loss: float
    """The fraction of packets that do not arrive, or too late to be played: 0 to 1."""
    delay_ms: float
    """One way, with what the receiver has to wait for jitter's sake."""


@frozen(kw_only=True)
class Rule:
    """How a node is chosen (docs/balancer.md). R is the E-model's rating (G.107), from 0 to 93.2."""

    policy: Policy = "quality"
    free_load: float = field(default=0.70, validator=between(0.0, 0.99))
    """Up to this load u a node costs nothing more."""
    load_penalty: float = field(default=40.0, validator=at_least(0))
    """How many R a node at u = 1 costs; from free_load on it rises in a straight line."""
    margin_r: float = field(default=3.0, validator=at_least(0))
    """Nodes whose score is within so many R of the best are as good: of two of them, drawn at random, the less loaded
    gets the call."""


@frozen(kw_only=True)
class Snapshot:
    """All of it at one moment."""

    published_at: float = 0.0
    """By the balancer's clock, in seconds since the epoch."""
    rule: Rule = Rule()
    nodes: Mapping[str, MediaNode] = field(factory=dict)
    """By their ids."""
    tenants: Mapping[str, str] = field(factory=dict)
    """The node groups of those that do not use DEFAULT_GROUP: by AOR, "internal:<domain>" or domain."""
    paths: Mapping[PathKey, Quality] = field(factory=dict)
    """What reports say. A way that nobody has reported on is not there."""
    priors: Mapping[PathKey, Quality] = field(factory=dict)
    """What is assumed where reports say nothing, by (region, site); else ("", site) counts, and else ("", "")."""


@frozen(kw_only=True)
class Change:
    """What is different in the next snapshot; what stands in none of these is as it was."""

    published_at: float
    rule: Rule | None = None
    nodes: tuple[MediaNode, ...] = ()
    """These are new, or others than before."""
    gone_nodes: tuple[str, ...] = ()
    tenants: Mapping[str, str] | None = None
    """All of them, when one has changed."""
    paths: tuple[tuple[str, str, float, float], ...] = ()
    """Access group, node, loss, delay_ms."""
    gone_paths: tuple[PathKey, ...] = ()
    priors: tuple[tuple[str, str, float, float], ...] | None = None
    """All of them: region, site, loss, delay_ms."""


class _Whole(msgspec.Struct, frozen=True):
    published_at: float
    rule: Rule
    nodes: tuple[MediaNode, ...]
    tenants: dict[str, str]
    paths: tuple[tuple[str, str, float, float], ...]
    priors: tuple[tuple[str, str, float, float], ...]


def difference(old: Snapshot, new: Snapshot) -> Change:
    """Return what makes `new` out of `old`."""
    paths, gone_paths = _changed(old.paths, new.paths)
    nodes, gone_nodes = _changed(old.nodes, new.nodes)
    return Change(
        published_at=new.published_at,
        rule=new.rule if new.rule != old.rule else None,
        nodes=tuple(nodes.values()), gone_nodes=tuple(gone_nodes),
        tenants=new.tenants if new.tenants != old.tenants else None,
        paths=_rows(paths), gone_paths=tuple(gone_paths),
        priors=_rows(new.priors) if new.priors != old.priors else None,
    )


def apply(old: Snapshot, change: Change) -> Snapshot:
    """Return the next snapshot; `old` stays as it is."""
    nodes, paths = dict(old.nodes), dict(old.paths)
    for name in change.gone_nodes:
        nodes.pop(name, None)
    nodes.update((node.id, node) for node in change.nodes)
    for key in change.gone_paths:
        paths.pop(key, None)
    paths.update(_by_key(change.paths))
    return evolve(
        old, published_at=change.published_at, nodes=nodes, paths=paths,
        rule=old.rule if change.rule is None else change.rule,
        tenants=old.tenants if change.tenants is None else change.tenants,
        priors=old.priors if change.priors is None else _by_key(change.priors),
    )


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """Return it as JSON."""
    return msgspec.json.encode(_Whole(
        snapshot.published_at, snapshot.rule, tuple(snapshot.nodes.values()), dict(snapshot.tenants),
        _rows(snapshot.paths), _rows(snapshot.priors)))


def decode_snapshot(data: bytes) -> Snapshot:
    """Return what was encoded. Raises ValueError."""
    whole = _decoded(data, _Whole)
    return Snapshot(
        published_at=whole.published_at, rule=whole.rule, nodes={node.id: node for node in whole.nodes},
        tenants=whole.tenants, paths=_by_key(whole.paths), priors=_by_key(whole.priors))


def encode_change(change: Change) -> bytes:
    """Return it as JSON."""
    return msgspec.json.encode(change)


def decode_change(data: bytes) -> Change:
    """Return what was encoded. Raises ValueError."""
    return _decoded(data, Change)


def is_another_life(old: MediaNode, new: MediaNode) -> bool:
    """Tell whether a node was started again between these two: the calls that an rtpengine had are gone then."""
    return 0.0 < old.started_at < new.started_at - LIFE_SECONDS


def node_group(tenants: Mapping[str, str], caller: str, callee: str) -> str:
    """Return which node group a call uses; `caller` and `callee` are AORs, or empty.

    The more exact name counts: the callee (a conference, a robot that answers), the caller (a robot that calls), calls
    within a domain, the domain of the caller, that of the callee.
    """
    ours, theirs = (aor.rpartition("@")[2] for aor in (caller, callee))
    names = [callee, caller, f"internal:{ours}" if ours == theirs else "", ours, theirs]
    return next((tenants[name] for name in names if name and name in tenants), DEFAULT_GROUP)


def _changed(old: Mapping[Key, Value], new: Mapping[Key, Value]) -> tuple[dict[Key, Value], list[Key]]:
    return ({key: value for key, value in new.items() if old.get(key) != value},
            [key for key in old if key not in new])


def _rows(paths: Mapping[PathKey, Quality]) -> tuple[tuple[str, str, float, float], ...]:
    return tuple((group, node, each.loss, each.delay_ms) for (group, node), each in paths.items())


def _by_key(rows: tuple[tuple[str, str, float, float], ...]) -> dict[PathKey, Quality]:
    return {(group, node): Quality(loss, delay_ms) for group, node, loss, delay_ms in rows}


def _decoded(data: bytes, kind: type[Value]) -> Value:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"no snapshot: {problem}") from problem
