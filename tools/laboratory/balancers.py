"""What stands between phones and registrars, as values: HAProxy, the kernel's table, and what keeps its weights."""

import socket
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from tests.interop.process import InteropError, wait_until
from tools.laboratory.child import Child

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))
END_SECONDS = 5.0
ANSWER_SECONDS = 2.0
START_SECONDS = 10.0


class Place(Protocol):
    """A network namespace; see tests.cluster.namespaces."""

    def entered(self) -> AbstractContextManager[None]:
        """Have this thread be in it inside the with statement."""

    def run(self, *words: str) -> str:
        """Run a program in it and return what it says."""


def rendered(what: str, config: Path, *words: str) -> str:
    """Return what `rollcall WHAT render` writes of a configuration. Raises InteropError."""
    done = subprocess.run([ROLLCALL, what, "render", "--config", str(config), *words], check=False,
                          capture_output=True, text=True)
    if done.returncode:
        raise InteropError(f"rollcall {what} render: {done.stderr}")
    return done.stdout


class BesidePhones(Child):
    """A process in a namespace."""

    def __init__(self, place: Place, folder: Path, name: str) -> None:
        super().__init__(outlives=False)
        folder.mkdir(parents=True, exist_ok=True)
        self.log_file = folder / f"{name}.log"
        self.folder = folder
        self._place = place

    def begin(self, *words: str) -> None:
        """Start it."""
        with self._place.entered():
            self.launch(words, self.log_file, self.folder)

    def stop(self) -> None:
        """End it in order."""
        self.ask_to_end()
        self.wait_or_kill(END_SECONDS)

    def log(self) -> str:
        """Return what it has said."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


class HaproxyProcess(BesidePhones):
    """HAProxy with a configuration as `rollcall haproxy render` writes it, and a socket beside to ask it."""

    def __init__(self, place: Place, folder: Path, text: str) -> None:
        super().__init__(place, folder, "haproxy")
        self.socket = folder / "haproxy.sock"
        (folder / "haproxy.cfg").write_text(text)
        (folder / "asked.cfg").write_text(f"global\n    stats socket {self.socket} mode 600 level admin\n")

    def start(self) -> None:
        """Start it and return when it can be asked."""
        self.begin("haproxy", "-db", "-f", "haproxy.cfg", "-f", "asked.cfg")
        wait_until(self._answers, "HAProxy", START_SECONDS)

    def states(self) -> dict[tuple[str, str], str]:
        """Return what it believes of each server, by (proxy, server): "UP", "DOWN", "NOLB", "DRAIN (agent)"…"""
        rows = [line.split(",") for line in self.ask("show stat").splitlines() if line and not line.startswith("#")]
        return {(row[0], row[1]): row[17] for row in rows if row[1] not in ("FRONTEND", "BACKEND")}

    def ask(self, command: str) -> str:
        """Return the answer to a command. Raises OSError."""
        with socket.socket(socket.AF_UNIX) as asked:
            asked.settimeout(ANSWER_SECONDS)
            asked.connect(str(self.socket))
            asked.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: asked.recv(65536), b"")).decode()

    def _answers(self) -> bool | None:
        if not self.running:
            raise InteropError(f"HAProxy has ended\n{self.log()[-2000:]}")
        try:
            return bool(self.states()) or None
        except OSError:
            return None


class NftTable:
    """The table that `rollcall nftables render` writes, in the kernel of a namespace that passes packets on."""

    def __init__(self, place: Place, folder: Path, text: str) -> None:
        self._place = place
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / "rollcall.nft"
        self.file.write_text(text)

    def load(self) -> None:
        """Have the kernel use it, and pass on what is not for itself."""
        self._place.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")
        self._place.run("nft", "-f", str(self.file))

    def text(self) -> str:
        """Return it as the kernel has it now."""
        return self._place.run("nft", "list", "table", "inet", "rollcall")


class NftWeights(BesidePhones):
    """`rollcall nftables weights`, which keeps the weights of that table true."""

    def __init__(self, place: Place, folder: Path, config: Path) -> None:
        super().__init__(place, folder, "weights")
        self._config = config

    def start(self, every: float = 0.5) -> None:
        """Start it and return when it has told the weights for the first time."""
        self.begin(ROLLCALL, "nftables", "weights", "--apply", "--every", str(every), "--config", str(self._config))
        self.wait_for("Weights:")

    def wait_for(self, wanted: str, seconds: float = START_SECONDS) -> float:
        """Return how long it took until it has said so."""
        began = time.monotonic()
        wait_until(lambda: wanted in self.log() or None, f"{wanted!r} in {self.log()[-500:]!r}", seconds)
        return time.monotonic() - began
