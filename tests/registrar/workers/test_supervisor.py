"""The supervisor: who is started when, who is killed, and how all of them are exchanged without a gap."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.workers.config import WorkersConfig
from registrar.workers.hub import NoAnswer
from registrar.workers.link import Link
from registrar.workers.messages import LENGTH_BYTES, Answer, Ask, Drain, Hello, Member, Message, State, decode
from registrar.workers.supervisor import CannotRestart, Supervisor


class Transport(StringTransport):
    """The wire of a link; aborting it ends it."""

    def abortConnection(self) -> None:
        """End."""
        self.loseConnection()


@define(eq=False)
class Child:
    """A process that does what the test says."""

    index: int
    link: Link
    ended: Callable[[str], None]
    pid: int
    transport: Transport = field(factory=Transport)
    signals: list[str] = field(factory=list)

    def signal(self, name: str) -> None:
        """Note it; KILL ends it."""
        self.signals.append(name)
        if name == "KILL":
            self.end("was ended by signal 9")

    def end(self, reason: str = "has ended") -> None:
        """End."""
        self.link.connectionLost()
        self.ended(reason)

    def say(self, message: Message) -> None:
        """Say something to the supervisor."""
        self.link._received(message)

    def ready(self) -> None:
        """Say who it is, and that it is ready."""
        self.say(Hello(Member(self.index, f"n-{self.index}", self.pid)))
        self.say(State(None))

    def heard(self) -> list[Message]:
        """Return what the supervisor has said."""
        data, said = self.transport.value(), []
        self.transport.clear()
        while data:
            end = LENGTH_BYTES + int.from_bytes(data[:LENGTH_BYTES])
            said.append(decode(data[LENGTH_BYTES:end]))
            data = data[end:]
        return said


class SupervisorCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.children: list[Child] = []
        self.failures: list[str] = []
        self.supervisor = self.a_supervisor()

    def a_supervisor(self, **changes: Any) -> Supervisor:
        """Return a supervisor of two workers."""
        config = WorkersConfig(drain_seconds=10.0, stop_seconds=5.0, **changes)
        return Supervisor(self.clock, 2, config, self.launch, self.failures.append)

    def launch(self, index: int, link: Link, ended: Callable[[str], None]) -> Child:
        """Start a process."""
        child = Child(index, link, ended, 100 + len(self.children))
        link.makeConnection(child.transport)
        self.children.append(child)
        return child

    def started(self) -> None:
        """Have all workers ready."""
        self.supervisor.start()
        for child in list(self.children):
            child.ready()

    def states(self) -> list[str]:
        """Return the state of each worker."""
        return [worker.state.value for worker in self.supervisor.workers.values()]

    def answer_all(self) -> None:
        """Have the living answer what they are asked."""
        for child in self.children:
            for message in child.heard():
                if isinstance(message, Ask):
                    child.say(Answer(message.number, 200, "", b""))


class LifeTests(SupervisorCase):
    def test_start(self) -> None:
        """Workers are ready one by one; when all are, the registrar is."""
        self.supervisor.start()
        self.assertEqual([child.index for child in self.children], [1, 2])
        self.assertEqual((self.states(), self.supervisor.not_ready(1)), (["starting"] * 2, "starting"))
        self.assertRaises(NoAnswer, self.supervisor.a_ready_one)
        self.children[1].ready()
        self.assertEqual((self.supervisor.a_ready_one(), self.supervisor.not_ready(2)), (2, None))
        with capturedLogs() as events:
            self.children[0].ready()
        self.assertEqual((self.states(), formatEvent(events[-1])), (["ready"] * 2, "ready: 2 workers"))

    def test_cannot_start(self) -> None:
        """A worker that ends before all were ready for the first time ends the start, and no other is started."""
        self.supervisor.start()
        self.children[0].ready()
        self.children[1].end("has failed with status 1")
        self.assertEqual(self.failures, ["worker 2 has failed with status 1"])
        self.clock.advance(100)
        self.assertEqual(len(self.children), 2)

    def test_back_off(self) -> None:
        """An ended worker is followed by another, each time after twice the pause, up to the longest."""
        self.started()
        for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0):
            self.children[-1].end("was ended by signal 9")
            self.assertEqual(self.states(), ["ready", "pausing"])
            self.clock.pump([pause - 0.01])
            self.assertEqual(self.states()[1], "pausing")
            self.clock.pump([0.02])
            self.assertEqual(self.states()[1], "starting")
        self.assertEqual((self.failures, len(self.children)), ([], 10))

    def test_healthy(self) -> None:
        """A worker that has lived long is followed soon."""
        self.started()
        for _ in range(3):
            self.children[-1].end()
            self.clock.advance(4)
        self.children[-1].ready()
        for _ in range(13):
            self.clock.advance(5)
            self.answer_all()
        self.children[-1].end()
        self.clock.advance(0.51)
        self.assertEqual(self.states()[1], "starting")

    def test_not_ready(self) -> None:
        """A worker that says why it should get no work is heard, and does not count as ended."""
        self.started()
        self.children[0].say(State("bindings cannot be written"))
        self.assertEqual(self.supervisor.not_ready(1), "bindings cannot be written")
        self.assertEqual(self.supervisor.a_ready_one(), 2)
        self.children[0].say(State(None))
        self.assertEqual(self.supervisor.a_ready_one(), 1)

    def test_silent(self) -> None:
        """A worker that answers nothing for too long is killed; one that does is not."""
        self.started()
        for _ in range(9):
            self.clock.advance(5)
            for message in self.children[0].heard():
                if isinstance(message, Ask):
                    self.children[0].say(Answer(message.number, 200, "", b""))
        self.assertEqual((self.children[0].signals, self.children[1].signals), ([], ["KILL"]))

    def test_deaf(self) -> None:
        """A worker that does not read what it is told is killed."""
        self.supervisor = self.a_supervisor(max_waiting_bytes=1_048_576)
        self.started()
        child = self.children[0]
        child.link.pauseProducing()
        with capturedLogs():
            for _ in range(20):
                if not child.signals:
                    self.supervisor.hub.send(1, Answer(1, 200, "", b"x" * 100_000))
        self.assertEqual(child.signals, ["KILL"])

    def test_stop(self) -> None:
        """All workers are told to end, and the supervisor has ended when they have."""
        self.started()
        stopping = Deferred.fromCoroutine(self.supervisor.stop())
        self.assertEqual([child.signals for child in self.children], [["TERM"], ["TERM"]])
        self.children[0].end()
        self.assertNoResult(stopping)
        self.children[1].end()
        self.successResultOf(stopping)
        self.assertEqual((self.states(), self.clock.getDelayedCalls()), (["ended"] * 2, []))

    def test_stop_while_pausing(self) -> None:
        """A worker that would be started soon is not; one that does not end is killed."""
        self.started()
        self.children[0].end()
        stopping = Deferred.fromCoroutine(self.supervisor.stop())
        self.clock.advance(5.1)
        self.successResultOf(stopping)
        self.assertEqual((len(self.children), self.children[1].signals), (2, ["TERM", "KILL"]))

    def test_signals(self) -> None:
        """A signal goes to every worker that lives."""
        self.started()
        self.children[0].end()
        self.supervisor.signal("HUP")
        self.assertEqual((self.children[0].signals, self.children[1].signals), ([], ["HUP"]))


class RestartTests(SupervisorCase):
    def drained(self) -> list[int]:
        """Return the workers that were told to finish, as processes, since the last look."""
        return [child.pid for child in self.children if any(isinstance(said, Drain) for said in child.heard())]

    def test_one_at_a_time(self) -> None:
        """A worker is told to finish when all are ready; the next one when its successor is."""
        self.started()
        self.supervisor.restart([1, 2])
        self.assertEqual((self.drained(), self.states()), ([100], ["draining", "ready"]))
        self.assertEqual(self.supervisor.not_ready(1), "draining")
        self.children[0].end()
        self.assertEqual((self.drained(), self.states()), ([], ["starting", "ready"]))
        with capturedLogs() as events:
            self.children[2].ready()
            self.assertEqual(self.drained(), [101])
            self.children[1].end()
            self.children[3].ready()
        self.assertEqual(self.states(), ["ready", "ready"])
        self.assertEqual(formatEvent(events[-1]), "all workers were restarted")
        self.supervisor.restart([2])
        self.assertEqual(self.drained(), [103])

    def test_twice(self) -> None:
        """There is one restart at a time, and none before the start is done or while all end."""
        self.assertRaises(CannotRestart, self.supervisor.restart, [1])
        self.started()
        self.supervisor.restart([1])
        self.assertRaises(CannotRestart, self.supervisor.restart, [2])

    def test_stubborn(self) -> None:
        """A worker that does not end in time is killed, and the restart goes on."""
        self.started()
        self.supervisor.restart([1])
        self.clock.pump([1.0] * 16)
        self.assertEqual(self.children[0].signals, ["KILL"])
        self.children[2].ready()
        self.assertEqual(self.states(), ["ready", "ready"])

    def test_successor_fails(self) -> None:
        """When a successor does not become ready, the others are left alone, and the log says so."""
        self.started()
        self.supervisor.restart([1, 2])
        self.children[0].end()
        with capturedLogs() as events:
            for _ in range(70):
                self.clock.advance(1.0)
                self.answer_all()
        self.assertIn("not all restarted", formatEvent(events[-1]))
        self.assertEqual(self.states(), ["starting", "ready"])
        self.assertEqual(self.children[1].signals, [])
