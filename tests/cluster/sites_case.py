"""Two sites, each with a Redis and registrars of its own on hosts of their own, and phones that hang on either.

What the sites have in common is what operators give all nodes: the secret, the users, the list of sites. The cable
between them can be cut, and nothing else is.
"""

import tempfile
from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from registrar.keys import load_or_create_secret
from tests.cluster.case import FIGURE, TROUBLE
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.hosts import PHONES_HOST, HostLab, HostRedis
from tests.cluster.namespaces import Host, Network, network_or_skip
from tests.interop.phone import Phone
from tests.interop.process import wait_until
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections, joined

INTERNAL_PORT = 5070
HOSTS_PER_SITE = 30
KNOWN_SECONDS = 10.0
"""How soon one site knows the nodes of the other at the latest, when there is a way."""


class SiteLab(HostLab):
    """One site of several."""

    def __init__(self, network: Network, folder: Path, site: str, sites: Mapping[str, int], number: int, users: int,
                 sections: str, own: Mapping[str, Sections], names: tuple[str, ...] = (), workers: int = 1) -> None:
        """`sites` says how many registrars each site has; this one is `number` in their order."""
        super().__init__(network, folder, sites[site], users, sections, own, False, False)
        self.site = site
        self.first_host = 10 + HOSTS_PER_SITE * number
        self._workers = workers
        self._names = list(names or (f"{site}-{one}" for one in range(1, sites[site] + 1)))
        self._sites = [
            {"name": name, "addresses": [], "members": [
                f"{network.host(10 + HOSTS_PER_SITE * at + 1 + one).ipv4}:{INTERNAL_PORT + worker}"
                for one in range(sites[name]) for worker in range(workers)]}
            for at, name in enumerate(sites)]
        self.redis_host = network.host(self.first_host)
        self._redis = HostRedis(self.folder / "redis", self.redis_host, self.address(self.redis_host))

    def host(self, name: str) -> Host:
        """See HostLab."""
        return self._network.host(self.first_host + 1 + self._names.index(name))

    @property
    def hosts(self) -> list[Host]:
        """The hosts of all registrars."""
        return [self.host(name) for name in self._names]

    def share(self, other: "SiteLab") -> None:
        """Have the secret and the users of another site."""
        self.users = other.users
        secret = load_or_create_secret(other.folder / "node.secret")
        (self.folder / "node.secret").write_bytes((other.folder / "node.secret").read_bytes())
        (self.folder / "node.secret").chmod(0o600)
        assert load_or_create_secret(self.folder / "node.secret") == secret

    def _node_on(self, host: Host, folder: Path, name: str, sections: Sections) -> Node:
        mine: Sections = {"registrar": {"workers": self._workers}, "site": self._sites,
                          "cluster": {"site": self.site, "internal_port": INTERNAL_PORT}}
        return super()._node_on(host, folder, name, joined(sections, mine))


class SitesCase(SynchronousTestCase):
    """Starts both sites before the first test; after each test no registrar's log may tell of an error of ours."""

    sites: ClassVar[Mapping[str, int]] = {"fra": 2, "ams": 2}
    users: ClassVar[int] = 24
    workers: ClassVar[int] = 1
    sections: ClassVar[str] = ""
    own: ClassVar[Mapping[str, Sections]] = {}
    names: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    expected: ClassVar[tuple[str, ...]] = ()
    fra: ClassVar[SiteLab]
    ams: ClassVar[SiteLab]
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    _network: ClassVar[Network]

    @classmethod
    def setUpClass(cls) -> None:
        cls._network = network_or_skip()
        cls._folder = tempfile.TemporaryDirectory()
        cls.fra, cls.ams = [
            SiteLab(cls._network, Path(cls._folder.name) / site, site, cls.sites, number, cls.users, cls.sections,
                    cls.own, cls.names.get(site, ()), cls.workers)
            for number, site in enumerate(("fra", "ams"))]
        cls.ams.share(cls.fra)
        for lab in (cls.fra, cls.ams):
            lab.start()

    @classmethod
    def tearDownClass(cls) -> None:
        for lab in (cls.fra, cls.ams):
            lab.stop()
        cls._folder.cleanup()
        cls._network.close()

    def tearDown(self) -> None:
        for node in self.registrars:
            found = [line for line in node.log().splitlines() if any(word in line for word in TROUBLE)
                     and not any(trouble in line for trouble in self.expected)]
            self.assertEqual(found, [], node.error("has logged trouble"))

    # --- what there is

    @property
    def registrars(self) -> list[Node]:
        """The registrars of both sites, those of fra first."""
        return [*self.fra.registrars, *self.ams.registrars]

    def fleet(self, behaviour: Behaviour | None = None, number: int | None = None) -> Fleet:
        """Return phones spread over all registrars of both sites; they end with the test."""
        made = Fleet([node.tcp for node in self.registrars], self.fra.users[:number], self.fra.domain, behaviour)
        made.start()
        self.addCleanup(made.stop)
        made.loop.do(self._network.host(PHONES_HOST).enter)
        return made

    def registered(self, number: int) -> Fleet:
        """Return phones that are registered, as many with each registrar, once the sites know each other."""
        self.wait_known()
        fleet = self.fleet(number=number)
        fleet.register_all()
        return fleet

    def at(self, fleet: Fleet, lab: SiteLab) -> list[FleetPhone]:
        """Return the phones of a fleet that hang on a site, as many of each of its nodes in turn."""
        faces = [self.registrars.index(node) for node in lab.registrars]
        return [phone for phone in fleet.phones if phone.face in faces]

    def registered_phone(self, lab: SiteLab, index: int, transport: str = "TCP") -> Phone:
        """Return the phone of a user that has registered with the first registrar of a site."""
        user, host = lab.users[index], self._network.host(PHONES_HOST)
        with host.entered():
            phone = Phone(transport, lab.registrars[0].tcp, user.username, lab.domain, user.password, host.ipv4)
        self.addCleanup(phone.close)
        self.assertEqual(phone.register().status, 200)
        return phone

    # --- what is done

    def cut(self) -> None:
        """Let everything vanish that nodes of one site say to nodes of the other, until the test ends."""
        for here, there in product(self.fra.hosts, self.ams.hosts):
            here.lose(there)
        self.addCleanup(self.mend)

    def mend(self) -> None:
        """Let the sites hear each other again."""
        for here, there in product(self.fra.hosts, self.ams.hosts):
            here.find(there)

    def wait_known(self, seconds: float = KNOWN_SECONDS) -> None:
        """Return when every node knows all nodes of the other site."""
        for lab, other in ((self.fra, self.ams), (self.ams, self.fra)):
            for node in [each for each in lab.registrars if each.running]:
                wanted = sum(each.running for each in other.registrars) * self.workers
                wait_until(lambda: len(self.known(node, other.site)) == wanted or None,  # noqa: B023
                           f"all nodes of {other.site}, as {node.name} sees it", seconds)

    def known(self, node: Node, site: str) -> list[str]:
        """Return the nodes of a site that a registrar can reach."""
        sites = {each["site"]: each for each in node.get("/v1/sites")["sites"]}
        return [each["node"] for each in sites[site]["nodes"]] if sites[site]["reachable"] else []

    def figure(self, text: str) -> None:
        """Let the summary of the run show what was measured."""
        self.record(FIGURE, text)
