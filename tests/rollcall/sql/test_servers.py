"""Tests of rollcall.sql.servers: who is asked, what is tried again, and that everybody hears in time."""

from typing import Any

from pymysql.err import OperationalError, ProgrammingError
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.lanes import Trouble
from rollcall.sql.looking import Look
from tests.rollcall.sql.scripted import (
    FIRST,
    LOST,
    PRIMARY,
    PROMOTED,
    REFUSED,
    SECOND,
    WELL_PRIMARY,
    WELL_REPLICA,
    ScriptedServers,
)

READ_ONLY = OperationalError(1290, "The MariaDB server is running with the --read-only option")
LATE = Look(is_read_only=True, follows=True, lag_seconds=30.0)


def nothing(connection: Any) -> None:
    """Do nothing with a connection."""


class ReadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = ScriptedServers().well()
        self.sql = self.servers.sql

    def test_least_outstanding(self) -> None:
        """Of the fit replicas the one with the fewest queries is asked."""
        for _ in range(4):
            self.sql.read(nothing)
        self.assertEqual([len(lanes.tasks) for lanes in self.servers.asked.values()], [0, 2, 2])
        self.servers.asked[SECOND].answer("found")
        self.sql.read(nothing)
        self.assertEqual([len(lanes.tasks) for lanes in self.servers.asked.values()], [0, 2, 2])

    def test_answer(self) -> None:
        """The caller gets what the query returned, and its time is observed."""
        found = self.sql.read(nothing)
        self.servers.clock.advance(0.25)
        self.servers.asked[FIRST].answer("found")
        self.assertEqual(self.successResultOf(found), "found")
        self.assertIn(("read", 0.25), self.servers.observed)

    def test_lost(self) -> None:
        """A query whose connection was lost is tried once more, elsewhere, and its server is looked at."""
        found = self.sql.read(nothing)
        self.servers.asked[FIRST].answer(Trouble(LOST, False))
        self.assertEqual(self.servers.holders(), [SECOND])
        self.assertEqual(len(self.servers.checked[FIRST].tasks), 1)
        self.assertEqual(self.servers.asked[FIRST].renewed, 1)
        self.servers.asked[SECOND].answer(Trouble(LOST, False))
        self.assertIn("Lost connection", str(self.failureResultOf(found, SqlUnavailable).value))
        self.assertEqual(self.servers.holders(), [])

    def test_error_of_the_statement(self) -> None:
        """It goes to the caller as it is, and the server is as well as before."""
        found = self.sql.read(nothing)
        self.servers.asked[FIRST].answer(Trouble(ProgrammingError(1146, "no such table"), False))
        self.failureResultOf(found, ProgrammingError)
        self.assertTrue(self.sql.states[1].is_up)
        self.assertEqual(self.sql.states[1].failures["read"], 0)

    def test_server_left_out(self) -> None:
        """What a server has not begun goes elsewhere as soon as it is left out."""
        self.servers = ScriptedServers(replicas=(FIRST,), connections=1).well()
        for _ in range(3):
            self.servers.sql.read(nothing)
        self.servers.down(FIRST)
        self.assertEqual([len(lanes.tasks) for lanes in self.servers.asked.values()], [2, 1])
        self.assertEqual([state.outstanding for state in self.servers.sql.states], [2, 1])

    def test_doubted(self) -> None:
        """What a server has not begun goes elsewhere as soon as one of its connections is lost."""
        self.servers = ScriptedServers(replicas=(FIRST,), connections=1).well()
        for _ in range(3):
            self.servers.sql.read(nothing)
        self.servers.asked[FIRST].answer(Trouble(LOST, False))
        self.servers.asked[FIRST].answer(Trouble(LOST, False))
        self.assertEqual([state.outstanding for state in self.servers.sql.states], [3, 0])

    def test_silent(self) -> None:
        """A replica that has answered nothing for a while, though asked, is passed over until it does."""
        self.servers = ScriptedServers(replicas=(FIRST,)).well()
        self.servers.sql.read(nothing)
        self.servers.clock.advance(0.5)
        self.servers.sql.read(nothing)
        self.assertEqual([state.outstanding for state in self.servers.sql.states], [0, 2])
        self.servers.clock.advance(0.1)
        self.servers.sql.read(nothing)
        self.assertEqual([state.outstanding for state in self.servers.sql.states], [1, 2])
        self.servers.asked[FIRST].answer(None)
        self.servers.sql.read(nothing)
        self.assertEqual([state.outstanding for state in self.servers.sql.states], [1, 2])

    def test_behind(self) -> None:
        """Replicas that are too far behind are read last, and told so."""
        self.servers.clock.advance(1)
        for name in (FIRST, SECOND):
            self.servers.look(name, LATE)
        self.assertEqual(self.sql.states[1].why, "it is 30.0 s behind")
        first = self.sql.read(nothing)
        self.assertEqual(self.servers.holders(), [PRIMARY])
        self.servers.look(PRIMARY, Trouble(REFUSED, True))
        self.assertFalse(self.sql.may_be_late)
        second = self.sql.read(nothing)
        self.assertIn(FIRST, self.servers.holders())
        self.assertTrue(self.sql.may_be_late)
        self.servers.clock.advance(7)
        self.assertFalse(self.sql.may_be_late)
        for unanswered in (first, second):
            self.failureResultOf(unanswered, SqlUnavailable)

    def test_fresh(self) -> None:
        """A fresh read waits for what may turn out to be the writer, and goes to a replica when there is none."""
        self.sql.read(nothing, fresh=True)
        self.assertEqual(self.servers.holders(), [PRIMARY])
        self.servers.asked[PRIMARY].answer(Trouble(LOST, False))
        self.assertEqual(self.servers.holders(), [])
        self.servers.down(PRIMARY)
        self.assertEqual(self.servers.holders(), [FIRST])

    def test_nobody(self) -> None:
        """When nobody answers a query fails at once and says why."""
        for name in (PRIMARY, FIRST, SECOND):
            self.servers.down(name)
        self.assertIn("connection refused", str(self.failureResultOf(self.sql.read(nothing), SqlUnavailable).value))
        self.assertIn(PRIMARY, str(self.sql.problem))

    def test_first_moments(self) -> None:
        """Before a server was looked at a query waits; no more than max_waiting do."""
        servers = ScriptedServers(max_waiting=1)
        servers.sql.start()
        found = servers.sql.read(nothing)
        self.failureResultOf(servers.sql.read(nothing), SqlUnavailable)
        servers.look(SECOND, WELL_REPLICA)
        servers.asked[SECOND].answer(7)
        self.assertEqual(self.successResultOf(found), 7)

    def test_full(self) -> None:
        """A server without room is passed over, and without any the query fails."""
        servers = ScriptedServers(connections=1, max_waiting=1, replicas=()).well()
        waiting = [servers.sql.read(nothing) for _ in range(2)]
        self.failureResultOf(servers.sql.read(nothing), SqlUnavailable)
        self.failureResultOf(servers.sql.write(nothing), SqlUnavailable)
        for found in waiting:
            self.assertNoResult(found)

    def test_overdue(self) -> None:
        """A caller hears when its time is over, whatever the thread does; what comes later is told nobody."""
        found = self.sql.read(nothing)
        self.servers.clock.advance(3)
        later = self.sql.read(nothing)
        self.servers.clock.pump([0.5] * 6)
        self.failureResultOf(found, SqlUnavailable)
        self.assertNoResult(later)
        self.assertEqual(self.servers.asked[FIRST].cuts, self.servers.asked[FIRST].tasks)
        self.servers.asked[FIRST].answer("too late")
        self.servers.clock.advance(3)
        self.failureResultOf(later, SqlUnavailable)

    def test_cancelled(self) -> None:
        """Who cancels hears that, and nothing more."""
        found = self.sql.read(nothing)
        found.addErrback(lambda failure: None)
        found.cancel()
        self.servers.asked[FIRST].answer("found")
        self.servers.clock.advance(60)
        self.assertIsNone(self.successResultOf(found))


class WriteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = ScriptedServers().well()
        self.sql = self.servers.sql

    def test_lost(self) -> None:
        """A change that was begun is not tried again; one that was not is, once its server was looked at."""
        self.sql.write(nothing)
        unknown, undone = self.sql.write(nothing), self.sql.write(nothing)
        lanes = self.servers.asked[PRIMARY]
        lanes.answer(None)
        lanes.answer(Trouble(LOST, False))
        self.assertIn("not known", str(self.failureResultOf(unknown, SqlUnavailable).value))
        lanes.answer(Trouble(LOST, True))
        self.assertEqual(self.servers.holders(), [])
        self.servers.look(PRIMARY, WELL_PRIMARY)  # began before the second loss
        self.servers.look(PRIMARY, WELL_PRIMARY)
        lanes.answer("done")
        self.assertEqual(self.successResultOf(undone), "done")

    def test_deadlock(self) -> None:
        """What the server rolled back is tried once more, and then told as it is."""
        done = self.sql.write(nothing)
        deadlock = OperationalError(1213, "Deadlock found")
        self.servers.asked[PRIMARY].answer(Trouble(deadlock, True))
        self.assertEqual(self.servers.holders(), [PRIMARY])
        self.servers.asked[PRIMARY].answer(Trouble(deadlock, True))
        self.assertIs(self.failureResultOf(done, OperationalError).value, deadlock)

    def test_promoted(self) -> None:
        """While the primary is away the one replica that was promoted takes writes, and keeps them afterwards."""
        self.servers.down(PRIMARY)
        failed = self.failureResultOf(self.sql.write(nothing), SqlUnavailable)
        self.assertIn("nothing was done", str(failed.value))
        self.servers.look(FIRST, PROMOTED)
        self.assertEqual(self.sql.writer, FIRST)
        self.servers.clock.advance(1)
        self.servers.look(PRIMARY, WELL_PRIMARY)
        self.assertEqual(self.sql.writer, FIRST)
        self.sql.read(nothing, fresh=True)
        self.assertEqual(self.servers.holders(), [FIRST])

    def test_two_promoted(self) -> None:
        """Of two replicas that take writes none is chosen."""
        self.servers.down(PRIMARY)
        for name in (FIRST, SECOND):
            self.servers.look(name, PROMOTED)
        self.assertIsNone(self.sql.writer)
        self.assertIn("which one", str(self.failureResultOf(self.sql.write(nothing), SqlUnavailable).value))

    def test_read_only(self) -> None:
        """A primary that has become read only takes no more writes, and what it refused is made where they go now."""
        done = self.sql.write(nothing)
        self.servers.clock.advance(1)
        self.servers.look(FIRST, PROMOTED)
        self.servers.asked[PRIMARY].answer(Trouble(READ_ONLY, True))
        for _ in range(2):  # the look that was on its way is no proof
            self.servers.look(PRIMARY, Look(is_read_only=True))
        self.servers.asked[FIRST].answer("done")
        self.assertEqual(self.successResultOf(done), "done")


class StopTests(SynchronousTestCase):
    def test_stop(self) -> None:
        """What is under way may end; what does not in time fails, and so does all that is asked later."""
        servers = ScriptedServers().well()
        ends, hangs = servers.sql.write(nothing), servers.sql.read(nothing)
        stopping = Deferred.fromCoroutine(servers.sql.stop())
        servers.asked[PRIMARY].answer("done")
        self.assertEqual(self.successResultOf(ends), "done")
        self.assertNoResult(stopping)
        servers.clock.advance(2)
        self.failureResultOf(hangs, SqlUnavailable)
        self.assertIsNone(self.successResultOf(stopping))
        self.failureResultOf(servers.sql.write(nothing), SqlUnavailable)
        self.assertEqual(servers.clock.getDelayedCalls(), [])
        self.assertEqual(len(servers.asked[FIRST].cuts), 1)
