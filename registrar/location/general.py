"""Bindings as msgpack: all of any, in a form that may be read from others, which marshal and pickle may not.

Text stands in it as text. A byte of a phone that was no UTF-8 is a lone surrogate here, which msgpack has no place for:
then every text of these bindings stands in it as bytes, surrogates encoded like any other character.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from registrar.records import Binding, Source

Text = TypeVar("Text", str, bytes)

PlainSource = tuple[Text, Text, int, Text, Text, int, int]
PlainBinding = tuple[
    PlainSource[Text], Text, tuple[tuple[Text, Text | None], ...], int, float, Text, int, tuple[Text, ...],
    Text | None, int | None, bool, bool, Text, float, float, int,
]
"""The source of a binding, then its other fields in order."""

ESCAPES = "surrogatepass"

_SOURCE_AT = 9


def plain_binding(binding: Binding) -> PlainBinding[str]:
    """Return a binding as nothing but built-in values."""
    source = binding.source
    return (
        (source.transport, source.host, source.port, source.listener, source.node, source.epoch, source.flow_id),
        binding.contact, binding.params, binding.q, binding.expires_at, binding.call_id, binding.cseq, binding.path,
        binding.instance, binding.reg_id, binding.direct, binding.connection_bound, binding.user_agent,
        binding.registered_at, binding.refreshed_at, binding.generation,
    )


def bindings_of(plain: Iterable[PlainBinding[str]]) -> tuple[Binding, ...]:
    """Undo `plain_binding` for each."""
    return tuple([_binding(*fields) for fields in plain])


def encode(values: tuple[Any, ...]) -> bytes:
    """Return built-in values, texts and tuples of such among them, as msgpack. Raises OverflowError beyond 64 bits."""
    try:
        return msgspec.msgpack.encode(values)
    except UnicodeEncodeError:
        return msgspec.msgpack.encode(_escaped(values))


class Decoder:
    """Reads what `encode` has written, if it is of one form; whatever it is given, it raises nothing but ValueError."""

    def __init__(self, form: Any) -> None:
        """`form` is a generic type: of `Text` for the texts in it."""
        self._plain = msgspec.msgpack.Decoder(form[str])
        self._escaped = msgspec.msgpack.Decoder(form[bytes])

    def decode(self, data: bytes | memoryview) -> Any:
        """Return the values. Raises ValueError (msgspec.DecodeError, UnicodeDecodeError) when it is something else."""
        try:
            return self._plain.decode(data)
        except msgspec.ValidationError:
            return _unescaped(self._escaped.decode(data))


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", ESCAPES)
    return tuple([_escaped(item) for item in value]) if isinstance(value, tuple) else value


def _unescaped(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", ESCAPES)
    return tuple([_unescaped(item) for item in value]) if isinstance(value, tuple) else value


def _binding(source: tuple[str, str, int, str, str, int, int], *fields: Any) -> Binding:
    return Binding(*[*fields[:_SOURCE_AT], Source(*source), *fields[_SOURCE_AT:]])
