"""Twisted's ports accept what comes; here they do so at the pace of the budget, and not while handshakes wait.

What is not accepted waits in the kernel's backlog, as that of the flow engine's listeners does.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rollcall.net.connections import Connections


class PacedPort:
    """One of Twisted's ports, whose connections are accepted at a pace: some in a turn, and so many in a second."""

    def __init__(self, port: Any, connections: Connections, most: int, cost: float, is_busy: Callable[[], bool],
                 clock: IReactorTime) -> None:
        """At most so many are accepted in a turn, and none while `is_busy`; each has its `cost` (see AcceptBudget)."""
        self._port = port
        self._connections = connections
        self._most = most
        self._cost = cost
        self._is_busy = is_busy
        self._clock = clock
        self._accept = port.doRead
        self._pause: IDelayedCall | None = None
        port.doRead = self._accept_some

    def stopListening(self) -> Any:
        """Accept no more, as Twisted's ports do."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        return self._port.stopListening()

    def getHost(self) -> Any:
        """Return where it listens."""
        return self._port.getHost()

    def _accept_some(self) -> None:
        port, budget = self._port, self._connections.budget
        room = 0 if self._is_busy() else budget.room(self._cost, self._clock.seconds())
        most = self._most if room is None else min(room, self._most)
        if most:
            # Twisted begins with 100 connections, and learns to take more; when there are fewer it says how many.
            port.numberAccepts = most
            self._accept()
            budget.spend(min(port.numberAccepts, most) * self._cost)
        elif port.connected:
            self._connections.tallies.accepts_put_off += 1
            port.stopReading()
            self._pause = self._clock.callLater(budget.pause_seconds(self._cost), self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        if self._port.connected:
            self._port.startReading()
