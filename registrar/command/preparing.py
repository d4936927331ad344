"""A registrar to try: a ready configuration, a test certificate and two users, all below one directory.

What is there already stays: the configuration until another address or port offset is asked for (somebody may have
edited it), the authority that phones were told to trust, and the passwords that were typed into them. Nothing is
written before `look_ahead` has said that the ports can be had: another demonstration may be running from there.
"""

import json
import os
import re
import secrets
from collections.abc import Callable
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen

from registrar.command.certificates import DemoCertificates
from registrar.command.ports import Wanted
from registrar.config import RegistrarConfig
from registrar.subscribers.table import SubscriberTable
from rollcall.net.config import ListenerConfig
from rollcall.ops.config import load

USERNAMES = ("alice", "bob")
PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061, "ws": 5080, "wss": 5443}
ADMIN_HOST = "127.0.0.1"
ADMIN_PORT = 8060
MAX_PORT_OFFSET = 57000
# easy to read aloud and to type on a phone: no 0 and o, 1, i and l
PASSWORD_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
PASSWORD_GROUPS = 3
PASSWORD_GROUP_LETTERS = 4

HEADER = "# Written by `rollcall demo` for address {address}, port offset {port_offset}.\n"
HEADER_PATTERN = re.compile(HEADER.format(address=r"(?P<address>\S+)", port_offset=r"(?P<port_offset>[0-9]+)"))
TEMPLATE = """\
# It stays as you edit it until another address or offset is asked for; then your edition is kept as registrar.toml.old.

[registrar]
node = "demo"
data_dir = "data"

[[domain]]
name = "{address}"
aliases = [{aliases}]
{listeners}
[tls]
certificates = [{{ certificate_file = "tls/server.pem", key_file = "tls/server.key" }}]

[admin]
host = "{admin_host}"
port = {admin_port}
"""
LISTENER = """
[[listen]]
name = "{transport}"
transport = "{transport}"
host = "{address}"
port = {port}
"""


class DemoError(Exception):
    """Why the demonstration cannot be made ready, in a sentence."""


@frozen
class DemoUser:
    """Somebody who may register."""

    username: str
    password: str


@frozen
class Demo:
    """What was made ready."""

    directory: Path
    config: RegistrarConfig
    users: tuple[DemoUser, ...]

    @property
    def config_file(self) -> Path:
        """The configuration to start the registrar with."""
        return self.directory / "registrar.toml"

    @property
    def authority(self) -> Path:
        """The certificate that phones and browsers must trust for TLS and WSS."""
        return DemoCertificates(self.directory / "tls").authority

    @property
    def domain(self) -> str:
        """What stands behind the @ of a user."""
        return self.config.domains[0].name

    def endpoint(self, transport: str) -> str | None:
        """Return "host:port" of the first listener for this transport, or None."""
        found = (_endpoint(each) for each in self.config.listeners if each.transport == transport)
        return next(found, None)

    def as_json(self) -> dict[str, Any]:
        """Return what demo.json says."""
        return {
            "domain": self.domain,
            **{transport: self.endpoint(transport) for transport in PORTS},
            "admin": self.config.admin.url,
            "ca": str(self.authority.absolute()),
            "users": [{"username": user.username, "password": user.password} for user in self.users],
        }


def look_ahead(directory: Path, address: str, port_offset: int) -> list[Wanted]:
    """Return every port that would be listened on after `prepare`; writes nothing. Raises DemoError, ConfigError."""
    _check_address(address)
    path = directory / "registrar.toml"
    if _is_for(path, address, port_offset):
        config = load(path, RegistrarConfig)
        wanted = [Wanted(_protocol(each.transport), each.host, each.port) for each in config.listeners]
        return [*wanted, Wanted("tcp", config.admin.host, config.admin.port)]
    wanted = [Wanted(_protocol(transport), address, port + port_offset) for transport, port in PORTS.items()]
    return [*wanted, Wanted("tcp", ADMIN_HOST, ADMIN_PORT + port_offset)]


def _protocol(transport: str) -> str:
    return "udp" if transport == "udp" else "tcp"


def prepare(
    directory: Path,
    address: str,
    port_offset: int,
    now: datetime,
    choose: Callable[[str], str] = secrets.choice,
) -> Demo:
    """Make everything ready in `directory`. Raises DemoError, ConfigError, StoreUnavailable, OSError."""
    _check_address(address)
    directory.mkdir(parents=True, exist_ok=True)
    _write_config(directory / "registrar.toml", address, port_offset)
    _make_certificates(directory / "tls", address, now)
    config = load(directory / "registrar.toml", RegistrarConfig)
    config.registrar.data_dir.mkdir(parents=True, exist_ok=True)
    passwords = _known_passwords(directory / "demo.json")
    users = tuple(DemoUser(name, passwords.get(name) or _new_password(choose)) for name in USERNAMES)
    demo = Demo(directory, config, users)
    _keep_users(demo)
    _write_private(directory / "demo.json", json.dumps(demo.as_json(), indent=2) + "\n")
    return demo


def _check_address(address: str) -> None:
    try:
        known = ip_address(address)
    except ValueError:
        raise DemoError(f"{address} is not an IP address; give one of this machine") from None
    if known.version != 4 or known.is_unspecified or known.is_multicast:
        raise DemoError(f"{address} is nothing that a phone can dial here; give an IPv4 address of this machine")


def _is_for(path: Path, address: str, port_offset: int) -> bool:
    header = HEADER.format(address=address, port_offset=port_offset)
    return path.exists() and path.read_text(encoding="utf-8").startswith(header)


def _write_config(path: Path, address: str, port_offset: int) -> None:
    if _is_for(path, address, port_offset):
        return
    if path.exists() and _was_edited(path.read_text(encoding="utf-8")):
        path.replace(path.with_suffix(".toml.old"))
    path.write_text(_config_text(address, port_offset), encoding="utf-8")


def _was_edited(text: str) -> bool:
    written = HEADER_PATTERN.match(text)
    return written is None or text != _config_text(written["address"], int(written["port_offset"]))


def _config_text(address: str, port_offset: int) -> str:
    header = HEADER.format(address=address, port_offset=port_offset)
    aliases = '"localhost"' if address.startswith("127.") else ""
    listeners = "".join(
        LISTENER.format(transport=transport, address=address, port=port + port_offset)
        for transport, port in PORTS.items()
    )
    admin_port = ADMIN_PORT + port_offset
    return header + TEMPLATE.format(
        address=address, aliases=aliases, listeners=listeners, admin_host=ADMIN_HOST, admin_port=admin_port
    )


def _make_certificates(directory: Path, address: str, now: datetime) -> None:
    names = list(dict.fromkeys((address, "localhost", "127.0.0.1")))
    try:
        DemoCertificates(directory).ensure(names, now)
    except ValueError as error:
        raise DemoError(
            f"what is in {directory} cannot be read ({error}); remove it to get new certificates"
        ) from error


def _known_passwords(path: Path) -> dict[str, str]:
    try:
        users = json.loads(path.read_text(encoding="utf-8"))["users"]
        return {user["username"]: user["password"] for user in users}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}  # not there, or half written by hand: new passwords then


def _new_password(choose: Callable[[str], str]) -> str:
    groups = ("".join(choose(PASSWORD_LETTERS) for _ in range(PASSWORD_GROUP_LETTERS)) for _ in range(PASSWORD_GROUPS))
    return "-".join(groups)


def _keep_users(demo: Demo) -> None:
    file = demo.config.path(demo.config.subscribers.file, "subscribers.sqlite")
    with SubscriberTable(file) as table:
        for user in demo.users:
            if table.find(user.username, demo.domain) is None:
                table.add(user.username, demo.domain, user.password)
            else:
                table.set_password(user.username, demo.domain, user.password)


def _endpoint(listener: ListenerConfig) -> str:
    host = listener.advertise_host or listener.host
    return f"{host}:{listener.advertise_port or listener.port}"


def _write_private(path: Path, text: str) -> None:
    """Replace the file as a whole; only its owner may read it."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    new.replace(path)
