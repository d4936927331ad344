"""When a call through a media node is over though nobody has said so: session timers, and what the media node says.

RFC 4028 §§9, 10: both sides of a call refresh it if one of them wants that, and hang up when that ends. A call without
session timers ends when its media node has let it go: it does when nothing was heard of it for a while.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from attrs import evolve, frozen
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.media.config import MediaConfig
from registrar.media.flags import delete
from registrar.media.session import Session, Who, other, sender_of
from registrar.media.sessions import Sessions
from rollcall.media.ng import NgRefused, NgUnreachable
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.coroutines import start
from rollcall.sip.message import Request, Response

GRACE_SECONDS = 32.0
"""RFC 4028 §10: who does not refresh hangs up that long before the end at most; after the end nobody may be there."""

LONGEST_SECONDS = 86400.0
"""A Session-Expires of more than a day says nothing of when a call is over."""

SECOND_LOOK_SECONDS = 10.0
"""A media node that does not know a call may have been started again: balancers tell us of that before then, and the
call gets another node."""

_EXPIRES = re.compile(r"[ \t]*([0-9]{1,10})[ \t]*((?:;[^;]*)*)")
_REFRESHER = re.compile(r";[ \t]*refresher[ \t]*=[ \t]*\"?(uac|uas)", re.IGNORECASE)


class Asking(Protocol):
    """How media nodes are asked, see rollcall.media.ng.NgClient."""

    async def ask(self, address: str, command: str, arguments: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return what a node answers. Raises NgUnreachable and NgRefused."""


@frozen
class Refreshing:
    """What a Session-Expires says (RFC 4028 §4)."""

    seconds: int
    by_asker: bool
    """Whether the sender of the request refreshes; else who answers."""


def refreshing(response: Response) -> Refreshing | None:
    """Return what the answer to an INVITE or UPDATE says of session timers; None: there are none."""
    found = _EXPIRES.fullmatch(response.get("Session-Expires") or "")
    if found is None or not int(found[1]):
        return None
    named = _REFRESHER.search(found[2])
    return Refreshing(int(found[1]), named is None or named[1].lower() == "uac")


def agreed(session: Session, request: Request, response: Response, now: float, max_call_seconds: float) -> Session:
    """Return the call after this 2xx to an INVITE or UPDATE: for how long it lasts, and who refreshes it.

    Each such answer decides anew (RFC 4028 §7.2).
    """
    found, asker = refreshing(response), sender_of(request, session) or "caller"
    if found is None:
        return evolve(session, interval=0, refresher="", expires_at=session.answered_at + max_call_seconds)
    who: Who = asker if found.by_asker else other(asker)
    seconds = min(found.seconds, LONGEST_SECONDS)
    return evolve(session, interval=found.seconds, refresher=who, expires_at=now + seconds + GRACE_SECONDS)


class Timers:
    """Sees to the end of calls that end in silence: those that are ours."""

    _log = Logger()

    def __init__(self, sessions: Sessions, wheel: TimerWheel, ng: Asking, config: MediaConfig,
                 now: Callable[[], float]) -> None:
        """`now` is in seconds since the epoch."""
        self.expired = 0
        """Calls whose time was over, for metrics."""
        self.let_go = 0
        """Calls that their media nodes had let go."""
        self._sessions = sessions
        self._wheel = wheel
        self._ng = ng
        self._config = config
        self._now = now
        self._timers: dict[str, Timer] = {}
        sessions.on_change.append(self._changed)

    def __len__(self) -> int:
        """How many calls are waited for."""
        return len(self._timers)

    def stop(self) -> None:
        """Wait for nothing any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _changed(self, before: Session | None, after: Session | None) -> None:
        session = after or before
        assert session is not None
        timer = self._timers.pop(session.call_id, None)
        if timer is not None:
            timer.cancel()
        if after is not None and after.owner == self._sessions.owner:
            self._wait(after, self._config.check_seconds)

    def _wait(self, session: Session, seconds: float) -> None:
        left = session.expires_at - self._now()
        self._timers[session.call_id] = self._wheel.call_later(max(0.0, min(left, seconds)), self._due, session)

    def _due(self, session: Session) -> None:
        self._timers.pop(session.call_id, None)
        start(self._see_to(session, False), self._broke)

    def _due_again(self, session: Session) -> None:
        self._timers.pop(session.call_id, None)
        start(self._see_to(session, True), self._broke)

    async def _see_to(self, session: Session, again: bool) -> None:
        """End a call whose time is over, or that its media node does not know; look again later at any other."""
        if self._now() >= session.expires_at:
            self.expired += 1
            self._log.info("a call has ended in silence: {id}", id=session.call_id, log_rationed=True)
            await self._end(session)
        elif not session.is_answered or session.kind != "rtpengine" or await self._is_there(session):
            self._wait_on(session)
        elif not again:
            if self._is_same(session):
                self._timers[session.call_id] = self._wheel.call_later(SECOND_LOOK_SECONDS, self._due_again, session)
        elif self._is_same(session):
            self.let_go += 1
            self._log.info("the media node {node} has let a silent call go: {id}", node=session.node,
                           id=session.call_id, log_rationed=True)
            await self._sessions.end(session)

    def _wait_on(self, session: Session) -> None:
        if self._is_same(session):
            self._wait(session, self._config.check_seconds)

    def _is_same(self, session: Session) -> bool:
        """Say whether nothing has become of a call while its node was asked: else it has another timer, or none."""
        return self._sessions.known(session.call_id) is session and session.call_id not in self._timers

    async def _is_there(self, session: Session) -> bool:
        """Say whether the media node has the call, or does not say."""
        try:
            await self._ng.ask(session.address, "query", {"call-id": session.call_id}, self._config.offer_seconds)
        except NgRefused:
            return False
        except NgUnreachable:
            # Whether it is dead is for the balancer to say.
            return True
        return True

    async def _end(self, session: Session) -> None:
        if not await self._sessions.end(session) or session.kind != "rtpengine":
            return
        try:
            await self._ng.ask(session.address, "delete", delete(session), self._config.offer_seconds)
        except (NgRefused, NgUnreachable) as problem:
            self._log.debug("{node} was not told of the end of a call: {why}", node=session.node, why=str(problem))

    def _broke(self, failure: Failure) -> None:
        self._log.failure("while seeing to the end of a call", failure=failure)
