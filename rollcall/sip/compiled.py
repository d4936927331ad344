"""Which way the busiest parts take: the modules that a C compiler made, or their twins in Python."""

import os
from importlib import import_module
from types import ModuleType

PURE = os.environ.get("ROLLCALL_PURE", "") not in ("", "0")
"""Whether the environment asks for the twins, as the tests do that run every test both ways."""


def compiled_module(name: str) -> ModuleType | None:
    """Return a compiled module; None when the twins are asked for, or it was not built for this Python."""
    if PURE:
        return None
    try:
        return import_module(name)
    except ImportError:
        return None
