"""What an operator can set about MySQL: where its servers are, who we are there, and how long it may take."""

from pathlib import Path
from typing import Any, Literal

from attrs import field, frozen
from attrs.validators import and_, deep_iterable, ge, gt, le


def _host_and_port(instance: object, attribute: object, value: str) -> None:
    host, colon, digits = value.rpartition(":")
    bare = not host.startswith("[") and ":" in host
    if not (colon and host and digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536) or bare:
        raise ValueError("host:port, such as 192.0.2.7:3306 or [2001:db8::7]:3306")


def _not_empty(instance: object, attribute: object, value: object) -> None:
    if not value:
        raise ValueError("something: it may not be empty")


def _secret() -> Any:
    """Return a field that is never shown and may be given in a file of its own, see rollcall.ops.config.secret."""
    return field(default="", repr=False, metadata={"rollcall.secret": True})


@frozen(kw_only=True)
class MysqlConfig:
    """[mysql]: the servers. Reads go to the replicas, writes to the primary. Every time is in seconds."""

    primary: str = field(default="127.0.0.1:3306", validator=_host_and_port)
    """host:port of the server that takes writes. When it is away and exactly one replica has been promoted (read_only
    is off there), writes go to that one."""

    replicas: tuple[str, ...] = field(default=(), validator=deep_iterable(_host_and_port))
    """host:port of the servers that follow it; none: the primary is read, too."""

    user: str = field(default="rollcall", validator=_not_empty)

    password: str = _secret()
    """Its password; empty for none."""

    database: str = field(default="rollcall", validator=_not_empty)

    tls: bool = False
    """Whether to speak TLS, and to check the servers' certificates."""

    tls_authority_file: Path | None = None
    """PEM: the authorities that the servers' certificates are checked against; none for the system's."""

    tls_certificate_file: Path | None = None
    """PEM: the certificate that we show; none for none."""

    tls_key_file: Path | None = None
    """PEM: its private key."""

    connect_seconds: float = field(default=2.0, validator=gt(0))
    """How long a connection may take, with everything that is said before the first query."""

    timeout_seconds: float = field(default=2.0, validator=gt(0))
    """How long an answer may take; then the connection is given up."""

    connections: int = field(default=4, validator=and_(ge(1), le(64)))
    """Connections to each server, and so queries that run there at a time."""

    max_waiting: int = field(default=1000, validator=ge(1))
    """Queries that may wait for one server; a further one goes to another, or fails at once."""

    check_seconds: float = field(default=1.0, validator=gt(0))
    """How often each server is looked at: whether it answers, how far it is behind, whether it takes writes."""

    lag: Literal["seconds_behind", "heartbeat", "none"] = "seconds_behind"
    """How it is told how far a replica is behind: by what it says itself, which needs the right REPLICA MONITOR (MySQL:
    REPLICATION CLIENT); by the table rollcall_heartbeat, which we write at the primary; or not at all."""

    max_lag_seconds: float = field(default=5.0, validator=gt(0))
    """A replica that is further behind is not read while another, or the primary, can be."""

    def __attrs_post_init__(self) -> None:
        if (self.tls_certificate_file is None) is not (self.tls_key_file is None):
            raise ValueError("tls_certificate_file and tls_key_file are given together or not at all")
        servers = (self.primary, *self.replicas)
        if len(set(servers)) < len(servers):
            raise ValueError("primary and replicas are different servers, each named once")
