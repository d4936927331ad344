"""Connections that come to the engine: accepted in batches, after a PROXY header where a load balancer sends one."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

from twisted.logger import Logger

from rollcall.net import descriptors
from rollcall.net.accepting import Entrance
from rollcall.net.config import ListenerConfig
from rollcall.net.engine import Engine
from rollcall.net.engine_flow import EngineFlow
from rollcall.net.flow import Address, Listener, PackedAddress, pack_address, unpack_address
from rollcall.net.proxy_protocol import ProxyError, ProxyHeader, ProxyHeaderReader

ACCEPT_COST = 1.0
"""Of what [limits] accepts_per_second counts."""

# ENOSPC: as many descriptors in epoll sets as fs.epoll.max_user_watches allows.
EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ENOSPC))


class EngineAccepting(Entrance):
    """One listener whose connections the engine serves."""

    _log = Logger()

    def __init__(self, config: ListenerConfig, listener: Listener, engine: Engine, listening: socket.socket) -> None:
        """`listening` becomes ours."""
        super().__init__(config, listener, engine.connections)
        self.engine = engine
        self._socket: Any = listening
        self._pause: Any = None

    def start(self) -> None:
        """Begin to accept. Raises OSError."""
        self.engine.enlist(self._socket.fileno())
        self.engine.watch(self._socket.fileno(), self._accept_some)

    def stopListening(self) -> None:
        """Accept no more, as Twisted's ports do; harmless twice."""
        if self._pause is not None:
            self._pause.cancel()
            self._pause = None
        elif self._socket.fileno() >= 0:
            self.engine.delist(self._socket.fileno())
        self._socket.close()

    def admit(self, descriptor: int, address: PackedAddress, local: PackedAddress | None = None) -> EngineFlow | None:
        """Return a new flow to `address`; None when too many connections came from there."""
        if not self.admits(address):
            return None
        flow = EngineFlow(self, address, local)
        self.engine.add(descriptor, flow)
        return flow

    def _accept_some(self, now: float) -> None:
        budget = self.connections.budget
        room = budget.room(ACCEPT_COST, now)
        most = self.engine.config.max_accepts_per_turn
        for _ in range(most if room is None else min(most, room)):
            try:
                if not self._accept():
                    return
                budget.spend(ACCEPT_COST)
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._rest(error)
                    return
                # The connection was gone before it was ours.
        if room is not None and room < most:
            self._put_off(budget.pause_seconds(ACCEPT_COST))
        else:
            self.engine.has_more = True

    def _accept(self) -> bool:
        """Accept one connection, or say that there is none. Raises OSError."""
        try:
            # What socket.accept() does, without its making an object.
            descriptor, address = self._socket._accept()
        except BlockingIOError:
            return False
        try:
            os.set_blocking(descriptor, False)
            self.engine.enlist(descriptor)
        except OSError:
            os.close(descriptor)
            raise
        if self._welcome(descriptor, *address[:2]):
            self.open += 1
        else:
            self.engine.delist(descriptor)
            os.close(descriptor)
        return True

    def _welcome(self, descriptor: int, host: str, port: int) -> bool:
        """Serve a connection, or say that it is refused."""
        if self.is_full(host):
            return False
        address = pack_address(host, port)
        if self.is_proxy(host):
            EnginePreface(self, descriptor, address).begin()
            return True
        return self.admit(descriptor, address) is not None

    def _rest(self, error: OSError) -> None:
        """Accept nothing for a while: the kernel goes on saying that somebody waits."""
        self.connections.tallies.accept_pauses += 1
        seconds = self.engine.config.accept_pause_seconds
        self._log.warn("{listener}: no connection is accepted for {seconds} s: {reason}", listener=self.listener.name,
                       seconds=seconds, reason=error.strerror, log_rationed=True)
        self._pause_for(seconds)

    def _put_off(self, seconds: float) -> None:
        """Let those who come now wait in the backlog until those before them are served."""
        self.connections.tallies.accepts_put_off += 1
        self._pause_for(seconds)

    def _pause_for(self, seconds: float) -> None:
        self.engine.delist(self._socket.fileno())
        self._pause = self.engine.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        try:
            self.start()
        except OSError as error:  # others took what the system has for epoll sets
            self._rest(error)


class EnginePreface:
    """Reads the PROXY header of a trusted load balancer, then makes way for the client's flow.

    Only then does the flow begin, so it never sees the load balancer's address.
    """

    _log = Logger()

    def __init__(self, accepting: EngineAccepting, descriptor: int, proxy: PackedAddress) -> None:
        self._accepting = accepting
        self._descriptor = descriptor
        self._proxy = proxy
        self._reader = ProxyHeaderReader()
        self._limit: Any = None

    def begin(self) -> None:
        """Wait for the header."""
        connections = self._accepting.connections
        connections.opening(self)
        self._accepting.engine.watch(self._descriptor, self._read)
        self._limit = connections.wheel.call_later(connections.limits.handshake_seconds, self._refuse, "no header came")

    def close(self, reason: str) -> None:
        """End the connection at once."""
        self._limit.cancel()
        engine = self._accepting.engine
        engine.delist(self._descriptor)
        descriptors.reset_at_close(self._descriptor)
        os.close(self._descriptor)
        self._accepting.open -= 1
        engine.connections.never_opened(self, reason)

    def __repr__(self) -> str:
        host, port = unpack_address(self._proxy)
        return f"<PROXY header from {host}:{port}>"

    def _read(self, now: float) -> None:
        try:
            data = os.read(self._descriptor, self._accepting.engine.read_bytes)
            result = self._reader.receive_data(data)
        except BlockingIOError:
            return
        except OSError as error:
            self.close(f"lost: {error.strerror}")
            return
        except ProxyError as error:
            self._refuse(str(error))
            return
        if result is not None:
            self._make_way(*result, now)
        elif not data:
            self.close("closed by the peer")

    def _make_way(self, header: ProxyHeader, rest: bytes, now: float) -> None:
        address = _packed(header.source) or self._proxy
        flow = self._accepting.admit(self._descriptor, address, _packed(header.destination))
        if flow is None:
            self.close("too many connections from its source")
            return
        self._accepting.connections.opened(self)
        self._limit.cancel()
        if rest:
            self._accepting.engine.take_first(rest, flow, self._descriptor, now)

    def _refuse(self, reason: str) -> None:
        self._log.warn("PROXY header of {proxy} refused: {reason}", proxy=unpack_address(self._proxy), reason=reason)
        self.close(reason)


def _packed(address: Address | None) -> PackedAddress | None:
    return pack_address(*address) if address is not None else None
