"""The directory: what is asked and when, what is remembered, and that no call depends on it."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.database.config import DatabaseConfig
from registrar.directory.directory import (
    PATIENCE_SECONDS,
    RETRY_SECONDS,
    RETRY_SURVEY_SECONDS,
    START_SECONDS,
    Directory,
)
from registrar.directory.entries import NOTHING, Entry
from registrar.directory.observing import watch_directory
from registrar.directory.reaching import DirectoryUnavailable, NoRight, NoTables
from registrar.directory.statements import Connection, Statements, Survey
from registrar.routing import Domains, ServedDomain
from rollcall.ops.metrics import Metrics

T = TypeVar("T")

BOB, CAROL, SALES = (f"sip:{name}@example.com" for name in ("bob", "carol", "sales"))
CONFIG = DatabaseConfig(cache_seconds=60, domains_seconds=30, max_cached=10)


class Rows(Statements):
    """Tables in memory."""

    def __init__(self) -> None:
        super().__init__("?")
        self.there = Survey((), True)
        self.entries: dict[str, Entry] = {}

    def survey(self, connection: Connection) -> Survey:
        """Return what the test says."""
        return self.there

    def entry(self, connection: Connection, aor: str) -> Entry:
        """Return what the test says."""
        return self.entries.get(aor, NOTHING)


class ScriptedTables:
    """Tables that answer at once, later, or not."""

    def __init__(self) -> None:
        self.rows = Rows()
        self.asked = 0
        self.problem: Exception | None = None
        self.held: list[Deferred[None]] | None = None
        self.is_started = False

    async def start(self) -> None:
        """Take note."""
        self.is_started = True

    async def stop(self) -> None:
        """Take note."""
        self.is_started = False

    async def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """Answer, once the test lets it."""
        self.asked += 1
        if self.held is not None:
            gate: Deferred[None] = Deferred()
            self.held.append(gate)
            await gate
        if self.problem is not None:
            raise self.problem
        return question(self.rows, None)

    def answer(self) -> None:
        """Let all go on that wait."""
        held, self.held = self.held or [], None
        for gate in held:
            gate.callback(None)

    def questions(self) -> int:
        """Return how many came since the last look."""
        asked, self.asked = self.asked, 0
        return asked


class DirectoryCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.tables = ScriptedTables()
        self.rows = self.tables.rows
        self.domains = Domains([ServedDomain("example.com")])
        self.remembered = Path(self.enterContext(TemporaryDirectory())) / "domains.json"
        self.directory = self.make()

    def make(self) -> Directory:
        """Return a directory over these tables."""
        return Directory(self.clock, self.tables, CONFIG, self.domains, self.remembered)

    def start(self) -> None:
        """Start it; the first look is no question of the test."""
        self.successResultOf(Deferred.fromCoroutine(self.directory.start()))
        self.tables.questions()

    def find(self, aor: str = BOB) -> "Deferred[Entry]":
        """Look somebody up."""
        return Deferred.fromCoroutine(self.directory.find(aor))

    def found(self, aor: str = BOB) -> Entry:
        """Return what is found without waiting."""
        return self.successResultOf(self.find(aor))


class LookUpTests(DirectoryCase):
    def test_remembered(self) -> None:
        """An entry is read once in its seconds, and so is that there is none."""
        self.rows.entries[SALES] = Entry(BOB)
        self.start()
        for _ in range(3):
            self.assertEqual((self.found(SALES), self.found(BOB)), (Entry(BOB), NOTHING))
        self.assertEqual(self.tables.questions(), 2)
        self.assertEqual(self.directory.lookups, {"memory": 4, "database": 2, "stale": 0, "unknown": 0})
        self.rows.entries[SALES] = Entry(CAROL)
        self.clock.advance(29)
        self.assertEqual(self.found(SALES), Entry(BOB))
        for _ in range(2):
            self.clock.advance(16)
        self.assertEqual(self.found(SALES), Entry(CAROL))

    def test_single_flight(self) -> None:
        """Many calls at once for one address are one question."""
        self.rows.entries[SALES] = Entry(BOB)
        self.start()
        self.tables.held = []
        finding = [self.find(SALES) for _ in range(20)]
        self.assertEqual(self.tables.questions(), 1)
        self.tables.answer()
        self.assertEqual([self.successResultOf(each) for each in finding], [Entry(BOB)] * 20)

    def test_away(self) -> None:
        """While nobody can be asked, what was known counts, and who is not known has nothing; nobody waits for it."""
        self.rows.entries[SALES] = Entry(BOB)
        self.start()
        self.found(SALES)
        self.tables.problem = DirectoryUnavailable("gone")
        for _ in range(3):
            self.clock.advance(21)
        self.tables.questions()
        self.assertEqual((self.found(SALES), self.found(BOB)), (Entry(BOB), NOTHING))
        self.assertEqual(self.tables.questions(), 1)
        self.assertEqual((self.directory.lookups["stale"], self.directory.lookups["unknown"]), (1, 1))
        self.tables.problem = None
        self.clock.advance(RETRY_SECONDS)
        self.tables.questions()
        self.rows.entries[SALES] = Entry(CAROL)
        self.assertEqual(self.found(SALES), Entry(CAROL))

    def test_silence(self) -> None:
        """A call waits for a moment only; the answer that comes later serves the next one."""
        self.rows.entries[SALES] = Entry(BOB)
        self.start()
        self.tables.held = []
        finding = self.find(SALES)
        self.clock.advance(PATIENCE_SECONDS - 0.1)
        self.assertNoResult(finding)
        self.clock.advance(0.2)
        self.assertEqual(self.successResultOf(finding), NOTHING)
        self.tables.answer()
        self.assertEqual(self.found(SALES), Entry(BOB))
        self.assertEqual(self.directory.lookups, {"memory": 1, "database": 0, "stale": 0, "unknown": 1})

    def test_broken(self) -> None:
        """Whatever goes wrong, the call goes on."""
        self.start()
        self.tables.problem = ZeroDivisionError("a bug")
        finding = self.find()
        self.clock.advance(PATIENCE_SECONDS)
        self.assertEqual(self.successResultOf(finding), NOTHING)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_metrics(self) -> None:
        """Look-ups are counted by where they were answered."""
        self.start()
        self.found()
        metrics = Metrics(process=False)
        watch_directory(metrics, self.directory)
        page = metrics.render().decode()
        self.assertIn('rollcall_directory_lookups_total{source="database"} 1.0', page)
        self.assertIn("rollcall_directory_cached 1.0", page)


class SurveyTests(DirectoryCase):
    def test_unused(self) -> None:
        """Empty tables are looked over each domains_seconds, and are not used until there is something."""
        self.rows.there = Survey()
        self.start()
        self.assertFalse(self.directory.is_used)
        self.rows.there = Survey((), True)
        self.clock.advance(29)
        self.assertEqual((self.directory.is_used, self.tables.questions()), (False, 0))
        self.clock.advance(1)
        self.assertEqual((self.directory.is_used, self.tables.questions()), (True, 1))

    def test_domains(self) -> None:
        """Domains of the table are served beside those of the file as long as they are there."""
        self.rows.there = Survey(("example.net", "Example.COM"))
        self.start()
        self.assertEqual(self.domains.names, ["example.com", "example.net"])
        self.rows.there = Survey(("example.edu",))
        self.clock.advance(30)
        self.assertEqual(self.domains.names, ["example.com", "example.edu"])

    def test_no_domain(self) -> None:
        """What is no domain is left out and logged, and the others are served."""
        self.rows.there = Survey(("no domain", "bob@example.org", "example.edu;x=y", "example.net", "x\r\ny"))
        self.start()
        self.assertEqual(self.domains.names, ["example.com", "example.net"])

    def test_missing(self) -> None:
        """Without tables there is nothing; that is said once, and they may come."""
        self.tables.problem = NoTables("no such table")
        self.start()
        self.assertFalse(self.directory.is_used)
        self.clock.advance(30)
        self.tables.problem = None
        self.clock.advance(30)
        self.assertTrue(self.directory.is_used)

    def test_no_right(self) -> None:
        """A right that is missing is said once, and takes no domain away that was served."""
        self.tables.problem = NoRight("SELECT command denied")
        with capturedLogs() as logs:
            self.start()
            self.clock.advance(30)
        self.assertEqual(sum("command denied" in (formatEvent(event) or "") for event in logs), 1)
        self.assertFalse(self.directory.is_used)
        self.tables.problem, self.rows.there = None, Survey(("example.net",), True)
        self.clock.advance(30)
        self.tables.problem = NoRight("SELECT command denied")
        self.clock.advance(30)
        self.assertEqual((self.domains.names, self.directory.is_used), (["example.com", "example.net"], True))

    def test_logged_once(self) -> None:
        """A night without the database is two lines: that the tables cannot be read, and that they can be again."""
        with capturedLogs() as logs:
            self.start()
            self.tables.problem = DirectoryUnavailable("gone")
            self.clock.pump([30] + [RETRY_SURVEY_SECONDS] * 20)
            self.tables.problem = None
            self.clock.pump([RETRY_SURVEY_SECONDS, 30, 30])
        told = [formatEvent(event) for event in logs if "the tables of domains" in (formatEvent(event) or "")]
        self.assertEqual(told, ["the tables of domains, aliases and forwardings cannot be read: gone",
                                "the tables of domains, aliases and forwardings can be asked again"])

    def test_start_without(self) -> None:
        """Who starts while nobody can be asked serves the domains that there were before, and asks again soon."""
        self.rows.there = Survey(("example.net",), True)
        self.start()
        self.successResultOf(Deferred.fromCoroutine(self.directory.stop()))
        self.domains.serve_also([])
        self.tables.problem = DirectoryUnavailable("gone")
        self.directory = self.make()
        self.start()
        self.assertEqual((self.domains.names, self.directory.is_used), (["example.com", "example.net"], False))
        self.tables.problem = None
        self.clock.advance(RETRY_SURVEY_SECONDS)
        self.assertTrue(self.directory.is_used)

    def test_bad_memory(self) -> None:
        """A file of domains that cannot be read is no reason not to start."""
        self.tables.problem = DirectoryUnavailable("gone")
        for text in ("nonsense", "5", '{"a": 1}'):
            self.remembered.write_text(text)
            self.start()
            self.assertEqual(self.domains.names, ["example.com"])
            self.successResultOf(Deferred.fromCoroutine(self.directory.stop()))
            self.directory = self.make()

    def test_slow_start(self) -> None:
        """The start waits for a moment only; the answer counts when it comes."""
        self.tables.held = []
        starting = Deferred.fromCoroutine(self.directory.start())
        self.clock.advance(START_SECONDS - 0.1)
        self.assertNoResult(starting)
        self.clock.advance(0.1)
        self.successResultOf(starting)
        self.assertFalse(self.directory.is_used)
        self.tables.answer()
        self.assertTrue(self.directory.is_used)

    def test_stop(self) -> None:
        """Afterwards nothing is asked, and nothing waits."""
        self.start()
        self.successResultOf(Deferred.fromCoroutine(self.directory.stop()))
        self.assertEqual((self.found(), self.tables.questions()), (NOTHING, 0))
        self.assertEqual((self.clock.getDelayedCalls(), self.tables.is_started), ([], False))

    def test_stop_meanwhile(self) -> None:
        """A look that ends after the stop changes nothing."""
        self.start()
        self.tables.held = []
        self.clock.advance(30)
        self.successResultOf(Deferred.fromCoroutine(self.directory.stop()))
        self.rows.there = Survey(("example.net",))
        self.tables.answer()
        self.assertEqual((self.domains.names, self.clock.getDelayedCalls()), (["example.com"], []))


