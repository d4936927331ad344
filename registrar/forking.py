"""The response context of one forwarded request: its branches, their answers, the one that goes back.

RFC 3261 §§16.7 to 16.10 (responses, timer C, errors, CANCEL), RFC 3263 §4.3 (the next address),
RFC 5626 §7 (the next flow of the same phone), RFC 4320 §4 (no 408 to anything but INVITE).

When nobody is left but phones whose flows were lost, the request may wait for them to come back.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import evolve
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.routing import ByUri, OverMember, ProxyConfig, best_response, merge_challenges, within_breadth
from registrar.sending import Attempt, Forwarded, Sender, Undeliverable
from rollcall.net.flow import Flow
from rollcall.net.transactions import ClientTransaction, ServerTransaction, Transactions
from rollcall.net.wheel import Timer
from rollcall.ops.coroutines import start
from rollcall.sip.headers import parse_via
from rollcall.sip.message import Request, Response, response_to
from rollcall.sip.targets import Target
from rollcall.sip.transaction import cancellation, seconds_until_t2


class Branch:
    """One target of a fork: a client transaction at a time, over one address or flow after another."""

    __slots__ = ("_attempts", "_client", "_fork", "_is_cancelled", "_is_over", "_rang", "_reasons", "_targets",
                 "_timer", "attempt", "was_lost", "was_superseded")

    def __init__(self, fork: "Fork", attempt: Attempt) -> None:
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
            self._fork.succeeded(self, response)
        elif self._is_over:
            return
        elif response.status == 503 and self._targets:
            self._next_target()
        elif response.status == 430 and self._attempts:
            self.start()
        else:
            self._stop()
            self._fork.failed(self, response)

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Go on with the next address or flow, or end as 408 or, for a broken transport, 503 (§§16.6, 16.9)."""
        if not self._is_over:
            self.was_lost = not timed_out and not isinstance(self.attempt.hop, ByUri)
            self._end_or_go_on(408 if timed_out else 503)

    async def _to_member(self, hop: OverMember) -> None:
        try:
            flow = await self._fork.sender.member(hop)
        except Undeliverable as problem:
            self._fork.log.info("no way to {uri}: {problem}", uri=self.attempt.uri, problem=str(problem),
                                log_rationed=True)
            if not self._is_over:
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
        if self._fork.is_invite:
            self._set_timer(self._fork.config.timer_c_seconds, self._timer_c)
        client = self._fork.sender.send(self._fork.forwarded, self.attempt, flow, self)
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
            self._fork.progressed(response)

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
        self._fork.failed(self, response_to(self._fork.request, status, to_tag=self._fork.tag))


class _Silent:
    """The user of a CANCEL: nobody cares what is said to it (RFC 3261 §9.1)."""

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Ignore the answer."""

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Ignore the silence."""


SILENT = _Silent()

# RFC 3326 §3.1: or else the phones that rang in vain show a missed call.
ELSEWHERE = ('SIP;cause=200;text="Call completed elsewhere"',)


Groups = list[list[Attempt]]


class Return(Protocol):
    """The phones that a request is for, and whether those that were lost are worth waiting for."""

    def wait(self, found: Callable[[Groups], None]) -> bool:
        """Call `found` once, later: with ways that were not known before, or with none when the time is over.

        False: there is nothing to wait for, and `found` is never called.
        """

    def stop(self) -> None:
        """Wait no more; `found` is not called."""


class Fork:
    """A request on its way to one or many targets, and the server transaction that waits for the outcome."""

    log = Logger()

    def __init__(self, server: ServerTransaction, forwarded: Forwarded, groups: Groups, sender: Sender,
                 transactions: Transactions, config: ProxyConfig, on_end: Callable[["Fork", int], None],
                 returning: Return | None = None) -> None:
        """Without `groups` the fork begins with waiting for those who are `returning`."""
        self.server = server
        self.forwarded = forwarded
        self.request = forwarded.request
        self.sender = sender
        self.transactions = transactions
        self.config = config
        self.is_invite = forwarded.request.method == "INVITE"
        self.tag = transactions.new_tag()
        self._groups = groups
        self._branches: list[Branch] = []
        self._responses: list[Response] = []
        self._ring_timer: Timer | None = None
        self._trying_timer: Timer | None = None
        self._on_end = on_end
        self._returning = returning
        self._is_waiting = False
        self._is_done = False

    def start(self) -> None:
        """Ring the first group. From now on a CANCEL of the caller ends everything."""
        if self.is_invite:
            self.server.refuse(100)
            self.server.on_cancel = self.cancel
        else:
            # RFC 4320 §4.1: no 100 before the caller has slowed down to T2, and one from then on.
            waited = self.transactions.wheel.now() - self.server.received_at
            patience = seconds_until_t2(self.transactions.config)
            self._trying_timer = self.later(patience - waited, lambda: self.server.refuse(100))
        if self._groups:
            self._next_group()
        elif not self._waits():
            self._answer(480)

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call `function` in `seconds` on the wheel of all transactions."""
        return self.transactions.wheel.call_later(seconds, function)

    def cancel(self, cancel: Request) -> None:
        """Do as the caller's `cancel` asks, for the reason that it gives (RFC 3261 §16.10, RFC 3326 §2)."""
        if self._is_waiting and self._returning is not None:
            self._is_waiting = False
            self._returning.stop()
            self._answer(487)
        self._stop_ringing_others(cancel.get_all("Reason"))

    def progressed(self, response: Response) -> None:
        """Pass a 101 to 199 on at once (RFC 3261 §16.7 step 5)."""
        if not self._is_done:
            self.server.respond(response)

    def succeeded(self, branch: Branch, response: Response) -> None:
        """Pass a 2xx on at once, every one of an INVITE, and stop the other phones."""
        first, self._is_done = not self._is_done, True
        if first or self.is_invite:
            self.server.respond(response)
        if first:
            self._stop_ringing_others(ELSEWHERE)
            self._end(response.status)

    def failed(self, branch: Branch, response: Response) -> None:
        """Keep a refusal; when nobody is left, ring the next group or answer the best (§16.7 steps 4 to 6)."""
        branch.was_lost |= response.status == 430
        if not (branch.was_superseded and response.status == 487):
            self._responses.append(response)
        if response.status >= 600:
            self._stop_ringing_others([f'SIP;cause={response.status}'])
        if self._is_done or any(other.pending for other in self._branches):
            return
        if self._groups:
            self._next_group()
        elif not (self._were_lost() and (self._passes_back() or self._waits())):
            self._answer_best()

    def _waits(self) -> bool:
        """Begin to wait for phones to come back, if that is worth it."""
        self._is_waiting = self._returning is not None and self._returning.wait(self._found)
        return self._is_waiting

    def _were_lost(self) -> bool:
        """Say whether all has failed because flows were lost, and for no other reason."""
        return all(branch.was_lost for branch in self._branches)

    def _passes_back(self) -> bool:
        """Tell another node that the flow it sent us to is gone: it knows better where the phone is now."""
        if self.forwarded.source.member:
            self._answer(430)
        return bool(self.forwarded.source.member)

    def _found(self, groups: Groups) -> None:
        self._is_waiting = False
        if groups:
            # However many they are, no more copies go out at a time than before.
            self._groups, breadth = within_breadth(groups, self.forwarded.breadth)
            self.forwarded = evolve(self.forwarded, breadth=breadth)
            self._next_group()
        else:
            self._answer(480)

    def _next_group(self) -> None:
        if self._ring_timer is not None:
            self._ring_timer.cancel()
        group = [Branch(self, attempt) for attempt in self._groups.pop(0)]
        self._branches += group
        if self._groups and self.is_invite:
            self._ring_timer = self.later(self.config.ring_seconds, self._rang_out)
        for branch in group:
            if branch.pending:
                branch.start()

    def _rang_out(self) -> None:
        before = list(self._branches)
        if self._groups:
            self._next_group()
        for branch in before:
            branch.cancel(superseded=True)

    def _stop_ringing_others(self, reasons: Sequence[str]) -> None:
        self._groups.clear()
        self._returning = None
        if self._ring_timer is not None:
            self._ring_timer.cancel()
        if self.is_invite:
            for branch in self._branches:
                branch.cancel(reasons)

    def _answer_best(self) -> None:
        self._is_done = True
        best = best_response(self._responses)
        if best is None or (best.status == 408 and not self.is_invite):
            status = 408
            if self.is_invite:
                self.server.refuse(408)
            else:
                # RFC 4320 §4.2: nobody waits for a 408 any more; it would only harm.
                self.server.abandon()
        elif best.status == 503:
            # §16.7 step 6: one target's 503 is not ours.
            status = 500
            self.server.refuse(500, "Next Hop Unavailable")
        elif best.status == 430:
            # RFC 5626 §11.5: "Endpoints should never receive a 430": the phone is not there.
            status = 480
            self.server.refuse(480)
        else:
            status = best.status
            merge_challenges(best, self._responses)
            self.server.respond(best)
        self._end(status)

    def _answer(self, status: int) -> None:
        self._is_done = True
        self.server.refuse(status)
        self._end(status)

    def _end(self, status: int) -> None:
        if self._trying_timer is not None:
            self._trying_timer.cancel()
        self._on_end(self, status)
