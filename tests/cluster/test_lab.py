"""The command tools/lab: a cluster that stays when it returns, and ends when it is told to."""

import json
import os
import signal
import subprocess
import tempfile
import tomllib
import urllib.request
from pathlib import Path
from typing import Any

import pymysql
from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.phone_text import uri_in
from tests.interop.phone import Phone
from tests.interop.process import wait_until
from tools.laboratory.leftovers import end_all, processes_of

COMMAND = str(Path(__file__).resolve().parents[2] / "tools" / "lab")
KEYS = {"domain", "admin_token", "users", "registrars", "redis", "mysql", "media", "balancers", "dns"}
REGISTRAR_KEYS = {"id", "pid", "udp", "tcp", "tls", "ws", "admin", "internal"}
REDIS_PROCESSES = 6


class LabTests(SynchronousTestCase):
    """Each test has a folder of its own, which is empty again afterwards."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name) / "lab"
        self.addCleanup(end_all, self.folder)

    def run_lab(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """Return what the command has said; it is started from elsewhere than the project's folder."""
        return subprocess.run([COMMAND, *words, "--folder", str(self.folder)], cwd=self.folder.parent,
                              capture_output=True, text=True, timeout=60, check=False)

    def up(self, *words: str) -> dict[str, Any]:
        """Return what it prints when it has started everything."""
        done = self.run_lab("up", *words)
        self.assertEqual(done.returncode, 0, done.stderr)
        return dict(json.loads(done.stdout))

    def test_up_and_down(self) -> None:
        """One JSON names everything that runs, phones register at every address, and nothing is left at the end."""
        lab = self.up("--registrars", "2", "--redis", "sentinel", "--users", "50")
        self.assertLessEqual(KEYS, lab.keys())
        self.assertEqual([REGISTRAR_KEYS - each.keys() for each in lab["registrars"]], [set(), set()])
        self.assertEqual((len(lab["users"]), len(lab["redis"])), (50, REDIS_PROCESSES))
        named = {each["pid"] for each in (*lab["registrars"], *lab["redis"])}
        self.assertEqual(named, processes_of(self.folder).keys())
        for registrar in lab["registrars"]:
            for transport in ("UDP", "TCP", "TLS"):
                self.check_registers(lab, registrar[transport.lower()], transport)
        done = self.run_lab("down")
        self.assertEqual((done.returncode, processes_of(self.folder), self.folder.exists()), (0, {}, False))

    def test_users_in_mysql(self) -> None:
        """With a primary and a replica users and our own tables are in both servers, which end with the rest."""
        lab = self.up("--registrars", "1", "--redis", "none", "--users", "1500", "--mysql", "replica")
        self.assertEqual([each["role"] for each in lab["mysql"]], ["primary", "replica"])
        self.assertEqual({each["pid"] for each in (*lab["registrars"], *lab["mysql"])},
                         processes_of(self.folder).keys())
        settings = tomllib.loads(Path(lab["registrars"][0]["config"]).read_text())
        self.assertEqual((settings["subscribers"]["kind"], settings["subscribers"]["use_domain"]), ("mysql", True))
        self.assertEqual([settings["mysql"]["primary"], *settings["mysql"]["replicas"]],
                         [each["address"] for each in lab["mysql"]])
        for server in lab["mysql"]:
            host, _, port = server["address"].rpartition(":")
            of_mysql = settings["mysql"]
            with pymysql.connect(host=host, port=int(port), user=of_mysql["user"], password=of_mysql["password"],
                                 database=of_mysql["database"]) as connection, connection.cursor() as cursor:
                cursor.execute("SELECT COUNT(*) FROM subscriber WHERE domain = %s", (lab["domain"],))
                self.assertEqual(cursor.fetchall(), ((1500,),))
                cursor.execute("SHOW TABLES LIKE 'rollcall_call'")
                self.assertEqual(len(cursor.fetchall()), 1)
        self.check_registers(lab, lab["registrars"][0]["tcp"], "TCP")
        self.assertEqual(self.run_lab("down").returncode, 0)

    def test_media(self) -> None:
        """With media nodes registrars hear of them from the balancers, all is named, and all ends."""
        lab = self.up("--registrars", "1", "--media", "3", "--balancers", "2")
        self.assertEqual({each["pid"] for kind in ("registrars", "redis", "media", "balancers") for each in lab[kind]},
                         processes_of(self.folder).keys())
        settings = tomllib.loads(Path(lab["registrars"][0]["config"]).read_text())
        self.assertTrue(settings["media"]["enabled"])
        request = urllib.request.Request(f"{lab['registrars'][0]['admin']}/v1/media",
                                         headers={"Authorization": f"Bearer {lab['admin_token']}"})

        def look() -> bool | None:
            with urllib.request.urlopen(request, timeout=5) as answer:
                nodes = json.load(answer)["nodes"]
            return {(node["id"], node["address"], node["state"]) for node in nodes} == {
                (node["id"], node["ng"], "up") for node in lab["media"]} or None

        wait_until(look, "media nodes that are up", 20)
        self.assertEqual(self.run_lab("down").returncode, 0)
        self.assertEqual(processes_of(self.folder), {})

    def test_media_without_redis(self) -> None:
        """Media nodes without Redis are refused, for registrars could not hear of them."""
        done = self.run_lab("up", "--redis", "none", "--media", "1")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("--media needs Redis", done.stderr)
        self.assertEqual((processes_of(self.folder), self.folder.exists()), ({}, False))

    def check_registers(self, lab: dict[str, Any], address: str, transport: str) -> None:
        """Register the first user there."""
        host, port = address.split(":")
        user = lab["users"][0]
        with Phone(transport, (host, int(port)), user["username"], lab["domain"], user["password"]) as phone:
            answer = phone.register()
            self.assertEqual(answer.status, 200, answer.start_line)
            self.assertIn(phone.contact, [uri_in(each) for each in answer.values("Contact")])

    def test_sections(self) -> None:
        """What is to be joined with the configuration of every registrar is, key by key, also that it is wrong."""
        sections = self.folder.parent / "more.toml"
        sections.write_text("[cluster]\nlease_seconds = 7.5\n")
        self.up("--registrars", "1", "--redis", "none", "--sections", str(sections))
        text = (self.folder / "registrar-1" / "registrar.toml").read_text()
        self.assertEqual([line for line in text.splitlines() if line.startswith(("lease_seconds", "internal_host"))],
                         ['internal_host = "127.0.0.1"', "lease_seconds = 7.5"])
        self.run_lab("down")
        sections.write_text("[cluster]\nlease_seconds = \"long\"\n")
        done = self.run_lab("up", "--registrars", "1", "--redis", "none", "--sections", str(sections))
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("cluster.lease_seconds", done.stderr)
        self.assertEqual(processes_of(self.folder), {})

    def test_up_twice(self) -> None:
        """A second one in the same folder is refused and does the first no harm."""
        self.up("--registrars", "1", "--redis", "none")
        running = processes_of(self.folder)
        done = self.run_lab("up", "--registrars", "1", "--redis", "none")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("a lab runs in", done.stderr)
        self.assertEqual(processes_of(self.folder), running)

    def test_somebody_elses_folder(self) -> None:
        """A folder that holds something else is neither filled nor emptied."""
        self.folder.mkdir()
        (self.folder / "letter").write_text("dear")
        self.assertNotEqual(self.run_lab("up", "--redis", "none").returncode, 0)
        self.assertEqual(self.run_lab("down").returncode, 0)
        self.assertEqual([each.name for each in self.folder.iterdir()], ["letter"])

    def test_down_after_a_killed_up(self) -> None:
        """What a start that was killed half-way has left is ended too, also what was paused."""
        with subprocess.Popen([COMMAND, "up", "--redis", "cluster", "--folder", str(self.folder)],
                              stdout=subprocess.DEVNULL, start_new_session=True) as starting:
            begun = wait_until(lambda: redis_of(self.folder) or None, "a Redis server", 30)
            starting.kill()
        os.kill(begun[0], signal.SIGSTOP)
        self.assertEqual(self.run_lab("down").returncode, 0)
        self.assertEqual(processes_of(self.folder), {})
        self.assertFalse(self.folder.exists())


def redis_of(folder: Path) -> list[int]:
    """Return the ids of the processes of a lab that are Redis servers."""
    return [pid for pid in processes_of(folder) if Path(f"/proc/{pid}/comm").read_text().startswith("redis")]
