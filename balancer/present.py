"""What a balancer believes now, as one snapshot: the master publishes it, and every balancer answers by it itself."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.media.snapshot import MediaNode, PathKey, Quality, Rule, Snapshot

INHERITED_SECONDS = 30.0
"""So long after its start a balancer believes of ways that nobody has reported on to it what the last master said: one
half-life of reports."""

Paths = Mapping[PathKey, Quality]


class Present(Service):
    """Puts it together every `seconds` while it runs, and at once after `hurry`."""

    _log = Logger()

    def __init__(self, reactor: Any, wall: Callable[[], float], seconds: float, rule: Rule,
                 nodes: Callable[[float], Mapping[str, MediaNode]], paths: Callable[[float], Paths],
                 priors: Callable[[], Paths], tenants: Callable[[], Mapping[str, str]]) -> None:
        """`wall` gives seconds since the epoch, as what it is handed to expects."""
        self.snapshot = Snapshot(rule=rule)
        """The newest."""
        self.on_snapshot: list[Callable[[Snapshot], None]] = []
        """Called with each, in this order."""
        self._reactor = reactor
        self._wall = wall
        self._seconds = seconds
        self._rule = rule
        self._nodes, self._paths, self._priors, self._tenants = nodes, paths, priors, tenants
        self._inherited: Paths = {}
        self._inherits_until = reactor.seconds() + INHERITED_SECONDS
        self._next: IDelayedCall | None = None
        self._soon: IDelayedCall | None = None

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._inherits_until = self._reactor.seconds() + INHERITED_SECONDS
        self._go_on()

    def stopService(self) -> None:
        """End."""
        super().stopService()
        for call in (self._next, self._soon):
            if call is not None and call.active():
                call.cancel()

    def hurry(self, *_: object) -> None:
        """Something has happened that nobody should wait for: put it together in the next turn, all at once."""
        if self.running and (self._soon is None or not self._soon.active()):
            self._soon = self._reactor.callLater(0, self._refresh)

    def inherit(self, published: Snapshot) -> None:
        """Hear what the master, who may be another, has published."""
        if self._reactor.seconds() < self._inherits_until:
            self._inherited = published.paths

    def _go_on(self) -> None:
        self._next = self._reactor.callLater(self._seconds, self._go_on)
        self._refresh()

    def _refresh(self) -> None:
        try:
            self.snapshot = self._put_together()
            for told in self.on_snapshot:
                told(self.snapshot)
        except Exception:
            self._log.failure("while what is known of media nodes was put together", Failure())

    def _put_together(self) -> Snapshot:
        now = self._wall()
        paths = self._paths(now)
        if self._inherited:
            paths = {**self._inherited, **paths}
            if self._reactor.seconds() >= self._inherits_until:
                self._inherited = {}
        nodes = self._nodes(now)
        return Snapshot(
            published_at=now, rule=self._rule, nodes=nodes, tenants=self._tenants(),
            paths={key: each for key, each in paths.items() if key[1] in nodes},
            priors=dict(self._priors()))
