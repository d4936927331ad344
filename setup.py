"""Builds the compiled modules; setup.cfg says everything else.

Each has a twin in Python that does the same at a lower speed, so an installation without a C compiler is whole: what
cannot be compiled is left out, with a word about it.
"""

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

try:
    from Cython.Build import cythonize
except ImportError:
    cythonize = None

PACKAGES = ("rollcall", "registrar")
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
}


class BuildCompiled(build_ext):
    """Builds what can be built, and leaves nothing old in the place of what cannot."""

    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except Exception:
            in_place = Path(*ext.name.split(".")).parent / Path(self.get_ext_filename(ext.name)).name
            in_place.unlink(missing_ok=True)
            Path(self.get_ext_fullpath(ext.name)).unlink(missing_ok=True)
            print(
                f"{ext.name} could not be compiled: its twin in Python is used, which is slower. "
                "A C compiler and the headers of Python are needed (Debian: gcc libc6-dev python3-dev).",
                file=sys.stderr,
            )
            raise  # an optional extension is then skipped


def extensions() -> list[Extension]:
    """Return one extension for each .pyx, written in C to build/ so that the sources stay among themselves."""
    if cythonize is None:
        print("Cython is not installed: nothing is compiled, and the twins in Python are used.", file=sys.stderr)
        return []
    found = [
        Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=["-O3"])
        for package in PACKAGES
        for path in sorted(Path(package).rglob("*.pyx"))
    ]
    compiled = cythonize(found, build_dir="build/cython", compiler_directives=DIRECTIVES, quiet=True)
    for extension in compiled:
        extension.optional = True  # cythonize keeps nothing of the kind
    return compiled


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildCompiled})
