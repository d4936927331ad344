"""What only a socket object can do, done for a bare descriptor of a TCP connection; all of it is rare.

What the kernel refuses is left undone: the connection is gone then, as the next read says.
"""

import os
import socket
import struct
import sys
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fcntl import ioctl
from termios import FIONREAD

from rollcall.net.flow import Address

# On, and no time to linger: close(2) then drops what is unsent and resets the connection.
NO_LINGER = struct.pack("ii", 1, 0)

# Where struct tcp_info (linux/tcp.h) has tcpi_last_data_recv, in milliseconds.
LAST_DATA_RECEIVED = 52


def end_writing(descriptor: int) -> None:
    """Send our end after what was written."""
    with suppress(OSError), _lent(descriptor) as connection:
        connection.shutdown(socket.SHUT_WR)


def reset_at_close(descriptor: int) -> None:
    """See that closing it resets the connection."""
    with suppress(OSError), _lent(descriptor) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


def own_address(descriptor: int) -> Address:
    """Return our end's address, ("", 0) when there is none any more."""
    with suppress(OSError), _lent(descriptor) as connection:
        host, port = connection.getsockname()[:2]
        return host, port
    return "", 0


def quiet_seconds(descriptor: int) -> float:
    """Return how long ago the kernel received the latest data of a connection: so long it waits if nobody read it."""
    with suppress(OSError), _lent(descriptor) as connection:
        told = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, LAST_DATA_RECEIVED + 4)
        return int.from_bytes(told[LAST_DATA_RECEIVED:], sys.byteorder) / 1000
    return 0.0


def unread_bytes(descriptor: int) -> int:
    """Return how much has come that nobody has read yet (tcp(7), FIONREAD)."""
    count = array("i", [0])
    with suppress(OSError):
        ioctl(descriptor, FIONREAD, count)
    return count[0]


def pending_error(descriptor: int) -> str:
    """Return what the kernel says is wrong with the connection, and have it forget that."""
    number = 0
    with suppress(OSError), _lent(descriptor) as connection:
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(number) if number else "hung up"


@contextmanager
def _lent(descriptor: int) -> Iterator[socket.socket]:
    """Lend a socket object that leaves the descriptor open."""
    lent = socket.socket(fileno=descriptor)
    try:
        yield lent
    finally:
        lent.detach()
