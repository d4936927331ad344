"""Datagrams by the batch without a compiled part: a system call for each of them (udp(7)).

Addresses are packed as flow.PackedAddress is; that of an IPv6 link-local peer has its scope appended, 4 bytes
big-endian, because without it there is no way back.
"""

from errno import EAFNOSUPPORT, EAGAIN, EIO
from socket import AF_INET, AF_INET6, MSG_DONTWAIT, inet_aton, inet_ntoa, inet_ntop, inet_pton, socket
from struct import Struct
from typing import Any

from rollcall.net.flow import PackedAddress

# UDP's own length field has 16 bits.
MAX_DATAGRAM_BYTES = 65_535

SLOTS = 64
IPV4 = Struct("!H4s")
IPV6 = Struct("!H16s")
SCOPED = Struct("!H16sI")

_names: dict[PackedAddress, tuple[Any, ...]] = {}
"""What the socket module called those who sent the last batch: mostly they are who is answered."""


def receive(bound: socket, most: int) -> list[tuple[bytes, PackedAddress]]:
    """Return (data, packed source) of up to `most` datagrams that wait, at most 64. Raises OSError."""
    found: list[tuple[bytes, PackedAddress]] = []
    pack = _packed_ipv4 if bound.family == AF_INET else _packed_ipv6
    _names.clear()
    for _ in range(min(most, SLOTS)):
        try:
            data, source = bound.recvfrom(MAX_DATAGRAM_BYTES, MSG_DONTWAIT)
        except (BlockingIOError, InterruptedError):
            break
        except OSError:
            if not found:
                raise
            break
        address = pack(source)
        _names[address] = source
        found.append((data, address))
    return found


def send(bound: socket, datagrams: list[tuple[bytes, PackedAddress]]) -> list[tuple[int, int]]:
    """Send (data, packed address) each; return (index, errno) of those that were not sent, in their order.

    Raises ValueError for an address of no known length, when those before it may have been sent.
    """
    unsent = []
    is_ipv4 = bound.family == AF_INET
    for index, (data, address) in enumerate(datagrams):
        name = _names.get(address) or _socket_name(address)
        if (len(address) == IPV4.size) is not is_ipv4:
            unsent.append((index, EAFNOSUPPORT))
            continue
        try:
            bound.sendto(data, MSG_DONTWAIT, name)
        except BlockingIOError:  # no room: there is none for the rest either
            return unsent + [(each, EAGAIN) for each in range(index, len(datagrams))]
        except OSError as error:
            unsent.append((index, error.errno or EIO))
    return unsent


def _packed_ipv4(source: tuple[str, int]) -> PackedAddress:
    return IPV4.pack(source[1], inet_aton(source[0]))


def _packed_ipv6(source: tuple[str, int, int, int]) -> PackedAddress:
    host, port, _, scope = source
    ip = inet_pton(AF_INET6, host.partition("%")[0])
    return SCOPED.pack(port, ip, scope) if scope else IPV6.pack(port, ip)


def _socket_name(address: PackedAddress) -> tuple[Any, ...]:
    """Return what socket.sendto calls an address."""
    if len(address) == IPV4.size:
        port, ip = IPV4.unpack(address)
        return inet_ntoa(ip), port
    if len(address) == IPV6.size:
        port, ip = IPV6.unpack(address)
        return inet_ntop(AF_INET6, ip), port
    if len(address) == SCOPED.size:
        port, ip, scope = SCOPED.unpack(address)
        return inet_ntop(AF_INET6, ip), port, 0, scope
    raise ValueError(f"an address of {len(address)} bytes")
