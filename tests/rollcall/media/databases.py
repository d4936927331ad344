"""Writes small databases in MaxMind's format (version 2.0 of its specification), for tests."""

from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, NamedTuple

MARKER = b"\xab\xcd\xefMaxMind.com"
MAP, UINT32, STRING, UINT16, UINT64, ARRAY = 7, 6, 2, 5, 9, 11


class Number(NamedTuple):
    """A number whose type is not UINT32."""

    kind: int
    value: int


def write_database(file: Path, records: Mapping[str, Mapping[str, Any]], ip_version: int = 6) -> Path:
    """Write what is known of some networks; those of IPv4 stand below ::/96 in a database of version 6."""
    nodes: list[list[int | bytes | None]] = [[None, None]]
    for prefix, record in records.items():
        _insert(nodes, _bits(prefix, ip_version), _encoded(record))
    data = b""
    tree = b""
    for node in nodes:
        for child in node:
            if isinstance(child, bytes):
                value = len(nodes) + 16 + len(data)
                data += child
            else:
                value = len(nodes) if child is None else child
            tree += value.to_bytes(4, "big")
    described = {
        "node_count": len(nodes), "record_size": Number(UINT16, 32), "ip_version": Number(UINT16, ip_version),
        "database_type": "Test", "languages": [], "binary_format_major_version": Number(UINT16, 2),
        "binary_format_minor_version": Number(UINT16, 0), "build_epoch": Number(UINT64, 1), "description": {}}
    file.write_bytes(tree + bytes(16) + data + MARKER + _encoded(described))
    return file


def _bits(prefix: str, ip_version: int) -> str:
    network = ip_network(prefix)
    length = network.max_prefixlen
    bits = format(int(network.network_address), f"0{length}b")[: network.prefixlen]
    return "0" * 96 + bits if ip_version == 6 and length == 32 else bits


def _insert(nodes: list[list[int | bytes | None]], bits: str, record: bytes) -> None:
    place = 0
    for bit in bits[:-1]:
        child = nodes[place][int(bit)]
        if not isinstance(child, int):
            child = len(nodes)
            nodes.append([None, None])
            nodes[place][int(bit)] = child
        place = child
    nodes[place][int(bits[-1])] = record


def _encoded(value: Any) -> bytes:
    if isinstance(value, str):
        return _head(STRING, len(value.encode())) + value.encode()
    if isinstance(value, Mapping):
        return _head(MAP, len(value)) + b"".join(_encoded(key) + _encoded(each) for key, each in value.items())
    if isinstance(value, list):
        return _head(ARRAY, len(value)) + b"".join(map(_encoded, value))
    number = value if isinstance(value, Number) else Number(UINT32, value)
    size = 2 if number.kind == UINT16 else 4
    return _head(number.kind, size) + number.value.to_bytes(size, "big")


def _head(kind: int, size: int) -> bytes:
    if size >= 29:
        return _first(kind, 29) + bytes([size - 29])
    return _first(kind, size)


def _first(kind: int, size: int) -> bytes:
    return bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])
