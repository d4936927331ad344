"""One registrar of the lab as a value: its ports, its files, and what is done to it."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.interop.process import LOOPBACK, free_ports
from tools.laboratory.daemon import Daemon
from tools.laboratory.toml import Sections, joined, toml_of

PAGE = 1000


class Node(Daemon):
    """A registrar with its data, its configuration and its log in a folder of its own."""

    def __init__(
        self, folder: Path, name: str, sections: Sections, token: str, workers: int = 1, outlives: bool = False
    ) -> None:
        """`sections` is what its configuration says beyond its own names, ports and folders."""
        self.name = name
        self.workers = workers
        # Each worker has an internal port of its own, one above the other.
        self.sip_port, self.tls_port, self.ws_port, self.admin_port, self.internal_port, *_ = free_ports(4 + workers)
        self._token = token
        (folder / "data").mkdir(parents=True, exist_ok=True)
        super().__init__(folder, "registrar", name, self.admin_port, token,
                         toml_of(joined(self._own_sections(), sections)), outlives)

    @property
    def tcp(self) -> tuple[str, int]:
        """Where phones connect by TCP; the same for UDP."""
        return LOOPBACK, self.sip_port

    def as_json(self) -> dict[str, Any]:
        """Return what the lab's JSON says of it."""
        return {
            "id": self.name,
            "pid": self.pid,
            "udp": f"{LOOPBACK}:{self.sip_port}",
            "tcp": f"{LOOPBACK}:{self.sip_port}",
            "tls": f"{LOOPBACK}:{self.tls_port}",
            "ws": f"{LOOPBACK}:{self.ws_port}",
            "admin": f"http://{LOOPBACK}:{self.admin_port}",
            "internal": f"{LOOPBACK}:{self.internal_port}",
            "config": str(self.config),
            "log": str(self.log_file),
        }

    def contacts(self, query: str = "") -> list[dict[str, Any]]:
        """Return the bindings that the admin site lists, page by page; `query` as in "node=registrar-1"."""
        found: list[dict[str, Any]] = []
        after: str | None = ""
        while after is not None:
            more = f"&after={quote(after)}" if after else ""
            page = self.get(f"/v1/contacts?size={PAGE}{more}{query and '&'}{query}")
            found += page["contacts"]
            after = page["next"]
        return found

    def _own_sections(self) -> dict[str, Any]:
        ports = {"udp": self.sip_port, "tcp": self.sip_port, "tls": self.tls_port, "ws": self.ws_port}
        return {
            "registrar": {"node": self.name, "data_dir": "data", "workers": self.workers},
            "listen": [
                {"name": transport, "transport": transport, "host": LOOPBACK, "port": port}
                for transport, port in ports.items()
            ],
            "cluster": {"internal_host": LOOPBACK, "internal_port": self.internal_port},
            "admin": {"port": self.admin_port, "token": self._token},
        }
