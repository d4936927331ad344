"""Records of calls in MariaDB: the same rows as in SQLite, and all of them, whatever becomes of the servers meanwhile.

Two nodes record calls of each other, as fast as a busy site makes them, while servers are paused, killed and promoted.
"""

import tempfile
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, ClassVar

import sqlalchemy as sa
from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import LoopingCall, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import LogLevel, capturedLogs
from twisted.trial.unittest import TestCase

from registrar.calls.config import CallsConfig
from registrar.calls.records import CallRecords
from registrar.calls.rows import as_moment, remove_older
from registrar.calls.spool import Spool
from registrar.calls.writing import CallWriter
from registrar.database.engines import engine_of
from registrar.database.upgrading import upgrade
from rollcall.sql.config import MysqlConfig
from rollcall.sql.servers import Servers
from tests.cluster.case import FIGURE
from tests.registrar import test_calls_rows
from tests.registrar.call_records import a_folder, an_answer, an_end, counted
from tests.registrar.examples import NOW
from tests.registrar.test_calls_rows import RowsCase
from tools.laboratory.mariadb_process import MariadbProcess
from tools.laboratory.mariadb_servers import MariadbServers

CALLS_AT_A_TIME = 10
TICK_SECONDS = 0.05
CALLS_A_SECOND = 200

PATIENCE_SECONDS = 30.0

ENDED_SECONDS = 8.0
"""Of the ten that a worker has to end in, the rest of it needs some."""

WHOLE = "answered_at IS NOT NULL AND ended_at IS NOT NULL AND hung_up_by = 'caller'"


class MariadbCase(TestCase):
    """A primary and a replica, with our tables."""

    folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    mysql: ClassVar[MariadbServers]
    record: Any = staticmethod(lambda name, value: None)

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.mysql = MariadbServers(Path(cls.folder.name) / "mysql", "replica")
        cls.mysql.start()
        engine = engine_of(cls.where())
        upgrade(engine)
        engine.dispose()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.mysql.stop()
        cls.folder.cleanup()

    @classmethod
    def where(cls) -> MysqlConfig:
        """Return what a registrar's configuration says of the servers."""
        settings = dict(cls.mysql.settings)
        return MysqlConfig(**{**settings, "replicas": tuple(settings["replicas"])})

    def emptied(self) -> sa.Engine:
        """Return an engine that reads and writes the primary, which has no calls."""
        engine = engine_of(self.where(), self.mysql.primary.address, kept=1)
        self.addCleanup(engine.dispose)
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM rollcall_call"))
        return engine


class MysqlRowsCase(MariadbCase, RowsCase):
    """The rows of SQLite, in MariaDB."""

    def made_engine(self) -> sa.Engine:
        """Return the emptied database."""
        return self.emptied()


class WriteTests(MysqlRowsCase, test_calls_rows.WriteTests):
    def test_one_statement(self) -> None:
        """A batch is one statement, and so one way to the server and back, and one entry of the replicas' log."""
        self.mysql.primary.note_statements()
        self.write(*(an_answer(number) for number in range(500)))
        written = [each for each in self.mysql.primary.statements(self.mysql.user) if "rollcall_call" in each]
        self.assertEqual(len(written), 1)

    def test_replica(self) -> None:
        """A replica has the same rows."""
        self.write(an_answer(), an_end())
        self.mysql.wait_until_equal()
        rows = [server.query("SELECT * FROM rollcall.rollcall_call") for server in self.mysql.servers]
        self.assertEqual((rows[0], len(rows[0])), (rows[1], 1))


class RecentTests(MysqlRowsCase, test_calls_rows.RecentTests):
    def test_no_scan(self) -> None:
        """The calls of an address are found by an index, however many there are of others."""
        questions = ("caller = 'sip:a@b' ORDER BY started_at DESC LIMIT 50", "started_at < NOW() ORDER BY started_at")
        for question in questions:
            ((plan,),) = self.mysql.primary.query(f"EXPLAIN FORMAT=JSON SELECT id FROM rollcall.rollcall_call WHERE "
                                                  f"{question}")
            self.assertIn('"key": "rollcall_call_', plan)


class RetentionTests(MysqlRowsCase, test_calls_rows.RetentionTests):
    def test_one_at_a_time(self) -> None:
        """While one process removes, others leave it to that one."""
        self.write(an_answer())
        before = as_moment(NOW + 1)
        with engine_of(self.where()).connect() as other, self.engine.connect() as connection:
            other.execute(sa.text("SELECT GET_LOCK('rollcall retention', 0)"))
            self.assertEqual(remove_older(connection, before), 0)
            other.execute(sa.text("SELECT RELEASE_LOCK('rollcall retention')"))
            self.assertEqual(remove_older(connection, before), 1)


class Node:
    """What records the calls of one node, joined as the registrar joins it."""

    def __init__(self, case: MariadbCase, name: str, servers: Servers, folder: Path) -> None:
        config = CallsConfig(write_seconds=0.2)
        self.folder = folder
        spool = Spool(folder, config.max_spool_bytes, name)
        writer = CallWriter(spool, lambda: engine_of(case.where(), servers.writer, kept=1), config, reactor.seconds)
        self.records = CallRecords(reactor, config, spool, writer, reactor.seconds)
        self.records.start()

    @property
    def lost(self) -> int:
        """What will never be in the database."""
        return self.records.lost + self.records.rejected

    @property
    def left(self) -> int:
        """What is not there yet: files, and records on their way to the disk."""
        return len(list(self.folder.iterdir())) + self.records.waiting


class OutageTests(MariadbCase):
    """Calls begin at one node and end at the other a second later."""

    def setUp(self) -> None:
        self.engine = self.emptied()
        self.servers = Servers(reactor, self.where())
        self.servers.start()
        self.folders = [a_folder(self), a_folder(self)]
        self.calls = 0
        self.ended = 0
        self.longest = 0.0
        self.load = LoopingCall(self.call)
        self.start_nodes()

    def tearDown(self) -> "Deferred[None]":  # type: ignore[override]
        """End what a test has left running."""
        return Deferred.fromCoroutine(self.stop())

    async def stop(self) -> None:
        """End the nodes, and then what they ask."""
        await self.stop_nodes()
        await self.servers.stop()

    def start_nodes(self) -> None:
        """Start two nodes."""
        self.nodes = [Node(self, f"n{number}", self.servers, folder) for number, folder in enumerate(self.folders)]

    async def stop_nodes(self) -> None:
        """End both."""
        nodes, self.nodes = self.nodes, []
        await gatherResults([Deferred.fromCoroutine(node.records.stop()) for node in nodes])

    def call(self) -> None:
        """Begin some calls, and end those of a second ago."""
        now = perf_counter()
        for _ in range(CALLS_AT_A_TIME):
            self.calls += 1
            self.nodes[self.calls % 2].records.record(an_answer(self.calls, reactor.seconds()))
        self.end_calls(self.calls - CALLS_A_SECOND)
        self.longest = max(self.longest, perf_counter() - now)

    def end_calls(self, last: int) -> None:
        """End the calls up to this one."""
        for number in range(self.ended + 1, last + 1):
            self.nodes[1 - number % 2].records.record(an_end(number, reactor.seconds()))
            self.ended = number

    async def pause(self, seconds: float) -> None:
        """Let time pass, in which calls go on."""
        await deferLater(reactor, seconds)

    async def started(self, server: MariadbProcess) -> None:
        """Start a server again while calls go on. It ends with the thread that began it, so that is this one."""
        server.begin()
        await deferToThread(server.wait_until_it_answers)

    async def begin(self) -> None:
        """Begin to call."""
        self.load.start(TICK_SECONDS)
        await self.pause(1.3)

    def end(self) -> None:
        """End all calls, and make no others."""
        self.load.stop()
        self.end_calls(self.calls)

    async def all_written(self) -> None:
        """Wait until nothing waits any more."""
        for _ in range(round(PATIENCE_SECONDS / 0.1)):
            if not sum(node.left for node in self.nodes):
                return
            await self.pause(0.1)
        self.fail(f"{[node.records.problem for node in self.nodes]}")

    def assert_complete(self, what: str) -> None:
        """See that there is a row for each call, with its answer and its end."""
        engine = engine_of(self.where(), self.mysql.primary.address)
        rows, whole = counted(engine), counted(engine, WHOLE)
        lost = sum(node.lost for node in self.nodes)
        self.record(FIGURE, f"{what}: {self.calls} calls, {rows} rows, {whole} with answer and end, {lost} lost; "
                            f"at most {self.longest * 1000:.2f} ms of the reactor for 20 records")
        self.assertEqual((rows, whole, lost), (self.calls, self.calls, 0))

    async def test_paused(self) -> None:
        """A primary that says nothing for some seconds, twice, costs no call."""
        await self.begin()
        for _ in range(2):
            self.mysql.primary.pause()
            await self.pause(3)
            self.mysql.primary.resume()
            await self.pause(1)
        self.end()
        await self.all_written()
        self.assert_complete("primary paused twice")

    async def test_killed(self) -> None:
        """Neither does one that is killed in the middle of writing, and comes back."""
        await self.begin()
        for _ in range(2):
            await deferToThread(self.mysql.primary.kill)
            await self.pause(1.5)
            await self.started(self.mysql.primary)
            await self.pause(1.3)
        self.end()
        await self.all_written()
        self.assert_complete("primary killed twice")

    async def test_idle(self) -> None:
        """After a quiet night, in which the server has closed the connection, a record is written as any other."""
        self.mysql.primary.query("SET GLOBAL wait_timeout = 1")
        self.addCleanup(self.mysql.primary.query, "SET GLOBAL wait_timeout = 28800")
        await self.stop_nodes()
        self.start_nodes()
        with capturedLogs() as seen:
            for _ in range(3):
                self.call()
                await self.all_written()
                await self.pause(1.6)
        self.end_calls(self.calls)
        await self.all_written()
        self.assertEqual([each for each in seen if each["log_level"] is LogLevel.warn], [])

    async def test_paused_at_the_end(self) -> None:
        """A server that says nothing does not keep the registrars from ending in time."""
        await self.begin()
        self.mysql.primary.pause()
        self.addCleanup(self.mysql.primary.resume)
        await self.pause(0.3)
        self.end()
        began = perf_counter()
        await self.stop_nodes()
        took = perf_counter() - began
        self.record(FIGURE, f"records of calls end {took:.1f} s after they are asked to while the primary is paused")
        self.assertLess(took, ENDED_SECONDS)

    async def test_away_at_the_end(self) -> None:
        """What waits when the registrars end is written after their next start."""
        await self.begin()
        await deferToThread(self.mysql.primary.kill)
        await self.pause(1)
        self.end()
        await self.stop_nodes()
        self.assertTrue(all(list(folder.iterdir()) for folder in self.folders))
        await self.started(self.mysql.primary)
        self.start_nodes()
        await self.all_written()
        self.assert_complete("registrars ended while the primary was away")

    async def test_promoted(self) -> None:
        """When the primary is dead, what was not written yet is written to the replica that was promoted."""
        await self.begin()
        self.end()
        await self.all_written()
        self.mysql.wait_until_equal()
        old, new = self.mysql.primary, self.mysql.replicas[0]
        await deferToThread(old.kill)
        await self.begin()
        await deferToThread(self.mysql.promote, new)
        await self.pause(3)
        self.end()
        await self.all_written()
        self.assert_complete("replica promoted")
        await self.started(old)
        await deferToThread(self.mysql.rejoin, old)

    async def test_cost(self) -> None:
        """What a call costs: in signalling, and in the threads beside it."""
        records, number, half = self.nodes[0].records, 10_000, 5_000
        parts = [part for call in range(half) for part in (an_answer(call), an_end(call))]
        began_at, cpu = perf_counter(), process_time()
        for part in parts:
            records.record(part)
        recording = (perf_counter() - began_at) / number
        await self.all_written()
        seconds, used = perf_counter() - began_at, process_time() - cpu
        self.assertEqual(counted(self.engine, WHOLE), half)
        self.record(FIGURE, f"{half} calls: {recording * 1e6:.1f} µs for record(), {seconds / half * 1e6:.0f} µs a "
                            f"call until MariaDB has it, {used / half * 1e6:.0f} µs of it our CPU")
