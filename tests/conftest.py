"""What pytest says before the first test."""

from rollcall.sip.compiled import PURE
from rollcall.sip.scanner import COMPILED


def pytest_report_header() -> str:
    """Say which of both ways the tests run."""
    if COMPILED:
        return "rollcall: with the compiled modules"
    return f"rollcall: with the twins in Python{', as ROLLCALL_PURE asks' if PURE else ''}"
