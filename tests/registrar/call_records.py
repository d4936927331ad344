"""Parts of calls to test with, an SQLite file that has the tables, and who calls now only."""

from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from twisted.trial.unittest import TestCase

from registrar.calls.parts import CallPart, answered, ended, failed
from registrar.database.engines import engine_of
from registrar.database.upgrading import upgrade
from tests.registrar.examples import NOW

ALICE, BOB = "sip:alice@example.com", "sip:bob@example.com"
TAGS = "tag of alice", "tag of bob"


def an_answer(number: int = 1, started_at: float = NOW, seconds: float = 5.0) -> CallPart:
    """Return what the answer to a call says."""
    return answered(f"call-{number}", TAGS, (ALICE, BOB), started_at, started_at + seconds, 200, "n1")


def a_failure(number: int = 1, at: float = NOW, status: int = 486) -> CallPart:
    """Return what the refusal of a call says."""
    return failed(f"call-{number}", TAGS[0], (ALICE, BOB), at, at + 3.0, status, "n1")


def an_end(number: int = 1, at: float = NOW + 60, by_callee: bool = False, quality: str | None = None) -> CallPart:
    """Return what the BYE of a call says."""
    return ended(f"call-{number}", TAGS[::-1] if by_callee else TAGS, at, quality)


def a_folder(case: TestCase) -> Path:
    """Return a folder that goes with the test."""
    folder = TemporaryDirectory()
    case.addCleanup(folder.cleanup)
    return Path(folder.name)


def a_database(case: TestCase, folder: Path) -> sa.Engine:
    """Return an SQLite file with our tables."""
    engine = engine_of(folder / "rollcall.sqlite", make=True, kept=1)
    case.addCleanup(engine.dispose)
    upgrade(engine)
    return engine


def counted(engine: sa.Engine, condition: str = "1 = 1") -> int:
    """Return how many calls there are of some kind."""
    with engine.connect() as connection:
        return int(connection.scalar(sa.text(f"SELECT COUNT(*) FROM rollcall_call WHERE {condition}")) or 0)


