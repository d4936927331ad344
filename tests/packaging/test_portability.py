"""What would work on the developer's Python and not on Debian 12's own, 3.11.2."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
POSSESSIVE_GROUP = re.compile(r"(?<!\\)\)[*+?]\+")


def literals(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of each string and bytes literal, those inside f-strings too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            yield node.lineno, text


class RegularExpressionTests(SynchronousTestCase):
    """Python before 3.11.5 gives nothing back when the last turn of a possessive group fails (CPython gh-106052)."""

    def test_no_possessive_groups(self) -> None:
        """No pattern has one, because 3.11.2 accepts what it should refuse; `(?>(?:…)*)` says the same and is right."""
        found = [
            f"{path.relative_to(ROOT)}:{line}"
            for package in ("rollcall", "registrar", "balancer")
            for path in (ROOT / package).rglob("*.py")
            for line, text in literals(path)
            if POSSESSIVE_GROUP.search(text)
        ]
        self.assertEqual(found, [])
