"""Tells the log whether balancers publish: when nobody does, calls are placed by what was published last."""

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rollcall.cluster.snapshots import FRESH_SECONDS
from rollcall.media.following import Following


class Freshness:
    """Looks again and again, from `start` to `stop`."""

    _log = Logger()

    def __init__(self, reactor: IReactorTime, following: Following) -> None:
        self._reactor = reactor
        self._following = following
        self._was_fresh: bool | None = None
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        """Begin; nothing is told before somebody has had the time to publish."""
        self._next = self._reactor.callLater(FRESH_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._next is not None and self._next.active():
            self._next.cancel()

    def _look(self) -> None:
        self.start()
        is_fresh = self._following.is_fresh
        if is_fresh is not self._was_fresh:
            self._was_fresh = is_fresh
            self._tell(is_fresh)

    def _tell(self, is_fresh: bool) -> None:
        following = self._following
        if is_fresh:
            nodes = ", ".join(sorted(following.snapshot.nodes)) or "none"
            self._log.info("balancers publish, version {version}; media nodes: {nodes}", version=following.version,
                           nodes=nodes)
        elif following.version:
            self._log.warn("no balancer publishes any more: calls are placed by what was published last{why}",
                           why=self._why())
        else:
            self._log.warn("no balancer has published anything, so no media node is known{why}", why=self._why())

    def _why(self) -> str:
        return f" ({self._following.problem})" if self._following.problem else ""
