"""Which server takes writes now, and what operators are told when that changes."""

from collections.abc import Sequence

from twisted.logger import Logger

from rollcall.sql.choosing import is_awaited, why_nobody_writes, writer_among
from rollcall.sql.server import Server


class Election:
    """Remembers who took writes last."""

    _log = Logger()

    def __init__(self, servers: Sequence[Server], may_be_many: bool = False) -> None:
        """The primary comes first. `may_be_many`: several may take writes by design, as in Galera."""
        self._servers = servers
        self._may_be_many = may_be_many
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
        others = [server.name for server in self._servers if server.is_writable and server is not writer]
        if others and not self._are_two and not self._may_be_many:
            self._log.error("MySQL: writes go to {server}, but {others} takes writes as well and follows nobody: "
                            "make one of them read only and let it follow the other",
                            server=writer.name, others=", ".join(others))
        self._are_two = bool(others)
