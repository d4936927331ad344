"""The MariaDB servers that tests and the lab use: they do what tests of others rely on."""

import tempfile
from hashlib import md5
from pathlib import Path
from typing import Any, ClassVar

import pymysql
from twisted.trial.unittest import SynchronousTestCase

from tests.interop.process import LOOPBACK, wait_until
from tools.laboratory.mariadb_process import MariadbProcess
from tools.laboratory.mariadb_servers import MariadbServers

LAG_SECONDS = 30
READ_ONLY = 1290


class MariadbServersTests(SynchronousTestCase):
    """A primary and two replicas for all tests, which leave them as they were but for their roles."""

    folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    mysql: ClassVar[MariadbServers]

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.mysql = MariadbServers(Path(cls.folder.name) / "mysql", "replica", replicas=2)
        cls.mysql.start()
        cls.mysql.primary.query("CREATE TABLE rollcall.seen (number INT PRIMARY KEY)")

    @classmethod
    def tearDownClass(cls) -> None:
        cls.mysql.stop()
        cls.folder.cleanup()

    def as_user(self, server: MariadbProcess, database: str) -> "pymysql.Connection[Any]":
        """Return a connection as a registrar has one."""
        connection = pymysql.connect(host=LOOPBACK, port=server.port, user=self.mysql.user,
                                     password=self.mysql.password, database=database, autocommit=True)
        self.addCleanup(connection.close)
        return connection

    def numbers(self, server: MariadbProcess) -> list[int]:
        """Return what a server has."""
        return [number for number, in server.query("SELECT number FROM rollcall.seen ORDER BY number")]

    def test_replication(self) -> None:
        """What the primary takes is at every replica, which takes nothing itself."""
        self.mysql.primary.query("REPLACE INTO rollcall.seen VALUES (1)")
        self.mysql.wait_until_equal()
        for replica in self.mysql.replicas:
            self.assertIn(1, self.numbers(replica))
            with self.as_user(replica, "rollcall").cursor() as cursor, self.assertRaises(pymysql.err.Error) as refused:
                cursor.execute("REPLACE INTO seen VALUES (2)")
            self.assertEqual(refused.exception.args[0], READ_ONLY)

    def test_rights(self) -> None:
        """Our user may ask a replica how far behind it is, and nobody is root without a password."""
        with self.as_user(self.mysql.replicas[0], "rollcall").cursor() as cursor:
            cursor.execute("SHOW SLAVE STATUS")
            self.assertEqual(len(cursor.fetchall()), 1)
        for server in self.mysql.servers:
            with self.assertRaises(pymysql.err.OperationalError):
                pymysql.connect(host=LOOPBACK, port=server.port, user="root")

    def test_promotion(self) -> None:
        """When the primary is dead another takes writes; the third follows it, and so does the dead one, when back."""
        old, new = self.mysql.primary, self.mysql.replicas[0]
        old.kill()
        self.mysql.promote(new)
        with self.as_user(new, "rollcall").cursor() as cursor:
            cursor.execute("REPLACE INTO seen VALUES (3)")
        old.start()
        self.mysql.rejoin(old)
        self.mysql.wait_until_equal()
        self.assertEqual([3 in self.numbers(server) for server in self.mysql.servers], [True] * 3)
        self.assertEqual({each["role"] for each in self.mysql.described if each["pid"] != new.pid}, {"replica"})
        new.restart()
        self.assertEqual(new.query("SELECT @@read_only"), [(0,)])

    def test_lag(self) -> None:
        """A replica that is to be late says that it is, and has everything once it need not be."""
        replica = self.mysql.replicas[0]
        self.mysql.lag(replica, LAG_SECONDS)
        self.mysql.primary.query("REPLACE INTO rollcall.seen VALUES (4)")
        wait_until(lambda: (replica.replica_state()["Seconds_Behind_Master"] or 0) > 0 or None, "a late replica", 5)
        self.assertNotIn(4, self.numbers(replica))
        self.mysql.lag(replica, 0)
        self.mysql.wait_until_equal()
        self.assertIn(4, self.numbers(replica))

    def test_a_hanging_server(self) -> None:
        """A paused server says nothing until it goes on."""
        replica = self.mysql.replicas[1]
        replica.pause()
        self.addCleanup(replica.resume)
        with self.assertRaises(pymysql.err.OperationalError):
            pymysql.connect(host=LOOPBACK, port=replica.port, user=self.mysql.user, password=self.mysql.password,
                            connect_timeout=0.3, read_timeout=0.3)
        replica.resume()
        self.assertEqual(replica.query("SELECT 1"), [(1,)])

    def test_statements(self) -> None:
        """Statements of a user are noted one by one, with their values; neither root's nor the replication's are."""
        server = self.mysql.replicas[0]
        with self.as_user(server, "rollcall").cursor() as cursor:
            cursor.execute("SELECT 'before'")
            server.note_statements()
            self.mysql.primary.query("REPLACE INTO rollcall.seen VALUES (5)")
            self.mysql.wait_until_equal()
            cursor.execute("SELECT number FROM seen WHERE number = %s", (5,))
        self.assertEqual(server.statements(self.mysql.user), ["SELECT number FROM seen WHERE number = 5"])

    def test_kamailio(self) -> None:
        """Kamailio's scripts make its tables; users that are added as kamctl does have its hashes and its password."""
        self.mysql.kamailio("proxy")
        self.mysql.add_as_kamctl("alice", "example.com", "secret", "proxy")
        self.mysql.add_as_kamctl("bob", "example.com", "secret", "proxy", clear=False)
        self.mysql.passwd_as_kamctl("bob", "example.com", "other", "proxy", clear=False)
        with self.as_user(self.mysql.primary, "proxy").cursor() as cursor:
            cursor.execute("SELECT username, ha1, password FROM subscriber ORDER BY id")
            self.assertEqual(cursor.fetchall(), (
                ("alice", md5(b"alice:example.com:secret").hexdigest(), "secret"),
                ("bob", md5(b"bob:example.com:other").hexdigest(), ""),
            ))
            cursor.execute("SELECT table_version FROM version WHERE table_name IN ('subscriber', 'location')")
            self.assertEqual(len(cursor.fetchall()), 2)
