"""What workers and their supervisor say to each other: msgpack arrays, each behind its length in four bytes.

What is for another worker goes through the supervisor as a `Passed`, whose `message` it does not look into.
"""

from typing import Any

import msgspec

from rollcall.net.flow import Address

LENGTH_BYTES = 4


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Anything that is said."""


class Member(msgspec.Struct, frozen=True, array_like=True):
    """A worker in one life."""

    index: int
    node: str
    epoch: int


class Hello(Message, frozen=True, array_like=True, tag=True):
    """A worker: who I am in this life."""

    member: Member


class Members(Message, frozen=True, array_like=True, tag=True):
    """The supervisor: which workers live."""

    members: tuple[Member, ...]


class State(Message, frozen=True, array_like=True, tag=True):
    """A worker: why I should get no work; None when I should."""

    not_ready: str | None


class Drain(Message, frozen=True, array_like=True, tag=True):
    """The supervisor: finish what you have begun, then end."""


class Acquire(Message, frozen=True, array_like=True, tag=True):
    """A worker: I need the records of these keys."""

    keys: tuple[bytes, ...]


class Anticipate(Message, frozen=True, array_like=True, tag=True):
    """A worker: I shall need the records of these keys, if nobody has them."""

    keys: tuple[bytes, ...]


class Granted(Message, frozen=True, array_like=True, tag=True):
    """The supervisor: you hold the records of these keys now, these are they; None: look for it in the file."""

    records: tuple[tuple[bytes, tuple[int, str] | None], ...]


class Denied(Message, frozen=True, array_like=True, tag=True):
    """The supervisor: the record of this key, which you anticipated, is another's."""

    key: bytes


class Release(Message, frozen=True, array_like=True, tag=True):
    """The supervisor: hand over the record of this key."""

    key: bytes


class Released(Message, frozen=True, array_like=True, tag=True):
    """A worker: I do not hold it any more, this is it; None: it stands in the file, if anywhere."""

    key: bytes
    record: tuple[int, str] | None


class GiveBack(Message, frozen=True, array_like=True, tag=True):
    """A worker: I hold these no more, and they were empty."""

    keys: tuple[bytes, ...]


class Lost(Message, frozen=True, array_like=True, tag=True):
    """A worker: did somebody die who held one of these?  The supervisor: these are nobody's."""

    keys: tuple[bytes, ...]


class Ask(Message, frozen=True, array_like=True, tag=True):
    """The supervisor: answer this as your admin site would."""

    number: int
    path: str
    query: dict[str, str]
    content: bytes | None = None
    """The JSON of a POST; None for a GET."""


class Answer(Message, frozen=True, array_like=True, tag=True):
    """A worker: the answer."""

    number: int
    status: int
    content_type: str
    content: bytes


class Passed(Message, frozen=True, array_like=True, tag=True):
    """A message for worker `to` in life `epoch`; the supervisor writes from whom it is."""

    to: int
    epoch: int
    message: bytes
    sender: int = 0


class Write(Message, frozen=True, array_like=True, tag=True):
    """Worker to worker: send this over your flow."""

    flow_id: int
    data: bytes


class Hold(Message, frozen=True, array_like=True, tag=True):
    """Worker to worker: I wait for something on your flow; or, not `needed`, I do no more."""

    flow_id: int
    needed: bool


class Gone(Message, frozen=True, array_like=True, tag=True):
    """Worker to worker: my flow has ended."""

    flow_id: int


class Unbound(Message, frozen=True, array_like=True, tag=True):
    """Worker to worker: nothing of this key is bound to your flow any more."""

    flow_id: int
    key: bytes


class Stray(Message, frozen=True, array_like=True, tag=True):
    """Worker to worker: this response is to a request of yours. `flow_id` is 0 for one that came as a datagram."""

    data: bytes
    transport: str
    listener: str
    peer: Address
    flow_id: int


class Datagram(Message, frozen=True, array_like=True, tag=True):
    """Worker to worker: this request came to my socket; take it, or take it if it belongs to what you have begun."""

    data: bytes
    listener: str
    peer: Address
    only_known: bool


Kinds = (Hello | Members | State | Drain | Acquire | Anticipate | Granted | Denied | Release | Released | GiveBack
         | Lost | Ask | Answer | Passed | Write | Hold | Gone | Unbound | Stray | Datagram)

_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Kinds)
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Message) -> bytes:
    """Return a message in bytes."""
    return _ENCODER.encode(message)


def decode(data: bytes) -> Message:
    """Undo `encode`. Raises msgspec.DecodeError for anything that it did not write."""
    message: Message = _DECODER.decode(data)
    return message
