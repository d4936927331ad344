"""The table of subscribers in MySQL with our own tables beside it: many at a time, who was changed, and commands."""

import json
from threading import Event, Thread
from time import monotonic
from typing import Any

from click.testing import CliRunner

from registrar.auth import StoreUnavailable, Subscriber
from registrar.command.commands import main
from registrar.database.engines import engine_of
from registrar.database.upgrading import upgrade
from registrar.directory.opening import directory_at
from registrar.subscribers import mysql_changes
from registrar.subscribers.bulk import Bulk
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import SubscriberExists, subscriber_with
from registrar.subscribers.making import make_table
from registrar.subscribers.mysql_changes import read_changes
from registrar.subscribers.mysql_rows import MysqlRows
from registrar.subscribers.source import Changed
from registrar.subscribers.tables import MysqlTable, open_table
from rollcall.sip.digest import ha1
from rollcall.sql.errors import SqlUnavailable
from tests.cluster.table_case import DOMAIN, TableCase
from tests.interop.process import wait_until
from tests.registrar.command.running import CONFIG
from tools.laboratory.mariadb_servers import DATABASE
from tools.laboratory.toml import toml_of

OTHER = "example.net"


def by_md5(username: str, domain: str = DOMAIN, password: str = "secret") -> Subscriber:
    """Return somebody of whom one hash is known."""
    return Subscriber(username, domain, {"MD5": ha1("MD5", username, domain, password)})


class OurTablesCase(TableCase):
    """A database as `rollcall db upgrade` makes it."""

    def setUp(self) -> None:
        self.make_empty()
        engine = engine_of(self.mysql_config())
        upgrade(engine)
        make_table(engine, TableConfig())

    def ours(self, **settings: Any) -> MysqlTable:
        """Return the table, in which a domain counts unless it is said otherwise."""
        return self.table(DATABASE, **{"use_domain": True, **settings})


class AddHashedTests(OurTablesCase):
    def test_added(self) -> None:
        """Many are added together with the hashes that are known of each."""
        table = self.ours()
        everybody = [by_md5(f"user{number}") for number in range(1200)] + [subscriber_with("alice", DOMAIN, "secret")]
        self.assertEqual(table.add_hashed(everybody), Bulk(1201, 0))
        self.assertEqual(table.count(), 1201)
        found = table.find("user7", DOMAIN)
        self.assertEqual(None if found is None else (found.ha1, found.ha1b), (by_md5("user7").ha1, {}))
        found = table.find("alice", DOMAIN)
        self.assertEqual(None if found is None else found.ha1, everybody[-1].ha1)

    def test_who_is_there(self) -> None:
        """Who is there is left alone and named, or replaced when that is wished; a later one finds an earlier one."""
        table = self.ours()
        table.add("alice", DOMAIN, "old")
        both = [by_md5("alice"), by_md5("bob"), by_md5("alice", OTHER), by_md5("bob", password="second")]
        self.assertEqual(table.add_hashed(both), Bulk(2, 0, (("alice", DOMAIN), ("bob", DOMAIN))))
        self.assertEqual(table.find("alice", DOMAIN), subscriber_with("alice", DOMAIN, "old"))
        self.assertEqual(table.add_hashed([*both, by_md5("carol"), by_md5("carol", password="second")], replace=True),
                         Bulk(1, 5))
        found = table.find("alice", DOMAIN)
        self.assertEqual(found, by_md5("alice"), "nothing of the old password stays")
        for name in ("bob", "carol"):
            self.assertEqual(table.find(name, DOMAIN), by_md5(name, password="second"))

    def test_without_domains(self) -> None:
        """Without use_domain a username that is there in another domain is there."""
        table = self.ours(use_domain=False)
        table.add("alice", OTHER, "old")
        added = table.add_hashed([by_md5("alice"), by_md5("bob"), by_md5("bob", OTHER)])
        self.assertEqual(added, Bulk(1, 0, (("alice", DOMAIN), ("bob", OTHER))))
        self.assertEqual(table.add_hashed([by_md5("alice")], replace=True), Bulk(0, 1))
        self.assertEqual(self.sql("SELECT username, domain, ha1 FROM subscriber ORDER BY username", database=DATABASE),
                         [("alice", OTHER, by_md5("alice").ha1["MD5"]), ("bob", DOMAIN, by_md5("bob").ha1["MD5"])])

    def test_what_the_table_does_not_take(self) -> None:
        """One whom the table does not take is told with a reason, and holds up nobody: neither too long a name, nor
        letters that it has not, nor a hash it has no column for, nor somebody who is there in other letters."""
        self.sql("ALTER TABLE subscriber MODIFY username VARCHAR(10) CHARACTER SET latin1 NOT NULL, "
                 "DROP ha1_sha512t256", database=DATABASE)
        table = self.ours()
        by_another = Subscriber("bob", DOMAIN, {"SHA-512-256": ha1("SHA-512-256", "bob", DOMAIN, "secret")})
        bulk = table.add_hashed([by_md5("alice"), by_md5("x" * 11), by_md5("\u5bc6"), by_another, by_md5("ALICE")])
        self.assertEqual((bulk.added, bulk.existing), (1, (("ALICE", DOMAIN),)))
        self.assertEqual({name for name, _, _ in bulk.refused}, {"x" * 11, "\u5bc6", "bob"})
        for name, _, why in bulk.refused:
            self.assertIn("no column" if name == "bob" else "username", why)
        self.assertEqual([each.username for each in table.page()], ["alice"])

    def test_speed(self) -> None:
        """20,000 users go in within seconds, and as many are replaced."""
        table = self.ours()
        batches = [[by_md5(f"user{start + number:06}") for number in range(1000)] for start in range(0, 20_000, 1000)]
        for replace in (False, True):
            began = monotonic()
            for batch in batches:
                bulk = table.add_hashed(batch, replace)
                self.assertEqual((bulk.added, bulk.replaced), (0, 1000) if replace else (1000, 0))
            self.assertLess(monotonic() - began, 60)


class ChangesTests(OurTablesCase):
    def setUp(self) -> None:
        super().setUp()
        self.reader = self.connection(DATABASE)

    def since(self, mark: int | None) -> Changed:
        """Return what was changed since a mark."""
        changed = read_changes(self.reader, mark)
        assert changed is not None
        return changed

    def age(self, seconds: int = mysql_changes.OPEN_SECONDS + 1) -> None:
        """Let all changes be so much older."""
        self.sql("UPDATE rollcall_change SET at = at - INTERVAL %s SECOND", seconds, database=DATABASE)

    def test_every_change(self) -> None:
        """Whoever adds, changes or removes somebody, or replaces many, leaves word; who is only added by many, not."""
        start = self.since(None)
        self.assertEqual(start, Changed(0, ()))
        table = self.ours()
        table.add("alice", DOMAIN, "secret")
        table.set_password("alice", "Example.Org", "other")
        table.remove("alice", DOMAIN)
        table.add_hashed([by_md5("bob"), by_md5("carol")])
        table.add_hashed([by_md5("bob"), by_md5("dora")], replace=True)
        table.forget([("eve", OTHER)])
        alice = ("alice", DOMAIN)
        self.assertEqual(self.since(0), Changed(5, (alice, alice, alice, ("bob", DOMAIN), ("eve", OTHER))))
        self.assertEqual(self.since(3).names, (("bob", DOMAIN), ("eve", OTHER)))
        self.assertEqual(self.since(5), Changed(5, ()))

    def test_what_failed_was_no_change(self) -> None:
        """What did not come about leaves no word."""
        table = self.ours()
        table.add("alice", DOMAIN, "secret")
        mark = self.since(0).mark
        self.assertRaises(SubscriberExists, table.add, "alice", DOMAIN, "other")
        self.assertEqual(self.since(mark), Changed(mark, ()))

    def test_everybody(self) -> None:
        """Anybody may be meant; and so it is when too much was missed, or too many at a time."""
        table = self.ours()
        table.forget([("alice", DOMAIN)])
        table.forget(None)
        self.assertEqual(self.since(0), Changed(2, None))
        many = [(f"user{number}", DOMAIN) for number in range(mysql_changes.MAX_CHANGES + 1)]
        table.forget(many)
        self.assertEqual(self.since(2), Changed(2 + len(many), None))
        self.patch(mysql_changes, "KEPT_CHANGES", 10)
        self.patch(mysql_changes, "TRIM_EVERY", 1)
        table.forget([("bob", DOMAIN)])
        table.forget([("bob", DOMAIN)])
        last = 4 + len(many)
        self.assertEqual(self.sql("SELECT COUNT(*) FROM rollcall_change", database=DATABASE), [(10,)])
        self.assertEqual(self.since(5), Changed(last, None))
        self.assertEqual(self.since(last - 10).mark, last)

    def test_a_change_that_ends_late(self) -> None:
        """A change whose number came first and which is committed last is told; the later one is told again."""
        self.ours().forget([("alice", DOMAIN)])
        mark = self.since(0).mark
        late = self.connection(DATABASE)
        late.begin()
        mysql_changes.note_changes(late, [("late", DOMAIN)])
        self.ours().forget([("bob", DOMAIN)])
        first = self.since(mark)
        self.assertEqual(first, Changed(mark, (("bob", DOMAIN),)))
        late.commit()
        self.assertEqual(self.since(first.mark), Changed(mark + 2, (("late", DOMAIN), ("bob", DOMAIN))))

    def test_a_change_that_never_ends(self) -> None:
        """A number that was given to nobody is waited for a while, and no longer."""
        self.ours().forget([("alice", DOMAIN)])
        undone = self.connection(DATABASE)
        undone.begin()
        mysql_changes.note_changes(undone, [("late", DOMAIN)])
        undone.rollback()
        self.ours().forget([("bob", DOMAIN)])
        self.assertEqual(self.since(1), Changed(1, (("bob", DOMAIN),)))
        self.age()
        self.assertEqual(self.since(1), Changed(3, (("bob", DOMAIN),)))

    def test_the_first_mark(self) -> None:
        """Who begins is told of what is so new that an earlier change may still come, and of nothing older."""
        table = self.ours()
        table.forget([("old", DOMAIN)])
        self.age()
        table.forget([("new", DOMAIN)])
        self.assertEqual(self.since(None), Changed(1, ()))
        self.age()
        self.assertEqual(self.since(None), Changed(2, ()))

    def test_a_server_that_is_behind(self) -> None:
        """A server that knows less than one has heard lets one hear it again later, and doubts nobody."""
        self.ours().forget([("alice", DOMAIN)])
        self.assertEqual(self.since(7), Changed(1, ()))

    def test_no_table(self) -> None:
        """Without the table nothing is noted, and that can be told; everything else goes on."""
        self.sql("DROP TABLE rollcall_change", database=DATABASE)
        table = self.ours()
        table.add("alice", DOMAIN, "secret")
        self.assertFalse(table.forget(None))
        self.assertIsNone(read_changes(self.reader, 0))
        self.assertIsNone(read_changes(self.reader, None))


class LostTests(OurTablesCase):
    def test_server_gone_and_back(self) -> None:
        """A command whose connection is lost says so, and the next attempt takes another connection."""
        table = self.ours()
        table.add("alice", DOMAIN, "secret")
        self.mysql.primary.restart()
        self.assertRaisesRegex(StoreUnavailable, self.mysql.primary.address, table.find, "alice", DOMAIN)
        self.assertIsNotNone(table.find("alice", DOMAIN))

    def test_two_at_once(self) -> None:
        """Of two who add the same user at once one does, and the other is told."""
        rows = MysqlRows(TableConfig(use_domain=True))
        first, second = self.connection(DATABASE), self.connection(DATABASE)
        first.begin()
        rows.add(first, "alice", DOMAIN, "secret")
        outcome: list[object] = []
        begun = Event()

        def add() -> None:
            begun.set()
            second.begin()
            try:
                rows.add(second, "alice", DOMAIN, "other")
            except SubscriberExists as error:
                outcome.append(str(error))

        thread = Thread(target=add)
        thread.start()
        begun.wait()
        waiting = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT%%'"
        wait_until(lambda: self.sql(waiting, database=DATABASE) == [(1,)] or None, "the second INSERT")
        first.commit()
        thread.join()
        self.assertIn("exists already", str(outcome))


class ReplicaTests(TableCase):
    """A primary and a replica, as commands meet them."""

    kind = "replica"

    def setUp(self) -> None:
        engine = engine_of(self.mysql_config())
        upgrade(engine)
        make_table(engine, TableConfig())

    def add_alias(self, name: str) -> None:
        """Add an alias as the command does."""
        with directory_at(self.mysql_config()) as directory:
            directory.add_alias(f"sip:{name}@{DOMAIN}", f"sip:alice@{DOMAIN}")

    def test_who_takes_writes(self) -> None:
        """While the primary is away a command can look, and change once a replica is promoted; never which of two."""
        table = self.table(DATABASE)
        table.add("alice", DOMAIN, "secret")
        self.mysql.wait_until_equal()
        old, (replica,) = self.mysql.primary, self.mysql.replicas
        replica.query("SET GLOBAL read_only = 0")
        self.table(DATABASE).set_password("alice", DOMAIN, "second")
        self.mysql.wait_until_equal()
        old.kill()
        table = self.table(DATABASE)
        self.assertEqual(table.find("alice", DOMAIN), subscriber_with("alice", DOMAIN, "second"))
        self.assertRaisesRegex(StoreUnavailable, "no replica was promoted",
                               table.set_password, "alice", DOMAIN, "other")
        self.assertRaisesRegex(SqlUnavailable, "no replica was promoted", self.add_alias, "a")
        with directory_at(self.mysql_config()) as directory:
            self.assertEqual(directory.aliases(), [])
        self.mysql.promote(replica)
        self.table(DATABASE).set_password("alice", DOMAIN, "other")
        self.assertEqual(table.find("alice", DOMAIN), subscriber_with("alice", DOMAIN, "other"))
        self.add_alias("a")
        old.start()
        self.assertRaisesRegex(SqlUnavailable, f"{old.address} and {replica.address} take writes", self.add_alias, "b")
        self.assertRaisesRegex(StoreUnavailable, f"{old.address} and {replica.address} take writes",
                               self.table(DATABASE).remove, "alice", DOMAIN)
        for server in (old, replica):
            server.kill()
        nobody = open_table("mysql", TableConfig(), self.mysql_config(), self.mysql.folder)
        self.assertRaisesRegex(StoreUnavailable, old.address, nobody.__enter__)


class CommandTests(OurTablesCase):
    """`rollcall user` over MySQL."""

    def setUp(self) -> None:
        super().setUp()
        self.config = self.mysql.folder / "registrar.toml"
        self.config.write_text(CONFIG + toml_of({"mysql": self.mysql.settings, "subscribers": {"kind": "mysql",
                                                                                           "use_domain": True}}))

    def run_json(self, *words: str, input: str | None = None) -> Any:
        """Return what a command that succeeds says."""
        result = CliRunner().invoke(main, [*words, "--json"], input=input, env={"ROLLCALL_CONFIG": str(self.config)})
        self.assertEqual(result.exit_code, 0, result.output)
        return json.loads(result.stdout)

    def test_users(self) -> None:
        """Users are added, get other passwords, are listed and removed, in the database."""
        for name in ("bob", "alice@example.org", "alice"):
            self.run_json("user", "add", name, "--password-stdin", input="secret\n")
        self.run_json("user", "passwd", "alice@example.org", "--password-stdin", input="other\n")
        self.run_json("user", "remove", "bob")
        self.assertEqual(self.run_json("user", "list")["users"], [
            {"username": "alice", "domain": "example.com"}, {"username": "alice", "domain": "example.org"}])
        table = self.ours()
        for domain, password in (("example.com", "secret"), ("example.org", "other")):
            self.assertEqual(table.find("alice", domain), subscriber_with("alice", domain, password))

    def test_forget(self) -> None:
        """Of a change by other means registrars are told in the database; where they cannot be, that is said."""
        self.assertEqual(self.run_json("user", "forget", "alice"), {"forgotten": "alice@example.com"})
        self.assertEqual(self.run_json("user", "forget", "--all"), {"forgotten": "all"})
        self.assertEqual(self.sql("SELECT username, domain FROM rollcall_change ORDER BY id", database=DATABASE),
                         [("alice", "example.com"), ("*", "")])
        self.sql("DROP TABLE rollcall_change", database=DATABASE)
        result = CliRunner().invoke(main, ["user", "forget", "alice"], env={"ROLLCALL_CONFIG": str(self.config)})
        self.assertEqual(result.exit_code, 1)
        self.assertIn("14400 s", result.stderr)

    def test_server_away(self) -> None:
        """While no server answers a command says which, in one line."""
        self.config.write_text(self.config.read_text().replace(str(self.mysql.primary.port), "9"))
        result = CliRunner().invoke(main, ["user", "list"], env={"ROLLCALL_CONFIG": str(self.config)})
        self.assertEqual((result.exit_code, result.stderr.count("\n")), (1, 1))
        self.assertIn("127.0.0.1:9", result.stderr)
