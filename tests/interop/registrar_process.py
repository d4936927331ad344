"""The registrar as an operator starts it: a configuration file, `twistd -n registrar`, /readyz, SIGTERM."""

import json
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from registrar.command.certificates import DemoCertificates
from registrar.subscribers.table import SubscriberTable
from tests.interop.process import LOOPBACK, Process, free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]
TWISTD = str(Path(sys.executable).with_name("twistd"))
DOMAIN = LOOPBACK
START_SECONDS = 30.0
CONFIG = """\
[registrar]
node = "interop"
data_dir = "data"

[[domain]]
name = "{domain}"

[tls]
certificates = [{{certificate_file = "{certificate}", key_file = "{key}"}}]

[admin]
port = {admin}

[log]
level = "debug"
"""
LISTEN = """
[[listen]]
name = "{transport}"
transport = "{transport}"
host = "{host}"
port = {port}
"""


class RegistrarProcess:
    """One registrar with its data below `folder`. Use it as a context manager: inside, phones may register.

    `sections` is TOML to add to the configuration, `users` are (name, password).
    """

    def __init__(
        self,
        folder: Path,
        users: Iterable[tuple[str, str]] = (),
        sections: str = "",
        domain: str = DOMAIN,
        transports: Iterable[str] = ("udp", "tcp", "tls", "ws", "wss"),
    ) -> None:
        self.folder = folder
        self.domain = domain
        self._certificates = DemoCertificates(folder / "tls")
        sip, tls, ws, wss, self.admin_port = free_ports(5)
        known = {"udp": sip, "tcp": sip, "tls": tls, "ws": ws, "wss": wss}
        self.ports = {transport: known[transport] for transport in transports}
        (folder / "data").mkdir(parents=True, exist_ok=True)
        self._certificates.ensure([LOOPBACK, "localhost", domain], datetime.now(UTC))
        self.config = folder / "registrar.toml"
        self.config.write_text(self._toml(sections))
        self.add_users(users)
        self._process: Process | None = None
        self._starts = 0

    @property
    def process(self) -> Process:
        """The running server."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def authority(self) -> Path:
        """The certificate that clients trust."""
        return self._certificates.authority

    def address(self, transport: str) -> str:
        """Return "host:port" of a listener."""
        return f"{LOOPBACK}:{self.ports[transport]}"

    def add_users(self, users: Iterable[tuple[str, str]]) -> None:
        """Add subscribers of the domain, as `rollcall user add` does, whether or not the server runs."""
        with SubscriberTable(self.folder / "data" / "subscribers.sqlite") as table:
            for name, password in users:
                table.add(name, self.domain, password)

    def start(self) -> None:
        """Start and return once /readyz says so; again after `stop` or `kill`, with the data that is there."""
        self._starts += 1
        command = [TWISTD, "--nodaemon", "--pidfile=", "registrar", "--config", str(self.config)]
        self._process = Process(command, self.folder / f"registrar-{self._starts}.log", folder=ROOT)
        self._process.wait_until(lambda: self._answers("/readyz") or None, "readiness", START_SECONDS)

    def stop(self) -> None:
        """End it as an operator does."""
        self.process.end(signal.SIGTERM, 10)

    def kill(self) -> None:
        """End it as the kernel does when memory is out."""
        self.process.end(signal.SIGKILL)

    def get(self, path: str) -> str:
        """Return what the admin site answers."""
        with urllib.request.urlopen(f"http://{LOOPBACK}:{self.admin_port}{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def contacts(self, user: str) -> list[dict[str, Any]]:
        """Return the bindings of a user, as the admin site shows them."""
        answer = json.loads(self.get(f"/v1/contacts?aor=sip:{user}@{self.domain}"))
        return list(answer["contacts"])

    def wait_contacts(self, user: str, number: int) -> list[dict[str, Any]]:
        """Return the bindings of a user once there are `number` of them."""

        def look() -> list[dict[str, Any]] | None:
            found = self.contacts(user)
            return found if len(found) == number else None

        return wait_until(look, f"{number} contacts of {user}: {self.contacts(user)}")

    def _toml(self, sections: str) -> str:
        head = CONFIG.format(
            domain=self.domain,
            certificate=self._certificates.certificate,
            key=self._certificates.key,
            admin=self.admin_port,
        )
        listeners = (LISTEN.format(transport=name, host=LOOPBACK, port=port) for name, port in self.ports.items())
        return head + "".join(listeners) + sections

    def _answers(self, path: str) -> bool:
        try:
            self.get(path)
        except (urllib.error.URLError, ConnectionError):
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
