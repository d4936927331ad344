"""Our own tables in an SQLite file: made, found complete, and found wrong. tests/cluster has the same with MariaDB."""

import stat
from pathlib import Path
from tempfile import TemporaryDirectory

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from twisted.trial.unittest import SynchronousTestCase

from registrar.database.engines import engine_of
from registrar.database.errors import DatabaseProblem
from registrar.database.tables import METADATA, PREFIX, changes, forwarding
from registrar.database.upgrading import alembic_settings, check, upgrade, upgrade_as_sql, version_of


class UpgradingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(TemporaryDirectory())) / "data" / "rollcall.sqlite"
        self.engine = engine_of(self.path, make=True)

    def run_sql(self, statement: str) -> None:
        """Change the file as somebody else may."""
        with self.engine.begin() as connection:
            connection.execute(sa.text(statement))

    def test_from_nothing(self) -> None:
        """All tables are made, each under our prefix, and a second time there is nothing to do."""
        done = upgrade(self.engine)
        self.assertEqual([step.partition(":")[0] for step in done], ["0001"])
        with self.engine.connect() as connection:
            there = set(sa.inspect(connection).get_table_names())
        self.assertEqual(there, {*METADATA.tables, "rollcall_version"})
        self.assertTrue(all(name.startswith(PREFIX) for name in there))
        self.assertEqual((upgrade(self.engine), check(self.engine), version_of(self.engine)), ((), None, "0001"))

    def test_as_described(self) -> None:
        """What the migrations leave behind is what tables.py says."""
        upgrade(self.engine)
        with self.engine.connect() as connection:
            settings = {key: value for key, value in alembic_settings(connection).items() if key != "connection"}
            self.assertEqual(compare_metadata(MigrationContext.configure(connection, opts=settings), METADATA), [])

    def test_nobody_elses_business(self) -> None:
        """Nobody else may read who calls whom."""
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)

    def test_nothing_there(self) -> None:
        """A file without tables lacks every step, and the words say what to do."""
        self.assertIsNone(version_of(self.engine))
        self.assertRegex(check(self.engine) or "", r"rollcall\.sqlite lacks: 0001: .*Run `rollcall db upgrade`")

    def test_no_file(self) -> None:
        """Looking does not make a file."""
        other = self.path.with_name("other.sqlite")
        with self.assertRaises(DatabaseProblem) as raised:
            check(engine_of(other))
        self.assertIn("other.sqlite: unable to open database file", str(raised.exception))
        self.assertFalse(other.exists())

    def test_newer(self) -> None:
        """Tables of a newer version are neither used nor upgraded."""
        upgrade(self.engine)
        self.run_sql("UPDATE rollcall_version SET version_num = '9999'")
        for ask in (check, upgrade):
            with self.assertRaises(DatabaseProblem) as raised:
                ask(self.engine)
            self.assertIn("upgraded by a newer version of Rollcall to 9999, and this one knows 0001",
                          str(raised.exception))

    def test_ended_half_way(self) -> None:
        """An upgrade that was ended between two tables is gone on with."""
        upgrade(self.engine)
        for statement in ("DELETE FROM rollcall_version", "DROP TABLE rollcall_change",
                          "DROP INDEX rollcall_call_callee_idx"):
            self.run_sql(statement)
        self.assertEqual(len(upgrade(self.engine)), 1)
        self.test_as_described()

    def test_table_gone(self) -> None:
        """A table that somebody dropped is missed."""
        upgrade(self.engine)
        self.run_sql("DROP TABLE rollcall_alias")
        self.assertIn("these tables are gone: rollcall_alias", check(self.engine) or "")

    def test_failed_step(self) -> None:
        """A step that fails is undone, and the text says why without the statement."""
        self.run_sql("CREATE VIEW rollcall_call AS SELECT 1 AS call_id")
        with self.assertRaises(DatabaseProblem) as raised:
            upgrade(self.engine)
        self.assertNotIn("CREATE TABLE", str(raised.exception))
        with self.engine.connect() as connection:
            self.assertEqual(sa.inspect(connection).get_table_names(), [])

    def test_as_text(self) -> None:
        """The statements that are printed make the same tables; from the newest version on there are none."""
        script = upgrade_as_sql("sqlite")
        with self.engine.begin() as connection:
            for statement in script.split(";"):
                connection.execute(sa.text(statement))
        self.assertIsNone(check(self.engine))
        self.assertEqual(upgrade_as_sql("sqlite", "0001").strip(), "")

    def test_kinds(self) -> None:
        """A kind of forwarding that nobody knows is not taken, and a change has its moment without saying so."""
        upgrade(self.engine)
        with self.engine.begin() as connection:
            connection.execute(forwarding.insert(), {"aor": "sip:a@b", "kind": "busy", "target": "sip:c@d"})
            connection.execute(changes.insert(), {"username": "alice", "domain": "example.com"})
            self.assertIsNotNone(connection.execute(sa.select(changes.c.at)).scalar())
        with self.assertRaises(sa.exc.IntegrityError), self.engine.begin() as connection:
            connection.execute(forwarding.insert(), {"aor": "sip:a@b", "kind": "never", "target": "sip:c@d"})
