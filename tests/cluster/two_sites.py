"""Two sites, each with a Redis and a registrar of its own on hosts of their own, which the kernel keeps apart.

fra is at 10.77.0.11 with its Redis at 10.77.0.12, ams at 10.77.0.21 and 10.77.0.22, phones are at 10.77.0.100.
"""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from unittest import SkipTest

from twisted.trial.unittest import TestCase

from registrar.keys import load_or_create_secret
from tests.cluster.case import FIGURE, TROUBLE
from tests.cluster.hosts import HostLab, HostNode, HostRedis
from tests.cluster.namespaces import NET4, NET6, Host, Network, NoNamespaces
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections, joined

SIP_PORT, TLS_PORT, WS_PORT, INTERNAL_PORT = 5060, 5061, 8080, 5070
FIRST_HOSTS: Mapping[str, int] = {"fra": 11, "ams": 21}
"""The number of each site's first host, where its registrar is; the next one is its Redis."""

PHONES = 100


def site_sections(name: str) -> dict[str, Any]:
    """Return what the configuration of a site's registrars says of sites."""
    return {
        "site": [{"name": site, "addresses": [f"{NET4}.{number}", f"{NET6}:{number:x}"],
                  "members": [f"{NET4}.{number}:{INTERNAL_PORT}"]} for site, number in FIRST_HOSTS.items()],
        "cluster": {"site": name},
    }


class SiteNode(HostNode):
    """A registrar that has its host to itself, and so the usual ports."""

    def _own_sections(self) -> dict[str, Any]:
        self.sip_port, self.tls_port, self.ws_port = SIP_PORT, TLS_PORT, WS_PORT
        self.internal_port = INTERNAL_PORT
        own = super()._own_sections()
        own["listen"] += [{**each, "name": f"{each['name']}-6", "host": self.host.ipv6} for each in own["listen"]]
        return own


class SiteLab(HostLab):
    """One site."""

    def __init__(self, network: Network, folder: Path, site: str, users: int, sections: Sections) -> None:
        """`sections` are for all sites."""
        super().__init__(network, folder, 1, users, "", {}, False, False)
        self._site = site
        self._network = network
        self._sections = joined(site_sections(site), sections)
        self._names = [f"{site}-1"]
        self.redis_host = network.host(FIRST_HOSTS[site] + 1)
        self._redis = HostRedis(self.folder / "redis", self.redis_host, self.redis_host.ipv4)

    def host(self, name: str) -> Host:
        """See HostLab."""
        return self._network.host(FIRST_HOSTS[self._site])

    @property
    def own(self) -> Node:
        """The registrar."""
        return self.registrars[0]

    def _node_on(self, host: Host, folder: Path, name: str, sections: Sections) -> Node:
        return SiteNode(host, host.ipv4, folder, name, sections, self.admin_token)


class SitesCase(TestCase):
    """Starts both sites before the first test; both have the same users and secrets."""

    users: ClassVar[int] = 2
    labs: ClassVar[dict[str, SiteLab]]
    network: ClassVar[Network]
    phones: ClassVar[Host]
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)
    """Where figures go; see conftest.py."""
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def sections(cls, folder: Path, site: str) -> Sections:
        """Return what the configuration of this site says beyond its own hosts."""
        return {}

    @classmethod
    def setUpClass(cls) -> None:
        try:
            cls.network = Network()
        except NoNamespaces as problem:
            raise SkipTest(f"network namespaces need root: {problem}") from problem
        cls._folder = tempfile.TemporaryDirectory()
        folder = Path(cls._folder.name)
        cls.phones = cls.network.host(PHONES)
        cls.labs = {}
        try:
            for site in FIRST_HOSTS:
                cls.labs[site] = cls._started(folder, site)
        except BaseException:
            cls.tearDownClass()
            raise

    @classmethod
    def _started(cls, folder: Path, site: str) -> SiteLab:
        lab = SiteLab(cls.network, folder / site, site, cls.users, cls.sections(folder, site))
        for other in cls.labs.values():
            lab.users = other.users
            (lab.folder / "node.secret").write_bytes((other.folder / "node.secret").read_bytes())
        load_or_create_secret(lab.folder / "node.secret")
        lab.start()
        return lab

    @classmethod
    def tearDownClass(cls) -> None:
        for lab in cls.labs.values():
            lab.stop()
        cls._folder.cleanup()
        cls.network.close()

    def tearDown(self) -> None:
        for lab in self.labs.values():
            found = [line for line in lab.own.log().splitlines() if any(word in line for word in TROUBLE)]
            self.assertEqual(found, [], lab.own.error("has logged trouble"))

    def figure(self, text: str) -> None:
        """Let the summary of the run show what was measured."""
        self.record(FIGURE, text)
