"""One balancer of the lab as a value: its ports, its configuration, and what is done to it."""

from pathlib import Path
from typing import Any

from tests.interop.process import LOOPBACK, free_ports
from tools.laboratory.daemon import Daemon
from tools.laboratory.toml import Sections, joined, toml_of


class BalancerNode(Daemon):
    """A balancer with its configuration and its log in a folder of its own."""

    def __init__(self, folder: Path, name: str, sections: Sections, token: str, outlives: bool = False) -> None:
        """`sections` is what its configuration says beyond its own name and ports."""
        admin_port, self.hep_port = free_ports(2)
        own = {"admin": {"port": admin_port, "token": token}, "standby": {"name": name},
               "ingest": {"hep_udp": [f"{LOOPBACK}:{self.hep_port}"]}}
        super().__init__(folder, "balancer", name, admin_port, token, toml_of(joined(own, sections)), outlives)

    @property
    def hep(self) -> tuple[str, int]:
        """Where media nodes report to by UDP."""
        return LOOPBACK, self.hep_port

    def as_json(self) -> dict[str, Any]:
        """Return what the lab's JSON says of it."""
        return {"id": self.name, "pid": self.pid, "admin": f"http://{LOOPBACK}:{self.admin_port}",
                "hep": f"{LOOPBACK}:{self.hep_port}", "config": str(self.config), "log": str(self.log_file)}
