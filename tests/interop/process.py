"""A program of somebody else's as a value: started with a log file, waited for by what it writes, ended by its id."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

Found = TypeVar("Found")

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.05
# What stands before a program's arguments so that it does not outlive a test run that was killed (setpriv(1)).
WITH_US = ("setpriv", "--pdeathsig", "KILL")
# Below 32768, where the kernel's own choices do not collide; another part of the range for each test process, large
# enough for a lab: between the choice of its ports and their use a second may pass.
FIRST_PORT, LAST_PORT = 12000, 31000
PORTS_OF_A_PROCESS = 180
_next_port = count(FIRST_PORT + os.getpid() % 100 * PORTS_OF_A_PROCESS)


class InteropError(AssertionError):
    """A peer did not do what a test asked of it; the message carries the end of its log."""


class Process:
    """A running program. Use it as a context manager, or call `end`."""

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = Path(arguments[0]).name
        self.log = log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                [*WITH_US, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The program's process id."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """False once it has ended, by whatever cause."""
        return self._child.poll() is None

    def text(self) -> str:
        """Return all that it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_for_text(self, wanted: str, seconds: float = 10) -> None:
        """Return when the log contains `wanted`; raises InteropError when the program ends or time is over."""
        self.wait_until(lambda: wanted in self.text() or None, f"{wanted!r} in its log", seconds)

    def wait_until(self, look: Callable[[], Found | None], what: str, seconds: float = 10) -> Found:
        """Return what `look` finds; raises InteropError when the program ends before, or time is over."""
        deadline = time.monotonic() + seconds
        while (found := look()) is None:
            if not self.running:
                raise self.error(f"ended with {self._child.returncode} before {what}")
            if time.monotonic() > deadline:
                raise self.error(f"gave no {what} in {seconds} s")
            time.sleep(POLL_SECONDS)
        return found

    def wait(self, seconds: float = 30) -> int:
        """Return the exit status once the program has ended by itself; raises InteropError when it has not."""
        try:
            return self._child.wait(seconds)
        except subprocess.TimeoutExpired as late:
            self.end(signal.SIGKILL)
            raise self.error(f"still ran after {seconds} s") from late

    def end(self, how: signal.Signals = signal.SIGTERM, seconds: float = 5) -> int:
        """Signal the program and its children, wait, and kill what is left after `seconds`; return the exit status."""
        self._signal(how)
        try:
            status = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            status = self._child.wait()
        return status

    def error(self, what: str) -> InteropError:
        """Return the exception that says `what` went wrong, with the last lines of the log."""
        return InteropError(f"{self.name} {what}\n--- end of {self.log} ---\n{self.text()[-3000:]}")

    def _signal(self, how: signal.Signals) -> None:
        if self.running:
            os.killpg(self.pid, how)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def wait_until(look: Callable[[], Found | None], what: str, seconds: float = 10) -> Found:
    """Return what `look` finds, asking until it is not None; raises InteropError when time is over."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise InteropError(f"no {what} in {seconds} s")
        time.sleep(POLL_SECONDS)
    return found


def free_ports(number: int = 1) -> tuple[int, ...]:
    """Return `number` ports in a row that are free for UDP and TCP on loopback at this moment."""
    for first in _next_port:
        if first + number >= LAST_PORT:
            raise InteropError(f"no {number} free ports below {LAST_PORT}")
        ports = range(first, first + number)
        if are_free(ports):
            for _ in range(number - 1):
                next(_next_port)
            return tuple(ports)
    raise AssertionError("the counter never ends")


def are_free(ports: Iterable[int]) -> bool:
    """Tell whether nobody has any of these ports, over UDP or TCP on loopback, at this moment."""
    try:
        for port in ports:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    probe.bind((LOOPBACK, port))
    except OSError:
        return False
    return True
