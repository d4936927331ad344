"""Workers in memory, joined through a hub by links that have no length: real stores, transactions and flows.

    workers = Workers(clock)
    one, two = workers.start(1), workers.start(2)
    workers.deliver()
"""

from collections import deque
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from registrar.location.held import HeldLocation, HoldingConfig
from registrar.location.memory import MemoryLocation
from registrar.workers.hub import Hub, Watching
from registrar.workers.member import Membership
from registrar.workers.messages import Member
from registrar.workers.receiving import Receiving
from rollcall.net.flow import Flow, FlowUser
from rollcall.net.transports import Transports
from rollcall.ops.api import Routes
from tests.flows import MemoryFlow, a_flow
from tests.layers import Layer
from tests.registrar.network import MemoryTransports

MOST_WAITING = 1_000_000


class Wire(StringTransport):
    """One end of a link: what is written comes out at the other end when the test delivers."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: deque[bytes] = deque()
        self.aborted = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        self.waiting.append(data)

    def abortConnection(self) -> None:
        """Note it."""
        self.aborted = True


class User:
    """A FlowUser that writes down what it hears."""

    def __init__(self) -> None:
        self.received: list[tuple[bytes, Flow]] = []
        self.closed: list[Flow] = []
        self.short: list[object] = []

    def message_received(self, data: bytes, flow: Flow) -> None:
        """Keep a message."""
        self.received.append((data, flow))

    def short_way(self, register: Any, flow: Flow, now: float) -> bytes | None:
        """Answer."""
        return b"short"

    def datagram_short_way(self, register: Any, listener: Any, address: bytes, now: float) -> bytes | None:
        """Answer."""
        return b"short"

    def framing_failed(self, error: Any, flow: Flow) -> None:
        """Keep nothing."""

    def flow_closed(self, flow: Flow, reason: str) -> None:
        """Keep the flow."""
        self.closed.append(flow)


class WorkerInMemory:
    """One worker in one life."""

    def __init__(self, workers: "Workers", index: int, epoch: int) -> None:
        self.layer = Layer()
        self.layer.clock = workers.clock
        self.transports = MemoryTransports()
        self.user = User()
        self.drained = 0
        self.is_alone = False
        self.routes = Routes()
        self.membership = Membership(workers.clock, Member(index, f"n-{index}", epoch), MOST_WAITING,
                                                       self.lost)
        siblings = self.siblings = self.membership.siblings
        self.location = HeldLocation(
            MemoryLocation(self.layer.wheel, workers.clock.seconds), self.membership, f"n-{index}", self.layer.wheel,
            workers.clock.seconds, HoldingConfig(), siblings.release)
        siblings.serve(cast(Transports, self.transports), self.layer.transactions, cast(FlowUser, self.user),
                       self.location)
        self.membership.serve(self.location, self.routes, self.drain)
        self.receiving = Receiving(cast(FlowUser, self.user), siblings)
        self.wire, self.far_wire = Wire(), Wire()
        self.far_link = workers.hub.join(index, MOST_WAITING)
        self.far_link.makeConnection(self.far_wire)
        self.membership.link.makeConnection(self.wire)
        self.membership.hello()

    def lost(self) -> None:
        """Hear that the supervisor is gone."""
        self.is_alone = True

    def drain(self) -> None:
        """Hear that this worker shall end."""
        self.drained += 1

    def phone(self, transport: str = "TCP", port: int = 49152) -> MemoryFlow:
        """Return a connection of this worker."""
        flow = a_flow(transport, "192.0.2.20", port)
        self.transports.flows[flow.id] = flow
        return flow

    def lose(self, flow: MemoryFlow) -> None:
        """Let a connection end."""
        flow.close("lost")
        self.receiving.flow_closed(flow, "lost")


class Workers:
    """A hub with workers."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.changed: list[int] = []
        self.overflowed: list[int] = []
        self.hub = Hub(clock, Watching(self.changed.append, self.overflowed.append), 5.0)
        self.living: dict[int, WorkerInMemory] = {}
        self._epoch = 0

    def start(self, index: int) -> WorkerInMemory:
        """Return a new worker, in its first life or the next one."""
        self._epoch += 1
        worker = self.living[index] = WorkerInMemory(self, index, self._epoch)
        self.deliver()
        return worker

    def end(self, index: int) -> None:
        """Let a worker end."""
        del self.living[index]
        self.hub.leave(index)
        self.deliver()

    def deliver(self) -> None:
        """Let everything arrive that is said in this turn of the reactor, and what is said to that."""
        self.pass_on()
        self.clock.advance(0)
        self.pass_on()

    def pass_on(self) -> None:
        """Let arrive what is on the wires."""
        while any(worker.wire.waiting or worker.far_wire.waiting for worker in self.living.values()):
            for worker in list(self.living.values()):
                if worker.wire.waiting:
                    worker.far_link.dataReceived(worker.wire.waiting.popleft())
                if worker.far_wire.waiting:
                    worker.membership.link.dataReceived(worker.far_wire.waiting.popleft())
