"""Asks rtpengines: the client's side of the ng control protocol ("COOKIE DICTIONARY", over UDP or TCP).

A question is sent again until it is answered or its time is over: rtpengine answers a cookie that it has seen with the
reply it gave. Cookies are random, because that memory does not look at who asks.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from errno import ECONNREFUSED
from os import strerror
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from rollcall.media.bencode import decode, encode
from rollcall.media.ng_ways import Destination, Way, WayUser, open_way, resolved
from rollcall.ops.allowed import is_address
from rollcall.sip.chance import random_name

# When a question is sent again, then after twice the time, and so on. A reply takes a fraction of a millisecond where
# nothing is lost, and a busy rtpengine that hears a question twice works on it once.
RESEND_SECONDS = 0.1

# So many ng ports are kept open; of those that nobody waits for the one that was asked longest ago is closed first.
MAX_WAYS = 1024

FULL = "load limit"
"""What rtpengine says to `supports: ["load limit"]` in place of an error when it has too many calls."""

OUT_OF_PORTS = "Ran out of ports"


class NgUnreachable(Exception):
    """There was no answer: whether the command was executed is unknown."""

    @property
    def is_refused(self) -> bool:
        """Whether the host says that nobody listens there."""
        return strerror(ECONNREFUSED) in str(self)


class NgRefused(Exception):
    """rtpengine has answered that it does not do it."""

    def __init__(self, reason: str, is_full: bool) -> None:
        """`is_full` says that it has no room for more calls, and is well otherwise."""
        super().__init__(reason)
        self.reason = reason
        self.is_full = is_full


Opening = Callable[[Any, Destination, WayUser], Way]


class NgClient:
    """Asks any number of rtpengines, over one socket each."""

    def __init__(self, reactor: Any, opening: Opening = open_way) -> None:
        """`reactor` keeps time, reads sockets, and knows names of hosts; `opening` opens sockets."""
        self._reactor = reactor
        self._opening = opening
        self._peers: OrderedDict[tuple[str, bool], _Peer] = OrderedDict()

    async def ask(self, address: str, command: str, arguments: Mapping[str, Any], seconds: float,
                  is_tcp: bool = False) -> dict[str, Any]:
        """Return the reply: str to int, bytes, list or dict.

        `address` is host:port, IPv6 in brackets. Texts in `arguments` may be str or bytes. Raises NgUnreachable when
        nobody answers within `seconds` or nobody listens there, and NgRefused.
        """
        peer = self._peer(address, is_tcp)
        cookie = random_name().encode()
        return _checked(await peer.ask(cookie, cookie + b" " + encode({**arguments, "command": command}), seconds))

    def close(self) -> None:
        """Close all sockets; whoever waits gets NgUnreachable. It may be asked again."""
        for peer in tuple(self._peers.values()):
            peer.failed("we are shutting down")

    def _peer(self, address: str, is_tcp: bool) -> "_Peer":
        key = (address, is_tcp)
        peer = self._peers.get(key)
        if peer is not None:
            self._peers.move_to_end(key)
            return peer
        self._make_room()
        peer = self._peers[key] = _Peer(self._reactor, self._opening, lambda gone: self._forget(key, gone))
        peer.open(address, is_tcp)
        return peer

    def _make_room(self) -> None:
        if len(self._peers) < MAX_WAYS:
            return
        idle = next((peer for peer in self._peers.values() if not peer.waiting), None)
        if idle is None:
            raise NgUnreachable("too many media nodes are being asked")
        idle.failed("it was not needed")

    def _forget(self, key: tuple[str, bool], peer: "_Peer") -> None:
        if self._peers.get(key) is peer:
            del self._peers[key]


@frozen(eq=False)
class _Question:
    data: bytes
    answered: "Deferred[dict[str, Any]]"
    ends_at: float


class _Peer:
    """One ng port, from the first question until nobody answers there."""

    def __init__(self, reactor: Any, opening: Opening, forget: Callable[["_Peer"], None]) -> None:
        self.waiting: dict[bytes, _Question] = {}
        self._reactor = reactor
        self._opening = opening
        self._forget = forget
        self._way: Way | None = None
        self._is_tcp = False
        self._timers: dict[bytes, IDelayedCall] = {}
        self._problem = ""

    def open(self, address: str, is_tcp: bool) -> None:
        """Open the socket, for a name once it is known where it is."""
        self._is_tcp = is_tcp
        host, _, port = address.rpartition(":")
        host = host.removeprefix("[").removesuffix("]")
        if is_address(host):
            self._open(host, int(port))
            return
        resolving = Deferred.fromCoroutine(resolved(self._reactor, host))
        resolving.addCallbacks(lambda found: self._open(found, int(port)), lambda failure: self.failed(
            f"{host}: {failure.getErrorMessage()}"))

    def ask(self, cookie: bytes, data: bytes, seconds: float) -> "Deferred[dict[str, Any]]":
        """Return the reply's dictionary. Fails with NgUnreachable."""
        answered: Deferred[dict[str, Any]] = Deferred(lambda _: self._forget_question(cookie))
        now = self._reactor.seconds()
        question = self.waiting[cookie] = _Question(data, answered, now + seconds)
        if self._problem:  # it could not even be opened
            self._give_up(cookie, self._problem)
        else:
            self._send(cookie, question, RESEND_SECONDS)
        return answered

    # --- what the way calls

    def opened(self) -> None:
        if self._way is not None:
            for question in self.waiting.values():
                self._way.send(question.data)

    def received(self, data: bytes) -> None:
        cookie, _, reply = data.partition(b" ")
        if cookie not in self.waiting:
            return  # it has been answered, or was given up
        try:
            answer = decode(reply)
        except ValueError as problem:
            self._give_up(cookie, f"no ng reply: {problem}")
            return
        if isinstance(answer, dict):
            self._take(cookie).answered.callback(answer)
        else:
            self._give_up(cookie, "no ng reply: no dictionary")

    def failed(self, why: str) -> None:
        self._problem = why
        self._forget(self)
        if self._way is not None:
            self._way.close()
        for cookie in tuple(self.waiting):
            if cookie in self.waiting:
                self._give_up(cookie, why)

    # --- details

    def _open(self, host: str, port: int) -> None:
        if self._problem:
            return
        try:
            self._way = self._opening(self._reactor, Destination(host, port, self._is_tcp), self)
        except OSError as error:
            self.failed(error.strerror or str(error))
            return
        if self._way.is_open:
            self.opened()

    def _send(self, cookie: bytes, question: _Question, wait: float) -> None:
        """Send a question now, and again after `wait` and so on until its end."""
        left = question.ends_at - self._reactor.seconds()
        if left <= 0:
            self._out_of_time(cookie)
            return
        if self._way is not None and self._way.is_open:
            self._way.send(question.data)
        wait = left if self._is_tcp else min(wait, left)
        self._timers[cookie] = self._reactor.callLater(wait, self._send, cookie, question, wait * 2)

    def _out_of_time(self, cookie: bytes) -> None:
        self._give_up(cookie, "it did not answer in time")
        if not self.waiting:
            # The next one looks up the name again, and connects again.
            self.failed("it did not answer in time")

    def _give_up(self, cookie: bytes, why: str) -> None:
        self._take(cookie).answered.errback(NgUnreachable(why))

    def _forget_question(self, cookie: bytes) -> None:
        self._take(cookie)

    def _take(self, cookie: bytes) -> _Question:
        timer = self._timers.pop(cookie, None)
        if timer is not None and timer.active():
            timer.cancel()
        return self.waiting.pop(cookie)


def _checked(reply: dict[str, Any]) -> dict[str, Any]:
    """Return the reply unless it is a refusal. Raises NgRefused."""
    result = _text(reply.get("result", b""))
    if result in ("ok", "pong"):
        return reply
    reason = _text(reply.get("error-reason", b"")) or _text(reply.get("message", b"")) or result or "no result"
    raise NgRefused(reason, result == FULL or OUT_OF_PORTS in reason)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
