"""A lab whose registrars, Redis and phones are each on a host of its own, with its own address."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.namespaces import Host, Network, network_or_skip
from tests.cluster.test_redis_away import AwayCase
from tests.interop.process import LOOPBACK
from tests.rollcall.net.certificates import an_authority
from tools.laboratory.lab import Lab
from tools.laboratory.node import Node
from tools.laboratory.redis_process import RedisProcess
from tools.laboratory.redis_servers import SERVER_LINES, RedisServers
from tools.laboratory.toml import Sections, joined

REDIS_HOST = 2
FIRST_NODE_HOST = 11
PHONES_HOST = 100
TWIN_HOST = 99


class HostNode(Node):
    """A registrar on a host of its own: everybody but its admin site is at the host's address."""

    def __init__(self, host: Host, address: str, folder: Path, name: str, sections: Sections, token: str) -> None:
        self.host = host
        self.address = address
        super().__init__(folder, name, sections, token)

    @property
    def tcp(self) -> tuple[str, int]:
        """Where phones connect by TCP; the same for UDP."""
        return self.address, self.sip_port

    def begin(self) -> None:
        """See Node."""
        with self.host.entered():
            super().begin()

    def read(self, path: str, body: bytes | None = None, method: str | None = None) -> str:
        """See Node."""
        with self.host.entered():
            return super().read(path, body, method)

    def _own_sections(self) -> dict[str, Any]:
        own = super()._own_sections()
        for listener in own["listen"]:
            listener["host"] = self.address
        own["cluster"]["internal_host"] = self.address
        return own


class HostRedisProcess(RedisProcess):
    """A redis-server on a host of its own; the tests ask it at the host's loopback address."""

    host: Host

    def start(self) -> None:
        """See RedisProcess."""
        with self.host.entered():
            super().start()

    def ask(self, *words: str | bytes | int) -> Any:
        """See RedisProcess."""
        with self.host.entered():
            return super().ask(*words)


class HostRedis(RedisServers):
    """One Redis server on a host of its own."""

    def __init__(self, folder: Path, host: Host, address: str) -> None:
        super().__init__(folder)
        self._host = host
        self._address = address

    @property
    def addresses(self) -> tuple[str, ...]:
        """See RedisServers."""
        host = f"[{self._address}]" if ":" in self._address else self._address
        return tuple(f"{host}:{server.port}" for server in self.servers)

    def _process(self, port: int, role: str, lines: str) -> RedisProcess:
        listening = f"bind {LOOPBACK} {self._address}\nprotected-mode no\nport {port}"
        made = HostRedisProcess(
            self.folder / role, role, port, f"{listening}\n{SERVER_LINES}", self._wire, self._outlives)
        made.host = self._host
        return made


class HostLab(Lab):
    """Registrars at 10.77.0.11 and on, Redis at 10.77.0.2, phones at 10.77.0.100; or at fd77::b and so on."""

    def __init__(
        self,
        network: Network,
        folder: Path,
        registrars: int,
        users: int,
        sections: str,
        own: Mapping[str, Sections],
        has_ipv6: bool,
        has_tls: bool,
    ) -> None:
        """`own` has sections for single registrars, by their names; with `has_tls` they speak TLS to each other."""
        super().__init__(folder, registrars, "none", users, sections)
        self._network = network
        self._own = own
        self._has_ipv6 = has_ipv6
        self._authority = an_authority(self.folder, "members") if has_tls else None
        self.redis_host = network.host(REDIS_HOST)
        self.phones_host = network.host(PHONES_HOST)
        self._redis = HostRedis(self.folder / "redis", self.redis_host, self.address(self.redis_host))

    def address(self, host: Host) -> str:
        """Return the address of a host that all use."""
        return host.ipv6 if self._has_ipv6 else host.ipv4

    def host(self, name: str) -> Host:
        """Return the host of a registrar."""
        return self._network.host(FIRST_NODE_HOST + self._names.index(name))

    def twin(self, name: str) -> Node:
        """Return one more registrar that has the name of another one, on a host of its own. It is not started."""
        folder = self.folder / f"twin-of-{name}"
        sections = joined(self._common_sections(), self._sections)
        return self._node_on(self._network.host(TWIN_HOST), folder, name, sections)

    def _node(self, name: str, sections: Sections) -> Node:
        return self._node_on(self.host(name), self.folder / name, name, sections)

    def _node_on(self, host: Host, folder: Path, name: str, sections: Sections) -> Node:
        mine = joined(joined(sections, self._members_tls(name)), self._own.get(name, {}))
        return HostNode(host, self.address(host), folder, name, mine, self.admin_token)

    def _members_tls(self, name: str) -> Sections:
        if self._authority is None:
            return {}
        issued = self._authority.issue(name)
        files = {"certificate": issued.certificate_file, "key": issued.key_file, "authority": self._authority.file}
        return {"cluster": {"internal_tls": True}
                | {f"internal_{which}_file": str(file) for which, file in files.items()}}


class HostsCase(AwayCase):
    """Has its lab on hosts; see ClusterCase."""

    lab: ClassVar[HostLab]
    own: ClassVar[Mapping[str, Sections]] = {}
    has_ipv6: ClassVar[bool] = False
    has_tls: ClassVar[bool] = False
    _network: ClassVar[Network]

    @classmethod
    def setUpClass(cls) -> None:
        cls._network = network_or_skip()
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = HostLab(cls._network, Path(cls._folder.name), cls.registrars, cls.users, cls.sections, cls.own,
                          cls.has_ipv6, cls.has_tls)
        cls.lab.start()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._network.close()

    def fleet(self, number: int | None = None, behaviour: Behaviour | None = None) -> Fleet:
        """See ClusterCase: all phones are on a host of their own."""
        made = super().fleet(number, behaviour)
        made.loop.do(self.lab.phones_host.enter)
        return made
