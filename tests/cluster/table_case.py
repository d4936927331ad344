"""What the tests of subscribers in MySQL share: a real MariaDB for each class, and databases as others make them."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from registrar.subscribers.columns import TableConfig
from registrar.subscribers.tables import MysqlTable
from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import Connection, connect
from tests.cluster.mariadb_case import MariadbCase
from tests.cluster.turning import turn_until_done
from tools.laboratory.kamailio_tables import SCRIPTS
from tools.laboratory.mariadb_servers import DATABASE, KAMAILIO_DATABASE

T = TypeVar("T")

DOMAIN = "example.org"

# The table as OpenSIPS' db_mysql/auth_db-create.sql makes it (3.x), which kept rpid and email_address.
OPENSIPS = """
CREATE TABLE subscriber (
    id INT(10) UNSIGNED AUTO_INCREMENT PRIMARY KEY NOT NULL,
    username CHAR(64) DEFAULT '' NOT NULL,
    domain CHAR(64) DEFAULT '' NOT NULL,
    password CHAR(25) DEFAULT '' NOT NULL,
    email_address CHAR(64) DEFAULT '' NOT NULL,
    ha1 CHAR(64) DEFAULT '' NOT NULL,
    ha1_sha256 CHAR(64) DEFAULT '' NOT NULL,
    ha1_sha512t256 CHAR(64) DEFAULT '' NOT NULL,
    rpid CHAR(64) DEFAULT NULL,
    CONSTRAINT account_idx UNIQUE (username, domain)
) ENGINE=InnoDB;
CREATE INDEX username_idx ON subscriber (username);
"""


class TableCase(MariadbCase, SynchronousTestCase):
    """A MariaDB for all tests of the class; a reactor of each test's own runs while it waits for something."""

    # --- databases

    def mysql_config(self, database: str = DATABASE, **values: Any) -> MysqlConfig:
        """Return how our user reaches a database."""
        return MysqlConfig(**{**self.mysql.settings, "database": database, **values})

    def make_kamailio(self) -> None:
        """Make a database as Kamailio makes it; for each further test its table of subscribers anew."""
        if not self.sql("SHOW DATABASES LIKE %s", KAMAILIO_DATABASE, database="mysql"):
            self.mysql.kamailio()
            return
        self.sql("DROP TABLE subscriber")
        self.sql("DELETE FROM version WHERE table_name = 'subscriber'")
        self.mysql.primary.script((SCRIPTS / "auth_db-create.sql").read_text(), KAMAILIO_DATABASE)

    def make_opensips(self) -> None:
        """Make our database one with OpenSIPS' table."""
        self.make_empty()
        self.mysql.primary.script(OPENSIPS, DATABASE)

    def make_empty(self) -> None:
        """Let our database have no tables."""
        self.sql(f"DROP DATABASE {DATABASE}", database="mysql")
        self.sql(f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4", database="mysql")

    def sql(self, statement: str, *values: Any, database: str = KAMAILIO_DATABASE) -> list[tuple[Any, ...]]:
        """Return what the primary answers to root."""
        return self.mysql.primary.query(statement, *values, database=database)

    def table(self, database: str = KAMAILIO_DATABASE, **settings: Any) -> MysqlTable:
        """Return the table of a database as commands use it."""
        table = MysqlTable(self.mysql_config(database), TableConfig(**settings))
        self.enterContext(table)
        return table

    def connection(self, database: str = KAMAILIO_DATABASE) -> Connection:
        """Return a connection as a registrar has one."""
        config = self.mysql_config(database)
        connection = connect(config, config.primary)
        self.addCleanup(connection.close)
        return connection

    def traces(self, database: str = KAMAILIO_DATABASE) -> dict[str, tuple[str, object]]:
        """Return how each table was made and what its rows come to: equal when nothing at all has changed."""
        names = [name for name, in self.sql("SHOW TABLES", database=database)]
        found: dict[str, tuple[str, object]] = {}
        for name in names:
            ((_, made),) = self.sql(f"SHOW CREATE TABLE `{name}`", database=database)
            ((_, checksum),) = self.sql(f"CHECKSUM TABLE `{name}` EXTENDED", database=database)
            found[name] = made, checksum
        return found

    # --- a reactor

    def run_now(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return the result of something, once it is there."""
        return turn_until_done(self.reactor, coroutine)

    @property
    def reactor(self) -> EPollReactor:
        """A reactor of this test's own."""
        found: EPollReactor | None = getattr(self, "_reactor", None)
        if found is None:
            found = self._reactor = EPollReactor()
        return found
