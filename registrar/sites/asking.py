"""One question to a node of another site, and its answer, in bounded time."""

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.sites.words import MOST_BODY_BYTES, Question, question_request
from rollcall.net.flow import ConnectFailed, Flow, FlowClosed
from rollcall.net.transactions import ClientTransaction, Transactions
from rollcall.ops.coroutines import start
from rollcall.sip.message import Response

Place = tuple[str, int]
"""Host and port of an internal listener."""


class Unanswered(Exception):
    """There is no answer; says why."""

    def __init__(self, why: str, is_silent: bool = False, is_answer: bool = False) -> None:
        """`is_silent`: nothing came in all the time, so that nobody knows what is there.

        `is_answer`: who was asked is there, and says that it does not know.
        """
        super().__init__(why)
        self.is_silent = is_silent
        self.is_answer = is_answer


Reach = Callable[[str, str, int], Awaitable[Flow]]
"""Returns the connection with whatever node is at a host and port of a site, or raises ConnectFailed."""


class Asking:
    """Asks."""

    _log = Logger()

    def __init__(self, reach: Reach, transactions: Transactions, worker: int = 0) -> None:
        """`worker` is the number of ours among those that share our ports, so that answers find back."""
        self._reach = reach
        self._transactions = transactions
        self._worker = worker

    async def ask(self, site: str, place: Place, question: Question, seconds: float) -> bytes:
        """Return the body of the answer. Raises Unanswered."""
        waiting = _Waiting()
        timer = self._transactions.wheel.call_later(seconds, waiting.give_up)
        start(self._send(site, place, question, waiting), lambda failure: self._broke(failure, waiting))
        try:
            return await waiting.answered
        finally:
            timer.cancel()

    async def _send(self, site: str, place: Place, question: Question, waiting: "_Waiting") -> None:
        try:
            flow = await self._reach(site, *place)
            if waiting.answered.called:
                return
            request, branch = question_request(question, site, flow, self._worker)
            waiting.transaction = self._transactions.send(request, branch, flow, waiting)
        except (ConnectFailed, FlowClosed) as problem:
            waiting.fail(str(problem))

    def _broke(self, failure: Failure, waiting: "_Waiting") -> None:
        self._log.failure("a question to another site broke", failure)
        waiting.fail("it broke")


class _Waiting:
    """Waits for the answer to one question. It is a ClientUser."""

    def __init__(self) -> None:
        self.answered: Deferred[bytes] = Deferred()
        self.transaction: ClientTransaction | None = None

    def response_received(self, response: Response, transaction: ClientTransaction) -> None:
        """Take the final answer."""
        if response.status < 200 or self.answered.called:
            return
        if response.status >= 300:
            self.fail(f"{response.status} {response.reason}", is_answer=True)
        elif len(response.body) > MOST_BODY_BYTES:
            self.fail("its answer is too long")
        else:
            self.answered.callback(response.body)

    def request_failed(self, transaction: ClientTransaction, timed_out: bool) -> None:
        """Learn that the connection has ended."""
        self.fail("the connection has ended", timed_out)

    def give_up(self) -> None:
        """Wait no more; what is said later counts for nothing."""
        self.fail("no answer in time", is_silent=True)
        if self.transaction is not None:
            self.transaction.abandon()

    def fail(self, why: str, is_silent: bool = False, is_answer: bool = False) -> None:
        """End without an answer, unless there is one."""
        if not self.answered.called:
            self.answered.errback(Unanswered(why, is_silent, is_answer))
