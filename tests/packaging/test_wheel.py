"""What an installation gets: a wheel is built from a copy of this checkout and read."""

import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rollcall", "registrar", "balancer", "twisted")
SHIPPED = (*PACKAGES, "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


class WheelTests(SynchronousTestCase):
    """One wheel for all tests, because building takes a second or two."""

    names: frozenset[str]

    @classmethod
    def setUpClass(cls) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkout, wheels = Path(folder, "checkout"), Path(folder, "wheels")
            copy_checkout(checkout)
            build_wheel(checkout, wheels)
            (wheel,) = wheels.glob("rollcall-*.whl")
            cls.names = frozenset(zipfile.ZipFile(wheel).namelist())

    def test_plugins(self) -> None:
        """Both plugins are in the wheel, where Twisted looks for them."""
        self.assertIn("twisted/plugins/registrar_plugin.py", self.names)
        self.assertIn("twisted/plugins/balancer_plugin.py", self.names)

    def test_nothing_of_twisted(self) -> None:
        """The wheel holds only plugins of the twisted package, so that installing it overwrites nothing."""
        foreign = {name for name in self.names if name.startswith("twisted/") and not name.endswith("_plugin.py")}
        self.assertEqual(foreign, set())

    def test_every_module(self) -> None:
        """Each module and each SQL file of the three packages is shipped."""
        ours = {
            path.relative_to(ROOT).as_posix()
            for package in PACKAGES
            for pattern in ("*.py", "*.sql")
            for path in (ROOT / package).rglob(pattern)
        }
        self.assertTrue(any(name.endswith(".sql") for name in ours))
        self.assertEqual(ours - self.names, set())

    def test_no_tests_or_tools(self) -> None:
        """Neither tests nor tools nor documents are installed."""
        top = {name.partition("/")[0] for name in self.names if ".dist-info/" not in name}
        self.assertEqual(top, set(PACKAGES))

    def test_command(self) -> None:
        """The wheel installs a `rollcall` command."""
        self.assertTrue(any(name.endswith(".dist-info/entry_points.txt") for name in self.names))


def copy_checkout(target: Path) -> None:
    """Copy what a wheel is made of, without caches, so that a build leaves nothing in the checkout."""
    target.mkdir()
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache"))
        else:
            shutil.copy(source, target / name)


def build_wheel(checkout: Path, wheels: Path) -> None:
    """Build with the installed setuptools, so that nothing is downloaded."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [*pip, "--wheel-dir", str(wheels), str(checkout)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"pip wheel failed:\n{done.stdout}{done.stderr}")
