"""Programs that the bench starts: pinned to a core, logged to a file, and ended by pid whatever happens."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tools.bench import accounting

LOOPBACK = "127.0.0.1"
PORTS = range(21_000, 22_000)  # below the ephemeral ones, which would collide
PORTS_STEP = 37
START_SECONDS = 30.0
WORKER_SECONDS = 1.0  # more for each worker
END_SECONDS = 10.0


class BenchError(Exception):
    """The measurement can't go on; the text says what to look at."""


@contextmanager
def running(
    words: Sequence[str], *, core: int | None, log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program on one core (None: on all); it has ended, children included, when the block is left."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*pinned(core), *words],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the bench, which then ends its servers in order
        )
    try:
        yield process
    finally:
        end(process)


def pinned(core: int | None) -> list[str]:
    """Return the words that keep a program on a core; none where there is no second one to keep apart from."""
    if core is None or core not in os.sched_getaffinity(0) or shutil.which("taskset") is None:
        return []
    return ["taskset", "-c", str(core)]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program: by a closed standard input and SIGTERM, and what is left of it after that by SIGKILL."""
    known = {pid: accounting.started_at(pid) for pid in accounting.family(process.pid)}
    if process.stdin is not None:
        process.stdin.close()
    if process.poll() is None:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)
    for pid, began in known.items():
        while began is not None and accounting.started_at(pid) == began:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            process.poll()
            time.sleep(0.01)
    process.wait()


def free_port(*, after: int = 0) -> int:
    """Return a port on which nobody listens, over UDP or TCP; the next one behind `after`, which is about to be taken.

    Benches that run at the same time begin to look at different ports.
    """
    first = after + 1 if after else PORTS.start + os.getpid() * PORTS_STEP % len(PORTS)
    candidates: list[int] = [*range(first, PORTS.stop), *range(PORTS.start, first)]
    for port in candidates:
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((LOOPBACK, port))
        except OSError:
            continue
        return port
    raise BenchError(f"no free port from {PORTS.start} to {PORTS.stop - 1}")


def wait_for(process: subprocess.Popen[bytes], port: int, *logs: Path, seconds: float = START_SECONDS) -> None:
    """Return once something accepts on the port. Raises BenchError, with the logs' ends, when the program gives up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            if probe.connect_ex((LOOPBACK, port)) == 0:
                return
        time.sleep(0.05)
    words = process.args if isinstance(process.args, list) else [process.args]
    ends = "\n".join(tail(log) for log in logs if log.exists())
    raise BenchError(f"{' '.join(map(str, words))} does not serve port {port}:\n{ends}")


def wait_for_listeners(port: int, count: int) -> None:
    """Wait until so many sockets listen on a port: connections that come before would be shared by too few."""
    deadline = time.monotonic() + START_SECONDS + count * WORKER_SECONDS
    while (found := listening(Path("/proc/net/tcp").read_text(), port)) < count:
        if time.monotonic() > deadline:
            raise BenchError(f"only {found} of {count} workers listen on port {port}")
        time.sleep(0.2)


def listening(table: str, port: int) -> int:
    """Return how many sockets listen on a port, from the lines of /proc/net/tcp."""
    wanted = f":{port:04X}"
    rows = (line.split() for line in table.splitlines()[1:])
    return sum(row[1].endswith(wanted) and row[3] == "0A" for row in rows)


def tail(log: Path) -> str:
    """Return the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-30:])
