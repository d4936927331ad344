"""One MariaDB server as a value: started in a folder, asked over its port as root, ended by its id."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pymysql
from pymysql.constants import CLIENT

from tests.interop.process import LOOPBACK, InteropError, wait_until
from tools.laboratory.child import Child

ANSWER_SECONDS = 5.0
START_SECONDS = 30.0
END_SECONDS = 10.0
# Small and quick to start. What is committed is with the kernel at once: a killed server loses nothing of it.
ARGUMENTS = (
    "--no-defaults",
    f"--bind-address={LOOPBACK}",
    "--socket=mariadbd.sock",
    "--pid-file=mariadbd.pid",
    "--log-bin=bin",
    "--log-slave-updates",
    "--gtid-strict-mode=1",
    "--binlog-format=ROW",
    "--slave-net-timeout=5",
    "--skip-name-resolve",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=2",
    "--performance-schema=OFF",
    "--log-output=TABLE",
)

Row = tuple[Any, ...]


class MariadbProcess(Child):
    """A mariadbd with its data in a folder of its own, which mariadb-install-db has filled."""

    def __init__(self, folder: Path, port: int, number: int, root_password: str, outlives: bool = False) -> None:
        """`number` is its server-id; without `outlives` the process ends with this one."""
        super().__init__(outlives)
        self.folder = folder
        self.port = port
        self.address = f"{LOOPBACK}:{port}"
        self.is_read_only = False
        """Whether it is started to refuse changes by anybody but replication and root."""
        self._number = number
        self._root_password = root_password
        self.log = folder.with_suffix(".log")

    # --- what is done to it

    def begin(self) -> None:
        """Start it with what its folder holds; `wait_until_it_answers` says when it serves."""
        # At its start a server removes temporary tables that it finds: it must find no other's.
        temporary = self.folder.with_suffix(".tmp")
        temporary.mkdir(exist_ok=True)
        own = (f"--datadir={self.folder}", f"--tmpdir={temporary}", f"--port={self.port}",
               f"--server-id={self._number}", f"--read-only={int(self.is_read_only)}")
        self.launch(["mariadbd", *ARGUMENTS, *own, *as_root()], self.log, self.folder)

    def start(self) -> None:
        """Start it and return once it serves."""
        self.begin()
        self.wait_until_it_answers()

    def wait_until_it_answers(self, seconds: float = START_SECONDS) -> None:
        """Return once it serves; raises InteropError when it ends before, or does not in time."""
        wait_until(lambda: self._answers() or None, f"answer of {self.address}", seconds)

    def restart(self) -> None:
        """Start it again, on its port and with its data, after a kill when it runs; return once it serves."""
        self.kill()
        self.start()

    def wait_ended(self) -> None:
        """Return when it has ended, and kill it when that takes too long."""
        self.wait_or_kill(END_SECONDS)

    # --- what it is asked

    def connect(self, database: str | None = None, flags: int = 0) -> "pymysql.Connection[Any]":
        """Return a connection as root, who may do everything. Raises pymysql.err.OperationalError."""
        return pymysql.connect(host=LOOPBACK, port=self.port, user="root", password=self._root_password,
                               database=database, charset="utf8mb4", autocommit=True, client_flag=flags,
                               connect_timeout=ANSWER_SECONDS, read_timeout=START_SECONDS)

    def query(self, sql: str, *parameters: Any, database: str | None = None) -> list[Row]:
        """Return all rows that a statement of root's gives. Raises pymysql.err.Error."""
        # Without parameters a percent sign is nothing but a percent sign.
        with self.connect(database) as connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())

    def script(self, sql: str, database: str) -> None:
        """Run statements one after another, as the client program does with a file."""
        with self.connect(database, CLIENT.MULTI_STATEMENTS) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            while cursor.nextset():
                pass

    def add_all(self, sql: str, rows: Sequence[Row], database: str) -> None:
        """Run an INSERT for all these rows, in one transaction."""
        with self.connect(database) as connection, connection.cursor() as cursor:
            connection.begin()
            cursor.executemany(sql, rows)
            connection.commit()

    def replica_state(self) -> dict[str, Any]:
        """Return what SHOW SLAVE STATUS says, by column; nothing when it is no replica."""
        with self.connect() as connection, connection.cursor(pymysql.cursors.DictCursor) as cursor:
            cursor.execute("SHOW SLAVE STATUS")
            return dict(cursor.fetchone() or {})

    def note_statements(self) -> None:
        """Begin to write down every statement that it is sent, and forget those of before.

        A restart ends it. Statements that come by replication are none.
        """
        self.query("SET GLOBAL general_log = OFF")
        # What is done with the log itself is not replicated, even from a primary.
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET sql_log_bin = 0")
            cursor.execute("TRUNCATE TABLE mysql.general_log")
        self.query("SET GLOBAL general_log = ON")

    def statements(self, user: str) -> list[str]:
        """Return the text of all statements of a user since note_statements, values among them, in their order."""
        found = self.query(
            "SELECT argument FROM mysql.general_log WHERE command_type IN ('Query', 'Execute') AND user_host LIKE %s",
            f"{user}[{user}]%",
        )
        return [bytes(text).decode() if isinstance(text, bytes) else str(text) for text, in found]

    def _answers(self) -> bool:
        if not self.running:
            raise InteropError(f"mariadbd ended\n--- end of {self.log} ---\n{self.log.read_text()[-2000:]}")
        try:
            return self.query("SELECT 1") == [(1,)]
        except pymysql.err.OperationalError:
            return False


def as_root() -> tuple[str, ...]:
    """Return what mariadbd wants to be told before it runs as root: that this is meant."""
    return ("--user=root",) if os.getuid() == 0 else ()
