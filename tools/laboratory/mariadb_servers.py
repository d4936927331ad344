"""Real MariaDB for tests and the lab: one server, or a primary with replicas that follow it by GTID. All on loopback.

Every server is a process of its own with a folder of its own, whose data survive `kill` and `restart`.
"""

import secrets
import shutil
import subprocess
from pathlib import Path
from typing import Any, Literal, Self

from tests.interop.process import LOOPBACK, InteropError, free_ports, wait_until
from tools.laboratory import kamailio_tables
from tools.laboratory.mariadb_process import START_SECONDS, MariadbProcess, as_root

Kind = Literal["single", "replica"]

REPLICAS = 1
USER = "rollcall"
DATABASE = "rollcall"
KAMAILIO_DATABASE = "kamailio"
FOLLOWER = "follower"
INSTALL_SECONDS = 60
# A replica looks for a primary that comes back this often, and hears of one that lives this often, in seconds.
RETRY = "MASTER_CONNECT_RETRY = 1, MASTER_HEARTBEAT_PERIOD = 1"


class MariadbServers:
    """All processes of one kind. Use it as a context manager, or call `start` and `stop`."""

    def __init__(self, folder: Path, kind: Kind = "single", outlives: bool = False, replicas: int = REPLICAS) -> None:
        """Without `outlives` all end with this process. `replicas` is how many there are of kind "replica"."""
        self.kind = kind
        self.folder = folder.resolve()
        self.user = USER
        self.password = secrets.token_hex()
        self.database = DATABASE
        self._root_password = secrets.token_hex()
        self._follower_password = secrets.token_hex()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        number = 1 + (replicas if kind == "replica" else 0)
        self.servers = [
            MariadbProcess(self.folder / f"server-{index}", port, index, self._root_password, outlives)
            for index, port in enumerate(free_ports(number), 1)
        ]
        """All, the first primary first, whoever is primary now."""
        self.primary = self.servers[0]
        """The one that takes writes: the first, or who was promoted last."""

    @property
    def replicas(self) -> list[MariadbProcess]:
        """All others than the primary, whether they run or not."""
        return [server for server in self.servers if server is not self.primary]

    @property
    def settings(self) -> dict[str, Any]:
        """What stands in the section [mysql] of a registrar that uses these servers."""
        primary, *replicas = (server.address for server in self.servers)
        return {"primary": primary, "replicas": replicas, "user": self.user, "password": self.password,
                "database": self.database}

    @property
    def described(self) -> list[dict[str, Any]]:
        """What the lab's JSON says of them."""
        return [{"role": "primary" if server is self.primary else "replica", "address": server.address,
                 "pid": server.pid} for server in self.servers]

    def start(self) -> None:
        """Make their data and start all; return once replicas follow."""
        try:
            self._install()
            for server in self.servers:
                server.is_read_only = server is not self.primary
                server.begin()
            for server in self.servers:
                server.wait_until_it_answers()
            for replica in self.replicas:
                self._follow(replica)
            self.wait_until_equal()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End all processes, those that are paused too. Their data stay."""
        for server in self.servers:
            server.ask_to_end()
        for server in self.servers:
            server.wait_ended()

    # --- what is done to them

    def promote(self, replica: MariadbProcess) -> None:
        """Let a replica take writes, and all other replicas that run follow it. The old primary is dead or ignored."""
        replica.query("STOP SLAVE")
        replica.query("RESET SLAVE ALL")
        replica.query("SET GLOBAL read_only = 0")
        replica.is_read_only = False
        old, self.primary = self.primary, replica
        for server in self.replicas:
            if server is not old and server.running:
                server.query("STOP SLAVE")
                self._follow(server)

    def rejoin(self, server: MariadbProcess) -> None:
        """Let an old primary, which runs again and has no change of its own, follow the one that was promoted."""
        server.query("SET GLOBAL read_only = 1")
        server.is_read_only = True
        server.query("SET GLOBAL gtid_slave_pos = @@gtid_binlog_pos")
        self._follow(server)

    def lag(self, replica: MariadbProcess, seconds: int) -> None:
        """Let a replica do everything so many seconds late; 0: no longer."""
        replica.query("STOP SLAVE")
        replica.query(f"CHANGE MASTER TO MASTER_DELAY = {int(seconds)}")
        replica.query("START SLAVE")

    def wait_until_equal(self, seconds: float = START_SECONDS) -> None:
        """Return when every replica that runs has all that the primary had at the beginning of this."""
        ((position,),) = self.primary.query("SELECT @@gtid_binlog_pos")
        for replica in self.replicas:
            if replica.running and position:
                ((late,),) = replica.query("SELECT MASTER_GTID_WAIT(%s, %s)", position, seconds)
                if late:
                    raise InteropError(f"{replica.address} is behind: {replica.replica_state()}")

    # --- Kamailio's tables

    def kamailio(self, database: str = KAMAILIO_DATABASE) -> None:
        """Make a database as `kamdbctl create` does, in which our user may do everything, too."""
        kamailio_tables.make_database(self.primary, database)
        self.primary.query(f"GRANT ALL ON {database}.* TO %s@%s", self.user, LOOPBACK)

    def add_as_kamctl(self, username: str, domain: str, password: str, database: str = KAMAILIO_DATABASE,
                      clear: bool = True) -> None:
        """Add a subscriber as `kamctl add` does: `clear` is its STORE_PLAINTEXT_PW."""
        kamailio_tables.add_user(self.primary, database, username, domain, password, clear)

    def passwd_as_kamctl(self, username: str, domain: str, password: str, database: str = KAMAILIO_DATABASE,
                         clear: bool = True) -> None:
        """Change a password as `kamctl passwd` does."""
        kamailio_tables.set_password(self.primary, database, username, domain, password, clear)

    # --- how they are started

    def _install(self) -> None:
        """Make the data of the first, with all users and our database, and copy them for the others."""
        first, *others = (server.folder for server in self.servers)
        temporary = self.folder / "installing.tmp"
        temporary.mkdir()
        grants = self.folder / "grants.sql"
        grants.touch(mode=0o600)
        grants.write_text(self._grants())
        done = subprocess.run(
            ["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
             "--skip-name-resolve", "--innodb-log-file-size=8M", f"--extra-file={grants}", f"--datadir={first}",
             f"--tmpdir={temporary}", *as_root()],
            cwd=self.folder, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False,
        )
        grants.unlink()
        if done.returncode:
            raise InteropError(f"mariadb-install-db failed\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
        for folder in others:
            shutil.copytree(first, folder)

    def _grants(self) -> str:
        """Return statements, each in a line of its own, as the first start of a server takes them."""
        return "\n".join((
            # Who root is stands in more than one row, one for each way to come.
            f"UPDATE mysql.global_priv SET priv = JSON_SET(priv, '$.plugin', 'mysql_native_password', "
            f"'$.authentication_string', PASSWORD('{self._root_password}')) WHERE User = 'root';",
            "FLUSH PRIVILEGES;",
            f"CREATE DATABASE {DATABASE} CHARACTER SET utf8mb4;",
            f"CREATE USER {USER}@'{LOOPBACK}' IDENTIFIED BY '{self.password}';",
            f"GRANT ALL ON {DATABASE}.* TO {USER}@'{LOOPBACK}';",
            f"GRANT REPLICA MONITOR ON *.* TO {USER}@'{LOOPBACK}';",
            f"CREATE USER {FOLLOWER}@'{LOOPBACK}' IDENTIFIED BY '{self._follower_password}';",
            f"GRANT REPLICATION SLAVE ON *.* TO {FOLLOWER}@'{LOOPBACK}';",
            "",
        ))

    def _follow(self, replica: MariadbProcess) -> None:
        replica.query(
            f"CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, {RETRY}, "
            "MASTER_USE_GTID = slave_pos",
            LOOPBACK, self.primary.port, FOLLOWER, self._follower_password,
        )
        replica.query("START SLAVE")
        wait_until(lambda: _follows(replica) or None, f"replication by {replica.address}", START_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _follows(replica: MariadbProcess) -> bool:
    state = replica.replica_state()
    return state.get("Slave_IO_Running") == "Yes" and state.get("Slave_SQL_Running") == "Yes"
