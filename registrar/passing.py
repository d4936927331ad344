"""A branch whose request and answers are changed on their way, by somebody who has to ask others for it.

A call through a media node is the case there is: every session description is another one behind us. Asking takes a
moment, and answers must stay in their order (RFC 3261 §16.7, RFC 3262 §3: what was answered first comes first), so each
branch has a queue of them. What our own transactions need of an answer they get at once.
"""

from collections import deque
from typing import Protocol

from registrar.authorising import Refusal
from registrar.branching import Branch, Trunk
from registrar.routing import OverMember
from registrar.sending import Attempt, Forwarded
from rollcall.net.flow import Flow
from rollcall.ops.coroutines import start
from rollcall.sip.message import Response, response_to

MOST_WAITING = 32
"""So many answers of one phone wait for their change. A phone that rings says a few; what is more is dropped: who means
it says it again (RFC 3262 §3, RFC 3261 §13.3.1.4). A refusal, which is said once, always waits, and so does a 2xx."""


class Passage(Protocol):
    """What becomes of one request and its answers while they pass."""

    async def going(self, branch: object, attempt: Attempt, forwarded: Forwarded, transport: str) -> Forwarded:
        """Return what goes to the phone of `branch`, by `attempt`, which speaks SIP over `transport`. Raises Refusal.

        It comes again when the phone is tried another way.
        """

    async def coming(self, branch: object, response: Response) -> Response:
        """Return what the answer of that phone becomes. The next one waits as long."""

    def ended(self, status: int) -> None:
        """Hear how the request was answered, at once after that; other phones may answer later."""


class PassingBranch(Branch):
    """A branch of a request that has a passage."""

    __slots__ = ("_passage", "_waiting")

    def __init__(self, fork: Trunk, attempt: Attempt, passage: Passage) -> None:
        super().__init__(fork, attempt)
        self._passage = passage
        self._waiting: deque[Response] = deque()

    @property
    def pending(self) -> bool:
        """Whether it has not ended yet: an answer that waits for its change is not given."""
        return not self._is_over or bool(self._waiting)

    def hand_on(self, response: Response) -> None:
        """Give an answer to the fork, after those that came before."""
        if len(self._waiting) >= MOST_WAITING and response.status < 300:
            if response.status < 200 or self._waiting[-1].status >= 200:
                return
            # The first 2xx stops our timers, so it must come through: the last that was said before gives way.
            self._waiting.pop()
        self._waiting.append(response)
        if len(self._waiting) == 1:
            start(self._hand_on_all(), self._broke)

    async def _hand_on_all(self) -> None:
        while self._waiting:
            response: Response | None
            try:
                response = await self._passage.coming(self, self._waiting[0])
            except Exception:  # whatever it was, those who wait behind it must not wait for ever
                self._fork.log.failure("an answer could not be changed on its way")
                response = self._in_its_place(self._waiting[0])
            self._waiting.popleft()
            if response is not None:
                super().hand_on(response)

    def _in_its_place(self, response: Response) -> Response | None:
        """Return what is said in the place of an answer that nobody can use as it is; None: nothing."""
        if response.status >= 300:
            return response
        return None if response.status < 200 else response_to(self._fork.request, 500, to_tag=self._fork.tag)

    def _send(self, flow: Flow) -> None:
        start(self._send_changed(flow), self._broke)

    async def _send_changed(self, flow: Flow) -> None:
        hop = self.attempt.hop
        transport = hop.transport if isinstance(hop, OverMember) and hop.transport else flow.transport
        try:
            forwarded = await self._passage.going(self, self.attempt, self._fork.forwarded, transport)
        except Refusal as refusal:
            if not self._is_over:
                self._end(refusal.status)
            return
        # It may have been cancelled in the meantime.
        if not self._is_over:
            self._send_as(forwarded, flow)

