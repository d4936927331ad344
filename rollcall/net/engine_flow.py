"""The flow over a socket of our own: plain SIP on TCP without a Twisted transport or a socket object (RFC 3261 §18.3).

Idle phones are many, so that a flow is one small record: its descriptor lies in its id, and a framer or a buffer is
there only while something has begun that has not ended.
"""

from __future__ import annotations

import os
from select import EPOLLIN, EPOLLOUT
from typing import TYPE_CHECKING, Protocol

from rollcall.net import descriptors
from rollcall.net.connection import WRITE_ROOM_BYTES, Origin, State
from rollcall.net.connections import descriptor_of
from rollcall.net.flow import Address, Flow, PackedAddress
from rollcall.net.stream import StreamReading
from rollcall.sip.framing import FramingLimits, StreamFramer
from rollcall.sip.scanner import scan_register

if TYPE_CHECKING:
    from rollcall.net.engine import Engine
    from rollcall.sip.scanner import UsualRegister


# In the place of a framer: the flow is closing, and hears nothing more. It is never fed.
DEAF = StreamFramer(FramingLimits())


class EngineOrigin(Origin, Protocol):
    """A listener of the engine."""

    engine: Engine


class Unsent(bytearray):
    """What is still to be written, and what the epoll looks for meanwhile."""

    __slots__ = ("events",)

    def __init__(self) -> None:
        self.events = EPOLLIN


class EngineFlow(StreamReading):
    """A plain TCP flow. `framer` and `unsent` are None while nothing is begun and nothing is to be written."""

    __slots__ = ("framer", "unsent")

    _origin: EngineOrigin

    def __init__(self, origin: EngineOrigin, address: PackedAddress, local: PackedAddress | None = None) -> None:
        """See ConnectionFlow."""
        super().__init__(origin, address, local)
        self.framer: StreamFramer | None = None
        self.unsent: Unsent | None = None

    # The slot itself, under another name: it is asked for with every request.
    address = Flow.__dict__["_peer"]

    def has_unread(self) -> bool:
        """See Flow."""
        return self._state is not State.CLOSED and descriptors.unread_bytes(descriptor_of(self.id)) > 0

    # --- what the engine says

    def begin(self) -> None:
        """Messages can flow from now on."""
        self._ready()

    def receive(self, data: bytes, register: UsualRegister | None, now: float) -> None:
        """Take what came, whatever it is; `register` is at its beginning. All answers to it leave in one write."""
        if not data:
            self.lost("closed by the peer")
            return
        if self._state is not State.OPEN:
            return
        if self.unsent is not None:
            self._take_each(data, register, now)
            return
        self.unsent = Unsent()
        try:
            self._take_each(data, register, now)
        finally:
            self.flush()

    def send(self, data: bytes, descriptor: int) -> None:
        """Write what the kernel takes at once, and the rest when it can."""
        if self.unsent is not None:
            self.unsent += data
            if len(self.unsent) > WRITE_ROOM_BYTES:
                self._crowded()
            return
        try:
            sent = os.write(descriptor, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            if self._state is State.OPEN:
                self._abort(f"lost: {error.strerror}")
            return
        if sent < len(data):
            self.unsent = Unsent()
            self.unsent += data[sent:]
            self._look_for(self.unsent)

    def flush(self) -> None:
        """Write what waits, as far as the kernel takes it."""
        unsent = self.unsent
        if unsent is None:  # closed, meanwhile
            return
        try:
            if unsent:
                del unsent[: os.write(descriptor_of(self.id), unsent)]
        except BlockingIOError:
            pass
        except OSError as error:
            self._abort(f"lost: {error.strerror}")
            return
        self._look_for(unsent)
        if not unsent:
            self.unsent = None
            if self._state is State.CLOSING:
                descriptors.end_writing(descriptor_of(self.id))

    def lost(self, reason: str) -> None:
        """The connection is gone."""
        if self._state is not State.CLOSED:
            self.unsent = None
            self._origin.engine.delist(descriptor_of(self.id))
            os.close(descriptor_of(self.id))
            self._gone(reason)

    def reset(self) -> None:
        """End the connection at once, unless it has ended."""
        if self._state is not State.CLOSED:
            descriptors.reset_at_close(descriptor_of(self.id))
            self.lost(self._reason)

    # --- see ConnectionFlow

    def _send(self, data: bytes) -> None:
        self.send(data, descriptor_of(self.id))

    def _cut(self) -> None:
        self.framer = DEAF
        self.unsent = None
        self._origin.engine.doom(self)

    def _finish(self) -> None:
        self.framer = DEAF
        if self.unsent is None:
            descriptors.end_writing(descriptor_of(self.id))
        else:
            self._look_for(self.unsent)

    def _here(self) -> Address:
        return ("", 0) if self._state is State.CLOSED else descriptors.own_address(descriptor_of(self.id))

    # --- details

    def _take_each(self, data: bytes, register: UsualRegister | None, now: float) -> None:
        """Take what came: usual REGISTERs as far as they go, the rest with a framer."""
        connections = self._origin.connections
        place = 0
        while register is not None and register.has_length:
            answer = connections.short_way(register, self, now)
            if answer is None:
                connections.hand_over(data[place : register.end], self)
            elif answer and self._state is State.OPEN:
                self._send(answer)
            place = register.end
            if place == len(data) or self._state is not State.OPEN:
                return
            register = scan_register(data, place)
        self._read(data[place:] if place else data)

    def _crowded(self) -> None:
        """Let no more wait than may; what waits may also do so for the end of what is being received."""
        self.flush()
        unsent = self.unsent
        if unsent is None or len(unsent) <= WRITE_ROOM_BYTES:
            return
        connections = self._origin.connections
        if len(unsent) > WRITE_ROOM_BYTES + connections.limits.max_write_buffer_bytes:
            connections.tallies.slow_readers_closed += 1
            self._abort("the peer does not read what we write")

    def _look_for(self, unsent: Unsent) -> None:
        """Have the epoll look for what matters now: while the peer does not read, we do not read from it either."""
        if not unsent:
            events = EPOLLIN
        elif self._state is not State.OPEN:
            events = EPOLLIN | EPOLLOUT
        elif len(unsent) > WRITE_ROOM_BYTES or unsent.events == EPOLLOUT:
            events = EPOLLOUT
        else:
            events = EPOLLIN | EPOLLOUT
        if events != unsent.events:
            unsent.events = events
            self._origin.engine.look_for(descriptor_of(self.id), events)
