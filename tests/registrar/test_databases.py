"""Tests of registrar.databases: what is started and stopped, with files missing or broken, and without MySQL."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from registrar.auth import StoreUnavailable
from registrar.config import RegistrarConfig
from registrar.database.errors import DatabaseProblem
from registrar.databases import Databases
from registrar.observing import Observing
from registrar.routing import Domains, ServedDomain
from rollcall.ops.config import loads
from rollcall.ops.metrics import Metrics
from tests.interop.process import free_ports

LEAST = """
[[domain]]
name = "example.com"
[[listen]]
name = "udp"
transport = "udp"
"""


def never(call: Callable[[], None]) -> None:
    """Nothing is told later here."""


class DatabasesTests(TestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))

    def databases(self, sections: str = "") -> Databases:
        """Return what a registrar with these sections has."""
        text = f'{LEAST}[registrar]\ndata_dir = "{self.folder}"\n{sections}'
        config: RegistrarConfig = loads(text, RegistrarConfig, self.folder / "registrar.toml")
        clock: Any = reactor
        self.metrics = Metrics(process=False)
        observing = Observing(self.metrics, clock.seconds, never)
        domains = Domains([ServedDomain("example.com")])
        made = Databases(config, clock, domains, observing, "n1", b"s" * 32, None)
        made.watch(self.metrics)
        return made

    async def test_files(self) -> None:
        """Users get a file at the start; our own tables only when something is kept in them."""
        databases = self.databases()
        await databases.start()
        await databases.subscribers.add("alice", "example.com", "secret")
        self.assertIsNotNone(await databases.subscribers.find("alice", "example.com"))
        await databases.stop()
        self.assertEqual([path.name for path in self.folder.glob("*.sqlite")], ["subscribers.sqlite"])

    async def test_calls(self) -> None:
        """Who keeps records of calls has the tables for them, and what was recorded is there after the end."""
        databases = self.databases("[calls]\nrecords = true\n")
        await databases.start()
        await databases.stop()
        self.assertTrue((self.folder / "rollcall.sqlite").exists())
        self.assertIn(b"rollcall_call_records_waiting", self.metrics.render())

    async def test_broken_file(self) -> None:
        """A file that is no database is told by its name, and nothing stays half open."""
        (self.folder / "rollcall.sqlite").write_bytes(b"no database" * 100)
        databases = self.databases()
        with self.assertRaises(DatabaseProblem) as caught:
            await databases.start()
        self.assertIn("rollcall.sqlite: file is not a database", str(caught.exception))
        await databases.stop()

    async def test_without_mysql(self) -> None:
        """It starts and stops while no server of MySQL answers; users are not to be had then."""
        (port,) = free_ports(1)
        databases = self.databases(f'[subscribers]\nkind = "mysql"\n[mysql]\nprimary = "127.0.0.1:{port}"\n')
        await databases.start()
        with self.assertRaises(StoreUnavailable):
            await databases.subscribers.find("alice", "example.com")
        await databases.stop()
        with self.assertRaises(StoreUnavailable):
            await databases.subscribers.find("alice", "example.com")
