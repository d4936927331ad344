"""The files that `rollcall keepalived render` and `rollcall sysctl render` write for the machines of a lab."""

import subprocess
import sys
from pathlib import Path

from tests.interop.process import InteropError

ROLLCALL = str(Path(sys.executable).with_name("rollcall"))


def rendered(config: Path, *words: str) -> str:
    """Return what the command writes; raises InteropError with what it says when it refuses."""
    done = subprocess.run([ROLLCALL, "--config", str(config), *words], check=False, capture_output=True, text=True)
    if done.returncode or done.stderr:
        raise InteropError(f"rollcall {' '.join(words)}: {done.returncode} {done.stderr.strip()}")
    return done.stdout


def keepalived_conf(config: Path, role: str, name: str) -> str:
    """Return keepalived.conf for a machine."""
    return rendered(config, "keepalived", "render", "--role", role, "--name", name)


def sysctl_conf(config: Path, role: str) -> str:
    """Return what its kernel is told."""
    return rendered(config, "sysctl", "render", "--role", role)
