"""The SQLite file that bindings are kept in: plain blocking calls, for one thread at a time.

The file is in WAL mode. A committed transaction survives the end of the process in any case; `synchronous` says whether
it also survives a power cut: with FULL the log is synced to the disk at each commit, with NORMAL only when it is folded
into the file, so that a power cut may take the last seconds (but never damages the file).

Only one process at a time may have it: two registrars would each answer for phones that only the other one knows of.
An empty file beside it, `….lock`, is locked as long as the process lives (flock(2)).
"""

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from fcntl import LOCK_EX, LOCK_NB, flock
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec
from twisted.logger import Logger

from registrar.bindings import Binding

Synchronous = Literal["FULL", "NORMAL"]

BUSY_SECONDS = 2.0
"""How long a commit waits for somebody who has locked the file, e.g. with the sqlite3 command."""

# Not INSERT OR REPLACE, which deletes and inserts: 16 µs per row where this takes 12.
_UPSERT = """
INSERT INTO location (aor, expires_at, bindings) VALUES (?, ?, ?)
ON CONFLICT (aor) DO UPDATE SET expires_at = excluded.expires_at, bindings = excluded.bindings
"""
_DELETE = "DELETE FROM location WHERE aor = ?"

_DECODER = msgspec.json.Decoder(tuple[Binding, ...])


class Rows:
    """One row for each address-of-record. Every method raises sqlite3.Error when the file cannot be used."""

    _log = Logger()

    def __init__(self, path: Path | str, synchronous: Synchronous = "FULL",
                 busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = str(path)
        self._synchronous = synchronous
        self._busy_seconds = busy_seconds
        self._connection: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self._lock: int | None = None

    def claim(self) -> None:
        """Keep every other process from this file until `leave`. Raises sqlite3.Error when one has it, or OSError."""
        lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError as problem:
            os.close(lock)
            raise sqlite3.OperationalError("another registrar uses this file") from problem
        self._lock = lock

    @property
    def claimed(self) -> int | None:
        """The descriptor that the claim is bound to: it ends when all copies of it are closed."""
        return self._lock

    def leave(self) -> None:
        """Close the file and let others have it."""
        self.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    def open(self) -> dict[str, tuple[Binding, ...]]:
        """Make sure that the file can be used, and return that nothing was read."""
        self._connect()
        return {}

    def read_some(self, aors: Sequence[str], now: float) -> list[tuple[Binding, ...]]:
        """Return the live bindings of each of these; none of whom there is no row, or one that is not understood."""
        connection = self._connect()
        rows = [connection.execute("SELECT bindings FROM location WHERE aor = ?", (aor,)).fetchone() for aor in aors]
        return [self._live(aor, row[0], now) if row is not None else () for aor, row in zip(aors, rows, strict=True)]

    def read_after(self, aor: str, size: int, now: float) -> list[tuple[str, tuple[Binding, ...]]]:
        """Return the live bindings of the `size` addresses-of-record that follow `aor` in their order."""
        query = "SELECT aor, bindings FROM location WHERE aor > ? ORDER BY aor LIMIT ?"
        return [(found, self._live(found, text, now))
                for found, text in self._connect().execute(query, (aor, size)).fetchall()]

    def delete_lapsed(self, now: float) -> None:
        """Delete the rows whose time is over."""
        self._connect().execute("DELETE FROM location WHERE expires_at <= ?", (now,))

    def _live(self, aor: str, text: str, now: float) -> tuple[Binding, ...]:
        try:
            bindings = decode(text)
        except msgspec.ValidationError as problem:
            self._log.error("what is stored for {aor} is not understood: {problem}", aor=aor, problem=str(problem))
            return ()
        return tuple([binding for binding in bindings if binding.expires_at > now])

    def write(self, changes: Mapping[str, tuple[Binding, ...]]) -> None:
        """Make these the bindings of their addresses-of-record, in one transaction."""
        changed = [(aor, max(binding.expires_at for binding in bindings), encode(bindings))
                   for aor, bindings in changes.items() if bindings]
        gone = [(aor,) for aor, bindings in changes.items() if not bindings]
        if not self._is_there():
            self._log.critical("{path} was removed or replaced while in use: a new one is begun, in which bindings are "
                               "found again as their phones refresh them", path=self.path)
            self.close()
        connection = self._connect()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_UPSERT, changed)
            connection.executemany(_DELETE, gone)
            connection.execute("COMMIT")
        except Exception:
            # This undoes the transaction, and after an I/O error a connection is of no use any more.
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file; what was not committed is undone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            # Whoever calls us sees to it that only one thread does so at a time.
            connection = sqlite3.connect(self.path, self._busy_seconds, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute(f"PRAGMA synchronous = {self._synchronous}")
                _bring_up_to_date(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
            self._file = os.stat(self.path)
        return self._connection

    def _is_there(self) -> bool:
        """Say whether the file that is open is still the one of this name: others would find nothing else."""
        try:
            return self._file is None or os.path.samestat(self._file, os.stat(self.path))
        except FileNotFoundError:
            return False


def encode(bindings: tuple[Binding, ...]) -> str:
    """Return bindings as JSON."""
    try:
        return msgspec.json.encode(bindings).decode()
    except UnicodeEncodeError:
        # Some byte that a phone sent was no UTF-8 and is a lone surrogate now, which only json can write.
        return json.dumps(msgspec.to_builtins(bindings))


def decode(text: str) -> tuple[Binding, ...]:
    """Undo `encode`. Raises msgspec.ValidationError when it is something else."""
    try:
        return _DECODER.decode(text)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        return _decode_surrogates(text)


def _decode_surrogates(text: str) -> tuple[Binding, ...]:
    try:
        return msgspec.convert(json.loads(text), tuple[Binding, ...])
    except ValueError as problem:
        raise msgspec.ValidationError(str(problem)) from problem


def _bring_up_to_date(connection: sqlite3.Connection) -> None:
    """Apply the numbered schema files that the file has not seen yet, each in a transaction."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    schema = sorted(files("registrar.location").joinpath("schema").iterdir(), key=lambda entry: entry.name)
    if version > len(schema):
        raise sqlite3.DatabaseError(f"the file has schema {version}, which is later than ours ({len(schema)})")
    for number, entry in enumerate(schema, 1):
        if number > version:
            script = entry.read_text("utf-8")
            connection.executescript(f"BEGIN; {script} PRAGMA user_version = {number}; COMMIT;")
