"""Datagrams by the batch: by recvmmsg(2) and sendmmsg(2) where that was compiled, else one by one."""

from collections.abc import Callable
from socket import socket

from rollcall.net import plain_datagrams
from rollcall.net.flow import PackedAddress
from rollcall.net.plain_datagrams import SLOTS
from rollcall.sip.compiled import compiled_module

_found = compiled_module("rollcall.net._datagrams")

COMPILED = _found is not None
"""Which of the two it is."""

receive: Callable[[socket, int], list[tuple[bytes, PackedAddress]]] = (_found or plain_datagrams).receive
send: Callable[[socket, list[tuple[bytes, PackedAddress]]], list[tuple[int, int]]] = (_found or plain_datagrams).send

__all__ = ["COMPILED", "SLOTS", "receive", "send"]
