"""What the tests of commands have that work on MariaDB: one server for a class, and a database for each test."""

from typing import Any, ClassVar

from attrs import evolve

from rollcall.sql.config import MysqlConfig
from tests.cluster.mariadb_case import MariadbCase
from tests.registrar.command.running import CommandCase


class DatabaseCase(MariadbCase, CommandCase):
    """The configuration names the database `self.database`, which is new and empty, and ours."""

    _databases: ClassVar[int] = 0

    def setUp(self) -> None:
        super().setUp()
        DatabaseCase._databases += 1
        self.database = f"test_{DatabaseCase._databases}"
        self.query(f"CREATE DATABASE {self.database}")
        self.query(f"GRANT ALL ON {self.database}.* TO %s@'127.0.0.1'", self.mysql.user)
        self.use(self.database)

    def use(self, database: str, user: str | None = None, password: str | None = None, subscribers: str = "") -> None:
        """Let the configuration name this database, and this user."""
        self.server = MysqlConfig(
            primary=self.mysql.primary.address, user=user or self.mysql.user,
            password=self.mysql.password if password is None else password, database=database,
        )
        own = self.config.read_text().partition("[subscribers]")[0]
        self.config.write_text(f"""{own}[subscribers]
kind = "mysql"
use_domain = true
{subscribers}
[mysql]
primary = "{self.server.primary}"
user = "{self.server.user}"
password = "{self.server.password}"
database = "{database}"
""")

    def query(self, sql: str, *values: Any, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run a statement as root."""
        return self.mysql.primary.query(sql, *values, database=database)

    def described(self, database: str) -> dict[str, str]:
        """Return how each table of a database is made, by its name; how many rows it had is left out."""
        return {
            name: self.query(f"SHOW CREATE TABLE `{name}`", database=database)[0][1]
            for (name,) in self.query("SHOW TABLES", database=database)
        }

    def server_of(self, database: str) -> MysqlConfig:
        """Return where another database of the same server is."""
        return evolve(self.server, database=database)
