"""What an installation gets: a wheel is built from a copy of this checkout and read."""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.compilation import CYTHON_SOURCES, has_compiler, module_of

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("rollcall", "registrar", "balancer", "twisted")
SHIPPED = (*PACKAGES, "setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in")


class WheelTests(SynchronousTestCase):
    """One wheel for all tests, because building takes a second or two."""

    names: frozenset[str]

    @classmethod
    def setUpClass(cls) -> None:
        with tempfile.TemporaryDirectory() as folder:
            checkout, wheels = Path(folder, "checkout"), Path(folder, "wheels")
            copy_checkout(checkout)
            cls.names = build_wheel(checkout, wheels, {})

    def test_plugins(self) -> None:
        """Both plugins are in the wheel, where Twisted looks for them."""
        self.assertIn("twisted/plugins/registrar_plugin.py", self.names)
        self.assertIn("twisted/plugins/balancer_plugin.py", self.names)

    def test_nothing_of_twisted(self) -> None:
        """The wheel holds only plugins of the twisted package, so that installing it overwrites nothing."""
        foreign = {name for name in self.names if name.startswith("twisted/") and not name.endswith("_plugin.py")}
        self.assertEqual(foreign, set())

    def test_every_module(self) -> None:
        """Each module, each SQL file and each script for Redis is shipped."""
        ours = {
            path.relative_to(ROOT).as_posix()
            for package in PACKAGES
            for pattern in ("*.py", "*.sql", "*.lua")
            for path in (ROOT / package).rglob(pattern)
        }
        self.assertLessEqual({".sql", ".lua"}, {Path(name).suffix for name in ours})
        self.assertEqual(ours - self.names, set())

    def test_compiled(self) -> None:
        """With a compiler every .pyx becomes a module of the wheel, and the C between them is not in it."""
        expected = {module_of(path) for path in CYTHON_SOURCES} if has_compiler() else set()
        self.assertEqual(compiled_modules(self.names), expected)
        self.assertEqual([name for name in self.names if name.endswith(".c")], [])

    def test_no_tests_or_tools(self) -> None:
        """Neither tests nor tools nor documents are installed."""
        top = {name.partition("/")[0] for name in self.names if ".dist-info/" not in name}
        self.assertEqual(top, set(PACKAGES))

    def test_command(self) -> None:
        """The wheel installs a `rollcall` command."""
        self.assertTrue(any(name.endswith(".dist-info/entry_points.txt") for name in self.names))


class CompilingTests(SynchronousTestCase):
    """Where there is no C compiler, and for those who have one."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.checkout, self.wheels = Path(folder.name, "checkout"), Path(folder.name, "wheels")
        copy_checkout(self.checkout)

    def test_without_compiler(self) -> None:
        """Without a compiler an installation works all the same, and has every twin."""
        names = build_wheel(self.checkout, self.wheels, {"CC": "/bin/false"})
        self.assertEqual(compiled_modules(names), set())
        self.assertIn("rollcall/sip/plain_scanner.py", names)

    def test_source(self) -> None:
        """The source distribution has every .pyx, for whoever installs from it to compile, and nothing built."""
        shutil.copytree(ROOT / "requirements", self.checkout / "requirements")
        command = [sys.executable, "setup.py", "--quiet", "sdist", "--dist-dir", str(self.wheels)]
        done = subprocess.run(command, cwd=self.checkout, capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        (archive,) = self.wheels.glob("rollcall-*.tar.gz")
        with tarfile.open(archive) as tar:
            names = {name.partition("/")[2] for name in tar.getnames()}
        self.assertLessEqual({path.as_posix() for path in CYTHON_SOURCES} | {"setup.py"}, names)
        self.assertEqual([name for name in names if name.endswith((".c", ".so"))], [])


def compiled_modules(names: frozenset[str]) -> set[str]:
    """Return the modules that a wheel has in compiled form."""
    return {name.partition(".")[0].replace("/", ".") for name in names if name.endswith(".so")}


def copy_checkout(target: Path) -> None:
    """Copy what a wheel is made of, without caches, so that a build leaves nothing in the checkout."""
    target.mkdir()
    for name in SHIPPED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache", "*.so"))
        else:
            shutil.copy(source, target / name)


def build_wheel(checkout: Path, wheels: Path, environment: Mapping[str, str]) -> frozenset[str]:
    """Return what is in a wheel, built with the installed setuptools, so that nothing is downloaded."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [*pip, "--wheel-dir", str(wheels), str(checkout)]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise AssertionError(f"pip wheel failed:\n{done.stdout}{done.stderr}")
    (wheel,) = wheels.glob("rollcall-*.whl")
    return frozenset(zipfile.ZipFile(wheel).namelist())
