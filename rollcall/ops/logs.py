"""Log lines for people or for machines, written by twisted.logger events, and a guard against secrets.

As text an event is one line: time (UTC), level, namespace, sentence; a traceback follows it. As JSON it is one object
with the fields kept. What a worker says has worker=N behind the namespace, or a field for it. An event that gathers
several lines (see `rollcall.ops.gathering`) is one line or one object for each. Whatever a phone sent is
printed with control characters escaped, so that it cannot forge a line. Fields with a name like password, response,
nonce, secret or authorization never get out.
"""

import json
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Literal, cast

from attrs import field, frozen
from twisted.application.service import MultiService
from twisted.internet.error import CannotListenError
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    formatEvent,
)
from twisted.python.components import Componentized
from twisted.python.logfile import LogFile

from rollcall.ops.allowed import at_least
from rollcall.ops.rationing import Rationing

Level = Literal["debug", "info", "warn", "error", "critical"]

HIDDEN = "(hidden)"
SECRET_NAME = r"(?:[a-z0-9]+_)*(?:password|passwd|response|c?nonce|secret|authorization|token|ha1)s?"
SECRET_FIELD = re.compile(SECRET_NAME, re.IGNORECASE)
# {response}, and {credentials.response} too, which reaches into a harmless looking field
SECRET_IN_FORMAT = re.compile(r"\{(?:[^{}]*[.\[])?" + SECRET_NAME + r"(?:[]\[.!:(][^{}]*)?\}", re.IGNORECASE)
# a digest or a password inside another text, such as a whole message
SECRET_IN_TEXT = re.compile(
    r"""(?i)\b((?:response|c?nonce|nextnonce|password)=)("[^"]*"|[^\s,;"]+)|(authorization:\s*)[^\r\n]+"""
)
# Of what a phone sent: a Call-ID may have 60,000 characters.
MAX_CHARS = 1000
LINES = "log_each"
OWN_FIELDS = ("time", "level", "namespace", "message", "traceback")
# Twisted's older parts tell of every port they open and close, as do we; their errors still come through
QUIET: dict[str, Level] = {"log_legacy": "warn"}
LEGACY_FIELDS = frozenset({"isError", "system", "why", "failure", "format", "printed", "warning"})


@frozen(kw_only=True)
class LogConfig:
    """[log]: how much, in which form, and where to (without a file: where twistd would write)."""

    level: Level = "info"
    format: Literal["text", "json"] = "text"
    levels: Mapping[str, Level] = field(factory=dict)
    file: Path | None = None
    slow_turn_seconds: float = field(default=0.5, validator=at_least(0))
    """A turn of the reactor that takes longer is told: nobody was answered meanwhile. 0: none is."""


class LoggedService(MultiService):
    """The root of a service, which makes its application log as [log] says.

    twistd looks for an observer on the application before it makes its own; so nothing is printed twice.
    """

    worker: int | None = None
    """0 for the supervisor of several workers."""

    def __init__(self, config: LogConfig, twistd: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self._config = config
        self._twistd = twistd or {}

    def setServiceParent(self, parent: Any) -> None:
        if isinstance(parent, Componentized):
            parent.setComponent(ILogObserver, observer(self._config, self._twistd, self.worker))
        super().setServiceParent(parent)

    def startService(self) -> None:
        """Start all parts. Raises SystemExit, which twistd prints without a traceback, when a port cannot be had."""
        try:
            super().startService()
        except CannotListenError as problem:
            raise SystemExit(f"The service cannot start:\n{problem}") from problem


def observer(config: LogConfig, twistd: Mapping[str, Any] | None = None, worker: int | None = None) -> ILogObserver:
    """Return what twistd should log with; `twistd` holds its command-line options (nodaemon, logfile, syslog…).

    With the number of a `worker`, or 0 for the supervisor of several, a file of twistd's is written by all of them, and
    so it is not rotated.
    """
    options = twistd or {}
    if options.get("syslog") and config.file is None:
        from twisted.python.syslog import SyslogObserver

        syslog = SyslogObserver(options.get("prefix", "twisted"))
        return filtered(LegacyLogObserverWrapper(cast(Any, syslog.emit)), config, worker)
    return filtered(writing(_destination(config, options, worker is not None), config), config, worker)


def writing(file: IO[str], config: LogConfig) -> ILogObserver:
    """Return an observer that writes every event to `file` in the configured form, secrets hidden."""
    return FileLogObserver(file, as_json if config.format == "json" else as_text)


def filtered(inner: ILogObserver, config: LogConfig, worker: int | None = None) -> ILogObserver:
    """Return an observer that hands `inner` what the configured levels let through, with the number of its worker."""
    levels = LogLevelFilterPredicate(defaultLogLevel=LogLevel.levelWithName(config.level))
    for namespace, level in {**QUIET, **config.levels}.items():
        levels.setLogLevelForNamespace(namespace, LogLevel.levelWithName(level))

    def guard(event: LogEvent) -> None:
        safe = guarded(event)
        if worker:
            safe["worker"] = worker
        inner(safe)

    write = Rationing(guard)
    return FilteringLogObserver(cast(ILogObserver, write), [levels])


def guarded(event: LogEvent) -> LogEvent:
    """Return the event without what must not get out."""
    format = event.get("log_format")
    safe = {key: HIDDEN if _is_secret(key) else value for key, value in event.items()}
    if isinstance(format, str):
        safe["log_format"] = _safe_format(format)
    return safe


def as_text(event: LogEvent) -> str | None:
    """Return the event as a line, or as one with a traceback below; None when it says nothing."""
    level = event.get("log_level", LogLevel.info).name
    worker = f" worker={event['worker']}" if isinstance(event.get("worker"), int) else ""
    start = f"{_time(event)} {level:<5} {event.get('log_namespace', '-')}{worker}: "
    if LINES in event:
        sentence = event["log_format"]
        return "".join([f"{start}{_safe(sentence.format_map(fields))}\n" for fields in event[LINES]])
    message = _message(event)
    traceback = _traceback(event)
    if not message and not traceback:
        return None
    return f"{start}{message}\n{traceback}"


def as_json(event: LogEvent) -> str | None:
    """Return the event as one JSON object on a line; None when it says nothing."""
    if LINES in event:
        shared = {key: value for key, value in event.items() if key != LINES}
        return "".join([as_json({**shared, **fields}) or "" for fields in event[LINES]])
    message = _message(event)
    traceback = _traceback(event)
    if not message and not traceback:
        return None
    fields = {
        key: _plain(value)
        for key, value in event.items()
        if not key.startswith("log_") and key not in OWN_FIELDS and key not in LEGACY_FIELDS
    }
    own: dict[str, object] = {
        "time": _time(event),
        "level": event.get("log_level", LogLevel.info).name,
        "namespace": event.get("log_namespace", "-"),
        "message": message,
    }
    if traceback:
        own["traceback"] = traceback
    return json.dumps({**own, **fields}, ensure_ascii=False) + "\n"


def _destination(config: LogConfig, options: Mapping[str, Any], shared: bool) -> IO[str]:
    """Return the file of [log], else the one that twistd(1) would choose."""
    if config.file is not None:
        return open(config.file, "a", encoding="utf-8")
    name = options.get("logfile")
    if name == "-" or (options.get("nodaemon", True) and not name):
        return sys.stdout
    if shared:
        return open(name or "twistd.log", "a", encoding="utf-8")
    return cast(IO[str], LogFile.fromFullPath(name or "twistd.log"))


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return SECRET_FIELD.fullmatch(key.replace("-", "_")) is not None


@lru_cache(maxsize=1024)
def _safe_format(format: str) -> str:
    return SECRET_IN_FORMAT.sub(HIDDEN, format)


def _message(event: LogEvent) -> str:
    return _safe(formatEvent(event))


def _traceback(event: LogEvent) -> str:
    failure = event.get("log_failure")
    if failure is None:
        return ""
    lines = _scrubbed(failure.getTraceback()).splitlines()
    return "".join(f"{_printable(line)}\n" for line in lines)


def _safe(text: str) -> str:
    return _shortened(_printable(_scrubbed(text)))


def _scrubbed(text: str) -> str:
    if "=" not in text and "authorization" not in text.lower():
        return text
    return SECRET_IN_TEXT.sub(lambda match: (match[1] or match[3]) + HIDDEN, text)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): HIDDEN if _is_secret(str(key)) else _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    return _shortened(_printable(_scrubbed(str(value))))


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}… ({len(text)} characters)"


def _time(event: LogEvent) -> str:
    moment = datetime.fromtimestamp(event.get("log_time", 0.0), UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
