"""Tests of rollcall.sql.looking: what the rows of a server mean, in the words of MariaDB and of MySQL."""

from typing import Any

from pymysql.cursors import DictCursor
from pymysql.err import MySQLError, OperationalError, ProgrammingError
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.looking import Look, beat, by_status, look

MARIADB = {"Slave_IO_Running": "Yes", "Slave_SQL_Running": "Yes", "Seconds_Behind_Master": 3}
MYSQL = {"Replica_IO_Running": "Yes", "Replica_SQL_Running": "Yes", "Seconds_Behind_Source": 3}
DENIED = OperationalError(1227, "Access denied; you need (at least one of) the REPLICA MONITOR privilege(s)")
AGE = "SELECT TIMESTAMPDIFF"


class Scripted:
    """A connection that answers by how a statement begins."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {"SELECT @@": [(1,)], **{key.replace("_", " "): value for key, value in answers.items()}}
        self.found: Any = None

    def cursor(self, kind: type[DictCursor] | None = None) -> "Scripted":
        return self

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, sql: str) -> None:
        self.found = next(answer for start, answer in self.answers.items() if sql.startswith(start))
        if isinstance(self.found, MySQLError):
            raise self.found

    def fetchone(self) -> Any:
        return self.found[0] if self.found else None

    def fetchall(self) -> Any:
        return self.found


class StatusTests(SynchronousTestCase):
    def test_both_words(self) -> None:
        """MariaDB says master and slave, MySQL source and replica."""
        for row in (MARIADB, MYSQL):
            self.assertEqual(by_status([row], True), Look(is_read_only=True, follows=True, lag_seconds=3.0))

    def test_several_sources(self) -> None:
        """The one that is furthest behind counts; one that stands still makes the whole unfit."""
        rows = [MARIADB, {**MARIADB, "Seconds_Behind_Master": 9}]
        self.assertEqual(by_status(rows, True).lag_seconds, 9.0)
        rows.append({**MARIADB, "Slave_IO_Running": "No", "Seconds_Behind_Master": None, "Last_IO_Error": "no\nroute"})
        self.assertIsNone(by_status(rows, True).lag_seconds)
        self.assertIn("receiving: No, applying: Yes): no route", str(by_status(rows, True).unfit))

    def test_follows_nobody(self) -> None:
        """Without rows it may be the new primary, but no replica."""
        seen = by_status([], False)
        self.assertEqual((seen.follows, seen.unfit), (False, "it follows nobody"))

    def test_stopped(self) -> None:
        """One that applies nothing any more follows nobody."""
        stopped = {**MARIADB, "Slave_SQL_Running": "No", "Seconds_Behind_Master": None}
        self.assertFalse(by_status([stopped], False).follows)


class LookTests(SynchronousTestCase):
    def test_primary(self) -> None:
        """The primary is asked nothing but whether it takes writes."""
        self.assertEqual(look(Scripted(), "primary", "heartbeat"), Look(is_read_only=True))

    def test_read_only(self) -> None:
        """It is a number, or a word."""
        connection = Scripted()
        for value, expected in ((0, False), (1, True), ("OFF", False), ("ON", True), ("NO_LOCK", True)):
            connection.answers["SELECT @@"] = [(value,)]
            self.assertEqual(look(connection, "primary", "none").is_read_only, expected)

    def test_old_mysql(self) -> None:
        """A server that knows the old words only is asked in these."""
        old = Scripted(SHOW_REPLICA=ProgrammingError(1064, "syntax"), SHOW_SLAVE=[MARIADB])
        self.assertEqual(look(old, "replica", "seconds_behind").lag_seconds, 3.0)

    def test_denied(self) -> None:
        """Without the right it counts as not behind, and an operator is told."""
        seen = look(Scripted(SHOW_REPLICA=DENIED), "replica", "seconds_behind")
        self.assertIsNone(seen.unfit)
        self.assertIn("REPLICA MONITOR", str(seen.notice))

    def test_lost(self) -> None:
        """Any other error is the caller's."""
        self.assertRaises(OperationalError, look, Scripted(SHOW_REPLICA=OperationalError(2013, "lost")), "replica",
                          "seconds_behind")

    def test_none(self) -> None:
        """Where nobody asks for the lag, only one that takes writes is asked whether it follows."""
        self.assertEqual(look(Scripted(), "replica", "none"), Look(is_read_only=True))
        promoted = Scripted(SHOW_REPLICA=[])
        promoted.answers["SELECT @@"] = [(0,)]
        self.assertEqual(look(promoted, "replica", "none"), Look(is_read_only=False, follows=False))

    def test_heartbeat(self) -> None:
        """The age of the heartbeat counts; there may be none yet, and clocks may differ by a little."""
        for rows, lag in (([(2_500_000,)], 2.5), ([(-10,)], 0.0), ([], None)):
            seen = look(Scripted(**{AGE: rows}), "replica", "heartbeat")
            self.assertEqual((seen.lag_seconds, seen.unfit is None), (lag, lag is not None))

    def test_no_table(self) -> None:
        """Without the table it counts as not behind, and an operator is told."""
        seen = look(Scripted(**{AGE: ProgrammingError(1146, "no table")}), "replica", "heartbeat")
        self.assertIn("rollcall db upgrade", str(seen.notice))
        self.assertIsNone(seen.unfit)

    def test_beat(self) -> None:
        """A heartbeat replaces the one row."""
        connection = Scripted(REPLACE="written")
        beat(connection)
        self.assertEqual(connection.found, "written")
