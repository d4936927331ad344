"""The lab: registrars that share users, a secret, Redis and MariaDB, each a process with free ports on loopback.

A test makes a `Lab` in a folder of its own and enters it. `tools/lab up` makes one that outlives the command.
"""

import json
import secrets
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from attrs import asdict

from registrar.command.certificates import DemoCertificates
from registrar.keys import load_or_create_secret
from tests.interop.process import LOOPBACK
from tools.laboratory.filling import TABLE, LabUser, fill_file, fill_servers
from tools.laboratory.mariadb_servers import MariadbServers
from tools.laboratory.media_servers import MediaServers
from tools.laboratory.node import Node
from tools.laboratory.redis_servers import RedisServers
from tools.laboratory.toml import Sections, joined

DOMAIN = "lab.test"
STATE_FILE = "lab.json"
PASSWORD_BYTES = 8
# Phones of a lab all come from one address, which for a registrar of the world would be one customer.
EVERYBODY_FROM_ONE_ADDRESS = {
    "limits": {"max_connections_per_source": 0},
    "admission": {"requests_per_source": 1_000_000},
}

RedisKind = Literal["none", "single", "sentinel", "cluster"]
MysqlKind = Literal["none", "single", "replica"]


class Lab:
    """All of it. `start` and `stop`, or a context manager."""

    def __init__(
        self,
        folder: Path,
        registrars: int = 3,
        redis: RedisKind = "single",
        users: int = 2,
        sections: str | Sections = "",
        workers: int = 1,
        outlives: bool = False,
        mysql: MysqlKind = "none",
        media: int = 0,
        balancers: int = 1,
        balancer_sections: Sections | None = None,
    ) -> None:
        """`sections` is TOML, or the same as a mapping, for the configuration of every registrar.

        With redis "none" each registrar keeps what it knows in its own memory; with mysql "none" users are in a file.
        With `media` there are so many rtpengines, and so many balancers; that needs Redis. Unless it `outlives` us,
        everything ends with this process, however that ends.
        """
        self.folder = folder.resolve()
        self.domain = DOMAIN
        self.admin_token = secrets.token_urlsafe()
        self.users = [LabUser(f"user{number}", secrets.token_hex(PASSWORD_BYTES)) for number in range(1, users + 1)]
        self._sections = tomllib.loads(sections) if isinstance(sections, str) else sections
        self._workers = workers
        self._outlives = outlives
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._certificates = DemoCertificates(self.folder / "tls")
        self._redis = None if redis == "none" else RedisServers(self.folder / "redis", redis, outlives=outlives)
        self._mysql = None if mysql == "none" else MariadbServers(self.folder / "mysql", mysql, outlives=outlives)
        self._media = self._media_servers(media, balancers, balancer_sections) if media else None
        self.registrars: list[Node] = []
        self._names = [f"registrar-{number}" for number in range(1, registrars + 1)]

    @property
    def redis(self) -> RedisServers:
        """The Redis servers."""
        assert self._redis is not None, "this lab has no Redis"
        return self._redis

    @property
    def mysql(self) -> MariadbServers:
        """The MariaDB servers."""
        assert self._mysql is not None, "this lab has no MariaDB"
        return self._mysql

    @property
    def media(self) -> MediaServers:
        """The media nodes and the balancers."""
        assert self._media is not None, "this lab has no media nodes"
        return self._media

    @property
    def authority(self) -> Path:
        """The certificate that phones trust for TLS."""
        return self._certificates.authority

    @property
    def tcp(self) -> list[tuple[str, int]]:
        """Where phones connect, one address for each registrar."""
        return [node.tcp for node in self.registrars]

    def start(self) -> None:
        """Start everything and return when every registrar serves. When one does not, all of it has ended again."""
        try:
            self._make_common_files()
            if self._redis is not None:
                self._redis.start()
            if self._mysql is not None:
                self._mysql.start()
                fill_servers(self._mysql, self.users, self.domain)
            if self._media is not None:
                self._media.start()
            common = joined(self._common_sections(), self._sections)
            for name in self._names:
                node = self._node(name, common)
                self.registrars.append(node)
                node.begin()
            for node in self.registrars:
                node.wait_ready()
        except BaseException:
            self.stop()
            raise
        self.write_state()

    def stop(self) -> None:
        """End everything: first the registrars, all at once, then what they share."""
        if self.registrars:
            with ThreadPoolExecutor(len(self.registrars)) as pool:
                list(pool.map(Node.stop, self.registrars))
        if self._media is not None:
            self._media.stop()
        if self._redis is not None:
            self._redis.stop()
        if self._mysql is not None:
            self._mysql.stop()

    def node(self, name: str) -> Node:
        """Return the registrar of this name."""
        return next(node for node in self.registrars if node.name == name)

    def as_json(self) -> dict[str, Any]:
        """Return every address and password."""
        return {
            "domain": self.domain,
            "admin_token": self.admin_token,
            "users": [asdict(user) for user in self.users],
            "registrars": [node.as_json() for node in self.registrars],
            "redis": self._redis.described if self._redis is not None else [],
            "mysql": self._mysql.described if self._mysql is not None else [],
            **({"media": [], "balancers": []} if self._media is None else self._media.as_json()),
            "dns": None,
            "folder": str(self.folder),
            "ca": str(self.authority),
        }

    def write_state(self) -> None:
        """Write lab.json, which says what there is and that the folder is a lab's."""
        file = self.folder / STATE_FILE
        file.touch(mode=0o600)
        file.write_text(json.dumps(self.as_json(), indent=2) + "\n")

    def _node(self, name: str, sections: Sections) -> Node:
        return Node(self.folder / name, name, sections, self.admin_token, self._workers, self._outlives)

    def _make_common_files(self) -> None:
        self.write_state()
        self._certificates.ensure([LOOPBACK, "localhost", self.domain], datetime.now(UTC))
        load_or_create_secret(self.folder / "node.secret")
        if self._mysql is None:
            fill_file(self.folder / "subscribers.sqlite", self.users, self.domain)

    def _common_sections(self) -> dict[str, Any]:
        pair = {"certificate_file": str(self._certificates.certificate), "key_file": str(self._certificates.key)}
        return {
            **EVERYBODY_FROM_ONE_ADDRESS,
            "registrar": {"secret_file": str(self.folder / "node.secret")},
            "domain": [{"name": self.domain}],
            "tls": {"certificates": [pair]},
            **self._subscribers(),
            "location": {"kind": "memory" if self._redis is None else "redis"},
            **({} if self._redis is None else {"redis": self._redis.settings}),
            **({} if self._media is None else self._media.registrar_sections),
        }

    def _media_servers(self, nodes: int, balancers: int, sections: Sections | None) -> MediaServers:
        if self._redis is None:
            raise ValueError("media nodes need Redis")
        return MediaServers(self.folder / "media", nodes, balancers, self._redis, self.admin_token, sections,
                            self._outlives)

    def _subscribers(self) -> dict[str, Any]:
        if self._mysql is None:
            return {"subscribers": {"file": str(self.folder / "subscribers.sqlite")}}
        return {"subscribers": {"kind": "mysql", "use_domain": TABLE.use_domain}, "mysql": self._mysql.settings}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
