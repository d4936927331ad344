"""Registrars whose phones call each other: as many rows as calls, each as its phones saw it."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.cluster.case import ClusterCase
from tests.cluster.fleet_call import Call, CallState
from tests.interop.process import wait_until

PHONES = 90
CALLS = 400
CALLS_PER_SECOND = 50.0
WRITTEN_SECONDS = 20.0

ROWS = "SELECT call_id, caller, callee, status, hung_up_by, ended_at >= answered_at, answered_at >= started_at FROM "

SECTIONS = "[calls]\nrecords = true\nwrite_seconds = 0.5\n"


class CallsOfNodesTests(ClusterCase):
    """Each registrar writes what it sees: the answer where the caller is connected, the end where somebody hangs up."""

    mysql = "replica"
    users = PHONES
    sections = SECTIONS

    def test_complete(self) -> None:
        """The primary is killed while phones call, and comes back: no call is missing, and none is wrong."""
        fleet = self.fleet()
        fleet.register_all(300.0)
        calls = fleet.call_at_random(CALLS, CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(calls[:CALLS // 4])
        primary = self.lab.mysql.primary
        primary.kill()
        fleet.hang_up(calls[:CALLS // 4], by_callee=True)
        fleet.wait_answered(calls)
        primary.start()
        fleet.hang_up(calls[CALLS // 4:])
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
        wait_until(lambda: len(self.rows("WHERE ended_at IS NOT NULL")) == CALLS or None, "rows of calls",
                   WRITTEN_SECONDS)
        self.assertEqual(sorted(self.rows()), sorted(expected(calls)))
        spread = primary.query("SELECT node, COUNT(*) FROM rollcall.rollcall_call GROUP BY node")
        self.figure(f"{CALLS} calls, {len(self.rows())} rows as the phones saw them, from {dict(spread)}")

    def rows(self, which: str = "") -> list[Any]:
        """Return what the primary has."""
        return list(self.lab.mysql.primary.query(f"{ROWS} rollcall.rollcall_call {which}"))


class CallsOfWorkersTests(ClusterCase):
    """Two workers of a registrar that has an SQLite file."""

    registrars = 1
    workers = 2
    users = PHONES
    sections = SECTIONS

    def test_complete(self) -> None:
        """Both write into the same file, and nothing of it is left in the spool that they share."""
        fleet = self.fleet()
        fleet.register_all(300.0)
        calls = fleet.call_at_random(CALLS, CALLS_PER_SECOND, hold_seconds=None)
        fleet.wait_answered(calls)
        fleet.hang_up(calls[:CALLS // 4], by_callee=True)
        fleet.hang_up(calls[CALLS // 4:])
        fleet.wait_calls(calls)
        file = self.lab.registrars[0].folder / "data" / "rollcall.sqlite"
        wait_until(lambda: len(rows_of(file, "WHERE ended_at IS NOT NULL")) == CALLS or None, "rows of calls",
                   WRITTEN_SECONDS)
        self.assertEqual(sorted(rows_of(file)), sorted(expected(calls)))
        self.assertEqual(list(file.with_name("calls").glob("*.calls")), [])


def rows_of(file: Path, which: str = "") -> list[Any]:
    """Return what an SQLite file has."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"{ROWS} rollcall_call {which}").fetchall()


def expected(calls: Sequence[Call]) -> list[tuple[Any, ...]]:
    """Return the rows of these calls."""
    first = {call.number for call in calls[:CALLS // 4]}
    return [(call.id, call.caller.aor, call.callee.aor, 200, "callee" if call.number in first else "caller", 1, 1)
            for call in calls]
