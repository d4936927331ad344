"""Datagrams by the batch: by recvmmsg(2) and sendmmsg(2) where that was compiled, else one by one."""

from collections.abc import Callable
from errno import (
    ECONNREFUSED,
    EHOSTDOWN,
    EHOSTUNREACH,
    EMSGSIZE,
    ENETDOWN,
    ENETUNREACH,
    ENOBUFS,
    ENOMEM,
    ENOPROTOOPT,
    EPROTO,
)
from socket import socket

from rollcall.net import plain_datagrams
from rollcall.net.coalescing import Found
from rollcall.net.flow import PackedAddress
from rollcall.net.plain_datagrams import SLOTS
from rollcall.sip.compiled import compiled_module

_found = compiled_module("rollcall.net._datagrams")

COMPILED = _found is not None
"""Which of the two it is."""

receive: Callable[[socket, int], list[tuple[bytes, PackedAddress]]] = (_found or plain_datagrams).receive
send: Callable[[socket, list[tuple[bytes, PackedAddress]]], list[tuple[int, int]]] = (_found or plain_datagrams).send

# What reading may fail with for once: routers' complaints about what was sent before (ip(7)), and a lack of memory.
PASSING = frozenset(
    (ECONNREFUSED, EHOSTDOWN, EHOSTUNREACH, EMSGSIZE, ENETDOWN, ENETUNREACH, ENOBUFS, ENOMEM, ENOPROTOOPT, EPROTO)
)

__all__ = ["COMPILED", "SLOTS", "receive", "send", "take_batches"]


def take_batches(bound: socket, most: int, clock: Callable[[], float], seconds: float,
                 take: Callable[[list[tuple[bytes, PackedAddress]]], bool]) -> Found:
    """Give what waits at a socket to `take`, which says whether it goes on: `most` datagrams, for so many seconds.

    Raises OSError when the socket is of no use any more.
    """
    left, ends_at = most, clock() + seconds
    while left > 0:
        wanted = min(left, SLOTS)
        try:
            batch = receive(bound, wanted)
        except OSError as error:
            if error.errno not in PASSING:
                raise
            left -= 1
            continue
        left -= len(batch)
        if not take(batch) or len(batch) < wanted:
            return Found.ALL if left < most else Found.NOTHING
        if clock() >= ends_at:
            break
    return Found.MORE
