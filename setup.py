"""Builds the compiled modules; setup.cfg says everything else.

Each has a twin in Python that does the same at a lower speed, so an installation without a C compiler is whole: what
cannot be compiled is left out.
"""

from pathlib import Path

from setuptools import Extension, setup

try:
    from Cython.Build import cythonize
except ImportError:
    cythonize = None

DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "embedsignature": True,
}


def extensions() -> list[Extension]:
    """Return one extension for each .pyx, written in C to build/ so that the sources stay among themselves."""
    found = [
        Extension(".".join(path.with_suffix("").parts), [str(path)], extra_compile_args=["-O3"], optional=True)
        for package in ("rollcall", "registrar")
        for path in sorted(Path(package).rglob("*.pyx"))
    ]
    if cythonize is None:
        return []
    return cythonize(found, build_dir="build/cython", compiler_directives=DIRECTIVES, quiet=True)


setup(ext_modules=extensions())
