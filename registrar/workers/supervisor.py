"""Keeps the workers alive: starts them, starts them again, ends them, and exchanges them one at a time.

A worker that ends by itself is started again after a pause that doubles each time, until one has lived long enough.
When one ends before all of them were ready for the first time, the registrar cannot start, and its supervisor gives up.
"""

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any, Protocol

from attrs import define
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from registrar.draining import DRAINED
from registrar.workers.config import WorkersConfig
from registrar.workers.hub import Hub, NoAnswer, Watching
from registrar.workers.link import Link
from registrar.workers.messages import Drain

SERVING = (None, DRAINED)
"""What a worker says that can be asked anything: one that is drained goes on, though it should get no work."""

LOOKS = 3
"""A worker is asked so often within `unresponsive_seconds` whether it is alive."""


class Child(Protocol):
    """The process of a worker."""

    pid: int

    def signal(self, name: str) -> None:
        """Send a signal ("TERM", "HUP", "KILL"); harmless when it has ended."""


Launch = Callable[[int, Link, Callable[[str], None]], Child]
"""Starts the process of a worker, with its link, and tells by what it ended."""


class State(Enum):
    """Where a worker stands."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    PAUSING = "pausing"
    """It has ended, and the next one will be started soon."""
    ENDED = "ended"


class CannotRestart(Exception):
    """Workers are not restarted now; the text says why."""


@define(eq=False)
class Worker:
    """One worker, life after life."""

    index: int
    state: State = State.ENDED
    child: Child | None = None
    lives: int = 0
    started_at: float = 0.0
    pause: float = 0.0
    silent: int = 0
    next_start: IDelayedCall | None = None


class Supervisor:
    """The workers of one registrar."""

    _log = Logger()

    def __init__(self, reactor: Any, number: int, config: WorkersConfig, launch: Launch,
                 failed: Callable[[str], None]) -> None:
        """`failed` is told why the registrar cannot start."""
        self.hub = Hub(reactor, Watching(self._state_changed, self._kill), config.answer_seconds)
        self.workers = {index: Worker(index) for index in range(1, number + 1)}
        self._reactor = reactor
        self._config = config
        self._launch = launch
        self._failed = failed
        self._were_ready = False
        self._is_stopping = False
        self._restarting: Deferred[None] | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._next_look: IDelayedCall | None = None

    def start(self) -> None:
        """Start all workers."""
        for worker in self.workers.values():
            self._start(worker)
        self._look_later()

    async def stop(self) -> None:
        """End all workers; return when all have ended."""
        self._is_stopping = True
        if self._next_look is not None:
            self._next_look.cancel()
        for worker in self.workers.values():
            if worker.next_start is not None:
                worker.next_start.cancel()
                worker.next_start = None
            if worker.child is None:
                worker.state = State.ENDED
        self.signal("TERM")
        await self._until(self._have_ended, self._config.stop_seconds, kill=self.workers.values())

    def signal(self, name: str) -> None:
        """Send a signal to all workers."""
        for worker in self.workers.values():
            if worker.child is not None:
                worker.child.signal(name)

    def not_ready(self, index: int) -> str | None:
        """Return why a worker should get no work; None when it should."""
        worker = self.workers[index]
        if worker.state in (State.STARTING, State.READY):
            return self.hub.not_ready(index)
        return str(worker.state.value)

    def a_ready_one(self) -> int:
        """Return the number of a worker that is ready, be it drained. Raises NoAnswer."""
        for states in ((None,), SERVING):
            for index in self.workers:
                if self.not_ready(index) in states:
                    return index
        raise NoAnswer("no worker is ready")

    def restart(self, indices: Iterable[int]) -> None:
        """Begin to exchange these workers one at a time. Raises CannotRestart."""
        if self._restarting is not None:
            raise CannotRestart("workers are being restarted already")
        if self._is_stopping or not self._were_ready:
            raise CannotRestart("the registrar is starting or stopping")
        chosen = [self.workers[index] for index in indices]
        self._log.info("restarting {count} workers, one at a time", count=len(chosen))
        self._restarting = Deferred.fromCoroutine(self._restart(chosen))
        self._restarting.addBoth(self._restarted)

    # --- one worker

    def _start(self, worker: Worker) -> None:
        worker.next_start = None
        worker.state = State.STARTING
        worker.lives += 1
        worker.silent = 0
        worker.started_at = self._reactor.seconds()
        link = self.hub.join(worker.index, self._config.max_waiting_bytes)
        worker.child = self._launch(worker.index, link, lambda reason: self._ended(worker, reason))
        self._log.info("worker {worker} is process {pid}", worker=worker.index, pid=worker.child.pid)

    def _ended(self, worker: Worker, reason: str) -> None:
        state, worker.child = worker.state, None
        self.hub.leave(worker.index)
        if self._is_stopping:
            worker.state = State.ENDED
        elif state is State.DRAINING:
            self._start(worker)
        elif state is State.STARTING and not self._were_ready:
            worker.state = State.ENDED
            self._failed(f"worker {worker.index} {reason}")
        else:
            self._start_later(worker, reason)
        self._look_around()

    def _start_later(self, worker: Worker, reason: str) -> None:
        config = self._config
        if self._reactor.seconds() - worker.started_at >= config.healthy_seconds or not worker.pause:
            worker.pause = config.restart_seconds
        else:
            worker.pause = min(2 * worker.pause, config.restart_max_seconds)
        worker.state = State.PAUSING
        self._log.error("worker {worker} {reason}; the next one comes in {pause} s", worker=worker.index, reason=reason,
                        pause=worker.pause)
        worker.next_start = self._reactor.callLater(worker.pause, self._start, worker)

    def _state_changed(self, index: int) -> None:
        worker = self.workers[index]
        is_ready = self.hub.not_ready(index) is None
        if worker.state is State.STARTING and is_ready:
            worker.state = State.READY
            if not self._were_ready and all(each.state is State.READY for each in self.workers.values()):
                self._were_ready = True
                self._log.info("ready: {count} workers", count=len(self.workers))
        self._look_around()

    def _kill(self, index: int) -> None:
        worker = self.workers[index]
        if worker.child is not None:
            self._log.critical("worker {worker} does not keep up and is killed", worker=index)
            worker.child.signal("KILL")

    # --- all of them

    async def _restart(self, chosen: list[Worker]) -> None:
        for worker in chosen:
            await self._until(self._are_ready, self._config.start_seconds)
            lives = worker.lives
            worker.state = State.DRAINING
            self.hub.send(worker.index, Drain())
            patience = self._config.drain_seconds + self._config.stop_seconds
            await self._until(lambda worker=worker, lives=lives: worker.lives > lives, patience,  # type: ignore[misc]
                              kill=[worker])
        await self._until(self._are_ready, self._config.start_seconds)

    def _restarted(self, result: Any) -> None:
        self._restarting = None
        if result is None:
            self._log.info("all workers were restarted")
        elif not self._is_stopping:
            self._log.error("workers were not all restarted: {why}", why=result.getErrorMessage())

    def _are_ready(self) -> bool:
        return all(self.not_ready(index) in SERVING for index in self.workers)

    def _have_ended(self) -> bool:
        return all(worker.child is None for worker in self.workers.values())

    async def _until(self, done: Callable[[], bool], seconds: float, kill: Iterable[Worker] = ()) -> None:
        """Return once `done` says so. After `seconds` kill those workers, or when there are none raise TimeoutError."""
        if done():
            return
        waiting: Deferred[None] = Deferred()
        entry = done, waiting
        self._waiting.append(entry)
        late = self._reactor.callLater(seconds, self._too_late, entry, list(kill))
        try:
            await waiting
        finally:
            if late.active():
                late.cancel()

    def _too_late(self, entry: tuple[Callable[[], bool], "Deferred[None]"], kill: list[Worker]) -> None:
        for worker in kill:
            if worker.child is not None:
                self._log.error("worker {worker} takes too long to end and is killed", worker=worker.index)
                worker.child.signal("KILL")
        if not kill:
            self._waiting.remove(entry)
            entry[1].errback(TimeoutError("a worker does not become ready"))

    def _look_around(self) -> None:
        """Go on with what has waited for what is so now."""
        for entry in list(self._waiting):
            if entry in self._waiting and entry[0]():
                self._waiting.remove(entry)
                entry[1].callback(None)

    def _look_later(self) -> None:
        self._next_look = self._reactor.callLater(self._config.unresponsive_seconds / LOOKS, self._look_after_them)

    def _look_after_them(self) -> None:
        """Kill who has not answered for too long, and ask again."""
        self._look_later()
        for worker in self.workers.values():
            if worker.silent >= LOOKS and worker.child is not None:
                self._log.critical("worker {worker} does not answer and is killed", worker=worker.index)
                worker.child.signal("KILL")
            elif worker.state is State.READY:
                worker.silent += 1
                self._ask(worker)

    def _ask(self, worker: Worker) -> None:
        life = worker.lives

        def answered(_: object) -> None:
            if worker.lives == life:
                worker.silent = 0

        try:
            self.hub.ask(worker.index, "/healthz").addCallbacks(answered, lambda _: None)
        except NoAnswer:
            self._log.debug("worker {worker} is not there to be asked", worker=worker.index)
