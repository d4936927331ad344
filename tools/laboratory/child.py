"""A process that the laboratory starts, as a value: it can be started again, paused, and ended in order or at once."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.interop.process import WITH_US


class Child:
    """What all of them have in common, whatever they serve."""

    def __init__(self, outlives: bool) -> None:
        """Without `outlives` the process ends with this one."""
        self._before = () if outlives else WITH_US
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id; 0 before it was started."""
        return self._child.pid if self._child else 0

    @property
    def running(self) -> bool:
        """False once it has ended, by whatever cause. A paused one runs."""
        return self._child is not None and self._child.poll() is None

    def launch(self, arguments: Sequence[str], log: Path, folder: Path | None = None) -> None:
        """Start it in a session of its own; what it writes is appended to `log`."""
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [*self._before, *arguments], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                cwd=folder, start_new_session=True)

    def signal(self, which: signal.Signals) -> None:
        """Send a signal, when it still runs."""
        if self._child is not None and self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._child.pid, which)

    def kill(self) -> None:
        """End it at once, as a crash does; return when it is dead."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait()

    def pause(self) -> None:
        """Let it hang: its sockets stay, and nothing is answered."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)

    def ask_to_end(self) -> None:
        """Ask it to end in order, also when it is paused, and do not wait."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def wait_or_kill(self, seconds: float) -> None:
        """Return when it has ended, and kill it when that takes longer."""
        if self._child is not None:
            try:
                self._child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
