"""What an address-of-record has bound as one `bytes`: a million of them are nothing to walk through for the collector.

A record begins with HEAD. In the compact form, which fits the one contact of a usual phone, the rest is

    address of the source, 6 or 18 bytes | contact \\0 params \\0 Call-ID | \\0 generation, with GENERATION

as the phone wrote them: params are e.g. `;reg-id=1;+sip.instance="<urn:…>"`, the generation is in decimal digits. What
all phones of a site have in common, their User-Agent and the place they came in by, stands in HEAD by its number.
Whatever would not come back from that exactly as it was takes the general form, msgpack (`registrar.location.general`).
What is shared with other nodes is made of these records by `registrar.location.shared_form`.
"""

from struct import Struct
from struct import error as OutOfRange

from registrar.location.contract import Snapshot
from registrar.location.general import Decoder, PlainBinding, Text, bindings_of, encode, plain_binding
from registrar.reading import HIGHEST_Q, read_instance, read_reg_id
from registrar.records import Binding, Params, Source
from rollcall.net.flow import pack_address, unpack_address
from rollcall.sip.errors import ParseError
from rollcall.sip.grammar import parse_params

HEAD = Struct("<IIBBHHdddIQQ")
"""version, slot, kind, length of the address, agent, place, expires_at, refreshed_at, registered_at, cseq, flow_id,
repeat.

`slot` is that of the calendar which the record stands in, and `repeat` belongs to who answers repeated requests. Of the
general form the kind is 0, and `expires_at` and `refreshed_at` are the first and the last expiry, both 0 without
bindings; the rest counts for nothing.
"""

Head = tuple[int, int, int, int, int, int, float, float, float, int, int, int]
"""What HEAD unpacks."""

COMPACT, DIRECT, CONNECTION_BOUND, GENERATION = 1, 2, 4, 8
"""Bits of kind: the form, what the binding says of itself, and whether a generation follows."""

GENERAL = 0

HIGHEST_VERSION = 2**32 - 1
"""A head's version that says: this one or a later one. Each second a new one takes 136 years."""

MOST_NUMBERS = 2**16 - 1
"""Numbers fit into 16 bits."""

MAX_AGENT_BYTES = 255
"""A longer User-Agent is not given a number: they are remembered for good, and phones choose them."""

_KIND_AT = 8
_SLOT = Struct("<4xI")
_VERSION = Struct("<I")
_SLOT_AND_EXPIRY = Struct("<4xI6xd")

Place = tuple[str, str, str, int]
"""Transport, listener, node and epoch of a Source."""


class Agents:
    """The User-Agents by number."""

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self._most = most
        self._numbers: dict[bytes, int] = {}
        self.known = self._numbers.get
        """Returns the number of a User-Agent, or None when it has none yet: for what strangers say."""
        self.texts: list[str] = []
        self.names: list[bytes] = []
        """The same as they came."""

    def index(self, agent: bytes) -> int | None:
        """Return the number of a User-Agent, a new one if need be; None when it cannot have one."""
        number = self._numbers.get(agent)
        if number is None and len(self.texts) < self._most and len(agent) <= MAX_AGENT_BYTES:
            number = self._numbers[agent] = len(self.texts)
            self.texts.append(agent.decode("utf-8", "surrogateescape"))
            self.names.append(agent)
        return number


class Places:
    """Where bindings came in, by number: as many as there are listeners and lives of nodes."""

    def __init__(self, most: int = MOST_NUMBERS) -> None:
        self._most = most
        self._numbers: dict[Place, int] = {}
        self.places: list[Place] = []

    def index(self, transport: str, listener: str, node: str, epoch: int) -> int | None:
        """Return the number of a place, a new one if need be; None when all numbers are taken."""
        place = transport, listener, node, epoch
        number = self._numbers.get(place)
        if number is None and len(self.places) < self._most:
            number = self._numbers[place] = len(self.places)
            self.places.append(place)
        return number


class Packing:
    """Packs and unpacks the records of one store."""

    def __init__(self, most_numbers: int = MOST_NUMBERS) -> None:
        self.agents = Agents(most_numbers)
        self.places = Places(most_numbers)
        self.tails: dict[bytes, bytes] = {}
        """What a record is followed by where nodes share it, see `registrar.location.shared_form`."""

    def pack(self, snapshot: Snapshot, slot: int, repeat: int = 0) -> bytes:
        """Return the record of a snapshot: `unpack` returns an equal one."""
        if len(snapshot.bindings) == 1:
            try:
                packed = self._compact(snapshot.version, snapshot.bindings[0], slot, repeat)
            except (OutOfRange, OverflowError, ValueError, OSError, ParseError):
                # A number that is too large, text that was never bytes, a host that is no address, odd parameters.
                packed = None
            if packed is not None:
                return packed
        return pack_general(snapshot, slot)

    def unpack(self, record: bytes) -> Snapshot:
        """Return the snapshot that was packed."""
        head: Head = HEAD.unpack_from(record)
        if not head[2]:
            return read_general(record[HEAD.size:])
        return read_compact(head, record[HEAD.size:], self.agents.texts[head[4]], self.places.places[head[5]])

    def transports(self, record: bytes) -> tuple[str, ...]:
        """Return the transport of each binding in a record."""
        if record[_KIND_AT]:
            return (self.places.places[HEAD.unpack_from(record)[5]][0],)
        return tuple([binding.source.transport for binding in read_general(record[HEAD.size:]).bindings])

    def _compact(self, version: int, binding: Binding, slot: int, repeat: int) -> bytes | None:
        source = binding.source
        times = binding.expires_at, binding.refreshed_at, binding.registered_at
        if binding.path or binding.q != HIGHEST_Q or not all(type(moment) is float for moment in times):
            return None
        address = pack_address(source.host, source.port)
        agent = self.agents.index(binding.user_agent.encode("utf-8", "surrogateescape"))
        place = self.places.index(source.transport, source.listener, source.node, source.epoch)
        identity = _identity(binding)
        if agent is None or place is None or identity is None or unpack_address(address) != (source.host, source.port):
            return None
        if self.agents.texts[agent] != binding.user_agent:
            return None
        kind = COMPACT
        kind |= DIRECT if binding.direct else 0
        kind |= CONNECTION_BOUND if binding.connection_bound else 0
        if binding.generation:
            kind |= GENERATION
            identity += b"\0%d" % binding.generation
        return HEAD.pack(version, slot, kind, len(address), agent, place, *times, binding.cseq, source.flow_id,
                         repeat) + address + identity


def read_compact(head: Head, data: bytes, agent: str, place: Place) -> Snapshot:
    """Return the snapshot of a record of the compact form, of which `data` stands behind the head.

    Raises ValueError and ParseError when it is none.
    """
    version, _, kind, length, _, _, expires_at, refreshed_at, registered_at, cseq, flow_id, _ = head
    host, port = unpack_address(data[:length])
    contact, params_text, call_id, *generation = data[length:].decode("utf-8", "surrogateescape").split("\0")
    params, instance, reg_id = _read_params(params_text) if params_text else ((), None, None)
    transport, listener, node, epoch = place
    return Snapshot(version, (Binding(
        contact, params, HIGHEST_Q, expires_at, call_id, cseq, (), instance, reg_id,
        Source(transport, host, port, listener, node, epoch, flow_id), bool(kind & DIRECT),
        bool(kind & CONNECTION_BOUND), agent, registered_at, refreshed_at,
        int(generation[0]) if generation else 0),))


def version_of(record: bytes) -> int:
    """Return the version of a record."""
    version: int = _VERSION.unpack_from(record)[0]
    return version if version < HIGHEST_VERSION or record[_KIND_AT] else read_general(record[HEAD.size:]).version


def slot_and_expiry(record: bytes) -> tuple[int, float]:
    """Return the slot of the calendar that a record stands in, and when the first of its bindings lapses."""
    slot, expires_at = _SLOT_AND_EXPIRY.unpack_from(record)
    return slot, expires_at


def moved(record: bytes, slot: int) -> bytes:
    """Return a record as it is in another slot of the calendar."""
    return record[:_VERSION.size] + slot.to_bytes(4, "little") + record[_SLOT.size:]


def is_kept_on_connection(record: bytes) -> bool:
    """Say whether a record is one binding that lives on a connection."""
    return record[_KIND_AT] & CONNECTION_BOUND != 0


def _identity(binding: Binding) -> bytes | None:
    """Return contact, params and Call-ID as a phone wrote them, or None when they would not be read as they are."""
    params = "".join([f";{name}" if value is None else f";{name}={value}" for name, value in binding.params])
    if (_read_params(params) if params else ((), None, None)) != (binding.params, binding.instance, binding.reg_id):
        return None
    text = f"{binding.contact}\0{params}\0{binding.call_id}"
    identity = text.encode("utf-8", "surrogateescape")
    is_exact = text.count("\0") == 2 and (text.isascii() or identity.decode("utf-8", "surrogateescape") == text)
    return identity if is_exact else None


def _read_params(text: str) -> tuple[Params, str | None, int | None]:
    """Return the parameters that `text` holds, and the instance and reg-id among them. Raises ParseError."""
    params = parse_params(text)
    reg_id = read_reg_id(params["reg-id"]) if "reg-id" in params else None
    return tuple(params.items()), read_instance(params.get("+sip.instance")), reg_id


_Form = tuple[int, float, tuple[PlainBinding[Text], ...]]
_DECODER = Decoder(_Form)


def pack_general(snapshot: Snapshot, slot: int = 0) -> bytes:
    """Return the record of a snapshot in the general form. Raises OverflowError for a number of more than 64 bits."""
    expiries = [binding.expires_at for binding in snapshot.bindings] or [0.0]
    version = max(0, min(snapshot.version, HIGHEST_VERSION))
    head = HEAD.pack(version, slot, GENERAL, 0, 0, 0, min(expiries), max(expiries), 0.0, 0, 0, 0)
    lost_at = 0.0 if snapshot.bindings else snapshot.lost_at
    return head + encode((snapshot.version, lost_at, tuple([plain_binding(one) for one in snapshot.bindings])))


def read_general(data: bytes) -> Snapshot:
    """Return the snapshot that stands behind the head of a record of the general form. Raises ValueError."""
    version, lost_at, bindings = _DECODER.decode(data)
    return Snapshot(version, bindings_of(bindings), lost_at)
