"""The flow engine: one descriptor in the reactor, behind which an epoll of our own serves all plain TCP connections.

A Twisted transport costs several times what a REGISTER needs: two dispatches, two changes of the epoll set and a
context for each. Here one turn of the reactor reads from many connections, one read each, and answers at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from os import read
from select import EPOLLIN, EPOLLOUT, epoll
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rollcall.net import descriptors
from rollcall.net.coalescing import Coalescing, Found
from rollcall.net.config import EngineConfig
from rollcall.net.connections import Connections
from rollcall.net.engine_flow import EngineFlow
from rollcall.net.waiting import SORTED_EVENTS, Waiting
from rollcall.sip.scanner import scan_register

# So many are asked of the epoll at a time; in between we look at the clock.
PORTION = 64


class Engine:
    """Serves the connections that its listeners accept."""

    _log = Logger()

    def __init__(self, reactor: Any, connections: Connections, config: EngineConfig) -> None:
        self.connections = connections
        self.config = config
        # A head that is too large never comes whole, so that the framer sees it.
        self.read_bytes = min(config.read_bytes, connections.limits.max_head_bytes)
        self._turn_seconds = config.max_turn_ms / 1000
        self._reactor = reactor
        self._epoll = epoll()
        self.has_more = False
        """Set during a turn when somebody has more for us than a turn takes."""
        self._waiting = Waiting(connections, self._send_each)
        self._watched: dict[int, Callable[[float], None]] = {}
        self._doomed: deque[EngineFlow] = deque()
        self._burial: IDelayedCall | None = None
        self._coalescing = Coalescing(
            reactor, self._epoll.fileno(), self._turn, self._broken, config.coalesce_ms / 1000, "flow engine"
        )

    def start(self) -> None:
        """Begin to serve."""
        self._coalescing.start()

    def stop(self) -> None:
        """Serve no more; there are no connections left. Harmless twice."""
        self._coalescing.stop()
        if self._burial is not None:
            self._burial.cancel()
            self._burial = None
        self._epoll.close()

    def _broken(self, reason: Failure) -> None:
        if not reason.check(ConnectionLost):  # as the reactor says to all when it ends
            self._log.failure("the flow engine is broken: no plain TCP connection is served any more", reason)

    # --- descriptors

    def enlist(self, descriptor: int) -> None:
        """Look for what comes to a descriptor, which is then watched or gets a flow. Raises OSError."""
        self._epoll.register(descriptor, EPOLLIN)
        self.connections.make_room(descriptor)

    def watch(self, descriptor: int, readable: Callable[[float], None]) -> None:
        """Call `readable` with the time when there is something to read at a descriptor that has no flow (yet).

        It is called after the flows of its turn were served.
        """
        self._watched[descriptor] = readable

    def add(self, descriptor: int, flow: EngineFlow) -> None:
        """Serve a flow at a descriptor, which may have been watched before."""
        self._watched.pop(descriptor, None)
        self.connections.place(flow, descriptor)
        flow.begin()

    def take_first(self, data: bytes, flow: EngineFlow, descriptor: int, now: float) -> None:
        """Serve what came together with a PROXY header; while there is a backlog a REGISTER waits as others do."""
        register = scan_register(data) if self._waiting.is_needed else None
        if register is not None and register.end == len(data) and register.has_length:
            self._waiting.append((register, data, flow, descriptor, now))
        else:
            flow.receive(data, None, now)

    def delist(self, descriptor: int) -> None:
        """Forget all about a descriptor that is in the list, which may be closed then."""
        self._watched.pop(descriptor, None)
        self.connections.by_descriptor[descriptor] = None
        with suppress(OSError):  # somebody closed it already
            self._epoll.unregister(descriptor)

    def look_for(self, descriptor: int, events: int) -> None:
        """Change what the epoll looks for at a flow."""
        self._epoll.modify(descriptor, events)

    def call_later(self, seconds: float, call: Callable[[], None]) -> IDelayedCall:
        """Call then, to a hundredth of a second: the wheel is too slow for what is to come at a pace."""
        made: IDelayedCall = self._reactor.callLater(seconds, call)
        return made

    def doom(self, flow: EngineFlow) -> None:
        """Reset a flow's connection, but in a later turn: its user may be in the middle of something with it."""
        self._doomed.append(flow)
        if self._burial is None:
            self._burial = self._reactor.callLater(0, self._bury)

    # --- the turn

    def _turn(self) -> Found:
        """Serve what is ready, so many and so long as one turn may take."""
        try:
            return self._serve_some()
        except Exception:
            self._log.failure("a turn of the flow engine failed", log_rationed=True)
            return Found.KEPT if self._waiting else Found.ALL

    def _serve_some(self) -> Found:
        waiting, serve = self._waiting, self._serve
        began_at = now = self._reactor.seconds()
        bound, until = self.config.max_events_per_turn, began_at + self._turn_seconds
        if waiting.is_needed or waiting:
            # Reading costs little: so nobody who has something better to say waits behind those who register.
            serve = self._sort
            bound, until = waiting.room(SORTED_EVENTS), began_at + self._turn_seconds / 2
        left, events, found, flowless = bound, list[tuple[int, int]](), Found.NOTHING, list[int]()
        while found is not Found.MORE:
            portion = min(left, PORTION)
            events = self._epoll.poll(0, portion)
            if events:
                flowless += serve(events, now)
                left -= len(events)
                found = Found.ALL
                now = self._reactor.seconds()
            if len(events) < portion:
                break
            if not left or now >= until:
                found = Found.MORE
        # No flow begins at a descriptor while an event of the flow before may be to come.
        for descriptor in dict.fromkeys(flowless):
            readable = self._watched.get(descriptor)
            if readable is not None:
                readable(now)
        is_left = False
        if found is Found.MORE or waiting.is_needed or waiting:
            waiting.judge([each for each, _ in reversed(events)] if found is Found.MORE else (), now)
            is_left = waiting.serve(self._reactor.seconds, began_at + self._turn_seconds)
        # Among so many the cost of a wake-up is lost: waiting for more of them would gain nothing.
        if self.has_more or bound - left >= PORTION:
            self.has_more, found = False, Found.MORE
        return Found.KEPT if is_left else found

    def _serve(self, events: list[tuple[int, int]], now: float) -> list[int]:
        """Read once from each flow and answer it; return the descriptors that have no flow.

        Those are looked at afterwards: no flow begins at a descriptor while an event of the one before may be to come.
        All here is done for every request: what is not usual is left to the flow. Answers given at once leave together,
        because a peer that is woken for each costs us as much as all the rest; but before anybody else is asked.
        """
        connections = self.connections
        flows, size, scan = connections.by_descriptor, self.read_bytes, scan_register
        short_way = connections.user.short_way
        flowless: list[int] = []
        answers: list[tuple[EngineFlow, bytes, int]] = []
        for descriptor, event in events:
            flow = flows[descriptor]
            if flow is None:
                flowless.append(descriptor)
                continue
            try:
                if event != EPOLLIN:
                    self._send_each(answers)
                    if not self._has_data(flow, descriptor, event):
                        continue
                data = read(descriptor, size)
                register = scan(data) if flow.framer is None else None
                if register is not None and register.end == len(data) and register.has_length and flow.confirmed:
                    answer = short_way(register, flow, now)
                    if answer is None:
                        self._send_each(answers)
                        connections.hand_over(data, flow)
                    elif answer:
                        answers.append((flow, answer, descriptor))
                    continue
                self._send_each(answers)
                flow.receive(data, register, now)
                if len(data) == size:
                    self.has_more = True
            except BlockingIOError:
                continue
            except OSError as error:
                flow.lost(f"lost: {error.strerror}")
            except Exception:
                self._log.failure("while {flow} was served", flow=flow)
        self._send_each(answers)
        return flowless

    def _sort(self, events: list[tuple[int, int]], now: float) -> list[int]:
        """Do the same while there is a backlog: who registers as usual waits until everybody else was served."""
        flows, size, waiting = self.connections.by_descriptor, self.read_bytes, self._waiting
        flowless: list[int] = []
        for descriptor, event in events:
            flow = flows[descriptor]
            if flow is None:
                flowless.append(descriptor)
                continue
            try:
                if event != EPOLLIN and not self._has_data(flow, descriptor, event):
                    continue
                data = read(descriptor, size)
                register = scan_register(data) if flow.framer is None else None
                if register is not None and register.end == len(data) and register.has_length:
                    waiting.append((register, data, flow, descriptor, now))
                    continue
                if not data.isspace():  # a keepalive may overtake
                    waiting.hasten(flow)
                    if flows[descriptor] is not flow:
                        continue
                flow.receive(data, register, now)
                if len(data) == size:
                    self.has_more = True
            except BlockingIOError:
                continue
            except OSError as error:
                flow.lost(f"lost: {error.strerror}")
            except Exception:
                self._log.failure("while {flow} was served", flow=flow)
        return flowless

    def _send_each(self, answers: list[tuple[EngineFlow, bytes, int]]) -> None:
        """Send what was answered at once, and empty the list."""
        for flow, answer, descriptor in answers:
            flow.send(answer, descriptor)
        answers.clear()

    def _has_data(self, flow: EngineFlow, descriptor: int, event: int) -> bool:
        """Take note of what else happened to a flow; say whether it can be read."""
        if event & EPOLLOUT:
            flow.flush()
        elif not event & EPOLLIN:
            flow.lost(f"lost: {descriptors.pending_error(descriptor)}")
        return bool(event & EPOLLIN) and self.connections.by_descriptor[descriptor] is flow

    def _bury(self) -> None:
        self._burial = None
        end = self._reactor.seconds() + self._turn_seconds
        while self._doomed:
            self._doomed.popleft().reset()
            if self._reactor.seconds() >= end:
                break
        if self._doomed:
            self._burial = self._reactor.callLater(0, self._bury)
