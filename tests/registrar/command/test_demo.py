"""`rollcall demo`: what it prints, what it starts, and what it says when it cannot."""

import json
import os
import socket
import sys
from pathlib import Path

from registrar.command import demo
from tests.registrar.command.running import CommandCase

OFFSET = "11000"


class DemoTests(CommandCase):
    def setUp(self) -> None:
        super().setUp()
        self.started: list[tuple[str, list[str]]] = []
        self.patch(os, "execv", lambda file, arguments: self.started.append((str(file), arguments)))
        self.run_directory = self.directory / "run"

    def arguments(self, *more: str) -> tuple[str, ...]:
        return ("demo", "--dir", str(self.run_directory), "--port-offset", OFFSET, *more)

    def test_start(self) -> None:
        """The registrar is started in the foreground, in place of the command, with the written configuration."""
        self.run_ok(*self.arguments())
        twistd = str(Path(sys.executable).with_name("twistd"))
        config = str(self.run_directory / "registrar.toml")
        self.assertEqual(self.started, [(twistd, [twistd, "-n", "--pidfile=", "registrar", "--config", config])])
        self.assertTrue(os.access(twistd, os.X_OK))

    def test_what_to_type(self) -> None:
        """People read what to type into a phone, for every transport, and how to let other phones in."""
        output = self.run_ok(*self.arguments())
        made = json.loads((self.run_directory / "demo.json").read_text())
        for user in made["users"]:
            self.assertIn(f"{user['username']}  {user['password']}", output)
        for transport in ("udp", "tcp", "tls"):
            self.assertIn(made[transport], output)
        for transport in ("ws", "wss"):
            self.assertIn(f"{transport}://{made[transport]}", output)
        self.assertIn(str(self.run_directory / "tls" / "ca.pem"), output)
        self.assertIn(made["admin"], output)

    def test_the_way_into_the_network(self) -> None:
        """On loopback it says how phones of the network get in; elsewhere they are in."""
        self.patch(demo, "own_address", lambda: "192.0.2.7")
        self.assertIn("make run ADDRESS=192.0.2.7", self.run_ok(*self.arguments()))
        self.patch(demo, "find_taken", lambda wanted: [])
        self.assertNotIn("make run", self.run_ok(*self.arguments("--address", "192.0.2.7")))

    def test_json(self) -> None:
        """Programs read what is in demo.json."""
        made = json.loads(self.run_ok(*self.arguments("--json")))
        self.assertEqual(made, json.loads((self.run_directory / "demo.json").read_text()))

    def test_a_port_is_taken(self) -> None:
        """A port that is taken is named with its owner and the way out, and nothing is started."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 5060 + int(OFFSET)))
            stderr = self.run_failing(*self.arguments())
        self.assertIn(f"UDP 127.0.0.1:{5060 + int(OFFSET)} is taken by ", stderr)
        self.assertIn(f"PORT_OFFSET={int(OFFSET) + 100}", stderr)
        self.assertEqual(self.started, [])
        self.assertFalse(self.run_directory.exists())

    def test_a_foreign_address(self) -> None:
        """An address of another machine is refused."""
        stderr = self.run_failing(*self.arguments("--address", "198.51.100.7"))
        self.assertIn("is not an address of this machine", stderr)
        self.assertIn("ADDRESS=", stderr)
        self.assertNotIn("PORT_OFFSET", stderr)
        self.assertEqual(self.started, [])

    def test_what_runs_is_left_alone(self) -> None:
        """A start that fails changes nothing for the registrar that runs from the same directory."""
        self.run_ok(*self.arguments())
        before = self.everything()
        self.run_failing(*self.arguments("--address", "198.51.100.7"))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 5060 + int(OFFSET)))
            self.run_failing(*self.arguments())
        self.assertEqual(self.everything(), before)

    def everything(self) -> dict[Path, bytes]:
        """Return every file of the demonstration."""
        return {path: path.read_bytes() for path in self.run_directory.rglob("*") if path.is_file()}

    def test_no_configuration_is_read(self) -> None:
        """It makes its configuration itself, so --config is not among its options."""
        self.run_failing(*self.arguments("--config", str(self.config)), exit_code=2)

    def test_no_address(self) -> None:
        """What is no address is refused in a sentence."""
        self.assertIn(
            "Error: phone.local is not an IP address", self.run_failing(*self.arguments("--address", "phone.local"))
        )
