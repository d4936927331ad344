"""Threads that ask one server, each with a connection of its own that it opens when it is first needed.

The threads are daemons: one that hangs in a name server's answer, which nothing can interrupt, holds up no exit.
"""

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from attrs import define, field, frozen
from pymysql.err import MySQLError

from rollcall.sql.connecting import Connection
from rollcall.sql.errors import SqlUnavailable, is_lost
from rollcall.sql.transaction import Undone

HEARD_SECONDS = 1.0
"""So long a thread that lost its connection waits at most until the reactor has taken back what is queued."""

Connect = Callable[[Callable[[socket.socket], None]], Connection]


@frozen
class Answer:
    """What a task returned."""

    value: Any


@frozen
class Trouble:
    """What it raised, or why it was not begun."""

    error: Exception
    is_undone: bool
    """Nothing that it did can have stayed."""


Outcome = Answer | Trouble


@define(eq=False)
class Task:
    """Something to do with a connection."""

    work: Callable[[Connection], Any]
    answered: Callable[[Any, Outcome], None]
    """Called with the task and its outcome in the reactor's thread."""
    is_over: bool = field(init=False, default=False)
    """Nobody waits for it any more: it is not begun."""


class Asking(Protocol):
    """Who does tasks: Lanes, and what tests put in its place."""

    def submit(self, task: Task) -> None:
        """Have the task done; `answered` is called later, once."""

    @property
    def waiting(self) -> int:
        """How many tasks have not begun."""

    def take_back(self) -> list[Task]:
        """Return the tasks that have not begun; they are not done here any more."""

    def cut(self, task: Task) -> None:
        """End the connection that the task uses now, so that it fails."""

    def renew(self) -> None:
        """Have every connection opened anew before its next task."""

    def stop(self, stopped: Callable[[], None]) -> None:
        """End after the tasks that were submitted; `stopped` is called in the reactor's thread."""

    def cut_all(self) -> None:
        """End all connections at once."""


class Lanes:
    """At most `count` threads over one queue. All methods are called in the reactor's thread."""

    def __init__(
        self, name: str, count: int, connect: Connect, call_from_thread: Callable[..., object]
    ) -> None:
        self._name = name
        self._count = count
        self._connect = connect
        self._call_from_thread = call_from_thread
        self._queue: SimpleQueue[Task | None] = SimpleQueue()
        self._lanes: list[_Lane] = []
        self._unanswered = 0
        self._ended = 0
        self._stopped: Callable[[], None] | None = None
        self.generation = 0
        """Connections of an older one are not used any more."""

    @property
    def waiting(self) -> int:
        return self._queue.qsize()

    def submit(self, task: Task) -> None:
        self._unanswered += 1
        self._queue.put(task)
        if len(self._lanes) < min(self._count, self._unanswered):
            lane = _Lane(self, self._connect)
            self._lanes.append(lane)
            name = f"mysql {self._name} {len(self._lanes)}"
            threading.Thread(target=self._run, args=(lane,), name=name, daemon=True).start()

    def take_back(self) -> list[Task]:
        taken = []
        with suppress(Empty):
            while (task := self._queue.get_nowait()) is not None:
                taken.append(task)
            self._queue.put(None)  # a thread is to end by it
        self._unanswered -= len(taken)
        return taken

    def cut(self, task: Task) -> None:
        for lane in self._lanes:
            lane.cut(task)

    def renew(self) -> None:
        self.generation += 1

    def stop(self, stopped: Callable[[], None]) -> None:
        self._stopped = stopped
        for _ in self._lanes:
            self._queue.put(None)
        if not self._lanes:
            stopped()

    def cut_all(self) -> None:
        for lane in self._lanes:
            lane.cut()

    def _run(self, lane: "_Lane") -> None:
        while (task := self._queue.get()) is not None:
            outcome = lane.do(task)
            if isinstance(outcome, Trouble) and is_lost(outcome.error):
                heard = threading.Event()
                self._call_from_thread(self._answered, task, outcome, heard)
                heard.wait(HEARD_SECONDS)
            else:
                self._call_from_thread(self._answered, task, outcome)
        lane.close()
        self._call_from_thread(self._lane_ended)

    def _answered(self, task: Task, outcome: Outcome, heard: threading.Event | None = None) -> None:
        self._unanswered -= 1
        try:
            task.answered(task, outcome)
        finally:
            if heard is not None:
                heard.set()

    def _lane_ended(self) -> None:
        self._ended += 1
        if self._stopped is not None and self._ended == len(self._lanes):
            self._stopped()


class _Lane:
    """One thread's connection. `cut` is called in the reactor's thread, all else in its own."""

    def __init__(self, lanes: Lanes, connect: Connect) -> None:
        self._lanes = lanes
        self._connect = connect
        self._connection: Connection | None = None
        self._generation = 0
        self._lock = threading.Lock()
        self._task: Task | None = None
        self._socket: socket.socket | None = None

    def do(self, task: Task) -> Outcome:
        if task.is_over:
            return Trouble(SqlUnavailable("it was given up before it began"), True)
        with self._lock:
            self._task = task
        try:
            return Answer(task.work(self._connected()))
        except Undone as undone:
            assert isinstance(undone.__cause__, Exception)
            return self._trouble(undone.__cause__, True)
        except SqlUnavailable as error:
            return self._trouble(error, True)
        except Exception as error:
            return self._trouble(error, False)
        finally:
            with self._lock:
                self._task = None

    def cut(self, task: Task | None = None) -> None:
        """End the connection, if it works on `task`. No one waits for the lock: it is held for moments."""
        with self._lock:
            if self._socket is not None and (task is None or task is self._task):
                with suppress(OSError):  # ended already
                    self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        with self._lock:
            own, self._socket = self._socket, None
        if own is not None:
            own.close()
        if connection is not None:
            with suppress(MySQLError):  # closed already
                connection.close()

    def _connected(self) -> Connection:
        if not self._is_usable():
            self.close()
            self._generation = self._lanes.generation
            self._connection = self._connect(self._opened)
        assert self._connection is not None
        return self._connection

    def _is_usable(self) -> bool:
        if self._connection is None or self._generation != self._lanes.generation or not self._connection.open:
            return False
        return self._socket is not None and not _has_ended(self._socket)

    def _opened(self, made: socket.socket) -> None:
        # A descriptor of our own: TLS takes the other one over.
        own = made.dup()
        with self._lock:
            self._socket = own

    def _trouble(self, error: Exception, is_undone: bool) -> Trouble:
        if is_lost(error) or not isinstance(error, MySQLError):  # what was not read to its end would answer the next
            self.close()
        return Trouble(error, is_undone)


def _has_ended(connected: socket.socket) -> bool:
    """Tell whether a server has closed a connection, as it does with one that was idle for its wait_timeout.

    It says nothing unasked but goodbye.
    """
    heard = select.poll()
    heard.register(connected, select.POLLIN)
    return bool(heard.poll(0))
