"""Tests of rollcall.sql.transaction: what stays of a change."""

from typing import Any

from pymysql.err import IntegrityError, MySQLError, OperationalError
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.transaction import Undone, transacted
from tests.rollcall.sql.scripted import LOST


class Transcript:
    """A connection that writes down what it is told, and fails where it should."""

    def __init__(self, **failing: MySQLError) -> None:
        self.failing = failing
        self.said: list[str] = []

    def _say(self, word: str) -> None:
        self.said.append(word)
        if word in self.failing:
            raise self.failing[word]

    def begin(self) -> None:
        self._say("begin")

    def commit(self) -> None:
        self._say("commit")

    def rollback(self) -> None:
        self._say("rollback")

    def close(self) -> None:
        self._say("close")

    def change(self, connection: Any) -> str:
        """The change itself."""
        self._say("change")
        return "changed"


class TransactedTests(SynchronousTestCase):
    def transcript(self, expected: type[Exception] | None, **failing: MySQLError) -> list[str]:
        """Return what a connection was told."""
        connection = Transcript(**failing)
        if expected is None:
            self.assertEqual(transacted(connection.change, connection), "changed")
        else:
            self.assertRaises(expected, transacted, connection.change, connection)
        return connection.said

    def test_committed(self) -> None:
        """A change is committed before anybody hears of it."""
        self.assertEqual(self.transcript(None), ["begin", "change", "commit"])

    def test_rolled_back(self) -> None:
        """An error of a statement undoes the whole, and stays what it is."""
        said = self.transcript(IntegrityError, change=IntegrityError(1062, "twice"))
        self.assertEqual(said, ["begin", "change", "rollback"])

    def test_undone(self) -> None:
        """A dead connection, a deadlock and a read-only server are told apart: it may be tried again."""
        self.assertEqual(self.transcript(Undone, begin=LOST), ["begin"])
        self.assertEqual(self.transcript(Undone, change=OperationalError(1213, "deadlock"))[-1], "rollback")
        self.assertEqual(self.transcript(Undone, commit=OperationalError(1290, "read only"))[-1], "rollback")

    def test_unknown(self) -> None:
        """A connection that is lost later leaves it open, and is closed when it cannot roll back."""
        self.assertEqual(self.transcript(OperationalError, commit=LOST, rollback=LOST)[-2:], ["rollback", "close"])
