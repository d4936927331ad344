"""A transaction layer on a clock that tests move, and users that write down what they hear."""

from itertools import count

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.flow import Flow
from rollcall.net.transactions import ClientTransaction, ServerTransaction, Transactions
from rollcall.net.wheel import TimerWheel
from rollcall.sip.forwarding import stamp_source
from rollcall.sip.message import Request, Response, check_request, parse_message
from rollcall.sip.transaction import TransactionConfig
from tests.flows import MemoryFlow, a_flow, an_answer

# A binary fraction: however often it is added, the clock stands at exactly the moments that tests expect.
STEP_SECONDS = 0.0625

# What is left of transactions, timers and delayed calls when all is over.
NOTHING = (0, 0, 0)


class RecordingUser:
    """A TransactionUser that keeps the requests and ACKs it is given and answers nothing by itself."""

    def __init__(self) -> None:
        self.received: list[ServerTransaction] = []
        self.acks: list[tuple[Request, Flow]] = []

    def request_received(self, request: Request, transaction: ServerTransaction) -> None:
        """Keep the transaction of a new request."""
        assert transaction.request is request
        self.received.append(transaction)

    def ack_received(self, request: Request, flow: Flow) -> None:
        """Keep an ACK and where it came from."""
        self.acks.append((request, flow))


class RecordingClient:
    """A ClientUser that keeps the status of each response and how the request failed."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.failures: list[str] = []

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Keep the status."""
        self.statuses.append(response.status)

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Keep why."""
        self.failures.append("time-out" if timed_out else "broken flow")


class Layer:
    """Transactions over memory flows. `user` may be exchanged for a real one."""

    def __init__(self, config: TransactionConfig | None = None, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.wheel = TimerWheel(self.clock, tick_seconds=STEP_SECONDS)
        self.answered: list[tuple[str, int]] = []
        self.user = RecordingUser()
        tags = count(1)
        self.transactions = Transactions(
            self.wheel, config or TransactionConfig(), lambda: f"ours{next(tags)}", self._observe
        )
        self.transactions.user = self.user

    def _observe(self, transaction: ServerTransaction, response: Response) -> None:
        self.answered.append((transaction.request.method, response.status))

    def arrive(self, request: Request, flow: MemoryFlow) -> ServerTransaction | None:
        """Let `request` come over `flow`, byte for byte; return the transaction that it began, if it did."""
        before = len(self.user.received)
        received = parse_message(request.serialise())
        assert isinstance(received, Request)
        via = check_request(received)
        stamp_source(received, via, *flow.peer)
        self.transactions.request_received(received, flow, via)
        begun = self.user.received[before:]
        return begun[0] if begun else None

    def begin(self, request: Request, flow: MemoryFlow) -> ServerTransaction:
        """Let `request` come, which has to be a new one."""
        transaction = self.arrive(request, flow)
        assert transaction is not None
        return transaction

    def answer(self, response: Response, flow: MemoryFlow) -> None:
        """Let `response` come over `flow`, byte for byte."""
        received = parse_message(response.serialise())
        assert isinstance(received, Response)
        self.transactions.response_received(received, flow)

    def wait(self, seconds: float) -> None:
        """Let time pass in small steps, as it does."""
        for _ in range(round(seconds / STEP_SECONDS)):
            self.clock.advance(STEP_SECONDS)

    def lose(self, flow: MemoryFlow) -> None:
        """Break `flow`, as the reactor would report it."""
        flow.close("lost")
        self.transactions.flow_closed(flow)

    def moments(self, flow: MemoryFlow, seconds: float) -> list[float]:
        """Let time pass and return when messages were written to `flow`, counted from now."""
        start = self.clock.seconds()
        found: list[float] = [0.0] * len(flow.written)
        flow.written.clear()
        for _ in range(round(seconds / STEP_SECONDS)):
            self.clock.advance(STEP_SECONDS)
            found += [self.clock.seconds() - start] * len(flow.written)
            flow.written.clear()
        return found

    def left(self) -> tuple[int, int, int]:
        """Return how many transactions, timers and delayed calls of the reactor there still are."""
        return len(self.transactions), len(self.wheel), len(self.clock.getDelayedCalls())


class LayerCase(SynchronousTestCase):
    """A layer with a phone on a datagram flow and another on a connection."""

    def setUp(self) -> None:
        self.layer = Layer()
        self.phone = a_flow("UDP")
        self.tcp_phone = a_flow("TCP")

    def assert_released(self) -> None:
        """Say that neither a transaction nor a timer is left."""
        self.assertEqual(self.layer.left(), NOTHING)
        self.assertEqual((self.phone.holds, self.tcp_phone.holds), (0, 0))

    def answer_to(self, server: ServerTransaction, status: int) -> None:
        """Have the user of `server` forward an answer of `status`."""
        server.respond(an_answer(server.request, status))
