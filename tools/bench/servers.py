"""The servers that are compared: how each is started, ready to register the bench's phones."""

import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from string import Template

from attrs import frozen

from registrar.subscribers.table import SubscriberTable
from rollcall.sip.digest import ha1
from tools.bench import accounting
from tools.bench.accounting import Memory
from tools.bench.generator import DOMAIN, FOLDER, PASSWORD
from tools.bench.processes import LOOPBACK, BenchError, free_port, running, wait_for

CORE = 0
SUBSCRIBERS = 10_000
KAMAILIO_MEGABYTES = 4_096
CANNED_ANSWER_BYTES = 450  # about what the real ones send


@frozen
class Running:
    """A server that serves UDP and TCP on `port`."""

    pid: int
    port: int
    shared_used: Callable[[], int | None] = lambda: None
    """Bytes in use in the pool that its processes share, where it has one and tells."""

    def cpu_microseconds(self) -> float:
        """Return the CPU time used so far by all its processes and threads."""
        return accounting.cpu_microseconds(accounting.family(self.pid))

    def memory(self) -> Memory:
        """Return the memory that all its processes hold together."""
        return accounting.memory(accounting.family(self.pid))


@frozen
class Server:
    """A kind of server; `start` runs one, with authentication or without, keeping its files in a folder."""

    name: str
    start: Callable[[bool, Path], AbstractContextManager[Running]]
    canned: bool = False
    """It answers without having read."""


@contextmanager
def floor(digest: bool, folder: Path) -> Iterator[Running]:
    """Run the kernel floor: whatever comes is answered with the same bytes."""
    port, log = free_port(), folder / "log"
    program = [str(FOLDER / "build" / "floor"), str(port), str(CANNED_ANSWER_BYTES)]
    with running(program, core=CORE, log=log, folder=folder) as process:
        wait_for(process, port, log)
        yield Running(process.pid, port)


def kamailio(*allocator: str) -> Callable[[bool, Path], AbstractContextManager[Running]]:
    """Return how to start Debian's Kamailio with an allocator chosen by these words."""

    @contextmanager
    def start(digest: bool, folder: Path) -> Iterator[Running]:
        port, log = free_port(), folder / "log"
        control = f"unix:{folder}/ctl"
        options = {
            "-f": str(FOLDER / "kamailio.cfg"),
            "-l": f"tcp:{LOOPBACK}:{port}",
            "-m": str(KAMAILIO_MEGABYTES),
            "-M": "32",
            "-Y": str(folder),
            "-w": str(folder),
            "-A": f'BENCH_CTL="{control}"',
        }
        program = ["kamailio", "-DD", "-E", "-l", f"udp:{LOOPBACK}:{port}", *allocator]
        program += [word for option in options.items() for word in option]
        program += ["-A", "WITH_AUTH"] if digest else []
        with running(program, core=CORE, log=log, folder=folder) as process:
            wait_for(process, port, log)
            yield Running(process.pid, port, lambda: shared_used(control))

    return start


def shared_used(control: str) -> int:
    """Return how many bytes Kamailio has allocated in its shared memory, by its own count."""
    asked = ["kamcmd", "-s", control, "core.shmmem"]
    told = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    used = re.search(r"\bused: (\d+)", told)
    if used is None:
        raise BenchError(f"{' '.join(asked)} said {told!r}")
    return int(used[1])


def rollcall(location: str) -> Callable[[bool, Path], AbstractContextManager[Running]]:
    """Return how to start our registrar with bindings in "memory" or above "sqlite"."""

    @contextmanager
    def start(digest: bool, folder: Path) -> Iterator[Running]:
        port, log = free_port(), folder / "log"
        configuration = folder / "registrar.toml"
        template = Template((FOLDER / "rollcall.toml.in").read_text())
        configuration.write_text(template.substitute(port=port, required=str(digest).lower(), location=location))
        (folder / "data").mkdir()
        add_subscribers(folder / "data" / "subscribers.sqlite")
        program = [str(Path(sys.executable).with_name("twistd")), "--nodaemon", "--pidfile="]
        program += ["registrar", "--config", str(configuration)]
        # The sources around this file, whether they are installed or not.
        environment = {"PYTHONPATH": str(FOLDER.parents[1])}
        with running(program, core=CORE, log=log, folder=folder, environment=environment) as process:
            wait_for(process, port, log)
            yield Running(process.pid, port)

    return start


def add_subscribers(path: Path) -> None:
    """Make a subscriber of each phone number from 0, as kamailio.cfg does."""
    with SubscriberTable(path):
        pass
    names = (f"u{number:07}" for number in range(SUBSCRIBERS))
    hashed = ((name, DOMAIN, ha1("MD5", name, DOMAIN, PASSWORD)) for name in names)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO subscriber (username, domain, ha1) VALUES (?, ?, ?)", hashed)


SERVERS = {
    server.name: server
    for server in (
        Server("floor", floor, canned=True),
        Server("kamailio", kamailio("-x", "fm", "-X", "fm")),
        Server("kamailio-qm", kamailio()),
        Server("rollcall", rollcall("memory")),
        Server("rollcall-sqlite", rollcall("sqlite")),
    )
}
OURS = "rollcall"
REFERENCE = "kamailio"
FLOOR = "floor"
