"""The response context of one forwarded request: its branches, their answers, the one that goes back.

RFC 3261 §§16.7 and 16.10 (which answer goes back, CANCEL), RFC 4320 §4 (no 408 to anything but INVITE).

When nobody is left but phones whose flows were lost, the request may wait for them to come back. When nobody takes a
call, it may go elsewhere instead, see `registrar.diverting`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from attrs import evolve, frozen
from twisted.logger import Logger

from registrar.branching import Branch
from registrar.passing import Passage, PassingBranch
from registrar.routing import OverMember, ProxyConfig, best_response, merge_challenges, within_breadth
from registrar.sending import Attempt, Forwarded, Sender
from rollcall.net.tokens import FlowName
from rollcall.net.transactions import ServerTransaction, Transactions
from rollcall.net.wheel import Timer
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import seconds_until_t2

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

    def unreached(self, flow: FlowName) -> None:
        """Take note that the node which has this flow could not be spoken to: the flow itself may be there."""


class Instead(Protocol):
    """Where a call goes that nobody takes."""

    @property
    def ring_seconds(self) -> float | None:
        """How long phones ring before the call goes elsewhere; None: as long as they like."""

    def divert(self, status: int, rang: bool, found: Callable[["Way | None"], None]) -> bool:
        """Call `found` once, later or before this returns, with where a call goes that has come to `status`.

        None: nowhere after all. False: nowhere, and `found` is never called.
        """

    def stop(self) -> None:
        """Look no more; `found` is not called."""


@frozen
class Way:
    """Where a request goes: group after group, whose phones to wait for should all be lost, and what else there is."""

    groups: Groups
    phones: Return | None = None
    instead: Instead | None = None
    request: Request | None = None
    """What is sent there in the place of what was received, when more is to be said."""


class Fork:
    """A request on its way to one or many targets, and the server transaction that waits for the outcome."""

    log = Logger()

    def __init__(self, server: ServerTransaction, forwarded: Forwarded, groups: Groups, sender: Sender,
                 transactions: Transactions, config: ProxyConfig, on_end: Callable[["Fork", int], None],
                 returning: Return | None = None, instead: Instead | None = None,
                 passage: Passage | None = None) -> None:
        """Without `groups` the fork begins with waiting for those who are `returning`, or goes elsewhere `instead`.

        What goes out and comes back is changed by its `passage`.
        """
        self.server = server
        self.forwarded = forwarded
        self.request = forwarded.request
        self.sender = sender
        self.transactions = transactions
        self.config = config
        self.is_invite = forwarded.request.method == "INVITE"
        self.tag = transactions.new_tag()
        self.accepted: Response | None = None
        """The 2xx that went back, the first if there were more."""
        self._groups = groups
        self._branches: list[Branch] = []
        self._responses: list[Response] = []
        self._ring_timer: Timer | None = None
        self._trying_timer: Timer | None = None
        self._on_end = on_end
        self._returning = returning
        self._instead = instead
        self._passage = passage
        self._elsewhere_timer: Timer | None = None
        self._diverted_at = 0
        """How many branches there were when the call went elsewhere."""
        self._is_waiting = False
        self._is_diverting = False
        self._rang = False
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
            self._nobody(480)

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """Call `function` in `seconds` on the wheel of all transactions."""
        return self.transactions.wheel.call_later(seconds, function)

    def cancel(self, cancel: Request) -> None:
        """Do as the caller's `cancel` asks, for the reason that it gives (RFC 3261 §16.10, RFC 3326 §2)."""
        if self._is_waiting and self._returning is not None:
            self._is_waiting = False
            self._returning.stop()
            self._answer(487)
        is_nowhere = self._is_diverting and not any(branch.pending for branch in self._branches)
        self._stay()
        if is_nowhere:
            self._answer(487)
        self._stop_ringing_others(cancel.get_all("Reason"))

    def progressed(self, response: Response) -> None:
        """Pass a 101 to 199 on at once (RFC 3261 §16.7 step 5)."""
        if self._is_done:
            return
        self.server.respond(response)
        if not self._rang:
            self._rang = True
            if self._instead is not None and self._instead.ring_seconds is not None:
                self._elsewhere_timer = self.later(self._instead.ring_seconds, self._rang_in_vain)

    def succeeded(self, branch: Branch, response: Response) -> None:
        """Pass a 2xx on at once, every one of an INVITE, and stop the other phones."""
        first, self._is_done = not self._is_done, True
        if first or self.is_invite:
            self.server.respond(response)
        if first:
            self.accepted = response
            self._stop_ringing_others(ELSEWHERE)
            self._end(response.status)

    def failed(self, branch: Branch, response: Response) -> None:
        """Keep a refusal; when nobody is left, ring the next group or answer the best (§16.7 steps 4 to 6)."""
        branch.was_lost |= response.status == 430
        if not (branch.was_superseded and response.status == 487):
            self._responses.append(response)
        if response.status >= 600:
            self._stop_ringing_others([f'SIP;cause={response.status}'])
        if self._is_done or self._is_waiting or self._is_diverting or any(other.pending for other in self._branches):
            return
        if self._groups:
            self._next_group()
        elif not (self._were_lost() and (self._passes_back() or self._waits())):
            self._nobody(408)

    def unreached(self, attempt: Attempt) -> None:
        """Take note that another node could not be spoken to; its phone may be there all the same."""
        if self._returning is not None and isinstance(attempt.hop, OverMember):
            self._returning.unreached(attempt.hop.flow)

    def _waits(self) -> bool:
        """Begin to wait for phones to come back, if that is worth it."""
        self._is_waiting = self._returning is not None and self._returning.wait(self._found)
        return self._is_waiting

    def _were_lost(self) -> bool:
        """Say whether all has failed because flows were lost, and for no other reason."""
        return all(branch.was_lost for branch in self._branches[self._diverted_at:])

    def _passes_back(self) -> bool:
        """Tell another node that the flow it sent us to is gone: it knows better where the phone is now."""
        if self.forwarded.source.member:
            self._answer(430)
        return bool(self.forwarded.source.member)

    def _found(self, groups: Groups) -> None:
        self._is_waiting = False
        # All of them said that flows were lost: what is said now counts.
        self._responses.clear()
        if groups:
            # However many they are, no more copies go out at a time than before.
            self._groups, breadth = within_breadth(groups, self.forwarded.breadth)
            self.forwarded = evolve(self.forwarded, breadth=breadth)
            self._next_group()
        else:
            self._nobody(480)

    def _nobody(self, status: int) -> None:
        """Let it go elsewhere now that nobody is left, or else answer what they said, or `status` if they did not."""
        best = best_response(self._responses)
        if not self._diverts(status if best is None else best.status):
            self._answer_nobody(status)

    def _answer_nobody(self, status: int) -> None:
        if self._responses or status == 408:
            self._answer_best()
        else:
            self._answer(status)

    def _rang_in_vain(self) -> None:
        if not (self._is_done or self._is_diverting):
            self._diverts(408)

    def _diverts(self, status: int) -> bool:
        self._is_diverting = self._instead is not None
        if self._instead is None or not self._instead.divert(status, self._rang, partial(self._diverted, status)):
            self._is_diverting = False
            return False
        return True

    def _diverted(self, status: int, way: Way | None) -> None:
        """Go elsewhere; phones that ring do so until now, and on when there is no other way."""
        self._is_diverting = False
        before = [branch for branch in self._branches if branch.pending]
        if way is None:
            self._stay()
            if not before:
                self._answer_nobody(status)
            return
        self.server.refuse(181)
        if self._elsewhere_timer is not None:
            self._elsewhere_timer.cancel()
        self._responses.clear()
        self._rang, self._diverted_at, self._returning = False, len(self._branches), way.phones
        if way.request is not None:
            self.forwarded = evolve(self.forwarded, request=way.request)
        if way.groups:
            self._groups, breadth = within_breadth(way.groups, self.forwarded.breadth)
            self.forwarded = evolve(self.forwarded, breadth=breadth)
            self._next_group()
        elif not self._waits():
            self._nobody(480)
        for branch in before:
            branch.cancel(superseded=True)

    def _stay(self) -> None:
        """Go nowhere else from now on."""
        self._is_diverting = False
        if self._elsewhere_timer is not None:
            self._elsewhere_timer.cancel()
        if self._instead is not None:
            self._instead.stop()
            self._instead = None

    def _next_group(self) -> None:
        if self._ring_timer is not None:
            self._ring_timer.cancel()
        group = [self._branch(attempt) for attempt in self._groups.pop(0)]
        self._branches += group
        if self._groups and self.is_invite:
            self._ring_timer = self.later(self.config.ring_seconds, self._rang_out)
        for branch in group:
            if branch.pending:
                branch.start()

    def _branch(self, attempt: Attempt) -> Branch:
        return Branch(self, attempt) if self._passage is None else PassingBranch(self, attempt, self._passage)

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
        self._stay()
        if self._passage is not None:
            self._passage.ended(status)
        self._on_end(self, status)
