"""`rollcall user import` into SQLite; tests/cluster has it with MariaDB."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest import mock

from registrar.command import importing
from registrar.subscribers.contract import subscriber_with
from registrar.subscribers.table import SubscriberTable
from tests.registrar.command.running import CONFIG, CommandCase, run
from tests.rollcall.sql.test_connecting import GREETING, packet


def greet(listening: socket.socket) -> bytes:
    """Be a server of MySQL without TLS to one client; return what it says."""
    client, _ = listening.accept()
    with client:
        client.settimeout(10)
        client.sendall(packet(0, GREETING))
        return client.recv(4096)


class ImportTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.file = self.directory / "users.csv"
        self.report = self.directory / "users.csv.rejected.csv"
        self.state = self.directory / "users.csv.import-state"

    def table(self) -> SubscriberTable:
        return SubscriberTable(self.directory / "data" / "subscribers.sqlite")

    def test_import(self) -> None:
        """Users are added, the result is one line, and rejected rows are listed with reasons."""
        self.file.write_text("username,password\nalice,sesame\nbob@example.org,x\ncarol@elsewhere.org,x\n")
        self.assertEqual(self.run_ok("user", "import", str(self.file)),
                         f"3 rows: 2 added, 1 rejected: {self.report} says why\n")
        with self.table() as table:
            self.assertEqual(table.find("alice", "example.com"), subscriber_with("alice", "example.com", "sesame"))
            self.assertIsNotNone(table.find("bob", "example.org"))
        self.assertIn("line 4,carol@elsewhere.org,,elsewhere.org is no domain of this registrar\n",
                      self.report.read_text())
        self.assertFalse(self.state.exists())

    def test_json(self) -> None:
        """Programs get the counts; a second import finds all there, and updates them when it is told to."""
        self.file.write_text("username,password\nalice,sesame\n")
        counts = {"read": 1, "added": 1, "replaced": 0, "rejected": 0, "report": str(self.report)}
        self.assertEqual(self.run_json("user", "import", str(self.file)), counts)
        self.assertEqual(self.run_json("user", "import", str(self.file)), {**counts, "added": 0, "rejected": 1})
        self.assertEqual(self.run_json("user", "import", str(self.file), "--update"),
                         {**counts, "added": 0, "replaced": 1})

    def test_told(self) -> None:
        """Registrars are told whom an import has replaced, and nobody else is forgotten; of very many: everybody."""
        self.file.write_text("username,password\nalice,sesame\nbob,sesame\n")
        with mock.patch.object(importing, "tell_registrars") as told:
            self.run_ok("user", "import", str(self.file))
            told.assert_not_called()
            self.file.write_text("username,password\nalice,open\n")
            self.run_ok("user", "import", str(self.file), "--update")
            self.assertEqual(told.call_args.args[1], {("alice", "example.com")})
            with mock.patch.object(importing, "MOST_NAMES", 0):
                self.run_ok("user", "import", str(self.file), "--update")
            self.assertIsNone(told.call_args.args[1])

    def test_any_domain(self) -> None:
        """Users of a domain that is not served yet are taken when that is wanted."""
        self.file.write_text("username,domain,password\nalice,elsewhere.org,x\n")
        self.assertEqual(self.run_json("user", "import", str(self.file), "--any-domain")["added"], 1)

    def test_domains_of_the_table(self) -> None:
        """Domains that are served beside those of the configuration are served."""
        self.run_ok("db", "upgrade")
        self.run_ok("domain", "add", "elsewhere.org")
        self.file.write_text("username,domain,password\nalice,elsewhere.org,x\n")
        self.assertEqual(self.run_json("user", "import", str(self.file))["added"], 1)

    def test_where_it_is_noted(self) -> None:
        """State and report are where they are wanted."""
        self.file.write_text("username,password\n,\n")
        report = self.directory / "no.csv"
        self.run_ok("user", "import", str(self.file), "--state", str(self.state) + "2", "--rejected", str(report))
        self.assertTrue(report.exists())
        self.assertFalse(self.report.exists())

    def test_passwords_on_the_line(self) -> None:
        """A password on the command line, which everybody on the machine could read, is refused."""
        self.assertIn("MYSQL_PWD", self.run_failing("user", "import", "mysql://a:b@127.0.0.1:1/db", exit_code=2))

    def test_tls(self) -> None:
        """A database that hashes come from by TLS only is told no password without; what [mysql] says counts there."""
        plain, certain = "", '[mysql]\ntls = true\n[subscribers]\nkind = "mysql"\n'
        for section, options, is_refused in (
                (plain, ("--tls",), True), (certain, (), True), (certain, ("--no-tls",), False)):
            self.config.write_text(CONFIG + section)
            with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor() as others:
                heard = others.submit(greet, listening)
                url = f"mysql://reader@127.0.0.1:{listening.getsockname()[1]}/db"
                result = run("user", "import", url, *options, ROLLCALL_CONFIG=str(self.config), MYSQL_PWD="x")
            self.assertEqual("SSL is required" in result.stderr, is_refused, result.stderr)
            self.assertEqual(b"reader" in heard.result(), not is_refused)

    def test_wrong_places(self) -> None:
        """What cannot be read is a sentence."""
        self.assertIn("users.csv", self.run_failing("user", "import", str(self.file)))
        self.file.write_text("alice,sesame\n")
        self.assertIn("the first line names the columns", self.run_failing("user", "import", str(self.file)))
        for url in ("mysql://a@127.0.0.1", "mysql://a@127.0.0.1/db/`x`"):
            self.run_failing("user", "import", url, exit_code=2)
        result = run("user", "import", "mysql://a@127.0.0.1:1/db", ROLLCALL_CONFIG=str(self.config), MYSQL_PWD="x")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("MySQL at 127.0.0.1:1: ", result.stderr)

    def test_killed(self) -> None:
        """A killed import is gone on with: everybody is there once, and every rejected row is reported once."""
        rows = 20_000
        self.file.write_text("username,password\n" + "".join(
            f"user{number},{'x' if number % 1000 else ''}\n" for number in range(rows)))
        self.kill_half_way()
        result = run("user", "import", str(self.file), ROLLCALL_CONFIG=str(self.config))
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertRegex(result.stderr, "^Going on after [1-9][0-9]*000 rows")
        self.assertEqual(result.stdout, f"20000 rows: 19980 added, 20 rejected: {self.report} says why\n")
        with self.table() as table:
            self.assertEqual(table.count(), rows - rows // 1000)
        reported = [line.partition(",")[0] for line in self.report.read_text().splitlines()[1:]]
        self.assertEqual(reported, [f"line {number}" for number in range(2, rows, 1000)])

    def kill_half_way(self) -> None:
        """Begin the import in a process, and kill it when some of it is done."""
        command = [sys.executable, "-m", "registrar.command", "user", "import", str(self.file)]
        environment = {**os.environ, "ROLLCALL_CONFIG": str(self.config)}
        child = subprocess.Popen(command, cwd=Path(__file__).parents[3], env=environment)
        until = time.monotonic() + 30
        while time.monotonic() < until and not (self.state.exists() and '"read": 0' not in self.state.read_text()):
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        self.assertEqual(child.wait(10), -signal.SIGKILL)
