"""What nodes tell each other of themselves in Redis: their leases, as JSON, and how a lease is taken, kept and ended.

The lease of a node is the key `node:<name>`, which expires unless it is renewed. Where it was given back or its life
was declared over there is a tombstone instead, which no older life can write over. All that decides is in one key,
because the keys of one script lie on one server of Redis Cluster only when they are one key.
"""

import re
from collections.abc import Mapping

import msgspec
from attrs import field, frozen

from rollcall.cluster.config import MOST_CONNECTIONS
from rollcall.cluster.redis import Script

MOST_SECONDS = 2.0**41
"""A later moment is none."""

HIGHEST_EPOCH = 2**53
"""Lua, which compares epochs, counts exactly no further: in milliseconds, until the year 287396."""

FULL_WEIGHT = 100

_HOST = re.compile(r"""[^\s\0<>"@;,]{1,255}""")
_FACE = re.compile(r"""[^\s\0<>"@;,]{3,300}""")
"""What may stand there without ending what it stands in, a URI or a header field."""

NODES = b"nodes"
"""The set of the names of all nodes: where to look for leases without walking through all keys."""


@frozen(kw_only=True)
class Node:
    """One life of a node: one process, from its start to its end."""

    node: str
    epoch: int
    """Which life: greater than that of any before. The time of its start in milliseconds, unless clocks went back."""
    host: str
    """Where other nodes reach it: a numeric address, IPv6 without brackets."""
    port: int
    tls: bool = False
    """Whether they speak TLS there."""
    draining: bool = False
    """It takes nobody new, and has its phones move over."""
    started_at: float = 0.0
    """In seconds since the epoch of all clocks."""
    faces: Mapping[str, str] = field(factory=dict)
    """By the name of each listener the "host:port" that its phones are told."""
    admin: str = ""
    """The URL of its admin site."""
    of: str = ""
    """The registrar that it is a worker of; empty for one without workers."""
    site: str = ""
    """Where it stands; empty where there is only one site."""
    capacity: int = 0
    """How many connections of phones it is to carry; 0: it has not said."""
    connections: int = 0
    """How many it has."""
    weight: int = FULL_WEIGHT
    """Its share of new phones, from 0, which is none, to 100; see registrar.distribution.health."""


@frozen(kw_only=True)
class Ended:
    """What stands in the place of a lease when a life is over: nobody may go on with this epoch, or an older one."""

    node: str
    epoch: int
    ended_at: float


Lease = Node | Ended


class _Kind(msgspec.Struct):
    """What tells a tombstone from a lease."""

    ended_at: float | None = None


def lease_key(node: str) -> bytes:
    """Return where the lease of a node is kept."""
    return b"node:" + node.encode()


def epoch_key(node: str) -> bytes:
    """Return where the greatest epoch of a node is kept."""
    return b"epoch:" + node.encode()


def drain_key(node: str) -> bytes:
    """Return where it is kept that a node shall be drained: the epoch of the life that shall."""
    return b"drain:" + node.encode()


def encode_lease(lease: Lease) -> bytes:
    """Return what is kept."""
    return msgspec.json.encode(lease)


def decode_lease(value: bytes) -> Lease:
    """Return what was kept. Raises ValueError when this is no lease, whoever has written it."""
    try:
        kind: type[Node] | type[Ended] = Ended
        if msgspec.json.decode(value, type=_Kind).ended_at is None:
            kind = Node
        lease: Node | Ended = msgspec.json.decode(value, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise ValueError(f"no lease: {problem}") from problem
    if not _is_sound(lease):
        raise ValueError("no lease: no node can have written it")
    return lease


def _is_sound(lease: Lease) -> bool:
    """Say whether a node can have written this: others connect to what stands there, and write it into messages."""
    moment = lease.ended_at if isinstance(lease, Ended) else lease.started_at
    if not 0 <= lease.epoch < HIGHEST_EPOCH or not 0.0 <= moment <= MOST_SECONDS:
        return False
    if isinstance(lease, Ended):
        return True
    # Who spreads phones counts with these.
    if not (0 <= lease.weight <= FULL_WEIGHT and 0 <= lease.capacity <= MOST_CONNECTIONS
            and 0 <= lease.connections <= MOST_CONNECTIONS):
        return False
    return (0 <= lease.port < 2**16 and _HOST.fullmatch(lease.host) is not None
            and all(map(_FACE.fullmatch, lease.faces.values())))


# Returns the epoch that a lease names and whether that life has ended; nil for what is no lease.
_READ = """
local function read(value)
  if not value then return nil end
  local is_json, lease = pcall(cjson.decode, value)
  if not is_json or type(lease) ~= 'table' then return nil end
  return tonumber(lease.epoch), type(lease.ended_at) == 'number'
end
local old = redis.call('GET', KEYS[1])
local epoch, ended = read(old)
local mine = tonumber(ARGV[1])
"""

TAKE = Script((_READ + """
if epoch and (epoch > mine or ended and epoch == mine or epoch < mine and not ended) then return old end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""").encode())
"""KEYS: the lease. ARGV: our epoch, its value, milliseconds. 1, or the lease of another life that has it."""

RENEW = Script((_READ + """
if epoch and (epoch > mine or ended and epoch == mine) then return old end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
if old then return 1 end
return 0
""").encode())
"""The same for who has had it: 1, or 0 when it had lapsed, or what says that our life is over."""

GIVE_BACK = Script((_READ + """
if epoch and epoch > mine then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""").encode())
"""KEYS: the lease. ARGV: our epoch, a tombstone, milliseconds. 1, or 0 when a later life has it."""

FENCE = Script((_READ + """
if epoch and epoch >= mine then
  if epoch > mine or ended then return 1 end
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
""").encode())
"""KEYS: the lease. ARGV: an epoch, its tombstone, milliseconds. 1 when that life is over for good, 0 when it lives."""

DROP = Script((_READ + """
if epoch == mine and not ended then return redis.call('DEL', KEYS[1]) end
return 0
""").encode())
"""KEYS: the lease. ARGV: an epoch. Deletes the lease of a life that seems to be over; one that lives renews it."""

COUNT_UP = Script(b"""
local old = tonumber(redis.call('GET', KEYS[1]) or '0')
if old and old > tonumber(ARGV[1]) then return old end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return tonumber(ARGV[1])
""")
"""KEYS: the greatest epoch. ARGV: our epoch, seconds. The greatest epoch, which is ours unless another's is."""
