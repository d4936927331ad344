"""Tests of the subscriber table in its file, as the command uses it."""

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.bulk import Bulk
from registrar.subscribers.contract import NoSuchSubscriber, SubscriberExists, subscriber_with
from registrar.subscribers.table import SubscriberTable
from rollcall.sip.digest import ha1

DOMAIN = "example.org"


class SubscriberTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(TemporaryDirectory())) / "subscribers.sqlite"
        self.table = self.opened()

    def opened(self) -> SubscriberTable:
        table = SubscriberTable(self.path, busy_seconds=0)
        table.open()
        self.addCleanup(table.close)
        return table

    def sql(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Do what another program may do to the file."""
        connection = sqlite3.connect(self.path)
        try:
            with connection:
                return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def test_survives(self) -> None:
        """Who was added is there when the file is opened again."""
        self.table.add("alice", DOMAIN, "secret")
        self.table.close()
        with SubscriberTable(self.path) as again:
            self.assertEqual(again.find("alice", DOMAIN), subscriber_with("alice", DOMAIN, "secret"))
            self.assertEqual(again.count(), 1)

    def test_opened_again(self) -> None:
        """A table that was closed can be opened again."""
        self.table.close()
        with self.assertRaises(StoreUnavailable):
            self.table.count()
        self.table.open()
        self.assertEqual(self.table.count(), 0)
        self.table.version()

    def test_many_at_once(self) -> None:
        """Many are added as one; and none of them when one is there already."""
        self.table.add_all((name, DOMAIN, "secret") for name in ("alice", "bob"))
        self.assertEqual(self.table.find("bob", DOMAIN), subscriber_with("bob", DOMAIN, "secret"))
        with self.assertRaises(SubscriberExists):
            self.table.add_all((name, DOMAIN, "secret") for name in ("carol", "alice"))
        self.assertEqual(self.table.count(), 2)

    def test_hashes_of_many(self) -> None:
        """Of many whose hashes are known those are added who are not there; others are named, or replaced on demand."""
        names = "alice", "bob"
        by_md5 = {name: Subscriber(name, DOMAIN, {"MD5": ha1("MD5", name, DOMAIN, "secret")}) for name in names}
        self.table.add("alice", DOMAIN, "old")
        nobody = Subscriber("carol", DOMAIN, {})
        added = self.table.add_hashed([*by_md5.values(), nobody, by_md5["bob"]])
        self.assertEqual((added.added, added.replaced, added.existing), (1, 0, (("alice", DOMAIN), ("bob", DOMAIN))))
        self.assertEqual([name for name, _, _ in added.refused], ["carol"])
        self.assertEqual(self.table.find("alice", DOMAIN), subscriber_with("alice", DOMAIN, "old"))
        self.assertEqual(self.table.add_hashed(list(by_md5.values()), replace=True), Bulk(0, 2))
        self.assertEqual(self.table.find("alice", DOMAIN), by_md5["alice"])

    def test_file_is_private(self) -> None:
        """Nobody else on the machine may read the hashes, which are as good as passwords."""
        self.table.add("alice", DOMAIN, "secret")
        for name in (self.path.name, self.path.name + "-wal", self.path.name + "-shm"):
            self.assertEqual((self.path.parent / name).stat().st_mode & 0o777, 0o600, name)

    def test_columns(self) -> None:
        """A row has the columns of Kamailio and OpenSIPS, and no password."""
        self.table.add("alice", DOMAIN, "secret")
        rows = self.sql(
            "SELECT username, domain, password, ha1, ha1b, ha1_sha256, ha1_sha512t256 FROM subscriber WHERE id = 1"
        )
        # md5sum, sha256sum and openssl dgst -sha512-256 of alice:example.org:secret, md5sum of alice@example.org:…
        self.assertEqual(rows, [(
            "alice",
            DOMAIN,
            "",
            "543e1aec5d3614f03141652d6ada51b2",
            "1441a999b257bcd0cf5166930039876a",
            "d1659fff7a501be15962adc35514ca6a5868905695f2dd1093741f931e000a1f",
            "bb26296e6f753ae34f4465323f4e1505bf959f55a87ee9347d34355a1e88627a",
        )])

    def test_rows_of_kamailio(self) -> None:
        """Of a row that Kamailio wrote only the hashes it has are used, and none that cannot be one."""
        self.sql(
            "INSERT INTO subscriber (username, domain, password, ha1, ha1b, ha1_sha256) VALUES (?, ?, ?, ?, ?, ?)",
            "alice", DOMAIN, "secret", "A" * 32, "z" * 32, "a" * 32,
        )
        found = self.table.find("alice", DOMAIN)
        assert found is not None
        self.assertEqual((dict(found.ha1), dict(found.ha1b)), ({"MD5": "a" * 32}, {}))

    def test_two_tables_on_one_file(self) -> None:
        """What one process changes the other sees at once, and its version tells."""
        other = self.opened()
        before = other.version()
        self.assertEqual(other.version(), before)
        self.table.add("alice", DOMAIN, "secret")
        self.assertNotEqual(other.version(), before)
        self.assertIsNotNone(other.find("alice", DOMAIN))
        with self.assertRaises(SubscriberExists):
            other.add("alice", DOMAIN, "secret")

    def test_version_tells_every_change(self) -> None:
        """Each change by anybody gives another version, and reading gives none."""
        self.table.add("alice", DOMAIN, "secret")
        versions = [self.table.version()]
        for change in (
            lambda: self.table.set_password("alice", DOMAIN, "other"),
            lambda: self.sql("UPDATE subscriber SET ha1 = ''"),
            lambda: self.table.remove("alice", DOMAIN),
        ):
            change()
            versions.append(self.table.version())
            self.table.find("alice", DOMAIN)
            self.table.page()
            self.assertEqual(self.table.version(), versions[-1])
        self.assertEqual(len(set(versions)), 4)

    def test_change_that_changes_nothing(self) -> None:
        """A change of somebody who is not there says so."""
        with self.assertRaises(NoSuchSubscriber):
            self.table.set_password("alice", DOMAIN, "secret")

    def test_writer_in_the_way(self) -> None:
        """While another process writes, reading goes on and writing is unavailable after the wait."""
        self.table.add("alice", DOMAIN, "secret")
        writer = sqlite3.connect(self.path, isolation_level=None)
        self.addCleanup(writer.close)
        writer.execute("BEGIN IMMEDIATE")
        self.assertIsNotNone(self.table.find("alice", DOMAIN))
        with self.assertRaisesRegex(StoreUnavailable, "locked"):
            self.table.add("bob", DOMAIN, "secret")
        writer.execute("ROLLBACK")
        self.table.add("bob", DOMAIN, "secret")

    def test_no_place_for_the_file(self) -> None:
        """A file that cannot be is unavailable, and the reason names it."""
        missing = self.path.parent / "missing" / "subscribers.sqlite"
        with self.assertRaisesRegex(StoreUnavailable, "missing/subscribers.sqlite"):
            SubscriberTable(missing).open()

    def test_not_a_database(self) -> None:
        """A file of something else is not touched."""
        other = Path(self.enterContext(TemporaryDirectory())) / "subscribers.sqlite"
        other.write_bytes(b"something else entirely, and long enough to be seen as such" * 20)
        before = other.read_bytes()
        with self.assertRaisesRegex(StoreUnavailable, "not a database"):
            SubscriberTable(other).open()
        self.assertEqual(other.read_bytes(), before)

    def test_newer_schema(self) -> None:
        """A file that a newer version made is refused rather than misread."""
        self.sql("INSERT INTO subscriber_schema VALUES (9999)")
        with self.assertRaisesRegex(StoreUnavailable, "newer version: schema 9999"):
            SubscriberTable(self.path).open()

    def test_upgrade_is_whole(self) -> None:
        """When a script of the schema fails, nothing of it is left."""
        foreign = Path(self.enterContext(TemporaryDirectory())) / "subscribers.sqlite"
        connection = sqlite3.connect(foreign)
        connection.execute("CREATE TABLE subscriber (something)")
        connection.close()
        with self.assertRaisesRegex(StoreUnavailable, "already exists"):
            SubscriberTable(foreign).open()
        connection = sqlite3.connect(foreign)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("SELECT name FROM sqlite_master").fetchall(), [("subscriber",)])
