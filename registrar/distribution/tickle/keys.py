"""Where the connections of a node are noted in Redis, so that others can wake its phones.

All keys of one life of a node lie on one server of Redis Cluster, by their braces.

- `flows:`: the set of the nodes that have noted anything.
- `flows:NODE`: the set of the epochs of a node that have noted anything.
- `flows:{NODE:EPOCH}`: the set of "address:port" of that life's own ends.
- `flows:{NODE:EPOCH}:ADDRESS:PORT`: the set of the packed addresses of the phones connected to there.
"""

from ipaddress import ip_address

from rollcall.cluster.lives import Epoch
from rollcall.net.flow import Address

NAMES = b"flows:"
"""Where it is kept which nodes have noted connections."""

KEEP_SECONDS = 900
"""Keys that nobody renews go after so long: what was not woken by then has come back by itself or never will."""


def epochs_key(node: str) -> bytes:
    """Return where it is kept which lives of a node have noted connections."""
    return f"flows:{node}".encode()


def ends_key(life: Epoch) -> bytes:
    """Return where it is kept at which addresses a life has connections."""
    return f"flows:{{{life[0]}:{life[1]}}}".encode()


def phones_key(life: Epoch, local: Address) -> bytes:
    """Return where the phones are kept that are connected to one address of a life."""
    return ends_key(life) + b":" + end_of(local)


def end_of(local: Address) -> bytes:
    """Return how an address is written: "192.0.2.1:5060", an IPv6 address without brackets."""
    return f"{local[0]}:{local[1]}".encode()


def address_of(end: bytes) -> Address | None:
    """Return the address that is written so; None for what nobody of us has written."""
    host, colon, port = end.decode("ascii", "replace").rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 2**16):
        return None
    try:
        ip_address(host)
    except ValueError:
        return None
    return host, int(port)
