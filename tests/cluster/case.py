"""What the tests of the whole cluster share: a lab for each class, phones for each test, and figures that are shown."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.namespaces import Namespace
from tools.laboratory.filling import LabUser
from tools.laboratory.lab import Lab, MysqlKind, RedisKind
from tools.laboratory.node import Node

FIGURE = "figure"
TROUBLE = ("Traceback", "Unhandled", "[critical]", " critical ")


class ClusterCase(SynchronousTestCase):
    """Starts the lab before the first test. After each test no registrar's log may tell of an error of ours."""

    registrars: ClassVar[int] = 3
    redis: ClassVar[RedisKind] = "single"
    mysql: ClassVar[MysqlKind] = "none"
    users: ClassVar[int] = 100
    sections: ClassVar[str] = ""
    workers: ClassVar[int] = 1
    expected: ClassVar[tuple[str, ...]] = ()
    """Troubles that tests of this class bring about."""
    lab: ClassVar[Lab]
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = Lab(Path(cls._folder.name), cls.registrars, cls.redis, cls.users, cls.sections, cls.workers,
                      mysql=cls.mysql)
        cls.lab.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.lab.stop()
        cls._folder.cleanup()

    def tearDown(self) -> None:
        for node in self.lab.registrars:
            found = [line for line in node.log().splitlines() if any(word in line for word in TROUBLE)
                     and not any(trouble in line for trouble in self.expected)]
            self.assertEqual(found, [], node.error("has logged trouble"))

    def fleet(self, number: int | None = None, behaviour: Behaviour | None = None) -> Fleet:
        """Return phones for the first users of the lab, spread over all registrars; they end with the test."""
        return self.fleet_of(self.lab.tcp, self.lab.users[:number], behaviour)

    def fleet_of(self, faces: Sequence[tuple[str, int]], users: Iterable[LabUser], behaviour: Behaviour | None = None,
                 host: Namespace | None = None, sources: Sequence[str] = ("",)) -> Fleet:
        """Return phones that know these faces alone, on a host of their own if one is given; they end with the test.

        `sources` are the addresses that they speak from, in turn.
        """
        made = Fleet(faces, users, self.lab.domain, behaviour, sources=sources)
        made.start()
        self.addCleanup(made.stop)
        if host is not None:
            made.loop.do(host.enter)
        return made

    def figure(self, text: str) -> None:
        """Let the summary of the run show what was measured."""
        self.record(FIGURE, text)

    def bindings(self, node: Node) -> dict[str, list[dict[str, Any]]]:
        """Return all bindings of the cluster, by user, as a registrar's admin site lists them."""
        found: dict[str, list[dict[str, Any]]] = {}
        for contact in node.contacts():
            user = contact["aor"].removeprefix("sip:").partition("@")[0]
            found.setdefault(user, []).append(contact)
        return found

    def check_promises(self, fleet: Fleet, node: Node, gone: Iterable[FleetPhone] = ()) -> None:
        """Check that a registrar sees of these phones every binding that was acknowledged, and no other.

        Those that are `gone` must not be seen.
        """
        missing = set(gone)
        seen = self.bindings(node)
        promised = fleet.promised()
        wrong = {}
        for phone in fleet.phones:
            wanted = [promised[phone.user].contact] if phone.user in promised and phone not in missing else []
            found = [each["contact"] for each in seen.get(phone.user, [])]
            if found != wanted:
                wrong[phone.user] = f"promised {wanted}, found {found}"
        self.assertEqual(wrong, {}, f"as {node.name} sees it")


def spread(seconds: Iterable[float]) -> str:
    """Return how times lie, in milliseconds."""
    ordered = sorted(seconds)
    if not ordered:
        return "none"
    middle, most = at_share(ordered, 0.5), at_share(ordered, 0.99)
    return f"median {middle * 1000:.0f} ms, 99 % within {most * 1000:.0f} ms, longest {ordered[-1] * 1000:.0f} ms"


def at_share(ordered: Sequence[float], share: float) -> float:
    """Return the value that this share of an ordered sequence does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
