"""Subscribers in MySQL as far as no server is needed: which hash a column holds, and what errors become."""

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pymysql.err import OperationalError, ProgrammingError
from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import NoSuchSubscriber
from registrar.subscribers.mysql import MysqlSource
from registrar.subscribers.mysql_layout import HashColumn, Layout, subscriber_of
from registrar.subscribers.source import Changed
from rollcall.sip.digest import ALGORITHMS, ha1
from rollcall.sql.connecting import Connection
from rollcall.sql.contract import ServerState
from rollcall.sql.errors import SqlUnavailable

T = TypeVar("T")

DOMAIN = "example.org"
HA1 = HashColumn("ha1", "ha1", ("MD5", "SHA-256"))
HA1B = HashColumn("ha1b", "ha1b", ("MD5", "SHA-256"))
BY_SHA_256 = HashColumn("ha1_sha256", "ha1", ("SHA-256",))


def hashed(algorithm: str, password: str = "secret") -> str:
    """Return H(A1) of alice."""
    return ha1(algorithm, "alice", DOMAIN, password)


class HashColumnTests(SynchronousTestCase):
    def test_algorithm(self) -> None:
        """The number of digits tells the algorithm; what is no hash has none."""
        for text, algorithm in (
            ("0" * 32, "MD5"), ("aF" * 16, "MD5"), ("0" * 64, "SHA-256"), ("0" * 128, None), ("", None),
            ("0" * 31, None), ("g" * 32, None), ("0" * 31 + "\n", None), ("\u0661" * 32, None), ("secret", None),
        ):
            self.assertEqual(HA1.algorithm_of(text), algorithm, text)
        self.assertIsNone(BY_SHA_256.algorithm_of("0" * 32))

    def test_written(self) -> None:
        """A column of any algorithm is written by MD5, unless the old hash was by another, or MD5 is not known."""
        both = {name: hashed(name) for name in ALGORITHMS}
        self.assertEqual(HA1.written(both), both["MD5"])
        self.assertEqual(HA1.written(both, "0" * 32), both["MD5"])
        self.assertEqual(HA1.written(both, "0" * 64), both["SHA-256"])
        self.assertEqual(HA1.written({"SHA-256": both["SHA-256"]}), both["SHA-256"])
        self.assertEqual(HA1.written({"SHA-256": both["SHA-256"]}, "0" * 32), both["SHA-256"])
        self.assertEqual(HA1.written({"SHA-512-256": both["SHA-512-256"]}), "")
        self.assertEqual(BY_SHA_256.written({"MD5": both["MD5"]}), "")


class RowTests(SynchronousTestCase):
    layout = Layout((HA1, HA1B, BY_SHA_256), True, {}, "id", False)

    def test_side_by_side(self) -> None:
        """All hashes of a row count; the column of one algorithm before one that may hold any; bytes and NULL too."""
        made = subscriber_of(self.layout, TableConfig(), "alice", DOMAIN,
                             (hashed("MD5").upper(), hashed("MD5", "long").encode(), hashed("SHA-256"), "clear"))
        self.assertEqual(made.ha1, {"MD5": hashed("MD5"), "SHA-256": hashed("SHA-256")})
        self.assertEqual(made.ha1b, {"MD5": hashed("MD5", "long")})
        made = subscriber_of(self.layout, TableConfig(), "alice", DOMAIN,
                             (hashed("SHA-256", "old"), None, hashed("SHA-256"), None))
        self.assertEqual((made.ha1, made.ha1b), ({"SHA-256": hashed("SHA-256")}, {}))

    def test_clear_text(self) -> None:
        """A password in clear text counts only where it is configured to, and then alone; an empty one never."""
        table = TableConfig(calculate_ha1=True)
        made = subscriber_of(self.layout, table, "alice", DOMAIN, (hashed("MD5", "old"), "", "", "secret"))
        self.assertEqual(made.ha1, {name: hashed(name) for name in ALGORITHMS})
        self.assertEqual(made.ha1b["MD5"], ha1("MD5", f"alice@{DOMAIN}", DOMAIN, "secret"))
        made = subscriber_of(self.layout, table, "alice", DOMAIN, (hashed("MD5"), "", "", ""))
        self.assertEqual(made.ha1, {"MD5": hashed("MD5")})


class ScriptedSql:
    """Answers what the test says, whatever is asked; never runs a query."""

    problem = None
    writer = None
    may_be_late = False
    states: tuple[ServerState, ...] = ()

    def __init__(self) -> None:
        self.answer: object = None
        self.fresh: list[bool] = []

    def read(self, query: Callable[[Connection], T], fresh: bool = False) -> "Deferred[T]":
        """Answer."""
        self.fresh.append(fresh)
        return self.write(query)

    def write(self, change: Callable[[Connection], T]) -> "Deferred[T]":
        """Answer."""
        answer: Any = self.answer
        return fail(answer) if isinstance(answer, Exception) else succeed(answer)


class MysqlSourceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.sql = ScriptedSql()
        self.source = MysqlSource(self.sql, TableConfig())
        self.now(self.source.start())

    def now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what a coroutine returns at once."""
        result: T = self.successResultOf(Deferred.fromCoroutine(coroutine))
        return result

    def everything(self) -> tuple[Coroutine[Any, Any, Any], ...]:
        """Return one call of each method."""
        return (
            self.source.find("alice", DOMAIN, False), self.source.page(("", ""), 10), self.source.count(),
            self.source.add("alice", DOMAIN, "secret"), self.source.set_password("alice", DOMAIN, "secret"),
            self.source.remove("alice", DOMAIN), self.source.changes(None),
        )

    def assert_unavailable(self, text: str) -> None:
        """Expect that nothing can be known, and why."""
        for asking in self.everything():
            failure = self.failureResultOf(Deferred.fromCoroutine(asking), StoreUnavailable)
            self.assertIn(text, str(failure.value))

    def test_servers_away(self) -> None:
        """When no server can be asked nothing is known, and the reason is passed on."""
        self.sql.answer = SqlUnavailable("MySQL at 192.0.2.7:3306: no answer")
        self.assert_unavailable("192.0.2.7:3306: no answer")

    def test_errors_of_sql(self) -> None:
        """Nor is anything known when MySQL answers with an error: without a table it is said how to make it."""
        self.sql.answer = ProgrammingError(1146, "Table 'x.subscriber' doesn't exist")
        self.assert_unavailable("no table subscriber; `rollcall db upgrade`")
        self.sql.answer = OperationalError(1142, "SELECT command denied to user")
        self.assert_unavailable("SELECT command denied")

    def test_outcomes_of_changes(self) -> None:
        """What is wrong with a change reaches who wished it."""
        self.sql.answer = NoSuchSubscriber("there is no subscriber alice@example.org")
        self.failureResultOf(Deferred.fromCoroutine(self.source.remove("alice", DOMAIN)), NoSuchSubscriber)

    def test_stopped(self) -> None:
        """After the end nothing is asked any more."""
        self.now(self.source.stop())
        self.assert_unavailable("closed")
        self.assertEqual(self.sql.fresh, [])

    def test_fresh(self) -> None:
        """Who must not miss a change asks the server that takes writes, and so does who looks for changes."""
        self.now(self.source.find("alice", DOMAIN, False))
        self.now(self.source.find("alice", DOMAIN, True))
        self.now(self.source.changes(0))
        self.assertEqual(self.sql.fresh, [False, True, True])

    def test_no_table_of_changes(self) -> None:
        """Without our table nobody is ever said to have changed, and the log tells so once."""
        with capturedLogs() as seen:
            for _ in range(3):
                self.assertEqual(self.now(self.source.changes(None)), Changed(0, ()))
            # A replica may not have it yet.
            self.assertEqual(self.now(self.source.changes(7)), Changed(7, ()))
        self.assertEqual(len([each for each in seen if each.get("table") == "rollcall_change"]), 1)
        self.sql.answer = Changed(7, (("alice", DOMAIN),))
        self.assertEqual(self.now(self.source.changes(3)), self.sql.answer)
