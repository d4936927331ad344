"""Log lines that come by the hundred: what one turn of the reactor has to tell in one sentence is told together.

Each line costs a tenth of one that is logged by itself, and all of them are written. The event has the fields of each
line in `log_each`, as `rollcall.ops.logs` writes them.
"""

from collections.abc import Callable, Mapping

from twisted.logger import Logger


class Gathered:
    """The lines of one sentence."""

    def __init__(self, log: Logger, sentence: str, later: Callable[[Callable[[], None]], object]) -> None:
        """`sentence` is in braces as Logger takes it, names only; `later(call)` calls soon, but not at once."""
        self._log = log
        self._sentence = sentence
        self._later = later
        self._waiting: list[Mapping[str, object]] = []

    def tell(self, **fields: object) -> None:
        """Log a line at level info."""
        if not self._waiting:
            self._later(self._tell_all)
        self._waiting.append(fields)

    def _tell_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        if len(waiting) == 1:
            self._log.info(self._sentence, **waiting[0])
        else:
            self._log.info(self._sentence, log_each=waiting)
