"""How many connections this process can carry: what the operator says, unless the kernel gives it fewer descriptors."""

from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

from twisted.logger import Logger

KEPT = 256
"""Descriptors for all else: logs, databases, Redis, other nodes, and connections that we open."""


def room(capacity: int) -> int:
    """Return how many connections there is room for, at most `capacity`, which is that of [cluster]."""
    limit, _ = getrlimit(RLIMIT_NOFILE)
    return capacity if limit == RLIM_INFINITY else max(1, min(capacity, limit - KEPT))


def warn_when_short(capacity: int) -> None:
    """Say so when there is room for less than the operator thinks."""
    if room(capacity) < capacity:
        Logger().warn("this process has file descriptors for {room} connections only, and [cluster] capacity is "
                      "{capacity}: raise its limit (ulimit -n, LimitNOFILE), or lower capacity",
                      capacity=capacity, room=room(capacity))
