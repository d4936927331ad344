"""The supervisor's side of the links: it keeps the directory, passes on what workers say to each other, and asks them.

Everything goes through here, for there is one order then: what a worker has said before it says something else arrives
before that, and a worker's end is told to all after all that it has said.
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from attrs import Factory, define, frozen
from twisted.internet.defer import Deferred, TimeoutError
from twisted.logger import Logger

from registrar.records import aor_of_key, record_key
from registrar.workers.directory import Deny, Directory, Grant, Record, Step
from registrar.workers.link import Link
from registrar.workers.messages import (
    Acquire,
    Answer,
    Anticipate,
    Ask,
    Denied,
    GiveBack,
    Granted,
    Hello,
    Lost,
    Member,
    Members,
    Message,
    Passed,
    Release,
    Released,
    State,
)


class NoAnswer(Exception):
    """A worker does not answer; the text says why."""


@define(eq=False)
class _Seat:
    """A worker that has a link."""

    link: Link
    member: Member | None = None
    not_ready: str | None = "starting"
    asked: dict[int, "Deferred[Answer]"] = Factory(dict)


@frozen
class Watching:
    """Who is told what happens: all of it is about the worker of this number."""

    state_changed: Callable[[int], None]
    """It is ready, or is not any more."""
    overflowed: Callable[[int], None]
    """It does not read what it is told."""


class Hub:
    """The links to all workers."""

    _log = Logger()

    def __init__(self, reactor: Any, watching: Watching, answer_seconds: float) -> None:
        self.directory = Directory()
        self.messages = 0
        self._reactor = reactor
        self._watching = watching
        self._answer_seconds = answer_seconds
        self._seats: dict[int, _Seat] = {}
        self._numbers = count(1)

    def join(self, index: int, max_waiting_bytes: int) -> Link:
        """Return the link of a worker that is being started."""
        link = Link(lambda message: self._received(index, message), lambda: self._lost(index, link), max_waiting_bytes)
        self._seats[index] = _Seat(link)
        return link

    def leave(self, index: int) -> None:
        """Forget a worker whose process has ended; what it held is nobody's, and the others are told."""
        seat = self._seats.pop(index, None)
        if seat is None:
            return
        seat.link.end()
        for waiting in list(seat.asked.values()):
            waiting.errback(NoAnswer(f"worker {index} has ended"))
        steps = self.directory.left(index)
        self._tell_members()
        self._tell(steps)

    def not_ready(self, index: int) -> str | None:
        """Return why a worker should get no work."""
        seat = self._seats.get(index)
        return seat.not_ready if seat is not None else "not running"

    def send(self, index: int, message: Message) -> None:
        """Say something to a worker, if it is there."""
        seat = self._seats.get(index)
        if seat is not None:
            self.messages += 1
            seat.link.send(message)
            if seat.link.is_full:
                self._watching.overflowed(index)

    def ask(self, index: int, path: str, query: Mapping[str, str] | None = None,
            content: bytes | None = None) -> "Deferred[Answer]":
        """Return what a worker answers, as its admin site would; to a POST when there is `content`. Raises NoAnswer."""
        seat = self._seats.get(index)
        if seat is None or seat.member is None:
            raise NoAnswer(f"worker {index} is not running")
        number = next(self._numbers)

        def forget(_: "Deferred[Answer]") -> None:
            seat.asked.pop(number, None)

        answered: Deferred[Answer] = Deferred(forget)
        seat.asked[number] = answered
        self.send(index, Ask(number, path, dict(query or {}), content))
        answered.addTimeout(self._answer_seconds, self._reactor)
        answered.addErrback(self._not_answered, index)
        return answered

    async def ask_holder(self, aor: str, others: Callable[[], int], path: str, query: Mapping[str, str]) -> Answer:
        """Ask the worker that holds the record of `aor`, or when nobody does the one that `others` gives."""
        holder = self.directory.holder(record_key(aor))
        return await self.ask(others() if holder is None else holder, path, query)

    def _not_answered(self, failure: Any, index: int) -> Any:
        if failure.check(TimeoutError):
            raise NoAnswer(f"worker {index} has not answered in {self._answer_seconds} s")
        return failure

    def _received(self, index: int, message: Message) -> None:
        seat = self._seats.get(index)
        if seat is None:
            return
        self.messages += 1
        match message:
            case Acquire() | Anticipate() | Released() | GiveBack():
                self._tell(self._moved(index, message))
            case Passed(to=to, epoch=epoch):
                self._pass_on(to, epoch, _signed(message, index))
            case Answer(number=number):
                asked = seat.asked.pop(number, None)
                if asked is not None:
                    asked.callback(message)
            case State(not_ready=not_ready):
                seat.not_ready = not_ready
                self._watching.state_changed(index)
            case Lost(keys=keys):
                orphans = tuple(key for key in keys if self.directory.holder(key) is None)
                if orphans:
                    self._log.info("{count} records ended with a worker, {aor} and others", count=len(orphans),
                                   aor=aor_of_key(orphans[0]), worker=index)
                    self.send(index, Lost(orphans))
            case Hello(member=member):
                seat.member = member
                self._tell_members()
            case _:
                self._log.critical("{message} is not for a supervisor", message=type(message).__name__, worker=index)

    def _moved(self, index: int, message: Acquire | Anticipate | Released | GiveBack) -> list[Step]:
        match message:
            case Acquire(keys=keys):
                return [step for key in keys for step in self.directory.acquire(index, key)]
            case Anticipate(keys=keys):
                return [step for key in keys for step in self.directory.anticipate(index, key)]
            case Released(key=key, record=record):
                return self.directory.released(index, key, record)
            case GiveBack(keys=keys):
                self.directory.give_back(index, keys)
        return []

    def _pass_on(self, to: int, epoch: int, message: Passed) -> None:
        seat = self._seats.get(to)
        # What was for an earlier life means nothing to this one; who sent it is told of its end.
        if seat is not None and seat.member is not None and seat.member.epoch == epoch:
            self.send(to, message)

    def _tell(self, steps: list[Step]) -> None:
        """Tell each worker what it has to know, in that order, and what it holds now together."""
        granted: dict[int, list[tuple[bytes, Record | None]]] = {}
        for step in steps:
            if isinstance(step, Grant):
                granted.setdefault(step.worker, []).append((step.key, step.record))
            else:
                if step.worker in granted:
                    self.send(step.worker, Granted(tuple(granted.pop(step.worker))))
                self.send(step.worker, Denied(step.key) if isinstance(step, Deny) else Release(step.key))
        for worker, records in granted.items():
            self.send(worker, Granted(tuple(records)))

    def _tell_members(self) -> None:
        members = tuple(seat.member for seat in self._seats.values() if seat.member is not None)
        for index in list(self._seats):
            self.send(index, Members(members))

    def _lost(self, index: int, link: Link) -> None:
        """Take note that a worker has closed its link: it is about to end, and says so by its end."""
        seat = self._seats.get(index)
        if seat is not None and seat.link is link:
            seat.not_ready = "ending"
            self._watching.state_changed(index)


def _signed(message: Passed, sender: int) -> Passed:
    """Return a message with its sender, whatever the sender said of himself."""
    return Passed(message.to, message.epoch, message.message, sender)

