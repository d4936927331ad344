"""Keeps what strangers cause from filling the disk: of each sentence that is marked so, a few per minute are written.

An event is marked by a field: `log.info("… is malformed …", log_rationed=True)`. What is left out is counted, and told
when the sentence is next written; metrics count all of them.
"""

from collections.abc import Callable

from attrs import define
from twisted.logger import LogEvent

# Of every connection that finds no file descriptor left Twisted writes a line.
NOISY = frozenset({"twisted.internet.tcp.Port"})

MOST = 10
"""So many events of one sentence are written within PERIOD_SECONDS."""

PERIOD_SECONDS = 60.0


@define
class _Ration:
    began_at: float
    written: int = 0
    left_out: int = 0


class Rationing:
    """An observer before another one. The sentences are those of our own code, so that they are few."""

    def __init__(self, inner: Callable[[LogEvent], None]) -> None:
        self._inner = inner
        self._rations: dict[tuple[object, object], _Ration] = {}

    def __call__(self, event: LogEvent) -> None:
        """Hand on `event`, unless there have been enough of its kind; its own time counts."""
        if not event.get("log_rationed") and event.get("log_namespace") not in NOISY:
            self._inner(event)
            return
        now = event.get("log_time", 0.0)
        kind = event.get("log_namespace"), event.get("log_format")
        ration = self._rations.get(kind)
        if ration is None or not 0 <= now - ration.began_at < PERIOD_SECONDS:
            if ration is not None and ration.left_out:
                self._tell(event, "{count} more like the next were left out since {since:.0f} s ago",
                           count=ration.left_out, since=now - ration.began_at)
            ration = self._rations[kind] = _Ration(now)
        if ration.written < MOST:
            ration.written += 1
            self._inner(event)
            return
        if not ration.left_out:
            self._tell(event, "enough of these for a minute: more are counted, not written")
        ration.left_out += 1

    def _tell(self, event: LogEvent, format: str, **fields: object) -> None:
        own: LogEvent = {key: event[key] for key in ("log_time", "log_level", "log_namespace") if key in event}
        self._inner({**own, "log_format": format, **fields})
