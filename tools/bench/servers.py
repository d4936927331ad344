"""The servers that are compared: how each is started, ready to register the bench's phones."""

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from string import Template
from typing import Any

from attrs import frozen

from registrar.subscribers.table import SubscriberTable
from rollcall.sip.digest import ha1
from tools.bench import accounting
from tools.bench.accounting import Memory
from tools.bench.generator import DOMAIN, FOLDER, PASSWORD
from tools.bench.metrics import Pauses, pauses
from tools.bench.processes import (
    LOOPBACK,
    START_SECONDS,
    WORKER_SECONDS,
    BenchError,
    free_port,
    running,
    wait_for,
    wait_for_listeners,
)

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
    metrics_port: int | None = None

    def pauses(self) -> Pauses:
        """Return how long it stood still at most, in the last minute or since this was asked."""
        return Pauses() if self.metrics_port is None else pauses(self.metrics_port)

    def cpu_microseconds(self) -> float:
        """Return the CPU time used so far by all its processes and threads."""
        return accounting.cpu_microseconds(accounting.family(self.pid))

    def memory(self) -> Memory:
        """Return the memory that all its processes hold together."""
        return accounting.memory(accounting.family(self.pid))


DESCRIBING = """
import importlib, json, os, platform, sys
compiled = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
        compiled.append(name)
    except ImportError:
        pass
print(json.dumps({
    "python": platform.python_version() + " " + platform.python_compiler(),
    "interpreter": os.path.realpath(sys.executable),
    "compiled": compiled,
}))
"""

Start = Callable[[bool, Path], AbstractContextManager[Running]]


@frozen
class Server:
    """A kind of server; `start` runs one, with authentication or without, keeping its files in a folder."""

    name: str
    start: Start
    canned: bool = False
    """It answers without having read."""
    transports: tuple[str, ...] = ("tcp", "udp")
    """Where it differs from its like, and is measured unless it was named."""


def interpreter() -> Path:
    """Return the Python that runs Rollcall: BENCH_PYTHON, one of a virtual environment, or that of the bench itself."""
    chosen = Path(os.environ.get("BENCH_PYTHON") or sys.executable)
    if not chosen.with_name("twistd").exists():
        raise BenchError(f"{chosen} has no twistd beside it: it must be the Python of a virtual environment")
    return chosen


def describe_python() -> dict[str, Any]:
    """Return which Python runs Rollcall, where that lives, and which parts of Rollcall are compiled for it."""
    sources = FOLDER.parents[1]
    parts = [
        ".".join(path.relative_to(sources).with_suffix("").parts)
        for package in ("rollcall", "registrar")
        for path in sorted((sources / package).rglob("_*.pyx"))
    ]
    words, environment = [str(interpreter()), "-c", DESCRIBING, *parts], {**os.environ, **_environment()}
    told = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if told.returncode != 0:
        raise BenchError(f"{interpreter()} does not run Rollcall:\n{told.stderr}")
    return dict(json.loads(told.stdout))


def _environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The sources around this file, whether they are installed or not, and what is compiled of them unless told."""
    return {"PYTHONPATH": str(FOLDER.parents[1]), "ROLLCALL_PURE": "", **(more or {})}


@contextmanager
def floor(digest: bool, folder: Path) -> Iterator[Running]:
    """Run the kernel floor: whatever comes is answered with the same bytes."""
    port, log = free_port(), folder / "log"
    program = [str(FOLDER / "build" / "floor"), str(port), str(CANNED_ANSWER_BYTES)]
    with running(program, core=CORE, log=log, folder=folder) as process:
        wait_for(process, port, log)
        yield Running(process.pid, port)


def kamailio(*allocator: str, workers: int = 1) -> Start:
    """Return how to start Debian's Kamailio with an allocator chosen by these words."""

    @contextmanager
    def start(digest: bool, folder: Path) -> Iterator[Running]:
        port, log = free_port(), folder / "log"
        control = f"unix:{folder}/ctl"
        options = {
            "-f": str(FOLDER / "kamailio.cfg"),
            "-l": f"tcp:{LOOPBACK}:{port}",
            "-n": str(workers),
            "-N": str(workers),
            "-m": str(KAMAILIO_MEGABYTES),
            "-M": "32",
            "-Y": str(folder),
            "-w": str(folder),
            "-A": f'BENCH_CTL="{control}"',
        }
        program = ["kamailio", "-DD", "-E", "-l", f"udp:{LOOPBACK}:{port}", *allocator]
        program += [word for option in options.items() for word in option]
        program += ["-A", "WITH_AUTH"] if digest else []
        with running(program, core=CORE if workers == 1 else None, log=log, folder=folder) as process:
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


def rollcall(
    location: str = "memory",
    *,
    workers: int = 1,
    pure: bool = False,
    port: int | None = None,
    subscribers: int = SUBSCRIBERS,
    more: str = "",
) -> Start:
    """Return how to start our registrar with bindings in "memory" or above "sqlite".

    `pure` leaves out what is compiled; `port` is one that several registrars share; `more` is configuration.
    """

    @contextmanager
    def start(digest: bool, folder: Path) -> Iterator[Running]:
        chosen, log = port or free_port(), folder / "log"
        configuration = folder / "registrar.toml"
        metrics_port = 0 if port else free_port(after=chosen)
        configuration.write_text(configured(chosen, metrics_port, digest, location, workers) + more)
        (folder / "data").mkdir()
        add_subscribers(folder / "data" / "subscribers.sqlite", subscribers)
        program = [str(interpreter().with_name("twistd")), "--nodaemon", "--pidfile="]
        program += ["registrar", "--config", str(configuration)]
        core = CORE if workers == 1 and port is None else None
        environment = _environment({"ROLLCALL_PURE": "1"} if pure else None)
        with running(program, core=core, log=log, folder=folder, environment=environment) as process:
            patience = START_SECONDS + workers * WORKER_SECONDS
            wait_for(process, chosen, log, folder / "registrar.log", seconds=patience)
            wait_for_listeners(chosen, workers)
            yield Running(process.pid, chosen, metrics_port=metrics_port or None)

    return start


@contextmanager
def above_redis(digest: bool, folder: Path) -> Iterator[Running]:
    """Run ours with bindings in a Redis of its own, whose CPU time is not counted."""
    port, log = free_port(), folder / "redis.log"
    program = ["redis-server", "--port", str(port), "--bind", LOOPBACK, "--save", "", "--dir", str(folder)]
    with running(program, core=None, log=log, folder=folder) as process:
        wait_for(process, port, log)
        more = f'\n[redis]\naddresses = ["{LOOPBACK}:{port}"]\n\n[cluster]\ninternal_port = 0\n'
        with rollcall("redis", more=more)(digest, folder) as server:
            yield server


def configured(port: int, metrics_port: int, digest: bool, location: str, workers: int) -> str:
    """Return Rollcall's configuration; several `workers` are named. Without a port for metrics, the other is shared."""
    return Template((FOLDER / "rollcall.toml.in").read_text()).substitute(
        port=port,
        metrics_port=metrics_port,
        required=str(digest).lower(),
        location=location,
        workers=f"workers = {workers}" if workers > 1 else "",
        reuse_port=str(metrics_port == 0).lower(),
    )


def add_subscribers(path: Path, count: int) -> None:
    """Make a subscriber of each phone number from 0, as kamailio.cfg does."""
    with SubscriberTable(path):
        pass
    names = (f"u{number:07}" for number in range(count))
    hashed = ((name, DOMAIN, ha1("MD5", name, DOMAIN, PASSWORD)) for name in names)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executemany("INSERT INTO subscriber (username, domain, ha1) VALUES (?, ?, ?)", hashed)


FAST = ("-x", "fm", "-X", "fm")
COMPARED = (
    Server("floor", floor, canned=True),
    Server("kamailio", kamailio(*FAST)),
    Server("kamailio-qm", kamailio()),
    Server("rollcall", rollcall()),
    Server("rollcall-pure", rollcall(pure=True)),
    Server("rollcall-sqlite", rollcall("sqlite"), transports=("udp",)),
)
"""What is measured unless somebody asks for another choice. A TCP phone's binding is never on disk."""

TWO_WORKERS = (
    Server("kamailio-2", kamailio(*FAST, workers=2)),
    Server("rollcall-2", rollcall(workers=2)),
    Server("rollcall-pure-2", rollcall(workers=2, pure=True)),
)
"""On both cores, their clients beside them."""

ABOVE_REDIS = Server("rollcall-redis", above_redis)
"""A binding is acknowledged by Redis before its phone hears of it."""

SERVERS = {server.name: server for server in (*COMPARED, *TWO_WORKERS, ABOVE_REDIS)}
OURS = "rollcall"
PURE = "rollcall-pure"
REFERENCE = "kamailio"
FLOOR = "floor"
