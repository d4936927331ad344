"""What setup.cfg and the locks say about other people's packages, compared with what the code imports."""

import ast
import configparser
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).resolve().parents[2]
OURS = {"rollcall", "registrar", "balancer", "tests", "tools"}
# Installed for what they bring to another package, never imported by us.
INDIRECT = {
    "service-identity": "Twisted checks host names with it",
    "cryptography": "the least version that pyOpenSSL gets",
}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def normal(name: str) -> str:
    """Return a distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(text: str) -> set[str]:
    """Return the distributions that a requirement list of setup.cfg names."""
    return {normal(re.split(r"[\[<>=~! ]", line, maxsplit=1)[0]) for line in text.strip().splitlines()}


def imported(folders: Iterable[str]) -> set[str]:
    """Return the distributions whose modules the files below `folders` import."""
    names = {name for folder in folders for path in (ROOT / folder).rglob("*.py") for name in module_names(path)}
    foreign = {name for name in names if name.partition(".")[0] not in OURS | sys.stdlib_module_names}
    return {distribution(name) for name in foreign}


def distribution(module: str) -> str:
    """Return the distribution that a module comes from; of a shared namespace (zope.interface) by its own name."""
    top, _, rest = module.partition(".")
    found = {normal(name) for name in installed().get(top, [top])} - {"rollcall"}  # it has a share in Twisted's plugins
    own = normal(f"{top}.{rest.partition('.')[0]}")
    return own if own in found else found.pop()


@cache
def installed() -> Mapping[str, list[str]]:
    """Return the distributions that give each top-level module here."""
    return packages_distributions()


def module_names(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            yield node.module


class DependencyTests(SynchronousTestCase):
    """setup.cfg names what is imported, no less and no more."""

    def test_server(self) -> None:
        """What the services import is in install_requires, and everything there is used."""
        wanted = declared(setup_cfg()["options"]["install_requires"])
        used = imported(["rollcall", "registrar", "balancer", "twisted"])
        self.assertEqual(used - wanted, set(), "imported, but not in install_requires")
        self.assertEqual(wanted - used, set(), "in install_requires, but not imported")

    def test_tests_and_tools(self) -> None:
        """What tests and tools import besides is in the `test` extra."""
        config = setup_cfg()
        wanted = declared(config["options"]["install_requires"]) | declared(config["options.extras_require"]["test"])
        self.assertEqual(imported(["tests", "tools"]) - wanted, set())

    def test_lower_bounds(self) -> None:
        """Every requirement of the services has a lower bound."""
        lines = setup_cfg()["options"]["install_requires"].strip().splitlines()
        self.assertEqual([line for line in lines if ">=" not in line], [])


class LockTests(SynchronousTestCase):
    """requirements/*.lock, from which `make` installs."""

    def test_no_place(self) -> None:
        """A lock names no index, no host and no path, so that it is good on any machine."""
        for lock in (ROOT / "requirements").glob("*.lock"):
            lines = lock.read_text().splitlines()
            self.assertEqual([line for line in lines if re.search(r"^-|://|@ ", line)], [], lock.name)

    def test_hashes(self) -> None:
        """Each requirement is one version with at least one SHA-256."""
        for lock in (ROOT / "requirements").glob("*.lock"):
            entries = re.findall(r"^(\S+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock.read_text(), re.MULTILINE)
            pinned = re.findall(r"^([A-Za-z]\S*)==", lock.read_text(), re.MULTILINE)
            self.assertEqual(entries, pinned, lock.name)

    def test_one_version(self) -> None:
        """Tests run with the versions that a server gets."""
        run, test = (
            dict(re.findall(r"^(\S+)==(\S+)", (ROOT / f"requirements/{name}.lock").read_text(), re.MULTILINE))
            for name in ("run", "test")
        )
        self.assertEqual({name: test.get(name) for name in run}, run)
