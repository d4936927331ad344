"""Tests of rollcall.sql.checking: when servers are looked at, and what is told of them in the log."""

from pymysql.err import OperationalError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.lanes import Trouble
from rollcall.sql.looking import Look
from tests.rollcall.sql.scripted import FIRST, LOST, PRIMARY, REFUSED, WELL_PRIMARY, WELL_REPLICA, ScriptedServers

LATE = Look(is_read_only=True, follows=True, lag_seconds=30.0)


class CheckTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = ScriptedServers(replicas=(FIRST,)).well()
        self.looks = self.servers.checked[FIRST]

    def state(self) -> tuple[bool, bool]:
        """Return whether the replica is up, and fit."""
        found = self.servers.sql.states[1]
        return found.is_up, found.is_fit

    def test_rhythm(self) -> None:
        """A server is looked at check_seconds after the last look began, and only once at a time."""
        self.assertEqual(self.looks.tasks, [])
        self.servers.clock.advance(1)
        self.assertEqual(len(self.looks.tasks), 1)
        self.servers.clock.advance(0.75)
        self.servers.look(FIRST, WELL_REPLICA)
        self.servers.clock.advance(0.25)
        self.assertEqual(len(self.looks.tasks), 1)
        self.servers.clock.advance(3)
        self.assertEqual(len(self.looks.tasks), 1)

    def test_lost_connection(self) -> None:
        """When the connection of the looks is lost a new one decides, at once."""
        self.servers.clock.advance(1)
        self.servers.look(FIRST, Trouble(LOST, False))
        self.assertEqual((self.state(), self.looks.renewed), ((True, True), 1))
        self.servers.look(FIRST, WELL_REPLICA)
        self.assertEqual(self.state(), (True, True))
        self.servers.clock.advance(1)
        for _ in range(2):
            self.servers.look(FIRST, Trouble(LOST, False))
        self.assertEqual(self.state(), (False, False))
        self.assertEqual(self.looks.tasks, [])

    def test_no_answer(self) -> None:
        """A look that timed out needs no second one."""
        late = OperationalError(2013, "Lost connection to MySQL server during query (timed out)")
        late.__context__ = TimeoutError()
        self.servers.clock.advance(1)
        self.servers.look(FIRST, Trouble(late, False))
        self.assertEqual(self.state(), (False, False))

    def test_hangs(self) -> None:
        """A look that hangs is given up in time, and nobody looks again until its thread is back."""
        self.servers.clock.advance(1)
        self.servers.clock.advance(4)
        self.assertEqual(self.state(), (False, False))
        self.assertEqual(self.looks.cuts, self.looks.tasks)
        self.assertEqual(self.servers.sql.states[1].why, "no answer within 4 s")
        self.servers.clock.advance(60)
        self.assertEqual(len(self.looks.tasks), 1)
        self.servers.look(FIRST, WELL_REPLICA)
        self.assertEqual(self.state(), (False, False))
        self.servers.clock.advance(1)
        self.servers.look(FIRST, WELL_REPLICA)
        self.assertEqual(self.state(), (True, True))

    def test_counted(self) -> None:
        """Looks are counted and timed as queries are."""
        self.servers.down(FIRST)
        state = self.servers.sql.states[1]
        self.assertEqual((state.queries["check"], state.failures["check"]), (2, 1))
        self.assertEqual([what for what, _ in self.servers.observed], ["check"] * 3)


class NewsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = ScriptedServers(replicas=(FIRST,)).well()

    def told(self, *seen: Look | Trouble, server: str = FIRST) -> list[str]:
        """Return what is written while a server is seen so, one look after another."""
        with capturedLogs() as events:
            for each in seen:
                self.servers.clock.advance(1)
                self.servers.look(server, each)
                for other in self.servers.checked:
                    if self.servers.checked[other].tasks:
                        self.servers.look(other, WELL_PRIMARY if other == PRIMARY else WELL_REPLICA)
        return [formatEvent(event) for event in events]

    def test_away(self) -> None:
        """It is told once when a server is left out, and once when it is back."""
        refused = Trouble(REFUSED, True)
        self.assertEqual(self.told(refused, refused, WELL_REPLICA, WELL_REPLICA), [
            f"MySQL replica {FIRST} is left out until it answers: MySQL: connection refused",
            f"MySQL replica {FIRST} answers again, after 2.0 s",
        ])

    def test_behind(self) -> None:
        """It is told once when a replica falls behind, and once when it has caught up."""
        self.assertEqual(self.told(LATE, LATE, WELL_REPLICA), [
            f"MySQL replica {FIRST} is read only when no other can be: it is 30.0 s behind",
            f"MySQL replica {FIRST} is up to date again",
        ])

    def test_notice(self) -> None:
        """What an operator should set right is told once."""
        noticed = Look(is_read_only=True, notice="grant it a right")
        self.assertEqual(self.told(noticed, noticed), [f"MySQL replica {FIRST}: grant it a right"])

    def test_writer(self) -> None:
        """It is told when nobody takes writes, and who does then."""
        self.assertEqual(self.told(Look(is_read_only=True), WELL_PRIMARY, server=PRIMARY), [
            f"MySQL: no server takes writes: primary {PRIMARY}: it is read only; no replica was promoted",
            f"MySQL: writes go to primary {PRIMARY}",
        ])

    def test_two_writers(self) -> None:
        """An old primary that is back as if nothing had happened is an error that is told."""
        promoted = Look(is_read_only=False, follows=False, unfit="it follows nobody")
        self.servers.down(PRIMARY)
        self.servers.look(FIRST, promoted)
        self.assertEqual(self.servers.sql.writer, FIRST)
        self.servers.clock.advance(1)
        with capturedLogs() as events:
            self.servers.look(PRIMARY, WELL_PRIMARY)
        self.assertIn(f"writes go to {FIRST}, but {PRIMARY} takes writes as well", formatEvent(events[-1]))
