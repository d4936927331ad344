"""What balancers are told of our calls: how many each media node has, what each call is, and when it is over."""

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from registrar.media.sdp import codec
from registrar.media.session import Session
from registrar.media.sessions import Sessions
from registrar.media.timers import Timers
from rollcall.media.reports import CallFacts, CallOver, Counts, Report
from rollcall.media.vqrtcpxr import CALL_ID_CHARS
from rollcall.ops.metrics import Metrics

COUNT_SECONDS = 1.0
"""How often counts are told; balancers forget those that are not renewed."""


class Counting:
    """Counts the calls of each media node that are ours, from `start` to `stop`."""

    def __init__(self, sessions: Sessions, tell: Callable[[Report], None], reactor: IReactorTime,
                 now: Callable[[], float]) -> None:
        """`tell` is Telling.tell; `now` is in seconds since the epoch."""
        self._sessions = sessions
        self._tell = tell
        self._reactor = reactor
        self._now = now
        self._calls: Counter[str] = Counter()
        self._next: IDelayedCall | None = None
        sessions.on_change.append(self._changed)

    @property
    def calls(self) -> dict[str, int]:
        """How many calls of ours each node has; a node that is not there has none."""
        return dict(self._calls)

    def start(self) -> None:
        """Tell now, and go on."""
        self._tell_counts()

    def stop(self) -> None:
        """Count nothing any more. The calls go on; whoever takes them over counts them."""
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None
        self._calls.clear()
        self._tell(self._counts())

    def _tell_counts(self) -> None:
        self._next = self._reactor.callLater(COUNT_SECONDS, self._tell_counts)
        self._tell(self._counts())

    def _counts(self) -> Counts:
        return Counts(at=self._now(), registrar=self._sessions.owner, calls=self.calls)

    def _changed(self, before: Session | None, after: Session | None) -> None:
        mine = after if after is not None and after.owner == self._sessions.owner else None
        if before is not None:
            self._calls[before.node] -= 1
            if not self._calls[before.node]:
                del self._calls[before.node]
        if mine is not None:
            self._calls[mine.node] += 1
        session = after or before
        if session is None or len(session.call_id) > CALL_ID_CHARS:
            # Nobody hears how it sounds: balancers take no reports of such.
            return
        if after is None and before is not None:
            self._tell(CallOver(call_id=before.call_id))
        elif mine is not None and mine.is_answered and (before is None or _facts(before) != _facts(mine)):
            self._tell_facts(mine)

    def _tell_facts(self, session: Session) -> None:
        heard = codec(session.callee.sdp)
        self._tell(CallFacts(at=self._now(), call_id=session.call_id, node=session.node, codec=heard.name,
                             clock_rate=heard.clock_rate, hosts=(session.caller.host, session.callee.host)))


def watch_sessions(metrics: Metrics, sessions: Sessions, counting: Counting, timers: Timers) -> None:
    """Export how many calls there are, and how they ended when nobody said so."""
    metrics.gauge("rollcall_media_calls", "Calls through media nodes that this registrar counts.", ("node",),
                  lambda: {(node,): float(count) for node, count in counting.calls.items()})
    metrics.gauge("rollcall_media_calls_unwritten", "Changes and ends of calls that Redis does not know yet.", (),
                  lambda: float(sessions.unwritten))
    metrics.total("rollcall_media_calls_silent_total", "Calls that ended without a word, by who noticed.", ("by",),
                  lambda: {("time",): float(timers.expired), ("node",): float(timers.let_go),
                           ("nobody",): float(sessions.forgotten_ends)})


def _facts(session: Session) -> tuple[object, ...]:
    return session.is_answered, session.node, session.callee.sdp, session.caller.host, session.callee.host
