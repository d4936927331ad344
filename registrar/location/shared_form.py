"""The bindings of an address-of-record as nodes share them: the packed record of who wrote it, and what explains it.

A record (`registrar.location.packing`) says by a number what its node knows by heart. So the value in Redis is

    record of the compact form | User-Agent | place | their lengths, 2 bytes each | MAGIC
    record of the general form | for each binding its CSeq, 4 bytes, and SERIES | their count, 4 bytes | MAGIC

where the place is transport \\0 listener \\0 node \\0 epoch, and the slot, both numbers and `repeat` of a record mean
nothing. SERIES is the beginning of the SHA-1, in hexadecimal digits, of contact \\0 Call-ID. keep.lua reads all of that
without decoding anything, and is the only way in which a value is written.

What comes from Redis may be anything, whoever wrote it: it is understood whole, or not at all.
"""

from hashlib import sha1
from importlib.resources import files
from struct import Struct
from struct import error as OutOfRange

from registrar.location.contract import Snapshot
from registrar.location.packing import (
    COMPACT,
    CONNECTION_BOUND,
    DIRECT,
    GENERATION,
    HEAD,
    HIGHEST_VERSION,
    Head,
    Packing,
    Place,
    pack_general,
    read_compact,
    read_general,
)
from registrar.reading import HIGHEST_Q, HIGHEST_REG_ID
from registrar.records import Binding, Source
from rollcall.net.flow import pack_address
from rollcall.sip.errors import ParseError
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.uri import parse_uri

MAGIC = b"loc1"
"""Ends every value of this layout. keep.lua knows it, too."""

MOST_TAILS = 10_000
"""So many pairs of User-Agent and place are remembered as they are written: some megabytes."""

MOST_BYTES = 2**20
"""A value that is longer is none of ours: a REGISTER, and so each binding, has less than 64 KiB."""

MOST_SECONDS = 2.0**41
"""A later moment is none; in milliseconds it still fits into 53 bits, which is what Lua counts with."""

TRANSPORTS = frozenset({"UDP", "TCP", "TLS", "WS", "WSS"})

KEEP_TEXT = files("registrar.location").joinpath("keep.lua").read_bytes()
"""The script that writes a value: atomically, and only if it follows the one before."""

_LENGTHS = Struct("<HH4s")
_COUNT = Struct("<I4s")
_ENTRY = Struct("<I16s")
_EMPTY = _COUNT.pack(0, MAGIC)
_VERSION = Struct("<I")
_KINDS = COMPACT | DIRECT | CONNECTION_BOUND | GENERATION
_MOST_DIGITS = 20
_NUL = "\0"


def to_shared(packing: Packing, record: bytes) -> bytes:
    """Return the value that other nodes understand for a record of ours."""
    try:
        return record + packing.tails[record[8:14]]  # kind, length, agent, place
    except KeyError:
        return _with_new_tail(packing, record)


def keep_arguments(packing: Packing, record: bytes, expected: int, max_contacts: int,
                   empty_until: float) -> tuple[bytes | int, ...]:
    """Return all arguments of KEEP for a record that replaces version `expected`, 0 for none.

    For a record whose version is the next one and which has one binding, `(to_shared(packing, record),)` is enough. One
    without bindings stays until `empty_until`, in seconds since the epoch, so that its version goes on.
    """
    value = to_shared(packing, record)
    head: Head = HEAD.unpack_from(record)
    if head[2]:
        ends_at = head[6]
    else:
        ends_at = empty_until if value.endswith(_EMPTY) else head[7]
    return value, expected, max(1, int(ends_at * 1000)), max_contacts


def value_of(snapshot: Snapshot) -> bytes:
    """Return the value for a snapshot; it says the same as that which `to_shared` gives, in the general form."""
    entries = [_ENTRY.pack(binding.cseq, _series(binding)) for binding in snapshot.bindings]
    return pack_general(snapshot) + b"".join(entries) + _COUNT.pack(len(entries), MAGIC)


def snapshot_of(value: bytes) -> Snapshot | None:
    """Return what a value says, or None when it is not understood."""
    if not _is_framed(value):
        return None
    head: Head = HEAD.unpack_from(value)
    try:
        snapshot = _read_compact(head, value) if head[2] else _read_general(value)
        return snapshot if _is_sound(head[0], snapshot) else None
    except (ValueError, OverflowError, OSError, ParseError):
        return None


def version_of_value(value: bytes) -> int:
    """Return the version that has to be named to replace a value, be it understood or not."""
    if not _is_framed(value):
        return 0
    version: int = _VERSION.unpack_from(value)[0]
    return version


def owners_of(value: bytes) -> frozenset[tuple[str, int]]:
    """Return node and epoch of each binding that lives on a connection; of a value that is not understood, none."""
    try:
        if not _is_framed(value):
            return frozenset()
        if value[8]:
            place = _split(value)[2]
            return frozenset({(place[2], place[3])} if value[8] & CONNECTION_BOUND else ())
        bindings = _read_general(value).bindings
    except ValueError:
        return frozenset()
    return frozenset((one.source.node, one.source.epoch) for one in bindings if one.connection_bound)


def _with_new_tail(packing: Packing, record: bytes) -> bytes:
    """Do as `to_shared`, and remember what follows a record of this kind, agent and place."""
    head: Head = HEAD.unpack_from(record)
    tail = _tail(packing.agents.names[head[4]], packing.places.places[head[5]]) if head[2] else None
    if tail is None:
        return value_of(packing.unpack(record))
    if len(packing.tails) >= MOST_TAILS:
        packing.tails.clear()
    packing.tails[record[8:14]] = tail
    return record + tail


def _tail(agent: bytes, place: Place) -> bytes | None:
    """Return what explains a compact record, or None when it would not be read as it is."""
    *names, epoch = place
    try:
        text = _NUL.join([*names, str(epoch)]).encode("utf-8", "surrogateescape")
        tail = agent + text + _LENGTHS.pack(len(agent), len(text), MAGIC)
        return tail if _read_place(text) == place else None
    except (UnicodeEncodeError, ValueError, OutOfRange):
        return None


def _series(binding: Binding) -> bytes:
    series = f"{binding.contact}\0{binding.call_id}".encode("utf-8", "surrogatepass")
    return sha1(series, usedforsecurity=False).hexdigest()[:16].encode()


def _is_framed(value: bytes) -> bool:
    """Say as keep.lua does whether a value looks like one of ours."""
    if not HEAD.size + _COUNT.size <= len(value) <= MOST_BYTES or not value.endswith(MAGIC):
        return False
    if value[8]:
        return True
    count, _ = _COUNT.unpack_from(value, len(value) - _COUNT.size)
    return bool(count * _ENTRY.size <= len(value) - HEAD.size - _COUNT.size)


def _split(value: bytes) -> tuple[bytes, bytes, Place]:
    """Return what follows the head of a compact record, its User-Agent and its place. Raises ValueError."""
    end = len(value) - _LENGTHS.size
    agent_length, place_length, _ = _LENGTHS.unpack_from(value, end)
    place_at = end - place_length
    agent_at = place_at - agent_length
    if agent_at < HEAD.size:
        raise ValueError("its end is longer than the whole")
    return value[HEAD.size:agent_at], value[agent_at:place_at], _read_place(value[place_at:end])


def _read_place(text: bytes) -> Place:
    transport, listener, node, epoch = text.decode("utf-8", "surrogateescape").split(_NUL)
    return transport, listener, node, _read_number(epoch)


def _read_number(digits: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _MOST_DIGITS):
        raise ValueError("not a number")
    return int(digits)


def _read_compact(head: Head, value: bytes) -> Snapshot:
    kind, length = head[2], head[3]
    data, agent, place = _split(value)
    pieces = data[length:].split(b"\0")
    if kind & ~_KINDS or not kind & COMPACT or len(pieces) != (4 if kind & GENERATION else 3) or len(data) < length:
        raise ValueError("not a record")
    if kind & GENERATION:
        _read_number(pieces[-1].decode("ascii"))
    return read_compact(head, data, agent.decode("utf-8", "surrogateescape"), place)


def _read_general(value: bytes) -> Snapshot:
    count, _ = _COUNT.unpack_from(value, len(value) - _COUNT.size)
    end = len(value) - _COUNT.size - count * _ENTRY.size
    snapshot = read_general(value[HEAD.size:end])
    if len(snapshot.bindings) != count:
        raise ValueError("not as many bindings as it says")
    return snapshot


def _is_sound(version: int, snapshot: Snapshot) -> bool:
    """Say whether a snapshot is one that registrations can have made. Raises ParseError and others when not."""
    if not 0 < version == min(snapshot.version, HIGHEST_VERSION) or not 0.0 <= snapshot.lost_at <= MOST_SECONDS:
        return False
    if snapshot.bindings and snapshot.lost_at:
        return False
    return all(_is_sound_binding(binding) for binding in snapshot.bindings)


def _is_sound_binding(binding: Binding) -> bool:
    parse_uri(binding.contact)
    for hop in binding.path:
        parse_uri(parse_name_addr(hop).uri)
    times = binding.expires_at, binding.registered_at, binding.refreshed_at
    return (
        all(0.0 <= moment <= MOST_SECONDS for moment in times)  # which NaN is not
        and 0 <= binding.q <= HIGHEST_Q
        and 0 <= binding.cseq < 2**32
        and 0 <= binding.generation < 2**63
        and (binding.reg_id is None or 0 < binding.reg_id <= HIGHEST_REG_ID)
        and _is_sound_source(binding.source)
        and _is_clean(binding)
    )


def _is_sound_source(source: Source) -> bool:
    """Raises OSError and OverflowError when there is no such address."""
    pack_address(source.host, source.port)
    return source.transport in TRANSPORTS and 0 <= source.epoch < 2**63 and 0 <= source.flow_id < 2**64


def _is_clean(binding: Binding) -> bool:
    """Say whether no text could end a header field: all of it goes into messages."""
    source = binding.source
    texts = [binding.contact, binding.call_id, binding.user_agent, binding.instance or "", *binding.path, source.host,
             source.listener, source.node, *[f"{name}={value}" for name, value in binding.params]]
    text = "".join(texts)
    return "\r" not in text and "\n" not in text
