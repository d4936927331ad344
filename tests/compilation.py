"""Whether the modules that a C compiler makes should be there."""

import os
import sysconfig
from pathlib import Path
from shutil import which

ROOT = Path(__file__).resolve().parents[1]
CYTHON_SOURCES = tuple(
    sorted(path.relative_to(ROOT) for package in ("rollcall", "registrar") for path in (ROOT / package).rglob("*.pyx"))
)


def module_of(source: Path) -> str:
    """Return the dotted name of the module that a .pyx becomes."""
    return ".".join(source.with_suffix("").parts)


def has_compiler() -> bool:
    """Say whether there is what setup.py needs: a C compiler and the headers of this Python."""
    compiler = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    return which(compiler.split()[0]) is not None and Path(sysconfig.get_path("include"), "Python.h").exists()
