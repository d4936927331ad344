"""Tests of tools/check_floors.py: a small building on disk, one wrong import at a time."""

import ast
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tools.check_floors import find_violations, imported_modules

FLOORS = {
    0: ("rollcall.sip",),
    1: ("rollcall.net", "rollcall.ops"),
    2: ("registrar.records", "registrar.bindings", "balancer.quality"),
    3: ("registrar.location",),
    5: ("registrar.service", "balancer.service"),
}


class CheckFloorsTests(SynchronousTestCase):
    """Each test writes the modules it needs and reads the report."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)

    def write(self, module: str, text: str) -> None:
        path = self.root / (module.replace(".", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def report(self) -> list[str]:
        return find_violations(self.root, FLOORS)

    def assert_allowed(self, module: str, text: str) -> None:
        self.write(module, text)
        self.assertEqual(self.report(), [])

    def assert_refused(self, module: str, text: str, *words: str) -> None:
        self.write(module, text)
        (line,) = self.report()
        for word in (module.replace(".", "/"), *words):
            self.assertIn(word, line)

    def test_downward(self) -> None:
        """A module may import any lower floor, and other people's packages."""
        self.assert_allowed(
            "registrar.service", "import os\nimport attrs\nfrom rollcall.sip import uri\nimport registrar.bindings"
        )

    def test_same_room(self) -> None:
        """Modules below one name of the table may import each other."""
        self.assert_allowed("rollcall.sip.message", "from rollcall.sip.errors import ParseError\nfrom . import uri")

    def test_upward(self) -> None:
        """An import of a higher floor is refused with both floors and the line."""
        self.assert_refused(
            "registrar.bindings", "\nfrom registrar.location import memory", ":2:", "(floor 2)", "(floor 3)"
        )

    def test_upward_inside_a_function(self) -> None:
        """Hiding an import in a function does not help."""
        self.assert_refused("rollcall.sip.uri", "def f():\n    import rollcall.net.flow\n", ":2:", "rollcall.net.flow")

    def test_upward_relative(self) -> None:
        """A relative import is read as what it names."""
        self.assert_refused("rollcall.sip.uri", "from ..net import flow", "rollcall.net.flow")

    def test_order_on_a_floor_of_a_service(self) -> None:
        """On one floor of a service a module may use those named before it, never those after it."""
        self.assert_allowed("registrar.bindings", "from registrar.records import Binding")
        self.assert_refused("registrar.records", "from registrar.bindings import register", "registrar.bindings")

    def test_ground_floor_rooms_are_strangers(self) -> None:
        """In rollcall the rooms of one floor do not import each other, in whichever order they stand."""
        self.assert_refused("rollcall.ops.metrics", "import rollcall.net.flow", "rollcall.net.flow")

    def test_services_are_strangers(self) -> None:
        """The registrar never imports the balancer, however low the module."""
        self.assert_refused("registrar.service", "from balancer import quality", "balancer.quality")

    def test_ground_floor_knows_no_service(self) -> None:
        """The ground floor imports neither service."""
        self.assert_refused("rollcall.net.flow", "import registrar", "imports registrar")

    def test_unknown_module(self) -> None:
        """A module that the table does not know fails and is told where to be added."""
        self.assert_refused("registrar.surprise", "", "'registrar.surprise'", "FLOORS in tools/check_floors.py")

    def test_package_root_imports_nothing(self) -> None:
        """A package's own __init__ may exist without a row, but imports nothing of ours."""
        self.assert_allowed("registrar.__init__", '"""The registrar."""')
        self.assert_refused(
            "registrar.__init__", "from registrar.service import makeService", "imports registrar.service"
        )

    def test_names_of_a_from_import(self) -> None:
        """`from package import module` counts as an import of that module."""
        tree = ast.parse("from rollcall.net import flow as f, wheel")
        self.assertEqual(
            list(imported_modules(tree, "registrar.service", is_package=False)),
            [(1, "rollcall.net.flow"), (1, "rollcall.net.wheel")],
        )
