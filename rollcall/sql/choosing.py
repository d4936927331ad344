"""Who is read and who is written: pure choices from what is known of the servers."""

from collections.abc import Iterable, Sequence
from enum import Enum

from rollcall.sql.server import Server, Standing


class Later(Enum):
    """Why nobody is chosen."""

    WAIT = "some server is being looked at: a moment's wait may help"
    FULL = "those that answer have no room for more"
    NOBODY = "no server answers"


def reader(
    servers: Sequence[Server], writer: Server | None, fresh: bool, now: float, tried: Sequence[Server] = ()
) -> "Server | Later":
    """Return who is to be read, rather one that was not tried.

    With `fresh` the server that takes writes, as long as it may answer; then a fit replica, the one with the least to
    do; then the server that takes writes, the primary, and last whoever answers at all. One that may hang comes after
    all others that are up to date.
    """
    if fresh and writer is None and is_awaited(servers):
        return Later.WAIT
    ranked = list(_ranked(servers, writer, fresh, now))
    able = [server for server in ranked if server.has_room]
    for server in able:
        if server not in tried:
            return server
    if able:
        return able[0]
    if ranked:
        return Later.FULL
    return Later.WAIT if is_awaited(servers) else Later.NOBODY


def writer_among(servers: Sequence[Server], before: Server | None) -> Server | None:
    """Return who takes writes; `before` is who took them last. The primary comes first in `servers`.

    Who was promoted keeps them while it takes them, even when the old primary is back as if nothing had happened: that
    one lacks what was written since. While one that could decide is only doubted, nobody takes writes for a moment; and
    as long as two were promoted nobody does: other registrars might choose the other one.
    """
    primary, *replicas = servers
    promoted = [server for server in replicas if server.is_writable]
    if before is not None and before is not primary:
        if before.is_writable:
            return before if len(promoted) == 1 else None
        if before.standing is Standing.UNKNOWN:
            return None
    if primary.is_writable:
        return primary
    return promoted[0] if len(promoted) == 1 and not is_awaited(servers) else None


def is_awaited(servers: Sequence[Server]) -> bool:
    """Tell whether some server is being looked at and may turn out to answer."""
    return any(server.standing is Standing.UNKNOWN for server in servers)


def why_nobody_writes(servers: Sequence[Server]) -> str:
    """Return in words why no server takes writes."""
    primary, *replicas = servers
    promoted = [server.name for server in replicas if server.is_writable]
    if len(promoted) > 1:
        return f"the primary is away, and {', '.join(promoted)} both take writes: which one was promoted?"
    why = primary.why or "it is read only"
    return f"primary {primary.name}: {why}; no replica was promoted" if replicas else f"primary {primary.name}: {why}"


def why_nobody_answers(servers: Iterable[Server]) -> str:
    """Return in words why no server can be read."""
    return "; ".join(f"{server.name}: {server.why}" for server in servers)


def _ranked(servers: Sequence[Server], writer: Server | None, fresh: bool, now: float) -> Iterable[Server]:
    up = [server for server in servers if server.is_up]
    current = sorted((each for each in up if each.role == "replica" and each.is_fit), key=_outstanding)
    current += ([writer] if writer else []) + [each for each in up if each.role == "primary"]
    ranked = [writer] if writer and fresh else []
    ranked += [each for each in current if not each.is_silent(now)] + current + sorted(up, key=_lag)
    return dict.fromkeys(ranked)


def _outstanding(server: Server) -> int:
    return server.outstanding


def _lag(server: Server) -> tuple[bool, float]:
    lag = server.lag_seconds
    return lag is None, lag or 0.0
