"""`rollcall db` with an SQLite file; tests/cluster has it with MariaDB."""

import subprocess
import sys

from tests.registrar.command.running import CommandCase

NOBODY_THERE = """
[subscribers]
kind = "mysql"
[mysql]
primary = "127.0.0.1:1"
"""


class DbTests(CommandCase):
    def test_upgrade_and_check(self) -> None:
        """What is missing is said, made, and found."""
        self.assertIn("does not exist", self.run_failing("db", "check"))
        self.assertRegex(self.run_ok("db", "upgrade"), "^made 0001: ")
        self.assertEqual(self.run_ok("db", "upgrade"), "There is nothing to do.\n")
        self.assertEqual(self.run_ok("db", "check"), "The tables are as this version wants them.\n")

    def test_json(self) -> None:
        """Programs get the same."""
        self.assertEqual(len(self.run_json("db", "upgrade")["done"]), 1)
        self.assertEqual(self.run_json("db", "upgrade"), {"done": []})
        self.assertEqual(self.run_json("db", "check"), {"ok": True})

    def test_sql(self) -> None:
        """The statements are printed, and nothing is made."""
        self.assertIn("CREATE TABLE IF NOT EXISTS rollcall_call", self.run_ok("db", "upgrade", "--sql"))
        self.assertFalse((self.directory / "data").exists())
        self.run_ok("db", "upgrade")
        self.assertEqual(self.run_ok("db", "upgrade", "--sql"), "-- There is nothing to do.\n")

    def test_no_server(self) -> None:
        """A server that is not there is a sentence and exit code 1, and the statements can be had all the same."""
        with self.config.open("a") as file:
            file.write(NOBODY_THERE)
        for command in ("upgrade", "check"):
            self.assertIn("MySQL at 127.0.0.1:1", self.run_failing("db", command))
        said = self.run_failing("db", "upgrade", "--sql", exit_code=0)
        self.assertIn("so this is for a database with no tables", said)

    def test_imported_late(self) -> None:
        """The command starts without SQLAlchemy and alembic, which take longer to import than all the rest."""
        code = "import registrar.command, sys; print({'sqlalchemy', 'alembic', 'rich.progress'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
        self.assertEqual(done.stdout.strip(), "set()")
