"""What tests of registrars over real MariaDB share: what its servers were asked, and users that are changed there."""

import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from registrar.subscribers.tables import MysqlTable
from tests.cluster.case import ClusterCase
from tools.laboratory.filling import TABLE, LabUser, settings_of
from tools.laboratory.lab import MysqlKind
from tools.laboratory.node import Node

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))
COMMAND_SECONDS = 30

# What is asked at a pace of its own, however much or little is to be done: the beginning of each statement.
UPKEEP = (
    # a new connection introduces itself
    "SET ",
    # is the server there, does it take writes, how far is it behind
    "SELECT @@GLOBAL.read_only",
    "SHOW REPLICA STATUS",
    "SHOW SLAVE STATUS",
    # domains, and whether there is any alias or forwarding at all
    "SELECT name FROM rollcall_domain",
    "SELECT EXISTS (SELECT 1 FROM rollcall_alias)",
)


class MysqlCase(ClusterCase):
    """Registrars whose users are in a primary and a replica."""

    mysql: ClassVar[MysqlKind] = "replica"

    def note_statements(self) -> None:
        """Forget what the servers were asked until now."""
        for server in self.lab.mysql.servers:
            server.note_statements()

    def asked(self) -> list[str]:
        """Return what the servers were asked by registrars since then, without what is asked at a pace of its own."""
        servers = self.lab.mysql
        return [text for server in servers.servers for text in server.statements(servers.user)
                if not text.startswith(UPKEEP)]

    def rollcall(self, node: Node, *words: str, says: str = "") -> "subprocess.CompletedProcess[str]":
        """Run the command with the configuration of a registrar, and `says` as its input; it has to succeed."""
        done = subprocess.run([ROLLCALL, *words, "--config", str(node.config)], input=says, capture_output=True,
                              text=True, timeout=COMMAND_SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def add_user(self, user: LabUser) -> None:
        """Put a user into the primary, and tell nobody."""
        with MysqlTable(settings_of(self.lab.mysql), TABLE) as table:
            table.add(user.username, self.lab.domain, user.password)
