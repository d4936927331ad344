"""How calls through media nodes are kept in Redis: one key for each, and the scripts that change it.

    call:<Call-ID>    <id> <stamp> <session as JSON>     a call; its stamp is other after each change
                      <id> -                             that call has ended

What has ended stays for a while: a registrar that finds nothing knows that Redis has lost the call, and writes it
again; one that finds the mark knows that another one has ended it.
"""

from attrs import frozen

from registrar.media.session import Session, decode_session, encode_session
from rollcall.cluster.redis import Script

PREFIX = b"call:"

ENDED_SECONDS = 600
"""How long a registrar may be without Redis and still learn that another one has ended a call of its own. Later it
learns it from the media node (see registrar.media.timers)."""

SPARE_SECONDS = 60
"""A call stays so much longer than it lasts: its owner sees to its end, and Redis only where there is no owner."""

_OVER = b"-"

# Both end with a read of the key, so that Redis tells whoever has written it of changes by others.
PUT = Script(b"""
local old = redis.call('GET', KEYS[1])
if old then
  local id, stamp = string.match(old, '^(%S+) (%S+)')
  if id == ARGV[1] and stamp ~= ARGV[2] or id ~= ARGV[1] and stamp ~= '-' then return old end
end
redis.call('SET', KEYS[1], ARGV[3], 'EX', ARGV[4])
redis.call('EXISTS', KEYS[1])
return 1
""")
"""KEYS: the call. ARGV: its id, the stamp that is to be replaced, the new value, seconds. 1, or what is there instead.

Where nothing is, or what is left of another call, any stamp will do.
"""

END = Script(b"""
local old = redis.call('GET', KEYS[1])
if old and string.match(old, '^(%S+)') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ' -', 'EX', ARGV[2])
redis.call('EXISTS', KEYS[1])
return 1
""")
"""KEYS: the call. ARGV: its id, seconds. 0 when another call is there."""


@frozen
class Ended:
    """What is left of a call."""

    id: str


def call_key(call_id: str) -> bytes:
    """Return where the call of a Call-ID is kept."""
    return PREFIX + call_id.encode("utf-8", "surrogateescape")


def call_id_of(key: bytes) -> str:
    """Return the Call-ID of what is kept there."""
    return key.removeprefix(PREFIX).decode("utf-8", "surrogateescape")


def stamp_of(session: Session) -> str:
    """Return what is other after each change, whoever makes it."""
    return f"{session.version}@{session.changed_by}"


def value_of(session: Session) -> bytes:
    """Return what is kept."""
    return f"{session.id} {stamp_of(session)} ".encode() + encode_session(session)


def read(value: bytes | None) -> Session | Ended | None:
    """Return what was kept; None for nothing, and for what none of us has written."""
    if value is None:
        return None
    identity, _, rest = value.partition(b" ")
    if rest == _OVER:
        return Ended(identity.decode("utf-8", "replace"))
    try:
        return decode_session(rest.partition(b" ")[2])
    except ValueError:
        return None


def seconds_left(session: Session, now: float) -> int:
    """Return for how long Redis has to keep it."""
    return max(1, int(session.expires_at - now) + SPARE_SECONDS)
