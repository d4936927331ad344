"""What only a socket object can do, done for a bare descriptor of a TCP connection; all of it is rare."""

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from rollcall.net.flow import Address

# On, and no time to linger: close(2) then drops what is unsent and resets the connection.
NO_LINGER = struct.pack("ii", 1, 0)


def end_writing(descriptor: int) -> None:
    """Send our end after what was written."""
    with _socket(descriptor) as connection:
        connection.shutdown(socket.SHUT_WR)


def reset_at_close(descriptor: int) -> None:
    """See that closing it resets the connection."""
    with _socket(descriptor) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)


def own_address(descriptor: int) -> Address:
    """Return our end's address, ("", 0) when there is none any more."""
    address: Address = ("", 0)
    with _socket(descriptor) as connection:
        host, port = connection.getsockname()[:2]
        address = host, port
    return address


def pending_error(descriptor: int) -> str:
    """Return what the kernel says is wrong with the connection, and forget it."""
    number = 0
    with _socket(descriptor) as connection:
        number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(number) if number else "hung up"


@contextmanager
def _socket(descriptor: int) -> Iterator[socket.socket]:
    """Lend a socket object that does not close the descriptor; what the kernel refuses is left undone."""
    lent = None
    try:
        lent = socket.socket(fileno=descriptor)
        yield lent
    except OSError:  # the connection is gone; the next read says so
        pass
    finally:
        if lent is not None:
            lent.detach()
