"""The thread that a fleet lives in: sockets by epoll, timers, and work at a pace."""

import heapq
import os
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from select import EPOLLIN, epoll
from socket import socket
from threading import Thread
from time import monotonic
from typing import Protocol, TypeVar

Item = TypeVar("Item")

TICK_SECONDS = 0.01
# What a busy machine has held up is not made good by a burst of more than so many seconds' worth.
ARREARS_SECONDS = 0.1
IDLE_SECONDS = 1.0


class Owner(Protocol):
    """Whose socket it is."""

    def ready(self, events: int) -> None:
        """Do what epoll says that can be done."""


class Loop:
    """Runs from `start` to `stop`. Other threads may call `do` and `paced`; all else is for its own thread."""

    def __init__(self) -> None:
        self.problem: BaseException | None = None
        """What ended it before its time."""
        self._epoll = epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, EPOLLIN)
        self._owners: dict[int, Owner] = {}
        self._timers: list[tuple[float, int, Callable[[], object]]] = []
        self._turn = count()
        self._commands: deque[Callable[[], object]] = deque()
        self._is_stopping = False
        self._thread = Thread(target=self._run, name="fleet")

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, after the command that runs now."""
        self._is_stopping = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        self._epoll.close()
        os.close(self._wake)

    def now(self) -> float:
        """Return what time it is, on the clock of all that is noted here."""
        return monotonic()

    def do(self, function: Callable[[], object]) -> None:
        """Call `function` in the thread, soon."""
        self._commands.append(function)
        os.eventfd_write(self._wake, 1)

    def later(self, seconds: float, function: Callable[[], object]) -> None:
        """Call `function` after so long."""
        heapq.heappush(self._timers, (monotonic() + seconds, next(self._turn), function))

    def paced(self, items: Iterable[Item], rate: float | Callable[[], float], act: Callable[[Item], object]) -> None:
        """Call `act` with each item, so many in a second; a rate of 0 ends it."""
        waiting = iter(items)
        rate_now = rate if callable(rate) else lambda: rate

        def tick(last: float, left: float) -> None:
            now, wanted = monotonic(), rate_now()
            left = min(left + (now - last) * wanted, max(1.0, wanted * ARREARS_SECONDS))
            while left >= 1.0:
                left -= 1.0
                try:
                    item = next(waiting)
                except StopIteration:
                    return
                act(item)
            if wanted:
                self.later(TICK_SECONDS, lambda: tick(now, left))

        self.do(lambda: tick(monotonic(), 1.0))

    def watch(self, connection: socket, owner: Owner, events: int) -> None:
        """Tell `owner` when this can be done with its socket."""
        self._owners[connection.fileno()] = owner
        self._epoll.register(connection, events)

    def expect(self, connection: socket, events: int) -> None:
        """Tell of these events from now on."""
        self._epoll.modify(connection, events)

    def forget(self, connection: socket) -> None:
        """Tell nothing more of a socket, which is about to be closed; any thread may do so after `stop`."""
        del self._owners[connection.fileno()]
        if not self._epoll.closed:
            self._epoll.unregister(connection)

    def _run(self) -> None:
        try:
            while not self._is_stopping:
                self._turn_once()
        except BaseException as problem:
            self.problem = problem
            raise

    def _turn_once(self) -> None:
        wait = min(IDLE_SECONDS, max(0.0, self._timers[0][0] - monotonic())) if self._timers else IDLE_SECONDS
        for file, events in self._epoll.poll(0.0 if self._commands else wait):
            if file == self._wake:
                os.eventfd_read(self._wake)
            elif (owner := self._owners.get(file)) is not None:
                owner.ready(events)
        while self._commands:
            self._commands.popleft()()
        now = monotonic()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2]()
