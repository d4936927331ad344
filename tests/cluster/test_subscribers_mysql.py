"""The contract of every store of subscribers, kept over a real MariaDB: in our own schema, and in Kamailio's table."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from registrar.auth import StoreUnavailable
from registrar.database.engines import engine_of
from registrar.database.upgrading import upgrade
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import SubscriberExists, SubscriberStore, subscriber_with
from registrar.subscribers.making import make_table
from registrar.subscribers.mysql import MysqlSource
from registrar.subscribers.store import CachedSubscribers
from rollcall.sip.digest import ha1
from rollcall.sql.config import MysqlConfig
from rollcall.sql.servers import Servers
from tests.cluster.table_case import TableCase
from tests.interop.process import free_ports
from tests.registrar.subscriber_contract import DOMAIN, SubscriberContract
from tools.laboratory.mariadb_servers import DATABASE, KAMAILIO_DATABASE

T = TypeVar("T")

OTHER = "example.net"
# No look for changes falls into a test that counts what MySQL is asked.
SELDOM_SECONDS = 600.0


class StoreCase(TableCase):
    """Makes stores as the registrar has them: caches above a table, over servers asked in threads."""

    config = CacheConfig(changes_seen_within_seconds=0.05)

    def refuse_now(self, expected: type[Exception], coroutine: Coroutine[Any, Any, Any]) -> str:
        """Return the text of what the coroutine raises."""
        with self.assertRaises(expected) as raised:
            self.run_now(coroutine)
        return str(raised.exception)

    def store_over(self, mysql: MysqlConfig, table: TableConfig) -> CachedSubscribers:
        """Return a store that is not started; its servers are."""
        servers = Servers(self.reactor, mysql)
        servers.start()
        self.addCleanup(lambda: self.run_now(servers.stop()))
        return CachedSubscribers(self.reactor, MysqlSource(servers, table), self.config,
                                 domains=None if table.use_domain else lambda: (DOMAIN, OTHER))


class Contract(SubscriberContract):
    """Mixed into a StoreCase, whose stores answer when MySQL does."""

    def result(self: Any, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns, or raise what it raises, once that is there."""
        value: T = self.run_now(coroutine)
        return value

    def error(self: Any, expected: type[Exception], coroutine: Coroutine[Any, Any, Any]) -> str:
        """Return the text of what the coroutine raises."""
        text: str = self.refuse_now(expected, coroutine)
        return text


class OurTableTests(Contract, StoreCase):
    """The table that `rollcall db upgrade` makes."""

    def make_store(self) -> SubscriberStore:
        self.make_empty()
        engine = engine_of(self.mysql_config())
        upgrade(engine)
        make_table(engine, TableConfig())
        return self.store_over(self.mysql_config(), TableConfig(use_domain=True))


class KamailioTests(Contract, StoreCase):
    """The table that Kamailio made, where a username alone says who somebody is. Some promises are others."""

    def make_store(self) -> SubscriberStore:
        self.make_kamailio()
        return self.store_over(self.mysql_config(KAMAILIO_DATABASE), TableConfig())

    def test_names(self) -> None:
        """The case of a username matters, that of a domain does not; a username is one user's in all domains."""
        self.result(self.store.add("alice", "EXAMPLE.org", "secret"))
        for username, domain in (("alice", OTHER), ("Alice", DOMAIN)):
            self.error(SubscriberExists, self.store.add(username, domain, "other"))
        self.assertIsNone(self.result(self.store.find("Alice", DOMAIN)))
        found = self.result(self.store.find("alice", "Example.ORG"))
        expected = subscriber_with("alice", DOMAIN, "secret")
        self.assertEqual(self.plain(found), ("alice", DOMAIN, {"MD5": expected.ha1["MD5"]}, dict(expected.ha1b)))
        self.assertEqual(self.plain(self.result(self.store.find("alice", OTHER))),
                         ("alice", OTHER, {"MD5": expected.ha1["MD5"]}, dict(expected.ha1b)))

    def test_listed(self) -> None:
        """Everybody is listed once, by username, however long the pages are."""
        names = [(f"user{number:02}", OTHER if number % 3 else DOMAIN) for number in range(20)]
        for username, domain in reversed(names):
            self.result(self.store.add(username, domain, "secret"))
        for page_size in (1, 3, 20, 500):
            self.assertEqual(self.result(self.everybody(page_size)), ["@".join(name) for name in names])

    def plain(self, subscriber: Any) -> Any:
        """Return a subscriber's values, of which there is room for those by MD5 here."""
        values = SubscriberContract.plain(self, subscriber)
        if values is None:
            return None
        username, domain, by_name, by_long_name = values
        return username, domain, {"MD5": by_name["MD5"]}, by_long_name

    def test_changed_in_every_domain(self) -> None:
        """Another password takes effect at once in all domains in which the user was found, and so does the end."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        for domain in (DOMAIN, OTHER):
            self.assertIsNotNone(self.result(self.store.find("alice", domain)))
        self.result(self.store.set_password("alice", DOMAIN, "other"))
        for domain in (DOMAIN, OTHER):
            found = self.result(self.store.find("alice", domain))
            self.assertEqual(None if found is None else found.ha1["MD5"], ha1("MD5", "alice", DOMAIN, "other"))
        self.result(self.store.remove("alice", OTHER))
        for domain in (DOMAIN, OTHER):
            self.assertIsNone(self.result(self.store.find("alice", domain)))


class UnavailableTests(StoreCase):
    """What is said when nothing can be known."""

    config = CacheConfig(changes_seen_within_seconds=SELDOM_SECONDS)

    def test_no_server(self) -> None:
        """A store starts without any server, and says of whom nothing is known that it is not known."""
        (port,) = free_ports(1)
        store = self.store_over(self.mysql_config(primary=f"127.0.0.1:{port}"), TableConfig())
        self.run_now(store.start())
        for asking in (store.find("alice", DOMAIN), store.add("alice", DOMAIN, "secret"), store.count()):
            self.assertIn(f"127.0.0.1:{port}", self.refuse_now(StoreUnavailable, asking))
        self.run_now(store.stop())

    def test_no_table(self) -> None:
        """A database without the table says how to make one; as soon as it is there, users are found."""
        self.make_empty()
        store = self.store_over(self.mysql_config(), TableConfig())
        self.run_now(store.start())
        for asking in (store.find("alice", DOMAIN), store.add("alice", DOMAIN, "secret"), store.count()):
            self.assertIn("rollcall db upgrade", self.refuse_now(StoreUnavailable, asking))
        make_table(engine_of(self.mysql_config()), TableConfig())
        self.run_now(store.add("alice", DOMAIN, "secret"))
        self.assertIsNotNone(self.run_now(store.find("alice", DOMAIN)))
        self.run_now(store.stop())

    def test_asked_once(self) -> None:
        """A user who is looked up again and again is one query, one who does not exist too; the columns are known."""
        self.make_empty()
        make_table(engine_of(self.mysql_config()), TableConfig())
        self.mysql.primary.add_all("INSERT INTO subscriber (username, domain, ha1) VALUES (%s, %s, REPEAT('0', 32))",
                                   [(f"user{number}", DOMAIN) for number in range(3)], DATABASE)
        store = self.store_over(self.mysql_config(), TableConfig())
        self.run_now(store.start())
        self.run_now(store.find("somebody", DOMAIN))
        self.mysql.primary.note_statements()
        for _ in range(3):
            for number in range(4):
                self.run_now(store.find(f"user{number}", DOMAIN))
        asked = [text for text in self.mysql.primary.statements(self.mysql.user) if "FROM `subscriber`" in text]
        self.assertEqual([text.partition(" ")[0] for text in asked], ["SELECT"] * 4, asked)
        self.run_now(store.stop())
