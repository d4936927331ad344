"""The serial number of the zones: by it secondaries know that there is something new (RFC 1035 §3.3.13, RFC 1982).

It is the time of the change in seconds, so that of several nodes that serve the same zones the one with the latest news
has the greatest. The last one is kept in a file with a digest of what it stands for. So a number never goes back where
a clock does, the same content keeps its number over a restart, and the workers of one machine, who share the file, tell
the same number of the same content.
"""

import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import msgspec
from twisted.logger import Logger

GREATEST = 2**32 - 1


class _Kept(msgspec.Struct):
    serial: int
    digest: str


class Serials:
    """Numbers contents."""

    _log = Logger()

    def __init__(self, file: Path) -> None:
        self._file = file
        self._last = 0
        self._digest = ""
        self._seen_at = 0

    def number(self, content: str, now: float) -> int:
        """Return the serial number of this content."""
        before, digest = self._digest, sha256(content.encode()).hexdigest()
        self._digest = digest
        kept = self._read()
        # Our number for another content is not this one's, though another worker took it in the same second.
        least = self._last if before == digest else self._last + 1
        if kept is not None and kept.digest == digest and kept.serial >= least:
            self._last = kept.serial
        else:
            self._last = min(GREATEST, max(int(now), self._last + 1, kept.serial + 1 if kept is not None else 0))
            self._write(_Kept(self._last, digest))
        return self._last

    def is_behind(self) -> bool:
        """Say whether another worker has given the last content a greater number, having had yet another between."""
        try:
            changed_at = self._file.stat().st_mtime_ns
        except OSError:
            return False
        if changed_at == self._seen_at:
            return False
        self._seen_at = changed_at
        kept = self._read()
        return kept is not None and kept.digest == self._digest and kept.serial > self._last

    def _read(self) -> _Kept | None:
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
            self._log.warn("the last serial number cannot be read: {problem}", problem=problem)
            return None
        return kept if 0 <= kept.serial <= GREATEST else None

    def _write(self, kept: _Kept) -> None:
        """Keep it, whole or not at all: of several workers the last one counts, and all of them are right."""
        beside = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            beside.write_bytes(msgspec.json.encode(kept))
            beside.replace(self._file)
        except OSError as problem:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            self._log.warn("the serial number {serial} cannot be kept: {problem}", serial=kept.serial, problem=problem)
