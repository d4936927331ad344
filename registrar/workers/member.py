"""A worker's side of its link: what it hears from the supervisor, and what it tells and asks it."""

from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import unquote

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.held import HeldLocation, Record
from registrar.records import Source
from registrar.workers.link import Link
from registrar.workers.messages import (
    Acquire,
    Answer,
    Anticipate,
    Ask,
    Denied,
    Drain,
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
    Unbound,
    decode,
    encode,
)
from registrar.workers.siblings import WorkerSiblings
from rollcall.net.turn_share import TurnShare
from rollcall.ops.api import JSON, ApiError, Call, Reply, Routes
from rollcall.ops.coroutines import start

TURN_SECONDS = 0.01
"""What a turn of the reactor does of what the supervisor says; the rest waits for the next ones, in its order."""


class Membership:
    """One worker among several: the Directory of its store, and the Siblings of its flows."""

    _log = Logger()

    def __init__(self, clock: IReactorTime, me: Member, max_waiting_bytes: int, lost: Callable[[], None]) -> None:
        """`lost` is called when the supervisor is gone."""
        self.me = me
        # When many records come at once, all the requests that waited for them go on: not all of them in one turn.
        self._share = TurnShare(clock, TURN_SECONDS)
        self._clock = clock
        self._needed: list[bytes] = []
        self._anticipated: list[bytes] = []
        self.link = Link(self._received, lost, max_waiting_bytes)
        self.siblings = WorkerSiblings(me, self._pass)
        self._location: HeldLocation | None
        self._routes: Routes
        self._drain: Callable[[], None]

    def serve(self, location: HeldLocation | None, routes: Routes, drain: Callable[[], None]) -> None:
        """Join what the supervisor speaks about; `drain` is called when this worker shall end.

        There is no `location` when workers share their bindings by Redis: the supervisor is asked for none then.
        """
        self._location = location
        self._routes = routes
        self._drain = drain

    def hello(self) -> None:
        """Tell who we are."""
        self.link.send(Hello(self.me))

    def tell_state(self, not_ready: str | None) -> None:
        """Tell why this worker should get no work; None when it should."""
        self.link.send(State(not_ready))

    # --- for the store

    @property
    def is_behind(self) -> bool:
        """Whether the supervisor does not keep up, or is gone."""
        return self.link.is_full or not self.link.is_open

    def acquire(self, key: bytes) -> None:
        """Ask for a record, together with others that are needed in this turn of the reactor."""
        self._ask_soon()
        self._needed.append(key)

    def anticipate(self, key: bytes) -> None:
        """Ask for a record that nobody has, with the others."""
        self._ask_soon()
        self._anticipated.append(key)

    def _ask_soon(self) -> None:
        if not self._needed and not self._anticipated:
            self._clock.callLater(0, self._ask)

    def _ask(self) -> None:
        needed, self._needed = self._needed, []
        anticipated, self._anticipated = self._anticipated, []
        if needed:
            self.link.send(Acquire(tuple(needed)))
        if anticipated:
            self.link.send(Anticipate(tuple(anticipated)))

    def released(self, key: bytes, record: Record | None) -> None:
        """Give away a record."""
        self.link.send(Released(key, record))

    def give_back(self, keys: tuple[bytes, ...]) -> None:
        """Tell that records are held no more."""
        self.link.send(GiveBack(keys))

    def unbound(self, source: Source, key: bytes) -> None:
        """Tell the worker of a connection that a record has nothing more on it."""
        member = self.siblings.member(source.node, source.epoch)
        if member is not None:
            self._pass(member, Unbound(source.flow_id, key))

    def lost(self, keys: tuple[bytes, ...]) -> None:
        """Ask which of these nobody holds."""
        self.link.send(Lost(keys))

    # --- what is heard

    @property
    def _held(self) -> HeldLocation:
        assert self._location is not None, "the supervisor speaks of records, and none is held here"
        return self._location

    def _pass(self, member: Member, message: Message) -> bool:
        if self.is_behind:
            return False
        self.link.send(Passed(member.index, member.epoch, encode(message)))
        return True

    def _received(self, message: Message) -> None:
        if isinstance(message, Granted):
            for key, record in message.records:
                self._do(partial(self._held.granted, key, record))
        else:
            self._do(partial(self._take, message))

    def _do(self, step: Callable[[], None]) -> None:
        if not self._share.has_room():
            self._share.defer(step)
            return
        try:
            self._share.run(step)
        except Exception:
            self._log.failure("while a message of the supervisor was handled")

    def _take(self, message: Message) -> None:
        match message:
            case Denied(key=key):
                self._held.denied(key)
            case Release(key=key):
                self._held.release(key)
            case Passed(message=content, sender=sender):
                self.siblings.received(decode(content), sender)
            case Members(members=members):
                self.siblings.members(members)
            case Lost(keys=keys):
                self._held.orphaned(keys)
            case Ask():
                start(self._answer(message), lambda failure: self._not_answered(message, failure))
            case Drain():
                self._drain()
            case _:
                self._log.critical("{message} is not for a worker", message=type(message).__name__)

    async def _answer(self, ask: Ask) -> None:
        reply = await answer(self._routes, ask.path, ask.query, ask.content)
        self.link.send(Answer(ask.number, reply.status, reply.content_type, reply.encode()))

    def _not_answered(self, ask: Ask, failure: Failure) -> None:
        self._log.failure("while answering {path}", failure=failure, path=ask.path)
        self.link.send(Answer(ask.number, 500, "", b""))


async def answer(routes: Routes, path: str, query: dict[str, str], content: bytes | None = None) -> Reply:
    """Return what an admin site with these routes answers to a GET, or to a POST when there is `content`."""
    try:
        method = "GET" if content is None else "POST"
        function, parts = routes.find(method, tuple(map(unquote, path.strip("/").split("/"))))
        value = function(Call(parts, query, content or b"", JSON))
        if isinstance(value, Awaitable):
            value = await value
    except ApiError as error:
        return Reply({"error": error.message}, error.status)
    return value if isinstance(value, Reply) else Reply(value)
