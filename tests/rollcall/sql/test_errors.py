"""Tests of rollcall.sql.errors: what an error is about."""

from pymysql.err import DataError, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.errors import SqlUnavailable, has_no_effect, is_lost, is_read_only, is_unavailable, timed_out, told

LOST = (OperationalError(2006, "gone"), OperationalError(2013, "lost"), OperationalError(1927, "killed"),
        InterfaceError(0, ""), InternalError("Packet sequence number wrong"), SqlUnavailable("no"))
REFUSED = (OperationalError(1040, "too many"), OperationalError(1045, "denied"), OperationalError(1205, "lock wait"),
           OperationalError(1290, "read only"))
STATEMENT = (ProgrammingError(1146, "no table"), ProgrammingError("closed cursor"), IntegrityError(1062, "twice"),
             DataError(1406, "too long"), OperationalError(1054, "no column"), KeyError("row"), ValueError(2013))


class ErrorTests(SynchronousTestCase):
    def test_lost(self) -> None:
        """An error of the connection is told from one of the server, and both from one of the statement."""
        self.assertEqual([is_lost(each) for each in (*LOST, *REFUSED, *STATEMENT)], [True] * 6 + [False] * 11)
        self.assertEqual([is_unavailable(each) for each in (*LOST, *REFUSED, *STATEMENT)], [True] * 10 + [False] * 7)

    def test_no_effect(self) -> None:
        """A deadlock and a server that is read only leave nothing behind."""
        deadlock = OperationalError(1213, "deadlock")
        self.assertEqual([has_no_effect(each) for each in (deadlock, *REFUSED)], [True, False, False, False, True])
        self.assertEqual([is_read_only(each) for each in (deadlock, *REFUSED)], [False] * 4 + [True])

    def test_timed_out(self) -> None:
        """PyMySQL's error of a time-out is known by its cause."""
        for cause, expected in ((TimeoutError(), True), (ConnectionResetError(), False)):
            error = OperationalError(2013, "lost")
            error.__context__ = cause
            self.assertEqual(timed_out(error), expected)

    def test_told(self) -> None:
        """An error is one line with its number, if it has one."""
        self.assertEqual(told(OperationalError(1045, "Access\n denied")), "Access denied (1045)")
        self.assertEqual(told(SqlUnavailable("nobody")), "nobody")
        self.assertEqual(told(ConnectionResetError()), "ConnectionResetError")
