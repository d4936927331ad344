"""Which node has a phone's connection, and which phone of a record is which: pure decisions over the living nodes.

RFC 5626 §5.3: a request for a flow goes to the node that has it.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Protocol

from registrar.records import Binding
from registrar.routing import ByUri, Hop, OverDatagrams, OverMember, next_hop
from rollcall.net.tokens import Connection, DatagramPeer, FlowName
from rollcall.sip.errors import ParseError
from rollcall.sip.uri import SipUri, parse_uri

INSTANCE_BYTES = 4
"""So much of its instance's hash tells a phone from the others of its record, of which there are ten or so."""

NO_INSTANCE = bytes(INSTANCE_BYTES)

MINUTE_BYTES = 4

LONGEST_CALL_SECONDS = 24 * 3600
"""For so long a phone is followed to where it is bound by then; what a former peer keeps leads nowhere afterwards."""


class Node(Protocol):
    """A living node of the cluster, as far as requests for its phones are concerned."""

    @property
    def node(self) -> str:
        """Its name."""

    @property
    def epoch(self) -> int:
        """Which life of it this is."""

    @property
    def host(self) -> str:
        """Where other nodes reach it: a numeric address."""

    @property
    def port(self) -> int:
        """The port there."""

    @property
    def faces(self) -> Mapping[str, str]:
        """By the name of each listener the "host:port" that its phones are told."""


class Cluster(Protocol):
    """Which nodes live. Asked for every binding, so it answers from memory."""

    def is_living(self, node: str, epoch: int) -> bool:
        """Say whether that life of a node goes on, ours included: its connections may be open."""

    def ended_at(self, node: str, epoch: int) -> float | None:
        """Return when that life ended, in seconds since the epoch, as long as that is remembered."""

    def node(self, name: str) -> Node | None:
        """Return a node that lives now."""


class OneNode:
    """The Cluster of a node that has no other: it takes every binding for its own."""

    def is_living(self, node: str, epoch: int) -> bool:
        """See Cluster: whether a connection is there is found out when it is used."""
        return True

    def ended_at(self, node: str, epoch: int) -> float | None:
        """See Cluster."""
        return None

    def node(self, name: str) -> Node | None:
        """See Cluster."""
        return None


def way_to(binding: Binding, us: str, cluster: Cluster) -> Hop:
    """Return how the node `us` reaches the phone behind `binding`: itself, or through the node that has its flow."""
    hop = next_hop(binding)
    source = binding.source
    owner = None if source.node == us or isinstance(hop, ByUri) else cluster.node(source.node)
    if owner is None:
        return hop
    if isinstance(hop, OverDatagrams):
        name: FlowName = DatagramPeer(source.node, hop.listener, hop.host, hop.port)
    else:
        name = Connection(source.node, source.epoch, source.flow_id, source.transport, source.listener)
    return OverMember(name, owner.faces.get(source.listener, ""), source.transport)


def living(bindings: Iterable[Binding], cluster: Cluster) -> tuple[Binding, ...]:
    """Return the bindings but those that lived on a connection of a node that does not any more."""
    return tuple(
        binding
        for binding in bindings
        if not binding.connection_bound or cluster.is_living(binding.source.node, binding.source.epoch)
    )


def is_within_reach(binding: Binding, cluster: Cluster) -> bool:
    """Say whether the node that has a living binding's connection is known, and what its phones are told of it.

    Its lease may come a little later, and what its phones are told stands there only once it listens for them.
    """
    if not binding.connection_bound or isinstance(cluster, OneNode):
        return True
    owner = cluster.node(binding.source.node)
    if owner is None or owner.epoch != binding.source.epoch:
        return False
    return not binding.source.listener or binding.source.listener in owner.faces


def phone_name(key: bytes, instance: str | None, now: float) -> bytes:
    """Return what finds a phone again, wherever it is bound.

    That is a part of its instance's hash, when that is known, the minute in which we say so, and its record's key.
    """
    return _mark(instance) + int(now // 60).to_bytes(MINUTE_BYTES) + key


def record_of(phone: bytes) -> bytes:
    """Return the key of the record in a phone's name."""
    return phone[INSTANCE_BYTES + MINUTE_BYTES:]


def is_outdated(phone: bytes, now: float) -> bool:
    """Say whether a phone's name is too old to follow the phone by."""
    named_at = int.from_bytes(phone[INSTANCE_BYTES : INSTANCE_BYTES + MINUTE_BYTES]) * 60
    return now > named_at + LONGEST_CALL_SECONDS


def same_phone(phone: bytes, contact: str, bindings: Sequence[Binding]) -> list[Binding]:
    """Return the bindings of the phone of this name among those of its record.

    Who said no instance is known by the `contact` that its peer has of it, or is the only phone there is.
    """
    mark = phone[:INSTANCE_BYTES]
    if mark != NO_INSTANCE:
        return [binding for binding in bindings if _mark(binding.instance) == mark]
    same = [binding for binding in bindings if _is_same_address(binding.contact, contact)]
    return same or (list(bindings) if len(bindings) == 1 else [])


def _mark(instance: str | None) -> bytes:
    if instance is None:
        return NO_INSTANCE
    return sha256(instance.encode("utf-8", "surrogateescape")).digest()[:INSTANCE_BYTES]


def _is_same_address(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        first, second = parse_uri(one), parse_uri(other)
    except ParseError:
        return False
    return (isinstance(first, SipUri) and isinstance(second, SipUri)
            and (first.user, first.host, first.port) == (second.user, second.host, second.port))
