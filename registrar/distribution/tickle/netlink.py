"""Which addresses this host has, as the kernel tells by rtnetlink(7). The standard library alone is used here.

`HeldAddresses` takes what was read from the socket and knows what it means; whoever reads asks `open_socket` for one.
The kernel is asked for all addresses once, and tells each change from then on: an address that VRRP has moved here is
known in the same moment. When changes were lost it is asked for all again.
"""

import socket
import struct
import sys
from collections.abc import Iterator

NLM_F_REQUEST, NLM_F_DUMP = 0x1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR = 0x10, 0x100
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_DADFAILED, IFA_F_TENTATIVE = 0x08, 0x40

READ_BYTES = 65536

_HEADER = struct.Struct("=IHHII")
_ADDRESS = struct.Struct("=BBBBI")
_ATTRIBUTE = struct.Struct("=HH")
_SIZES = {socket.AF_INET: 4, socket.AF_INET6: 16}


def open_socket() -> socket.socket:
    """Return a socket that never blocks, to which the kernel tells each change of an address. Raises OSError."""
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC,
                         socket.NETLINK_ROUTE)
    try:
        made.bind((0, RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR))
    except OSError:
        made.close()
        raise
    return made


class HeldAddresses:
    """The addresses of this host, packed as inet_pton(3) does."""

    def __init__(self) -> None:
        self.addresses: frozenset[bytes] = frozenset()
        self._places: set[tuple[int, bytes]] = set()
        self._anew: set[tuple[int, bytes]] | None = None
        self._is_answered = False
        """Whether the answer has begun: what was told before it is older than it."""
        self._sequence = 0

    def question(self) -> bytes:
        """Return what has to be sent to learn all of them, at first and after changes were lost (ENOBUFS)."""
        self._sequence += 1
        self._anew, self._is_answered = set(), False
        body = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        return _HEADER.pack(
            _HEADER.size + len(body), RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, self._sequence, 0) + body

    def receive_data(self, data: bytes) -> bool:
        """Take what the kernel has said; say whether `addresses` is another than before."""
        for kind, sequence, body in _messages(data):
            self._is_answered = self._is_answered or sequence == self._sequence
            if kind in (RTM_NEWADDR, RTM_DELADDR):
                self._learn(kind, body)
            elif kind in (NLMSG_DONE, NLMSG_ERROR) and sequence == self._sequence and self._anew is not None:
                if kind == NLMSG_DONE:
                    self._places = self._anew
                self._anew = None
        before, self.addresses = self.addresses, frozenset(address for _, address in self._places)
        return self.addresses != before

    def _learn(self, kind: int, body: bytes) -> None:
        read = _place(body)
        if read is None:
            return
        place, is_usable = read
        for places in (self._places, self._anew if self._is_answered else None):
            if places is not None:
                if kind == RTM_NEWADDR and is_usable:
                    places.add(place)
                else:
                    places.discard(place)


def _messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the kind, the sequence number and the body of each message."""
    start = 0
    while start + _HEADER.size <= len(data):
        length, kind, _, sequence, _ = _HEADER.unpack_from(data, start)
        if not _HEADER.size <= length <= len(data) - start:
            return
        yield kind, sequence, data[start + _HEADER.size:start + length]
        start += _aligned(length)


def _place(body: bytes) -> tuple[tuple[int, bytes], bool] | None:
    """Return the device and address that a message tells of, and whether it can be spoken from yet."""
    if len(body) < _ADDRESS.size:
        return None
    family, _, flags, _, device = _ADDRESS.unpack_from(body)
    found = dict(_attributes(body[_ADDRESS.size:]))
    # Of a point-to-point device IFA_ADDRESS is the other end; IPv6 has IFA_LOCAL only there.
    address = found.get(IFA_LOCAL, found.get(IFA_ADDRESS, b""))
    if len(address) != _SIZES.get(family):
        return None
    if len(found.get(IFA_FLAGS, b"")) == 4:
        flags = int.from_bytes(found[IFA_FLAGS], sys.byteorder)
    return (device, address), not flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    while start + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if not _ATTRIBUTE.size <= length <= len(data) - start:
            return
        yield kind, data[start + _ATTRIBUTE.size:start + length]
        start += _aligned(length)


def _aligned(length: int) -> int:
    return length + 3 & ~3
