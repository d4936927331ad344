"""Which server takes writes now, and what operators are told when that changes."""

from collections.abc import Sequence

from twisted.logger import Logger

from rollcall.sql.choosing import is_awaited, why_nobody_writes, writer_among
from rollcall.sql.server import Server


class Election:
    """Remembers who took writes last. The primary comes first in `servers`."""

    _log = Logger()

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self._last: Server | None = None
        self._is_vacant = False
        self._are_two = False
        self.writer: Server | None = None
        """Who takes writes; None while nobody does, or while that is not known."""

    def look_again(self) -> None:
        """Decide anew, after something became known of a server."""
        self.writer = writer = writer_among(self._servers, self._last)
        if writer is None:
            self._nobody()
            return
        if writer is not self._last or self._is_vacant:
            self._log.info("MySQL: writes go to {role} {server}", role=writer.role, server=writer.name)
        self._last, self._is_vacant = writer, False
        self._warn_of_two(writer)

    @property
    def is_open(self) -> bool:
        """Whether a server is being looked at that may turn out to take writes."""
        return self.writer is None and is_awaited(self._servers)

    @property
    def why_nobody(self) -> str:
        return why_nobody_writes(self._servers)

    def _nobody(self) -> None:
        if not self._is_vacant and not is_awaited(self._servers):
            self._is_vacant = True
            self._log.warn("MySQL: no server takes writes: {why}", why=self.why_nobody)

    def _warn_of_two(self, writer: Server) -> None:
        primary = self._servers[0]
        are_two = writer is not primary and primary.is_writable
        if are_two and not self._are_two:
            self._log.error("MySQL: writes go on to {server}, which was promoted, but the old primary {primary} takes "
                            "writes as well: make it read only and let it follow, or write to it alone",
                            server=writer.name, primary=primary.name)
        self._are_two = are_two
