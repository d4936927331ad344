"""How far an import has come, on disk: so that the next run goes on where one was ended, however suddenly.

Two files: the state, which is there while the import is not at its end, and the report of the rejected rows. Neither
has a password or a hash in it.
"""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict

from registrar.subscribers.importing import Counts, Rejected

_HEADER = ("row", "username", "domain", "reason")


class JournalProblem(Exception):
    """The state on disk is of another import, or cannot be read; the text says which and what to do."""


class ImportJournal:
    """The journal of one import, named by `what`: where its rows come from and go to.

    Methods wait for the disk. They raise OSError, the constructor JournalProblem.
    """

    def __init__(self, state: Path, report: Path, what: Mapping[str, Any]) -> None:
        """Go on where the state says, or begin."""
        self._state, self._report, self._what = state, report, dict(what)
        self.counts = Counts()
        self.position: tuple[int, ...] = ()
        """Where the source goes on; empty: at its beginning."""
        self.is_resumed = False
        """Whether a run before this one was ended; it may have added one batch more than it could note."""
        self._reported = 0
        """The bytes of the report that the state knows of."""
        self._resume()

    def save(self, position: tuple[int, ...], counts: Counts, rejected: Sequence[Rejected]) -> None:
        """Note that everything up to `position` is done."""
        self._tell(rejected)
        self.position, self.counts = position, counts
        self._write_state()

    def finish(self) -> None:
        """Forget the state: all is done."""
        self._state.unlink(missing_ok=True)

    def _resume(self) -> None:
        try:
            text = self._state.read_text("utf-8")
        except FileNotFoundError:
            self._begin()
            return
        try:
            found = json.loads(text)
            what, self.position = found["import"], tuple(map(int, found["position"]))
            self.counts, self._reported = Counts(**found["counts"]), int(found["reported_bytes"])
        except (ValueError, KeyError, TypeError) as error:
            raise JournalProblem(f"{self._state} is not the state of an import; remove it to begin anew") from error
        if what != self._what:
            raise JournalProblem(f"{self._state} is the state of another import ({_said(what)}), or the file has been "
                                 "changed since; remove it to begin anew, or name another one by --state")
        self.is_resumed = True
        with _private(self._report) as file:
            # What was reported after the last state will be reported again.
            os.ftruncate(file.fileno(), self._reported)

    def _begin(self) -> None:
        # The state is there before the first row is added, so that a run that ends then is gone on with, too.
        with _private(self._report) as file:
            os.ftruncate(file.fileno(), 0)
        self._append(_lines([_HEADER]))
        self._write_state()

    def _tell(self, rejected: Sequence[Rejected]) -> None:
        if rejected:
            self._append(_lines([(each.place, each.username, each.domain, each.reason) for each in rejected]))

    def _append(self, lines: bytes) -> None:
        with _private(self._report) as file:
            file.seek(self._reported)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._reported += len(lines)

    def _write_state(self) -> None:
        found = {"import": self._what, "position": self.position, "counts": asdict(self.counts),
                 "reported_bytes": self._reported}
        new = self._state.with_name(self._state.name + ".new")
        with _private(new) as file:
            os.ftruncate(file.fileno(), 0)
            file.write(json.dumps(found).encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._state)


def _private(path: Path) -> io.BufferedRandom:
    """Open a file for reading and writing, made where there is none, which nobody else may read."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "r+b")


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_harmless(cell) for cell in row] for row in rows])
    return text.getvalue().encode("utf-8", "backslashreplace")


def _harmless(cell: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return f"'{cell}" if cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def _said(what: object) -> str:
    return ", ".join(f"{key} {value}" for key, value in what.items()) if isinstance(what, dict) else str(what)
