"""What several servers say of the same thing: the newest answer counts, once most of them have answered."""

from collections.abc import Coroutine, Sequence
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rollcall.cluster.redis import RedisUnavailable


class Dated(Protocol):
    """An answer with the epoch of who gave it; a server that was cut off from the others has an older one."""

    @property
    def epoch(self) -> int:
        """Greater is newer."""


Answer = TypeVar("Answer", bound=Dated)


async def newest(asking: Sequence[Coroutine[Any, Any, Answer]], seconds: float, reactor: Any) -> Answer:
    """Return the newest of the answers as soon as most are there, or all have answered or failed.

    One that takes longer than `seconds` has failed. Raises RedisUnavailable with the reasons when there is no answer.
    """
    gathered: _Gathered[Answer] = _Gathered(len(asking))
    deferreds = [Deferred.fromCoroutine(each) for each in asking]
    for each in deferreds:
        each.addTimeout(seconds, reactor)
        each.addCallbacks(gathered.answered, gathered.failed)
    try:
        return await gathered.result
    finally:
        for each in deferreds:
            each.cancel()


class _Gathered(Generic[Answer]):
    def __init__(self, number: int) -> None:
        self.result: Deferred[Answer] = Deferred()
        self._number = number
        self._answers: list[Answer] = []
        self._reasons: list[str] = []

    def answered(self, answer: Answer) -> None:
        self._answers.append(answer)
        self._decide()

    def failed(self, failure: Failure) -> None:
        self._reasons.append(failure.getErrorMessage())
        self._decide()

    def _decide(self) -> None:
        are_all_done = len(self._answers) + len(self._reasons) == self._number
        if self.result.called or not (are_all_done or len(self._answers) * 2 > self._number):
            return
        if self._answers:
            self.result.callback(max(self._answers, key=lambda answer: answer.epoch))
        else:
            self.result.errback(RedisUnavailable("; ".join(sorted(set(self._reasons)))))
