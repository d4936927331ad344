"""REGISTERs that wait their turn while there is a backlog: whatever else comes over a connection goes before them.

An epoll gives its descriptors in the order in which they became ready. Among ten thousand phones that all register, the
one that hangs up would be heard when those before it were served. So when messages have waited for a while, everything
is read first, which takes microseconds each: what is no usual REGISTER is served at once, and these are served after
it, in their order. Over one connection nothing overtakes: whoever sends more has his REGISTER served before it. How
long the first of them has waited is what the admission of registrations goes by.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twisted.logger import Logger

from rollcall.net import descriptors

if TYPE_CHECKING:
    from rollcall.net.connections import Connections
    from rollcall.net.engine_flow import EngineFlow
    from rollcall.sip.scanner import UsualRegister

    Waiter = tuple[UsualRegister, bytes, EngineFlow, int, float]
    """What came, over which flow at which descriptor, and when it was read."""

    SendEach = Callable[[list[tuple[EngineFlow, bytes, int]]], None]

SORT_SECONDS = 0.02
"""Who has waited so long stands in a queue; below that all is served in the order it comes."""

SORTED_EVENTS = 4096
"""Connections that are read from in a turn before anybody of those who wait is served."""

MAX_WAITING = 16_384
"""So many REGISTERs wait at most, as many as a process may have connections and more; then nothing more is read."""

PORTION = 16
"""So many are served between two looks at the clock, and their answers leave together."""


class Waiting:
    """The REGISTERs that an engine has read and not yet served."""

    _log = Logger()

    def __init__(self, connections: Connections, send_each: SendEach) -> None:
        """`send_each` sends the answers in a list, and empties it."""
        self.is_needed = False
        """Whether REGISTERs have to wait."""
        self._connections = connections
        self._send_each = send_each
        self._queue: deque[Waiter] = deque()
        # The same by flow. Who is not in it any more was served before his turn.
        self._of_flow: dict[EngineFlow, list[Waiter]] = {}

    def append(self, waiter: Waiter) -> None:
        """Let one wait."""
        self._queue.append(waiter)
        self._of_flow.setdefault(waiter[2], []).append(waiter)

    def room(self, most: int) -> int:
        """Return how many more may be read, `most` and at least one: what is no REGISTER needs no room."""
        return max(1, min(most, MAX_WAITING - len(self._queue)))

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def judge(self, latest: Iterable[int], now: float) -> None:
        """Say how long those wait who have waited longest, and whether REGISTERs have to from now on.

        `latest` are the descriptors where something came last, the latest first, when there is more to be read.
        """
        seconds, flows = 0.0, self._connections.by_descriptor
        for descriptor in latest:
            if flows[descriptor] is not None:
                seconds = descriptors.quiet_seconds(descriptor)
                break
        else:
            if latest and not self._queue:
                return  # who connects or hangs up does not say how long others wait
        if self._queue:
            seconds += now - self._queue[0][4]
        self.is_needed = seconds >= (SORT_SECONDS / 2 if self.is_needed else SORT_SECONDS)
        self._connections.on_wait(seconds, now)

    def serve(self, clock: Callable[[], float], until: float) -> bool:
        """Serve those who wait, a portion at least; say whether somebody still does."""
        queue, answers = self._queue, list["tuple[EngineFlow, bytes, int]"]()
        while queue:
            for _ in range(min(len(queue), PORTION)):
                waiter = queue.popleft()
                if self._is_next(waiter):
                    self._serve(waiter, answers)
            self._send_each(answers)
            if clock() >= until:
                break
        return bool(queue)

    def hasten(self, flow: EngineFlow) -> None:
        """Serve those of a flow now, for something else has come over it."""
        answers = list["tuple[EngineFlow, bytes, int]"]()
        for waiter in self._of_flow.pop(flow, ()):
            self._serve(waiter, answers)
        self._send_each(answers)

    def _is_next(self, waiter: Waiter) -> bool:
        """Take somebody out of those of his flow, or say that he was served."""
        flow = waiter[2]
        own = self._of_flow.get(flow)
        if own is None or own[0] is not waiter:
            return False
        if len(own) > 1:
            del own[0]
        else:
            del self._of_flow[flow]
        return True

    def _serve(self, waiter: Waiter, answers: list[tuple[EngineFlow, bytes, int]]) -> None:
        register, data, flow, descriptor, read_at = waiter
        connections = self._connections
        if connections.by_descriptor[descriptor] is not flow or not flow.is_open:
            return  # its connection has ended, or is about to: nothing may be bound to it any more
        try:
            if not flow.confirmed:
                flow.receive(data, register, read_at)
                return
            answer = connections.user.short_way(register, flow, read_at)
            if answer is None:
                self._send_each(answers)
                connections.hand_over(data, flow)
            elif answer:
                answers.append((flow, answer, descriptor))
        except OSError as error:
            flow.lost(f"lost: {error.strerror}")
        except Exception:
            self._log.failure("while {flow} was served", flow=flow)
