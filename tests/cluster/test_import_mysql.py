"""`rollcall user import` with MariaDB: from a file and from Kamailio's and OpenSIPS' tables, ended and gone on with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from registrar.auth import Subscriber
from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import subscriber_with
from registrar.subscribers.tables import MysqlTable
from tests.cluster.database_case import DatabaseCase
from tests.cluster.table_case import OPENSIPS
from tests.registrar.command.running import run

ROWS = 30_000
# So many rows have a password that nobody can have, or none.
EVERY = 1000


class ImportTests(DatabaseCase):
    def setUp(self) -> None:
        super().setUp()
        self.run_ok("db", "upgrade")
        self.report = self.directory / "rejected.csv"
        self.state = self.directory / "state"
        self.files = ("--state", str(self.state), "--rejected", str(self.report))

    def import_from(self, source: str, *options: str, said: str = "") -> str:
        """Return what an import prints when it comes to its end; `said` is what it says on the way."""
        result = run("user", "import", source, *self.files, *options, ROLLCALL_CONFIG=str(self.config),
                     MYSQL_PWD=self.mysql.password)
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertRegex(result.stderr, f"^{said}$")
        return result.stdout

    def url(self, database: str, table: str = "") -> str:
        return f"mysql://{self.mysql.user}@{self.server.primary}/{database}{table and '/' + table}"

    def find(self, username: str, domain: str = "example.com") -> Subscriber | None:
        """Return what a registrar would find."""
        with MysqlTable(self.server, TableConfig(use_domain=True)) as table:
            return table.find(username, domain)

    def count(self) -> int:
        return int(self.query("SELECT COUNT(*) FROM subscriber", database=self.database)[0][0])

    def reported(self) -> list[str]:
        """Return the rows that the report names."""
        return [line.partition(",")[0] for line in self.report.read_text().splitlines()[1:]]

    def kill_half_way(self, source: str) -> None:
        """Begin an import in a process, and kill it when some of it is done."""
        command = [sys.executable, "-m", "registrar.command", "user", "import", source, *self.files]
        environment = {**os.environ, "ROLLCALL_CONFIG": str(self.config), "MYSQL_PWD": self.mysql.password}
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment)
        until = time.monotonic() + 60
        while time.monotonic() < until and not (self.state.exists() and '"read": 0' not in self.state.read_text()):
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        self.assertEqual(child.wait(10), -signal.SIGKILL)
        self.assertTrue(0 < self.count() < ROWS - ROWS // EVERY, self.count())

    def test_killed(self) -> None:
        """A killed import of a file is gone on with: everybody is there once, every rejected row is reported once."""
        file = self.directory / "users.csv"
        file.write_text("username,password\n" + "".join(
            f"user{number},{'x' if number % EVERY else ''}\n" for number in range(ROWS)))
        self.kill_half_way(str(file))
        self.assertEqual(
            self.import_from(str(file), said="Going on after [1-9][0-9]*000 rows.\n"),
            f"{ROWS} rows: {ROWS - ROWS // EVERY} added, {ROWS // EVERY} rejected: {self.report} says why\n",
        )
        self.assertEqual(self.count(), ROWS - ROWS // EVERY)
        self.assertEqual(self.reported(), [f"line {number}" for number in range(2, ROWS, EVERY)])
        self.assertEqual(self.find("user1"), subscriber_with("user1", "example.com", "x"))

    def kamailio(self, name: str, *users: tuple[str, str, str, bool]) -> str:
        """Return a database as kamdbctl makes it, with these users: username, domain, password, whether it is kept."""
        database = f"{name}_{self.database}"
        self.mysql.kamailio(database)
        for username, domain, password, is_clear in users:
            self.mysql.add_as_kamctl(username, domain, password, database, is_clear)
        return database

    def everything(self, database: str) -> Any:
        return self.described(database), self.query("SELECT * FROM subscriber", database=database)

    def test_kamailio(self) -> None:
        """Users of kamctl are taken over: with all hashes where the password is known, else with those there are."""
        database = self.kamailio("kamailio", ("alice", "example.com", "sesame", True),
                                 ("bob", "example.com", "x", False), ("carol", "elsewhere.org", "x", True),
                                 ("dora", "", "x", True))
        self.query("INSERT INTO subscriber (username, domain, password, ha1) VALUES ('erin', 'example.com', 'x', %s)",
                   "0" * 32, database=database)
        before = self.everything(database)
        self.assertEqual(self.import_from(self.url(database)),
                         f"5 rows: 2 added, 3 rejected: {self.report} says why\n")
        self.assertEqual(self.find("alice"), subscriber_with("alice", "example.com", "sesame"))
        whole = subscriber_with("bob", "example.com", "x")
        self.assertEqual(self.find("bob"), Subscriber("bob", "example.com", {"MD5": whole.ha1["MD5"]}, whole.ha1b))
        self.assertEqual(self.reported(), ["id 3", "id 4", "id 5"])
        self.assertIn("its hashes are not those of its password; --trust says which is right", self.report.read_text())
        self.assertEqual(self.everything(database), before)

    def test_trust(self) -> None:
        """Who says that passwords are right gets those of rows whose hashes are of another realm."""
        database = self.kamailio("kamailio")
        self.query("INSERT INTO subscriber (username, domain, password, ha1) VALUES ('erin', 'example.com', 'x', %s)",
                   "0" * 32, database=database)
        self.import_from(self.url(database), "--trust", "password")
        self.assertEqual(self.find("erin"), subscriber_with("erin", "example.com", "x"))

    def test_kamailio_killed(self) -> None:
        """A killed import of a table is gone on with, too, and passes over the gaps in its numbers."""
        database = self.kamailio("kamailio")
        self.query("INSERT INTO subscriber (id, username, domain, ha1) SELECT seq * 2, CONCAT('user', seq), "
                   f"'example.com', IF(seq % {EVERY}, MD5(seq), '') FROM seq_1_to_{ROWS}", database=database)
        self.kill_half_way(self.url(database))
        added, rejected = ROWS - ROWS // EVERY, ROWS // EVERY
        self.assertEqual(
            self.import_from(self.url(database), said="Going on after [1-9][0-9]*000 rows.\n"),
            f"{ROWS} rows: {added} added, {rejected} rejected: {self.report} says why\n",
        )
        self.assertEqual(self.count(), added)
        self.assertEqual(self.reported(), [f"id {number * 2}" for number in range(EVERY, ROWS + 1, EVERY)])

    def test_opensips(self) -> None:
        """Hashes in the columns of OpenSIPS are taken over; a second import updates what has changed there."""
        database = f"opensips_{self.database}"
        self.query(f"CREATE DATABASE {database}")
        self.query(f"GRANT ALL ON {database}.* TO %s@'127.0.0.1'", self.mysql.user)
        self.mysql.primary.script(OPENSIPS, database)
        alice = subscriber_with("alice", "example.com", "sesame")
        self.query("INSERT INTO subscriber (username, domain, ha1, ha1_sha256, ha1_sha512t256) VALUES "
                   "('alice', 'example.com', %s, %s, %s)", *alice.ha1.values(), database=database)
        self.import_from(self.url(database, "subscriber"))
        self.assertEqual(self.find("alice"), Subscriber("alice", "example.com", alice.ha1))
        changed = subscriber_with("alice", "example.com", "open")
        self.query("UPDATE subscriber SET ha1 = %s, ha1_sha256 = '', ha1_sha512t256 = ''", changed.ha1["MD5"],
                   database=database)
        self.assertEqual(self.import_from(self.url(database), "--update"), "1 rows: 0 added, 1 replaced\n")
        self.assertEqual(self.find("alice"), Subscriber("alice", "example.com", {"MD5": changed.ha1["MD5"]}))

    def test_wrong_tables(self) -> None:
        """Our own table is no source, nor is one that has no users in it."""
        for source, reason in ((self.url(self.database), "this is the table that the registrar uses already"),
                               (self.url(self.database, "nothing"), "has no table nothing with domain, id, username")):
            result = run("user", "import", source, *self.files, ROLLCALL_CONFIG=str(self.config),
                         MYSQL_PWD=self.mysql.password)
            self.assertEqual(result.exit_code, 1)
            self.assertIn(reason, result.stderr)

    def test_server_lost(self) -> None:
        """When the server goes away half-way that is a sentence, and the same command goes on when it is back."""
        file = self.directory / "users.csv"
        file.write_text("username,password\n" + "".join(f"user{number},x\n" for number in range(ROWS)))
        command = [sys.executable, "-m", "registrar.command", "user", "import", str(file), *self.files]
        child = subprocess.Popen(command, cwd=Path(__file__).parents[2], text=True, stderr=subprocess.PIPE,
                                 env={**os.environ, "ROLLCALL_CONFIG": str(self.config)})
        until = time.monotonic() + 60
        while time.monotonic() < until and not (self.state.exists() and '"read": 0' not in self.state.read_text()):
            time.sleep(0.002)
        self.mysql.primary.kill()
        _, said = child.communicate(timeout=60)
        self.mysql.primary.start()
        self.assertRegex(said, r"^Error: MySQL at 127\.0\.0\.1:\d+: .*\n$")
        self.assertEqual(child.returncode, 1)
        self.assertEqual(self.import_from(str(file), said="Going on after .*\n"), f"{ROWS} rows: {ROWS} added\n")
        self.assertEqual(self.count(), ROWS)
