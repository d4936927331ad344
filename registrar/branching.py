"""One branch of a forked request: one phone, or one place, tried over one address or flow after another.

RFC 3261 §§16.7 to 16.10 (responses, timer C, errors, CANCEL), RFC 3263 §4.3 (the next address),
RFC 5626 §7 (the next flow of the same phone).
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.routing import ByUri, OverMember, ProxyConfig
from registrar.sending import Attempt, Forwarded, Sender, Undeliverable
from rollcall.net.flow import Flow
from rollcall.net.transactions import ClientTransaction, Transactions
from rollcall.net.wheel import Timer
from rollcall.ops.coroutines import start
from rollcall.sip.headers import parse_via
from rollcall.sip.message import Request, Response, response_to
from rollcall.sip.targets import Target
from rollcall.sip.transaction import cancellation


class Trunk(Protocol):
    """What a branch is one of: the response context of its request, see `registrar.forking.Fork`."""

    log: Logger
    request: Request
    forwarded: Forwarded
    sender: Sender
    transactions: Transactions
    config: ProxyConfig
    is_invite: bool
    tag: str

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call `function` in `seconds`."""

    def progressed(self, response: Response) -> None:
        """Hear of a 101 to 199."""

    def succeeded(self, branch: "Branch", response: Response) -> None:
        """Hear of a 2xx."""

    def failed(self, branch: "Branch", response: Response) -> None:
        """Hear of any other final response: the branch has ended."""

    def unreached(self, attempt: Attempt) -> None:
        """Hear that another node could not be spoken to."""


class Branch:
    """One target of a fork: a client transaction at a time, over one address or flow after another."""

    __slots__ = ("_attempts", "_client", "_fork", "_is_cancelled", "_is_over", "_rang", "_reasons", "_targets",
                 "_timer", "attempt", "was_lost", "was_superseded")

    def __init__(self, fork: Trunk, attempt: Attempt) -> None:
        self._fork = fork
        self._attempts = [attempt, *attempt.alternates]
        self.attempt = attempt
        self._targets: list[Target] = []
        self._client: ClientTransaction | None = None
        self._timer: Timer | None = None
        self._rang = False
        self._is_cancelled = False
        self._reasons: Sequence[str] = ()
        self._is_over = False
        self.was_superseded = False
        self.was_lost = False
        """Whether the phone's connection broke, or that of the node which has it."""

    @property
    def pending(self) -> bool:
        """Whether this branch has not ended yet."""
        return not self._is_over

    def start(self) -> None:
        """Try the first way, or the next one that is left."""
        self._forget_client()
        self.was_lost = False
        self.attempt = self._attempts.pop(0)
        hop = self.attempt.hop
        if isinstance(hop, ByUri):
            start(self._resolve(), self._broke)
        elif isinstance(hop, Flow):
            self._send(hop)
        elif isinstance(hop, OverMember):
            start(self._to_member(hop), self._broke)
        else:
            flow = self._fork.sender.held(hop)
            if flow is None:
                self._end_or_go_on(430)
            else:
                self._send(flow)

    def cancel(self, reasons: Sequence[str] = (), superseded: bool = False) -> None:
        """End this branch: CANCEL, with these Reasons, once the phone has answered at all (RFC 3261 §9.1)."""
        if self._is_over or self._is_cancelled:
            return
        self._is_cancelled = True
        self._reasons = reasons
        self.was_superseded = superseded
        self._attempts.clear()
        self._targets.clear()
        if self._client is None:
            self._end(487)
        elif self._rang:
            self._send_cancel()

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Take an answer of this branch (RFC 3261 §16.7 steps 2 to 5)."""
        response.remove_first_value("Via")
        if response.get("Via") is None:
            # §16.7 step 3: it "MUST NOT be forwarded". A phone that loses our caller's Via has not answered.
            if response.status >= 200 and not self._is_over:
                self._end(502)
        elif response.status < 200:
            self._provisional(response)
        elif response.status < 300:
            self._stop()
            self.hand_on(response)
        elif self._is_over:
            return
        elif response.status == 503 and self._targets:
            self._next_target()
        elif self._attempts and (response.status == 430 or (response.status == 503 and self._is_at_a_node())):
            self.start()
        else:
            self._stop()
            self.hand_on(response)

    def hand_on(self, response: Response) -> None:
        """Give an answer to the fork."""
        if response.status < 200:
            self._fork.progressed(response)
        elif response.status < 300:
            self._fork.succeeded(self, response)
        else:
            self._fork.failed(self, response)

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Go on with the next address or flow, or end as 408 or, for a broken transport, 503 (§§16.6, 16.9)."""
        if not self._is_over:
            self.was_lost = not timed_out and not isinstance(self.attempt.hop, ByUri)
            if self.was_lost:
                self._fork.unreached(self.attempt)
            self._end_or_go_on(408 if timed_out else 503)

    async def _to_member(self, hop: OverMember) -> None:
        try:
            flow = await self._fork.sender.member(hop)
        except Undeliverable as problem:
            self._fork.log.info("no way to {uri}: {problem}", uri=self.attempt.uri, problem=str(problem),
                                log_rationed=True)
            if not self._is_over:
                self._fork.unreached(self.attempt)
                self._end_or_go_on(430)
        else:
            if not self._is_over:
                self._send(flow)

    async def _resolve(self) -> None:
        try:
            self._targets = list(await self._fork.sender.targets(self._fork.forwarded, self.attempt))
        except Undeliverable as problem:
            self._fork.log.info("no way to {uri}: {problem}", uri=self.attempt.uri, problem=str(problem),
                                log_rationed=True)
        await self._connect()

    async def _connect(self) -> None:
        while self._targets and not self._is_over:
            target = self._targets.pop(0)
            try:
                flow = await self._fork.sender.connect(target)
            except Undeliverable as problem:
                self._fork.log.info("no flow to {target}: {problem}", target=target, problem=str(problem),
                                    log_rationed=True)
                continue
            if not self._is_over:
                self._send(flow)
            return
        if not self._is_over:
            self._end_or_go_on(503)

    def _is_at_a_node(self) -> bool:
        """Say whether it was sent to one of several that are as good, not to a phone."""
        return isinstance(self.attempt.hop, ByUri) and bool(self.attempt.hop.at)

    def _next_target(self) -> None:
        self._forget_client()
        start(self._connect(), self._broke)

    def _forget_client(self) -> None:
        """Nobody has been asked on the way that comes next: a CANCEL there has nothing to stop yet."""
        self._client = None
        self._rang = False

    def _broke(self, failure: Failure) -> None:
        self._fork.log.failure("a branch broke", failure=failure)
        if not self._is_over:
            self._end(500)

    def _send(self, flow: Flow) -> None:
        self._send_as(self._fork.forwarded, flow)

    def _send_as(self, forwarded: Forwarded, flow: Flow) -> None:
        if self._fork.is_invite:
            self._set_timer(self._fork.config.timer_c_seconds, self._timer_c)
        client = self._fork.sender.send(forwarded, self.attempt, flow, self)
        if client.pending:
            self._client = client

    def _end_or_go_on(self, status: int) -> None:
        if self._is_cancelled:
            self._end(487)
        elif self._targets:
            self._next_target()
        elif self._attempts:
            self.start()
        else:
            self._end(status)

    def _provisional(self, response: Response) -> None:
        if self._is_over:
            return
        if not self._rang:
            self._rang = True
            if self._is_cancelled:
                self._send_cancel()
        if response.status > 100 and self._fork.is_invite:
            if not self._is_cancelled:
                self._set_timer(self._fork.config.timer_c_seconds, self._timer_c)
            self.hand_on(response)

    def _timer_c(self) -> None:
        # RFC 3261 §16.8: CANCEL what rings, treat silence as 408. The caller, who cancelled nothing, gets no 487.
        if self._rang:
            self.cancel(superseded=True)
        else:
            self._give_up()

    def _set_timer(self, seconds: float, function: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._fork.later(seconds, function)

    def _send_cancel(self) -> None:
        client = self._client
        assert client is not None
        cancel = cancellation(client.request)
        cancel.set_values("Reason", self._reasons)
        branch = parse_via(cancel.first_value("Via") or "").branch or ""
        self._fork.transactions.send(cancel, branch, client.flow, SILENT)
        # §9.1: "if there is no final response … in 64*T1 seconds", the INVITE is considered cancelled.
        self._set_timer(64 * self._fork.transactions.config.t1_seconds, self._give_up)
        if not client.flow.is_open:
            self._give_up()

    def _give_up(self) -> None:
        if self._client is not None:
            self._client.abandon()
        self._end(487 if self._is_cancelled else 408)

    def _stop(self) -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, status: int) -> None:
        self._stop()
        self.hand_on(response_to(self._fork.request, status, to_tag=self._fork.tag))


class _Silent:
    """The user of a CANCEL: nobody cares what is said to it (RFC 3261 §9.1)."""

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Ignore the answer."""

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Ignore the silence."""


SILENT = _Silent()
