"""An engine that a test drives turn by turn, and phones on loopback that speak to it."""

import socket
from collections.abc import Callable
from time import monotonic, sleep
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.coalescing import Coalescing
from rollcall.net.config import EngineConfig, KeepaliveConfig, LimitsConfig, ListenerConfig
from rollcall.net.connections import Connections, Tallies
from rollcall.net.engine import Engine
from rollcall.net.engine_accepting import EngineAccepting
from rollcall.net.flow import Flow, Listener
from rollcall.net.listening import bound_address, stream_socket
from rollcall.net.wheel import TimerWheel
from tests.rollcall.net.fakes import OPTIONS
from tests.rollcall.net.phones import Phone, QuickUser
from tests.rollcall.net.test_coalescing import Watching

WAKING = EngineConfig(coalesce_ms=0)
TICK = 0.0021
TICKING = EngineConfig(coalesce_ms=2, max_events_per_turn=2)


class EngineTestCase(SynchronousTestCase):
    """An engine whose turns are taken one by one, with a clock that stands still, and phones on loopback."""

    send_buffer_bytes = 0
    """The kernel's, for what we write to a phone; 0 for as much as it likes."""

    def setUp(self) -> None:
        self.start()
        self.addCleanup(self.end)

    def restart(self, config: EngineConfig = WAKING, limits: LimitsConfig | None = None, **settings: Any) -> None:
        """Begin anew with other settings."""
        self.end()
        self.start(config, limits, **settings)

    def start(self, config: EngineConfig = WAKING, limits: LimitsConfig | None = None, **settings: Any) -> None:
        self.reactor = Watching()
        self.user = QuickUser()
        self.tallies = Tallies()
        self.wheel = TimerWheel(self.reactor)
        self.connections = Connections(self.wheel, self.user, limits or LimitsConfig(), self.tallies)
        self.engine = Engine(self.reactor, self.connections, config)
        self.engine.start()
        self.accepting = self.listen(**settings)

    def listen(self, **settings: Any) -> EngineAccepting:
        config = ListenerConfig(name="main", transport="tcp", host="127.0.0.1", port=0, **settings)
        opened = stream_socket(config, KeepaliveConfig())
        if self.send_buffer_bytes:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.send_buffer_bytes)
        self.address = bound_address(opened)
        listener = Listener(name="main", transport="TCP", host="sip.example.com", port=5060, local=self.address)
        accepting = EngineAccepting(config, listener, self.engine, opened)
        accepting.start()
        return accepting

    def end(self) -> None:
        self.accepting.stopListening()
        closing = self.connections.close_all("the test is over")
        self.reactor.advance(60)
        self.successResultOf(closing)
        self.engine.stop()

    def turn(self) -> None:
        """Take one turn: woken up, or by the clock when it is that which the engine waits for."""
        if not self.reactor.readers:
            self.reactor.advance(TICK)
            return
        (reader,) = self.reactor.readers
        assert isinstance(reader, Coalescing)
        self.assertIsNone(reader.doRead())

    def until(self, condition: Callable[[], object]) -> None:
        """Take turns until something is so: loopback may take a moment."""
        end = monotonic() + 10
        while not condition():
            self.assertLess(monotonic(), end)
            sleep(0.0001)
            self.turn()

    def phone(self, **settings: Any) -> Phone:
        phone = Phone(self.address, **settings)
        self.addCleanup(phone.socket.close)
        return phone

    def phones(self, count: int) -> list[tuple[Phone, Flow]]:
        """Connect phones whose flows are known and quiet."""
        found = []
        for _ in range(count):
            phone = self.phone()
            phone.send(OPTIONS)
            self.until(lambda: self.user.messages)
            found.append((phone, self.user.messages.pop()[1]))
        return found

    def ready(self, *phones: Phone) -> None:
        """Wait until what was sent to the phones' flows, and by them, is at its other end."""
        sleep(0.01)
