"""Tests of rollcall.sql.heartbeat: when the moment is written."""

from pymysql.err import ProgrammingError
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.lanes import Trouble
from rollcall.sql.looking import Look
from tests.rollcall.sql.scripted import FIRST, PRIMARY, WELL_PRIMARY, ScriptedServers


class HeartbeatTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.servers = ScriptedServers(replicas=(FIRST,), lag="heartbeat").well()
        self.primary = self.servers.asked[PRIMARY]

    def second(self) -> None:
        """Let a second go by in which the primary is well."""
        self.servers.clock.advance(1)
        self.servers.look(PRIMARY, WELL_PRIMARY)

    def test_rhythm(self) -> None:
        """It is written each check_seconds, never twice at a time."""
        self.assertEqual(self.primary.tasks, [])
        for _ in range(3):
            self.second()
        self.assertEqual(len(self.primary.tasks), 1)
        self.primary.answer(None)
        self.second()
        self.assertEqual(len(self.primary.tasks), 1)

    def test_failure(self) -> None:
        """A failure is told once, and it is tried again."""
        with capturedLogs() as events:
            for _ in range(3):
                self.second()
                self.primary.answer(Trouble(ProgrammingError(1146, "no such table"), False))
        self.assertEqual([formatEvent(event) for event in events], [
            "no heartbeat is written, so that replicas seem to fall behind: no such table (1146)"])

    def test_nobody_writes(self) -> None:
        """Without a server that takes writes nothing is asked."""
        self.servers.clock.advance(0.5)
        self.servers.down(PRIMARY)
        self.primary.tasks.clear()
        self.servers.clock.advance(5)
        self.servers.look(PRIMARY, Look(is_read_only=True))
        self.assertEqual(self.primary.tasks, [])
