"""Our own tables in MariaDB: made from nothing and beside Kamailio's, which stay as they are; checked, and refused."""

import os
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from registrar.database.engines import alone, engine_of
from registrar.database.tables import METADATA
from registrar.database.upgrading import alembic_settings
from rollcall.sql.config import MysqlConfig
from tests.cluster.database_case import DatabaseCase
from tests.registrar.command.running import run

OURS = {*METADATA.tables, "rollcall_version"}


class UpgradeTests(DatabaseCase):
    def assert_no_difference(self, server: MysqlConfig) -> None:
        """Fail unless alembic finds the database as tables.py says, and nothing to do about other tables."""
        with engine_of(server).connect() as connection:
            settings = {key: value for key, value in alembic_settings(connection).items() if key != "connection"}
            self.assertEqual(compare_metadata(MigrationContext.configure(connection, opts=settings), METADATA), [])

    def test_from_nothing(self) -> None:
        """Our tables and that of users are made; the second time there is nothing to do."""
        self.assertIn(f"{self.database} at 127.0.0.1:", self.run_failing("db", "check"))
        self.assertRegex(self.run_ok("db", "upgrade"), "^made subscriber: .*\nmade 0001: ")
        made = self.described(self.database)
        self.assertEqual(set(made), OURS | {"subscriber"})
        self.assertIn("COLLATE=utf8mb4_bin", made["subscriber"])
        self.assert_no_difference(self.server)
        self.assertEqual(self.run_ok("db", "upgrade"), "There is nothing to do.\n")
        self.assertEqual(self.run_ok("db", "check"), "The tables are as this version wants them.\n")
        self.assertEqual(self.described(self.database), made)

    def test_beside_kamailio(self) -> None:
        """No table of a database that Kamailio's own scripts made is altered, nor would alembic alter one."""
        kamailio = f"kamailio_{self.database}"
        self.mysql.kamailio(kamailio)
        self.mysql.add_as_kamctl("alice", "example.com", "sesame", database=kamailio)
        before = self.described(kamailio)
        rows = self.query("SELECT * FROM subscriber", database=kamailio)
        self.use(kamailio)
        self.assertRegex(self.run_ok("db", "upgrade"), "^made 0001: .*\n$")
        after = self.described(kamailio)
        self.assertEqual({name: text for name, text in after.items() if name not in OURS}, before)
        self.assertEqual(set(after) - set(before), OURS)
        self.assertEqual(self.query("SELECT * FROM subscriber", database=kamailio), rows)
        self.assert_no_difference(self.server)
        self.run_ok("db", "check")

    def test_names(self) -> None:
        """The table of users is made under the names that are configured, and its hashes are found there."""
        self.use(self.database, subscribers='table = "people"\nha1_sha512t256_column = ""\nusername_column = "name"')
        self.assertIn("made people", self.run_ok("db", "upgrade"))
        columns = [name for (name, *_) in self.query("SHOW COLUMNS FROM people", database=self.database)]
        self.assertEqual(columns, ["id", "name", "domain", "password", "ha1", "ha1b", "ha1_sha256"])
        self.run_ok("user", "add", "alice", "--random")
        self.assertEqual(self.run_json("user", "list")["users"], [{"username": "alice", "domain": "example.com"}])

    def test_older(self) -> None:
        """Tables that lack a step are named with what to do; an upgrade that was ended half-way is gone on with."""
        self.run_ok("db", "upgrade")
        for statement in ("DELETE FROM rollcall_version", "DROP TABLE rollcall_change",
                          "DROP INDEX rollcall_call_callee_idx ON rollcall_call"):
            self.query(statement, database=self.database)
        self.assertRegex(self.run_failing("db", "check"), "lacks: 0001: .*Run `rollcall db upgrade`")
        self.run_ok("db", "upgrade")
        self.assert_no_difference(self.server)

    def test_newer(self) -> None:
        """Tables of a newer version are left alone."""
        self.run_ok("db", "upgrade")
        self.query("UPDATE rollcall_version SET version_num = '9999'", database=self.database)
        for command in ("check", "upgrade"):
            self.assertIn("newer version of Rollcall to 9999", self.run_failing("db", command))

    def test_gone(self) -> None:
        """A table that somebody dropped is missed, that of users too."""
        self.run_ok("db", "upgrade")
        self.query("DROP TABLE subscriber", database=self.database)
        self.assertIn("no table subscriber", self.run_failing("db", "check"))
        self.query("DROP TABLE rollcall_alias", database=self.database)
        self.assertIn("these tables are gone: rollcall_alias", self.run_failing("db", "check"))

    def test_without_the_right(self) -> None:
        """A user who may not make tables is told so in a sentence, and the tables can be made by hand instead."""
        self.query("CREATE USER IF NOT EXISTS reader@'127.0.0.1' IDENTIFIED BY 'reader'")
        self.query(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {self.database}.* TO reader@'127.0.0.1'")
        self.use(self.database, "reader", "reader")
        said = self.run_failing("db", "upgrade")
        self.assertIn("CREATE command denied to user 'reader'@'localhost' for table", said.replace("127.0.0.1",
                                                                                                   "localhost"))
        self.assertIn("for `rollcall db upgrade` CREATE, ALTER and INDEX there", said)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.mysql.primary.script(self.run_ok("db", "upgrade", "--sql"), self.database)
        self.run_ok("db", "check")

    def test_with_the_right_to_users_alone(self) -> None:
        """Who may read nothing but the table of users gets the statements for our tables, and that one is not made."""
        self.query("CREATE TABLE subscriber (id INT PRIMARY KEY)", database=self.database)
        self.query("CREATE USER IF NOT EXISTS guest@'127.0.0.1' IDENTIFIED BY 'guest'")
        self.query(f"GRANT SELECT ON {self.database}.subscriber TO guest@'127.0.0.1'")
        self.use(self.database, "guest", "guest")
        self.assertIn("SELECT command denied", self.run_failing("db", "check"))
        done = run("db", "upgrade", "--sql", ROLLCALL_CONFIG=str(self.config))
        self.assertIn("so this is for a database with none of our tables", done.stderr)
        self.assertNotIn("CREATE TABLE subscriber", done.stdout)
        self.assertEqual(self.run_json("domain", "list")["domains"][0]["from"], "configuration")
        self.mysql.primary.script(done.stdout, self.database)
        self.use(self.database)
        self.run_ok("db", "check")

    def test_no_database(self) -> None:
        """A database that is not there, and a wrong password, are a sentence."""
        self.use("nowhere")
        self.assertRegex(self.run_failing("db", "upgrade"), r"^Error: MySQL at 127\.0\.0\.1:\d+: ")
        self.use(self.database, password="wrong")
        said = self.run_failing("db", "check")
        self.assertIn("Access denied", said)
        self.assertNotIn("wrong", said)

    def test_order_of_the_end(self) -> None:
        """Who upgrades lets the next one in when all is committed, not before."""
        self.query("CREATE TABLE kept (number INT)", database=self.database)
        engine, seen = engine_of(self.server), list[str]()
        sa.event.listen(engine, "commit", lambda connection: seen.append("commit"))
        sa.event.listen(engine, "before_cursor_execute", lambda *told: seen.append(told[2].split()[0]))
        with alone(engine) as connection:
            connection.execute(sa.text("INSERT INTO kept VALUES (1)"))
        self.assertEqual(seen[seen.index("INSERT"):], ["INSERT", "commit", "DO", "commit"])

    def test_two_at_once(self) -> None:
        """Of two that upgrade at the same moment one does it, and the other finds it done."""
        self.query("CREATE TABLE subscriber (id INT PRIMARY KEY)", database=self.database)
        command = [sys.executable, "-m", "registrar.command", "db", "upgrade"]
        environment = {**os.environ, "ROLLCALL_CONFIG": str(self.config)}
        both = [subprocess.Popen(command, cwd=Path(__file__).parents[2], env=environment, text=True,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
        said = sorted("".join(each.communicate(timeout=60))[:12] for each in both)
        self.assertEqual(said, ["There is not", "made 0001: T"])
        self.assert_no_difference(self.server)
