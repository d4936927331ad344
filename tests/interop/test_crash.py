"""A registrar that is killed, ended or cannot start: it loses nothing that it has promised, and says why it ends."""

import json
import os
import signal
import socket
import tempfile
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.case import TROUBLE
from tests.interop.loads import RegisterLoad
from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK, Process
from tests.interop.registrar_process import ROOT, TWISTD, RegistrarProcess

DOMAIN = "example.com"
OPEN = """
[auth]
required = false

[limits]
close_seconds = 1
"""
REGISTERS_PER_SECOND = 200
# In the middle of a burst, after about a second and a half.
ACKNOWLEDGED_PER_LIFE = 305
KILLS = 4
PATIENCE_SECONDS = 60.0


class CrashTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.registrar = RegistrarProcess(folder, (), OPEN, DOMAIN, ("udp", "tcp"))
        self.server = (LOOPBACK, self.registrar.ports["udp"])
        self.load = RegisterLoad(self.server, DOMAIN, REGISTERS_PER_SECOND)
        self.addCleanup(self.load.close)

    def start(self) -> None:
        self.registrar.start()
        self.addCleanup(self.registrar.stop)

    def end_under_load(self, how: signal.Signals) -> int:
        """Signal the server in the moment in which it has answered one of many, with others on their way."""
        process = self.registrar.process
        self.load.after(ACKNOWLEDGED_PER_LIFE, lambda: os.kill(process.pid, how))
        with self.load:
            return process.wait(PATIENCE_SECONDS)

    def everyone(self) -> list[dict[str, Any]]:
        """Return all bindings that the server knows."""
        answer = json.loads(self.registrar.get("/v1/contacts?size=1000"))
        found: list[dict[str, Any]] = answer["contacts"]
        while answer["next"] is not None:
            answer = json.loads(self.registrar.get(f"/v1/contacts?after={answer['next']}"))
            found += answer["contacts"]
        return found

    def assert_kept(self) -> None:
        """Whoever was promised a binding has it, at least as fresh as promised; whoever was removed has none."""
        found = {contact["aor"].removeprefix("sip:").partition("@")[0]: contact for contact in self.everyone()}
        promised = self.load.promised()
        lost = {user: cseq for user, cseq in promised.items() if user not in found or found[user]["cseq"] < cseq}
        self.assertEqual(lost, {}, f"of {len(promised)}")
        self.assertEqual(self.load.removed() & found.keys(), set())
        self.assertEqual(self.load.refused, [])

    def test_kill(self) -> None:
        """kill -9 under 200 REGISTER/s, again and again: every UDP binding that got a 200 OK is there afterwards."""
        self.start()
        for life in range(1, KILLS + 1):
            self.assertEqual(self.end_under_load(signal.SIGKILL), -signal.SIGKILL)
            self.registrar.start()
            self.assert_kept()
            self.assertGreaterEqual(len(self.load.promised()), life * ACKNOWLEDGED_PER_LIFE // 5)
            self.assertNotEqual(self.load.removed(), set())

    def test_connections_end_with_the_process(self) -> None:
        """Bindings over TCP go with the process that held the connections, those of the same user over UDP stay."""
        self.start()
        self.register("TCP", "alice")
        self.register("TCP", "bob")
        over_udp = self.register("UDP", "bob")
        self.assertEqual([len(self.registrar.contacts(user)) for user in ("alice", "bob")], [1, 2])
        self.registrar.kill()
        self.registrar.start()
        self.assertEqual(self.registrar.contacts("alice"), [])
        self.assertEqual([contact["contact"] for contact in self.registrar.contacts("bob")], [over_udp.contact])

    def register(self, transport: str, user: str) -> Phone:
        phone = Phone(transport, self.server, user, DOMAIN)
        self.addCleanup(phone.close)
        self.assertEqual(phone.register().status, 200)
        return phone

    def test_terminate(self) -> None:
        """SIGTERM under the same load ends the process cleanly, and what it has promised is there afterwards."""
        self.start()
        over_tcp = self.register("TCP", "alice")
        # twistd ends with the signal that ended it, once everything has stopped.
        self.assertEqual(self.end_under_load(signal.SIGTERM), -signal.SIGTERM)
        text = self.registrar.process.text()
        self.assertEqual([line for line in text.splitlines() if any(word in line for word in TROUBLE)], [])
        self.assertIn("stopped", text)
        with self.assertRaisesRegex(AssertionError, "closed the connection"):
            over_tcp.receive()
        self.registrar.start()
        self.assert_kept()
        self.assertEqual(self.registrar.contacts("alice"), [])


class StartTests(SynchronousTestCase):
    """One registrar for all: none of them ever runs."""

    registrar: ClassVar[RegistrarProcess]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.registrar = RegistrarProcess(Path(cls._folder.name), (), OPEN, DOMAIN, ("udp", "tcp", "tls"))

    @classmethod
    def tearDownClass(cls) -> None:
        cls._folder.cleanup()

    def setUp(self) -> None:
        self.folder = self.registrar.folder
        self.good = self.registrar.config.read_text()
        self.addCleanup(self.registrar.config.write_text, self.good)

    def change(self, old: str, new: str) -> None:
        """Change the configuration file for this test."""
        self.assertIn(old, self.good)
        self.registrar.config.write_text(self.good.replace(old, new))

    def assert_refused(self, *words: str, config: Path | None = None) -> None:
        """The process ends by itself, not as one that did well, and says why without a traceback."""
        path = config or self.registrar.config
        command = [TWISTD, "--nodaemon", "--pidfile=", "registrar", "--config", str(path)]
        with Process(command, self.folder / "start.log", folder=ROOT) as process:
            self.assertEqual(process.wait(PATIENCE_SECONDS), 1)
            text = process.text()
        self.assertNotIn("Traceback", text)
        self.assertNotIn("Unhandled", text)
        for word in ("cannot start", *words):
            self.assertIn(word, text)

    def occupy(self, kind: socket.SocketKind, port: int) -> None:
        """Hold a port for this test."""
        holder = socket.socket(socket.AF_INET, kind)
        self.addCleanup(holder.close)
        holder.bind((LOOPBACK, port))
        if kind is socket.SOCK_STREAM:
            holder.listen()

    def spoil(self, name: str) -> None:
        """Put something that is no database in the place of a file in the data directory."""
        path = self.folder / "data" / name
        before = path.read_bytes() if path.exists() else None
        self.addCleanup(lambda: path.unlink() if before is None else path.write_bytes(before))
        path.write_text("This is no database. " * 1000)

    def test_no_configuration(self) -> None:
        """A configuration file that is not there is named."""
        self.assert_refused("missing.toml", config=self.folder / "missing.toml")

    def test_no_toml(self) -> None:
        """What is no TOML is refused with its line."""
        self.change('node = "interop"', "node = interop")
        self.assert_refused(str(self.registrar.config), "line 2")

    def test_unknown_key(self) -> None:
        """A key that nobody knows is named."""
        self.change("[auth]", "[bindings]\nmin_expire_seconds = 60\n[auth]")
        self.assert_refused(str(self.registrar.config), "bindings.min_expire_seconds")

    def test_wrong_value(self) -> None:
        """A value that is not allowed is named with its key and what is allowed."""
        self.change("required = false", "required = false\nnonce_lifetime_seconds = -1")
        self.assert_refused("auth.nonce_lifetime_seconds", "-1")

    def test_no_certificate(self) -> None:
        """A certificate that is not there is named."""
        self.change('certificate_file = "', 'certificate_file = "/nowhere')
        self.assert_refused("/nowhere")

    def test_udp_port_taken(self) -> None:
        """The listener whose UDP port another process has is named."""
        port = self.registrar.ports["udp"]
        self.occupy(socket.SOCK_DGRAM, port)
        self.assert_refused(str(port), "Address already in use")

    def test_tcp_port_taken(self) -> None:
        """The listener whose TCP port another process has is named."""
        port = self.registrar.ports["tls"]
        self.occupy(socket.SOCK_STREAM, port)
        self.assert_refused(str(port), "Address already in use")

    def test_admin_port_taken(self) -> None:
        """The admin site's port is named when another process has it."""
        self.occupy(socket.SOCK_STREAM, self.registrar.admin_port)
        self.assert_refused(str(self.registrar.admin_port), "Address already in use")

    def test_no_bindings(self) -> None:
        """Bindings that cannot be read end the start: an empty registrar would be worse than none."""
        self.spoil("location.sqlite")
        self.assert_refused("location.sqlite")

    def test_no_subscribers(self) -> None:
        """Subscribers that cannot be read end the start."""
        self.spoil("subscribers.sqlite")
        self.assert_refused("subscribers.sqlite")

    def test_no_data_directory(self) -> None:
        """A data directory that cannot be made is named."""
        self.change('data_dir = "data"', 'data_dir = "registrar.toml/data"')
        self.assert_refused("registrar.toml/data")
