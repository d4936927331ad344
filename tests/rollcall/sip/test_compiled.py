"""Tests of rollcall.sip.compiled, and that this run takes the way that it was started for."""

import os
import subprocess
import sys
from importlib.util import find_spec

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip import plain_scanner, scanner
from rollcall.sip.compiled import PURE, compiled_module
from tests.compilation import CYTHON_SOURCES, ROOT, has_compiler, module_of

SHOW = "from rollcall.sip.scanner import COMPILED, scan_register; print(COMPILED, scan_register.__module__)"


class WayTests(SynchronousTestCase):
    def test_this_run(self) -> None:
        """Every compiled module is there and in use, unless ROLLCALL_PURE forbids it or nothing here can compile."""
        names = {module_of(path) for path in CYTHON_SOURCES}
        self.assertIn("rollcall.sip._scanner", names)
        wanted = not PURE and has_compiler()
        missing = {name for name in names if compiled_module(name) is None}
        self.assertEqual(missing, set() if wanted else names, "build them: python setup.py build_ext --inplace")
        self.assertEqual(scanner.COMPILED, wanted)
        self.assertEqual(scanner.scan_register is plain_scanner.scan_register, not wanted)

    def test_up_to_date(self) -> None:
        """No compiled module is older than its source and what that includes."""
        for path in CYTHON_SOURCES:
            found = find_spec(module_of(path))
            if found is not None and found.origin is not None:
                sources = [ROOT / path, *(ROOT / path).parent.glob("*.pxi")]
                changed = max(source.stat().st_mtime for source in sources)
                self.assertGreaterEqual(os.stat(found.origin).st_mtime, changed, f"{path} was changed: build it again")

    def test_environment(self) -> None:
        """ROLLCALL_PURE=1 takes the twins; 0 and nothing do not."""
        pure = "False rollcall.sip.plain_scanner"
        compiled = "True rollcall.sip._scanner" if has_compiler() else pure
        for value, expected in (("1", pure), ("0", compiled), ("", compiled)):
            environment = {**os.environ, "ROLLCALL_PURE": value}
            shown = subprocess.run([sys.executable, "-c", SHOW], cwd=ROOT, env=environment, capture_output=True,
                                   text=True, check=True)
            self.assertEqual(shown.stdout.strip(), expected, repr(value))

    def test_nothing_of_the_name(self) -> None:
        """A module that was never built is None, which is no error."""
        self.assertIsNone(compiled_module("rollcall.sip._never_built"))
