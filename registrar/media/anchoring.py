"""Running calls whose media node has died are led through others, so many a second.

Whoever owns a call does that, see registrar.media.sessions. Calls that are not answered yet get another node with their
answer, see registrar.media.relaying.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence

from attrs import frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.media.config import MediaConfig
from registrar.media.moving import Again, Failed, Moving, Over
from registrar.media.session import Session
from registrar.media.sessions import Sessions
from rollcall.media.snapshot import MediaNode, NodeState, Snapshot, is_another_life
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.coroutines import start
from rollcall.ops.metrics import Metrics

AT_ONCE = 100
"""How many calls are under way at a time at most: phones that do not answer must not hold up all others for long."""

STEP_SECONDS = 0.1
"""How often some are begun."""

ACK_SECONDS = 0.5
"""A call that has just been answered is left alone for so long: its ACK is on the way."""

SETTLED_SECONDS = 2.0
"""After so long every registrar knows what has become of a call that was moved."""

BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


@frozen
class _Task:
    """A call that has lost its node."""

    call_id: str
    node: str
    """Which one; empty: it has another already."""
    moves: int
    """How many nodes it had outlived before."""
    lost_at: float


class Anchoring:
    """Sees which calls have lost their nodes, and has each of them moved."""

    _log = Logger()

    def __init__(self, sessions: Sessions, moving: Moving, wheel: TimerWheel, config: MediaConfig,
                 now: Callable[[], float]) -> None:
        """`now` is in seconds since the epoch."""
        self.outcomes: Counter[str] = Counter()
        """How many calls came to what: "moved", "over" by themselves, or why they were not moved."""
        self.on_moved: list[Callable[[float], object]] = []
        """Told how long each call that was moved had been without its node, in seconds."""
        self._sessions = sessions
        self._moving = moving
        self._wheel = wheel
        self._config = config
        self._now = now
        self._nodes: dict[str, MediaNode] = {}
        self._waiting: deque[_Task] = deque()
        self._known: set[str] = set()
        self._recent: set[str] = set()
        self._under_way = 0
        self._next: Timer | None = None
        self._later: set[Timer] = set()
        sessions.on_change.append(self._changed)

    @property
    def waiting(self) -> int:
        """How many calls have lost their nodes and have no other yet."""
        return len(self._known)

    def followed(self, snapshot: Snapshot) -> None:
        """Learn which nodes have died, see rollcall.media.following. Whoever chooses must have learnt it before."""
        before, self._nodes = self._nodes, dict(snapshot.nodes)
        dead = {node.id for node in self._nodes.values() if _has_died(before.get(node.id), node)}
        if dead:
            self._lost([session for session in self._sessions.own if session.node in dead])

    def stranded(self, session: Session) -> None:
        """Have both sides hear of the node that this call has by now: one of them still sends to where nobody is."""
        self._add([session], ACK_SECONDS, has_lost=False)

    def stop(self) -> None:
        """Begin nothing any more."""
        for timer in (*self._later, *([self._next] if self._next is not None else [])):
            timer.cancel()
        self._later.clear()
        self._waiting.clear()
        self._known.clear()

    # --- which, and when

    def _lost(self, sessions: Sequence[Session]) -> None:
        for session in sessions:
            if session.kind != "rtpengine":
                # Both its calls have ended there: there is nobody who could be asked to go on.
                self.outcomes["no way for its kind of node"] += 1
                start(self._sessions.end(session), self._broke)
        lost = [session for session in sessions if session.kind == "rtpengine" and session.is_answered]
        if lost:
            self._log.warn("running calls have lost {nodes} and are led through other nodes: {count}", count=len(lost),
                           nodes=", ".join(sorted({session.node for session in lost})))
        self._add(lost, 0.0)

    def _changed(self, before: Session | None, after: Session | None) -> None:
        """See whether a call is answered, or becomes ours, only now that its node is dead; or ends in our hands."""
        if after is None and before is not None and (before.call_id in self._known or before.call_id in self._recent):
            start(self._moving.hang_up(before), self._broke)
        if after is None or not after.is_answered or after.owner != self._sessions.owner:
            return
        node = self._nodes.get(after.node)
        is_new = before is None or not before.is_answered
        if is_new and node is not None and node.state is NodeState.DOWN and after.kind == "rtpengine":
            self._add([after], ACK_SECONDS)

    def _add(self, sessions: Iterable[Session], seconds: float, has_lost: bool = True) -> None:
        for session in sessions:
            if session.call_id not in self._known:
                self._known.add(session.call_id)
                lost = session.node if has_lost else ""
                self._put_off(_Task(session.call_id, lost, session.moves, self._now()), seconds)
        self._go_on()

    def _put_off(self, task: _Task, seconds: float) -> None:
        if not seconds:
            self._waiting.append(task)
            return

        def back() -> None:
            self._later.discard(timer)
            self._waiting.append(task)
            self._go_on()

        timer = self._wheel.call_later(seconds, back)
        self._later.add(timer)

    def _go_on(self) -> None:
        if self._waiting and self._next is None and self._under_way < AT_ONCE:
            seconds = max(STEP_SECONDS, 1 / self._config.reanchor_per_second)
            self._next = self._wheel.call_later(seconds, self._begin)

    def _begin(self) -> None:
        self._next = None
        for _ in range(max(1, int(self._config.reanchor_per_second * STEP_SECONDS))):
            if self._waiting and self._under_way < AT_ONCE:
                self._under_way += 1
                start(self._see_to(self._waiting.popleft()), self._broke)
        self._go_on()

    async def _see_to(self, task: _Task) -> None:
        try:
            outcome = await self._outcome(task)
            if outcome is not None:
                self._done(task, outcome)
        except BaseException:
            self._done(task, "error")
            raise
        finally:
            self._under_way -= 1
            self._go_on()

    async def _outcome(self, task: _Task) -> str | None:
        """Return what has become of it; None: it is tried again."""
        try:
            await self._moving.move(task.call_id, task.node, task.moves)
        except Over:
            return "over"
        except Failed as problem:
            return str(problem)
        except Again as problem:
            if self._now() + problem.seconds - task.lost_at > self._config.reanchor_seconds:
                return problem.why
            if task.call_id in self._known:
                self._put_off(task, problem.seconds)
            return None
        return "moved"

    def _done(self, task: _Task, outcome: str) -> None:
        self._known.discard(task.call_id)
        self.outcomes[outcome] += 1
        took, lost = self._now() - task.lost_at, task.node or "a node that has left it"
        if outcome == "moved":
            self._recent.add(task.call_id)
            self._wheel.call_later(SETTLED_SECONDS, self._recent.discard, task.call_id)
            self._log.info("a call of {node} goes on through another, {seconds:.2f} s after that was heard of: {id}",
                           node=lost, seconds=took, id=task.call_id, log_rationed=True)
            for tell in self.on_moved:
                tell(took)
        elif outcome != "over":
            self._log.warn("a call of {node} is not led through another node ({why}): {id}", node=lost,
                           why=outcome, id=task.call_id, log_rationed=True)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("while a call was led through another node", failure=failure)


def watch_anchoring(metrics: Metrics, anchoring: Anchoring) -> None:
    """Export what becomes of calls whose media nodes have died."""
    metrics.total("rollcall_media_reanchored_total", "Calls whose media node has died, by what has become of them.",
                  ("outcome",), lambda: {(name,): float(count) for name, count in anchoring.outcomes.items()})
    metrics.gauge("rollcall_media_reanchoring", "Calls whose media node has died, and that have no other yet.", (),
                  lambda: float(anchoring.waiting))
    seconds = metrics.histogram("rollcall_media_reanchored_seconds",
                                "How long calls that got another media node had been without.", (), BOUNDS)
    anchoring.on_moved.append(lambda took: seconds.cell().observe(took))


def _has_died(before: MediaNode | None, node: MediaNode) -> bool:
    """Say whether the calls that a node had are gone since the last snapshot."""
    if before is not None and is_another_life(before, node):
        return True
    return node.state is NodeState.DOWN and (before is None or before.state is not NodeState.DOWN)
