"""Tests of rollcall.sql.lanes, with threads and without servers: connections, what is taken back, and the end."""

import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from pymysql.err import OperationalError
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.lanes import Answer, Lanes, Outcome, Task, Trouble
from rollcall.sql.transaction import Undone
from tests.rollcall.sql.scripted import LOST

PATIENCE_SECONDS = 30


class Wire:
    """A connection: one end of a pair of sockets."""

    def __init__(self, opened: Callable[[socket.socket], None]) -> None:
        self.open = True
        self.socket, self.peer = socket.socketpair()
        opened(self.socket)

    def close(self) -> None:
        self.open = False
        self.socket.close()
        self.peer.close()


class LanesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.turns: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]]] = SimpleQueue()
        self.wires: list[Wire] = []
        self.refusing: Exception | None = None
        self.outcomes: list[Outcome] = []
        self.ended = threading.Event()
        self.lanes = self.made(1)

    def made(self, count: int) -> Lanes:
        """Return lanes that end with the test."""
        lanes = Lanes("a server", count, self.connect, lambda function, *given: self.turns.put((function, given)))
        self.addCleanup(self.end, lanes)
        return lanes

    def end(self, lanes: Lanes) -> None:
        """Stop them, if the test has not, and wait for the threads."""
        lanes.cut_all()
        if not self.ended.is_set():
            lanes.stop(self.ended.set)
        while not self.ended.is_set():
            self.turn()

    def connect(self, opened: Callable[[socket.socket], None]) -> Wire:
        if self.refusing is not None:
            raise self.refusing
        self.wires.append(Wire(opened))
        return self.wires[-1]

    def turn(self) -> None:
        """Do what a thread has left for the reactor, once there is something."""
        function, arguments = self.turns.get(timeout=PATIENCE_SECONDS)
        function(*arguments)

    def task(self, work: Callable[[Any], Any]) -> Task:
        return Task(work, lambda task, outcome: self.outcomes.append(outcome))

    def outcome(self, work: Callable[[Any], Any]) -> Outcome:
        """Return what comes of one task."""
        self.lanes.submit(self.task(work))
        self.turn()
        return self.outcomes.pop()

    def raising(self, error: Exception, cause: Exception | None = None) -> Callable[[Any], Any]:
        """Return work that fails."""

        def work(wire: Any) -> None:
            raise error from cause

        return work

    def test_one_connection(self) -> None:
        """A thread opens its connection once, and again when all are to be renewed, or this one was closed."""
        for _ in range(2):
            self.assertEqual(self.outcome(lambda wire: wire.open), Answer(True))
        self.assertEqual(len(self.wires), 1)
        self.lanes.renew()
        self.outcome(lambda wire: wire.close())
        self.assertFalse(self.wires[0].open)
        self.outcome(lambda wire: None)
        self.assertEqual(len(self.wires), 3)

    def test_errors(self) -> None:
        """An error of a statement keeps the connection; a lost one, or an error of the caller's code, ends it."""
        statement, callers = OperationalError(1054, "no column"), KeyError("row")
        for error, connections in ((statement, 1), (LOST, 1), (callers, 2), (statement, 3)):
            self.assertEqual(self.outcome(self.raising(error)), Trouble(error, False))
            self.assertEqual(len(self.wires), connections)

    def test_undone(self) -> None:
        """What was not begun, for want of a connection or by a connection that was dead, is told apart."""
        self.assertEqual(self.outcome(self.raising(Undone(), LOST)), Trouble(LOST, True))
        self.refusing = SqlUnavailable("refused")
        self.assertEqual(self.outcome(lambda wire: None), Trouble(self.refusing, True))

    def test_given_up(self) -> None:
        """A task that nobody waits for any more is not begun."""
        task = self.task(lambda wire: wire.open)
        task.is_over = True
        self.lanes.submit(task)
        self.turn()
        self.assertIsInstance(self.outcomes[0], Trouble)
        self.assertEqual(self.wires, [])

    def test_taken_back(self) -> None:
        """What has not begun can be done elsewhere."""
        begun, go = threading.Event(), threading.Event()

        def wait(wire: Wire) -> None:
            begun.set()
            go.wait(PATIENCE_SECONDS)

        self.lanes.submit(self.task(wait))
        begun.wait(PATIENCE_SECONDS)
        others = [self.task(lambda wire: None) for _ in range(3)]
        for task in others:
            self.lanes.submit(task)
        self.assertEqual(self.lanes.waiting, 3)
        self.assertEqual(self.lanes.take_back(), others)
        go.set()
        self.turn()
        self.assertEqual((len(self.outcomes), self.lanes.waiting), (1, 0))

    def test_taken_back_after_a_loss(self) -> None:
        """Who lost the connection begins nothing before the reactor knows."""
        self.lanes.submit(self.task(self.raising(LOST)))
        other = self.task(lambda wire: wire.open)
        self.lanes.submit(other)
        function, arguments = self.turns.get(timeout=PATIENCE_SECONDS)
        self.assertEqual(self.lanes.take_back(), [other])
        function(*arguments)
        self.assertEqual(self.outcome(lambda wire: wire.open), Answer(True))

    def test_cut(self) -> None:
        """A task that waits for the network ends when its connection is cut; another's is left alone."""
        reading = threading.Event()

        def read(wire: Wire) -> bytes:
            reading.set()
            return wire.socket.recv(1)

        task = self.task(read)
        self.lanes.submit(task)
        reading.wait(PATIENCE_SECONDS)
        self.lanes.cut(self.task(read))
        self.assertTrue(self.turns.empty())
        self.lanes.cut(task)
        self.turn()
        self.assertEqual(self.outcomes, [Answer(b"")])

    def test_cut_with_tls(self) -> None:
        """So it is when TLS has taken the socket over."""
        reading = threading.Event()

        def read(wire: Wire) -> bytes:
            taken_over = socket.socket(fileno=wire.socket.detach())
            self.addCleanup(taken_over.close)
            taken_over.settimeout(PATIENCE_SECONDS)
            reading.set()
            return taken_over.recv(1)

        task = self.task(read)
        self.lanes.submit(task)
        reading.wait(PATIENCE_SECONDS)
        self.lanes.cut(task)
        self.turn()
        self.assertEqual(self.outcomes, [Answer(b"")])

    def test_closed_while_idle(self) -> None:
        """A connection that the server has closed meanwhile, with a word of goodbye or without, costs no task."""
        self.outcome(lambda wire: None)
        self.wires[0].peer.close()
        self.assertEqual(self.outcome(lambda wire: wire is self.wires[1]), Answer(True))
        self.wires[1].peer.send(b"disconnected by the server because of inactivity")
        self.assertEqual(self.outcome(lambda wire: wire is self.wires[2]), Answer(True))

    def test_threads(self) -> None:
        """There are as many threads as tasks at a time, up to the count."""
        self.lanes = self.made(2)
        meeting = threading.Barrier(2)
        for _ in range(4):
            self.lanes.submit(self.task(lambda wire: meeting.wait(PATIENCE_SECONDS)))
        for _ in range(4):
            self.turn()
        places = [outcome.value for outcome in self.outcomes if isinstance(outcome, Answer)]
        self.assertEqual(sorted(places), [0, 0, 1, 1])
        self.assertEqual(len(self.wires), 2)

    def test_stop(self) -> None:
        """What was submitted is done, and then all connections are closed."""
        self.lanes.submit(self.task(lambda wire: wire.open))
        self.lanes.stop(self.ended.set)
        while not self.ended.is_set():
            self.turn()
        self.assertEqual(self.outcomes, [Answer(True)])
        self.assertFalse(self.wires[0].open)
