"""Transactions over flows: matches messages to the machines of RFC 3261 §17 and does what those say.

Two tables, one of server and one of client transactions, keyed as §17.2.3 and §17.1.3
say. Timers come from one wheel. What a transaction is for is its user's business.
"""

from collections.abc import Callable, Hashable
from typing import Protocol

from twisted.logger import Logger

from rollcall.net.answers import Answers
from rollcall.net.flow import Flow, FlowClosed
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import MAGIC_COOKIE
from rollcall.sip.headers import CSeq, Via, parse_cseq, parse_name_addr, parse_via
from rollcall.sip.message import Request, Response, response_to
from rollcall.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Event,
    State,
    Table,
    TransactionConfig,
    acknowledge,
    cancellation,
    event_for,
    keeps_timers,
    timer_seconds,
)


class TransactionUser(Protocol):
    """Who decides what becomes of requests. Nothing it does may raise into the transport."""

    def request_received(self, request: Request, transaction: "ServerTransaction") -> None:
        """Answer `request`, now or later, through `transaction`; retransmissions never come here."""

    def ack_received(self, request: Request, flow: Flow) -> None:
        """Take an ACK that belongs to no refused INVITE: the one of a 2xx, which travels end to end."""


class ClientUser(Protocol):
    """Who waits for the answers to a request that left."""

    def response_received(self, response: Response, transaction: "ClientTransaction") -> None:
        """Take a response, its topmost Via still ours; 2xx to an INVITE may come several times."""

    def request_failed(self, transaction: "ClientTransaction", timed_out: bool) -> None:
        """Learn that nobody answered in time, or that the flow broke. Comes once at most, and never after the end."""


class Transaction:
    """A machine on a flow: its table, its state, its running timers."""

    __slots__ = ("_layer", "_sent", "_table", "_timers", "_wire", "flow", "key", "request", "state")

    def __init__(
        self, layer: "Transactions", table: Table, state: State, key: Hashable, request: Request, flow: Flow
    ) -> None:
        self._layer = layer
        self._table = table
        self.state = state
        self.key = key
        self.request = request
        self.flow = flow
        self._timers: dict[Event, Timer] | None = None
        self._wire = b""
        self._sent = 0

    def fire(self, event: Event, message: Request | Response | None = None) -> None:
        """Take one step; a pair that the table lacks is no step (RFC 3261 §17)."""
        step = self._table.get((self.state, event))
        if step is None:
            return
        actions, state = step
        old, self.state = self.state, state
        if self._timers is not None and not keeps_timers(old, state):
            self._stop_timers()
        for action in actions:
            self._do(action, message)
            if self.state is not state:
                break
        if self.state is State.TERMINATED and old is not State.TERMINATED:
            self._end()

    def abandon(self) -> None:
        """Forget the request without a word to anybody (RFC 3261 §9.1, RFC 4320 §4.2)."""
        self.state = State.TERMINATED
        self._end()

    def _do(self, action: Action, message: Request | Response | None) -> None:
        if action is Action.SEND:
            assert message is not None
            self._wire = message.serialise()
            self._sent = 1
            self._write()
        elif action is Action.RESEND:
            if self._wire:
                self._write()
        elif isinstance(action.value, Event):
            self._start(action.value)
        else:
            self._tell(action, message)

    def _tell(self, action: Action, message: Request | Response | None) -> None:
        raise NotImplementedError

    def _write(self) -> None:
        try:
            self.flow.write(self._wire)
        except FlowClosed:
            self.fire(Event.TRANSPORT_ERROR)

    def _start(self, timer: Event) -> None:
        seconds = timer_seconds(timer, self._layer.config, self.flow.reliable, self._sent, self.state)
        if seconds is None:
            return
        if seconds == 0.0:
            self.fire(timer)
            return
        if self._timers is None:
            self._timers = {}
        self._timers[timer] = self._layer.wheel.call_later(seconds, self._timer_fired, timer)

    def _timer_fired(self, timer: Event) -> None:
        if self._timers is not None:
            self._timers.pop(timer, None)
        # Only what a timer sends again makes the pauses longer, not what a repeated request asks for (§17.2.1).
        self._sent += 1
        self.fire(timer)

    def _stop_timers(self) -> None:
        if self._timers:
            for timer in self._timers.values():
                timer.cancel()
        self._timers = None

    def _end(self) -> None:
        self._stop_timers()
        self._layer.forget(self)


class ServerTransaction(Transaction):
    """A request that came, and the responses it gets."""

    __slots__ = ("answered", "on_cancel", "received_at", "via")

    def __init__(self, layer: "Transactions", key: Hashable, request: Request, flow: Flow, via: Via) -> None:
        if request.method == "INVITE":
            super().__init__(layer, INVITE_SERVER, State.PROCEEDING, key, request, flow)
        else:
            super().__init__(layer, NON_INVITE_SERVER, State.TRYING, key, request, flow)
        self.via = via
        self.answered = 0
        self.on_cancel: Callable[[Request], None] | None = None
        self.received_at = layer.wheel.now()
        # Whoever waits for an answer needs the flow that it comes over.
        flow.holds += 1

    def cancel(self) -> None:
        """Do as if a CANCEL had come, when that still has an effect."""
        if self.on_cancel is not None:
            self.on_cancel(cancellation(self.request))

    def respond(self, response: Response) -> None:
        """Send `response`, or drop it when a final one has gone (but for more 2xx to an INVITE, RFC 6026)."""
        if response.status >= 200 and not self.answered:
            self.answered = response.status
            self.on_cancel = None
            self._layer.answered(self, response)
        self.fire(event_for(response.status), response)

    def refuse(self, status: int, reason: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Answer with our own response of `status`, tagged as ours (RFC 3261 §8.2.6)."""
        tag = None if status == 100 else self._layer.new_tag()
        self.respond(response_to(self.request, status, reason, to_tag=tag, headers=headers))

    def turn_away(self, status: int, reason: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Refuse once and forget the request; to whoever repeats it the answer is repeated.

        RFC 3261 §26.3.2.4: "challenge questionable requests with only a single 401 […] or 407 […], forgoing the normal
        response retransmission algorithm". Nobody who has proved nothing can have us send again and again to an
        address that he made up, or remember more of him than his answer.
        """
        is_first = not self._wire
        self.refuse(status, reason, headers)
        if is_first and self.state is State.COMPLETED:
            if not self.flow.reliable:
                self._layer.answers.put(self.key, self._wire)
            self.abandon()

    def _start(self, timer: Event) -> None:
        if timer is Event.TIMER_J and not self.flow.reliable:
            # The answers that the layer keeps absorb what comes until then.
            self._layer.answers.put(self.key, self._wire)
            self.fire(timer)
        else:
            super()._start(timer)

    def _tell(self, action: Action, message: Request | Response | None) -> None:
        if action is Action.PASS_UP:
            assert isinstance(message, Request)
            self._layer.user.ack_received(message, self.flow)


class ClientTransaction(Transaction):
    """A request that we sent on a flow, and who waits for its answers."""

    __slots__ = ("_user",)

    def __init__(self, layer: "Transactions", key: Hashable, request: Request, flow: Flow, user: ClientUser) -> None:
        if request.method == "INVITE":
            super().__init__(layer, INVITE_CLIENT, State.CALLING, key, request, flow)
        else:
            super().__init__(layer, NON_INVITE_CLIENT, State.TRYING, key, request, flow)
        self._user = user
        flow.holds += 1

    @property
    def pending(self) -> bool:
        """Whether a final response may still come."""
        return self.state in (State.CALLING, State.TRYING, State.PROCEEDING)

    def fail(self) -> None:
        """End as after a transport error, a request that has a provisional answer too."""
        self.abandon()
        self._user.request_failed(self, timed_out=False)

    def _tell(self, action: Action, message: Request | Response | None) -> None:
        if action is Action.PASS_UP:
            assert isinstance(message, Response)
            self._user.response_received(message, self)
        elif action is Action.SEND_ACK:
            assert isinstance(message, Response)
            self._acknowledge(message)
        elif action is Action.REPORT_TIMEOUT:
            self._user.request_failed(self, timed_out=True)
        elif action is Action.REPORT_ERROR:
            self._user.request_failed(self, timed_out=False)

    def _acknowledge(self, response: Response) -> None:
        try:
            self.flow.write(acknowledge(self.request, response).serialise())
        except FlowClosed:
            self._layer.log.debug("no flow left for the ACK of {status}", status=response.status)


class Transactions:
    """All transactions of this process.

    `observe` is told the first final answer to each request, and the transaction it ends; it must be cheap.
    """

    log = Logger()

    def __init__(
        self,
        wheel: TimerWheel,
        config: TransactionConfig,
        new_tag: Callable[[], str],
        observe: Callable[[ServerTransaction, Response], None],
    ) -> None:
        self.wheel = wheel
        self.config = config
        self.new_tag = new_tag
        self.answered = observe
        self.user: TransactionUser
        # Takes a response to a request that is not ours, by its branch, or says that it does not.
        self.hand_over: Callable[[str, Response, Flow], bool] = lambda branch, response, flow: False
        self.answers = Answers(wheel, 64 * config.t1_seconds, config.max_answers)
        self._servers: dict[Hashable, ServerTransaction] = {}
        self._clients: dict[Hashable, ClientTransaction] = {}

    def __len__(self) -> int:
        return len(self._servers) + len(self._clients)

    @property
    def unfinished(self) -> int:
        """How many requests, received and sent, have no final answer yet."""
        received = sum(not transaction.answered for transaction in self._servers.values())
        return received + sum(transaction.pending for transaction in self._clients.values())

    @property
    def waited_on(self) -> set[Flow]:
        """The flows of requests, received and sent, that have no final answer yet."""
        received = {transaction.flow for transaction in self._servers.values() if not transaction.answered}
        return received | {transaction.flow for transaction in self._clients.values() if transaction.pending}

    def request_received(self, request: Request, flow: Flow, via: Via) -> None:
        """Match a checked `request` whose topmost Via is `via`, or begin a transaction (RFC 3261 §17.2.3)."""
        method = request.method
        if method == "ACK":
            key = _server_key(request, via, "INVITE")
            known = self._servers.get(key)
            if known is not None:
                known.fire(Event.ACK, request)
            elif flow.reliable or self.answers.get(key) is None:
                self.user.ack_received(request, flow)
            return
        key = _server_key(request, via, method)
        known = self._servers.get(key)
        if known is not None:
            known.fire(Event.REQUEST)
            return
        if not flow.reliable and (answer := self.answers.get(key)) is not None:
            self._repeat(answer, flow)
            return
        transaction = ServerTransaction(self, key, request, flow, via)
        self._servers[key] = transaction
        self.user.request_received(request, transaction)

    def _repeat(self, answer: bytes, flow: Flow) -> None:
        try:
            flow.write(answer)
        except FlowClosed as problem:
            self.log.debug("no way to repeat an answer to {peer}: {problem}", peer=flow.peer, problem=str(problem))

    def knows(self, key: str) -> bool:
        """Say whether the request that `key` names is being answered, or has an answer that is remembered."""
        return key in self._servers or self.answers.get(key) is not None

    def has_begun(self, request: Request, via: Via) -> bool:
        """Say whether `request` belongs to a transaction that is here, or repeats what was answered."""
        method = request.method
        keys = [_server_key(request, via, "INVITE" if method in ("ACK", "CANCEL") else method)]
        if method == "CANCEL":
            keys.append(_server_key(request, via, method))
        return any(key in self._servers or self.answers.get(key) is not None for key in keys)

    def cancelled_by(self, cancel: Request, via: Via) -> ServerTransaction | None:
        """Return the INVITE transaction that `cancel` means (RFC 3261 §9.2), if it is here."""
        return self._servers.get(_server_key(cancel, via, "INVITE"))

    def response_received(self, response: Response, flow: Flow) -> None:
        """Hand `response` to its transaction; one that matches none is dropped (RFC 6026 §7.3)."""
        try:
            via = parse_via(response.first_value("Via") or "")
            method = parse_cseq(response.get("CSeq") or "").method
        except ParseError as problem:
            self.log.debug("dropped a response from {peer}: {problem}", peer=flow.peer, problem=str(problem))
            return
        client = self._clients.get((via.branch, method))
        if client is None:
            if via.branch is not None and self.hand_over(via.branch, response, flow):
                return
            self.log.debug("dropped a stray {status} from {peer}", status=response.status, peer=flow.peer)
            return
        client.fire(event_for(response.status), response)

    def send(self, request: Request, branch: str, flow: Flow, user: ClientUser) -> ClientTransaction:
        """Send `request`, whose topmost Via has our `branch`; `user` hears of every answer or of its absence."""
        client = ClientTransaction(self, (branch, request.method), request, flow, user)
        self._clients[client.key] = client
        client.fire(Event.REQUEST, request)
        return client

    def flow_closed(self, flow: Flow) -> None:
        """Fail the requests that wait for an answer on `flow` (RFC 3261 §17.1.4).

        A ringing phone is waited for: it may answer over a new connection (§18.2.2). Another node of ours that is gone
        never will: what rings through it fails, and what it had us ring is cancelled.
        """
        if not flow.holds:
            return
        for client in [client for client in self._clients.values() if client.flow is flow and client.pending]:
            client.fire(Event.TRANSPORT_ERROR)
            if flow.member and client.pending:
                client.fail()
        if flow.member:
            for server in [server for server in self._servers.values() if server.flow is flow and server.on_cancel]:
                server.cancel()

    def forget(self, transaction: Transaction) -> None:
        """Drop a terminated transaction."""
        table = self._servers if isinstance(transaction, ServerTransaction) else self._clients
        if table.pop(transaction.key, None) is not None:
            transaction.flow.holds -= 1


def transaction_key(branch: str, sent_by: str, method: str) -> str:
    """Return what names a server transaction of RFC 3261; the scanner makes the same of a usual request."""
    return f"{branch} {sent_by.lower()} {method}"


def _server_key(request: Request, via: Via, method: str) -> Hashable:
    branch = via.branch
    if branch is not None and branch.startswith(MAGIC_COOKIE) and branch != MAGIC_COOKIE:
        return transaction_key(branch, via.sent_by, method)
    # RFC 2543 clients, and those that write the cookie and nothing after it (RFC 4475 §3.2.1): §17.2.3 compares these
    # fields instead.
    cseq: CSeq = parse_cseq(request.get("CSeq") or "")
    sender = parse_name_addr(request.get("From") or "").tag
    return request.uri, sender, request.get("Call-ID"), cseq.number, str(via), method
