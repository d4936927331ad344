"""A connection to one server of MySQL: blocking, every wait bounded. For threads and for commands, not for the reactor.

PyMySQL bounds each wait for the network, not their sum: who must be sure cuts the socket, see rollcall.sql.lanes.
"""

import socket
import ssl
from collections.abc import Callable

from pymysql.connections import Connection
from pymysql.constants import CR
from pymysql.err import MySQLError, OperationalError

from rollcall.sql.config import MysqlConfig
from rollcall.sql.errors import SqlUnavailable, told

__all__ = ["Connection", "connect"]

# What does not fit is refused, never cut short; and a server's own settings do not change what our statements mean.
SQL_MODE = "STRICT_ALL_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"


KEEPALIVE_SECONDS = 60
"""Firewalls forget connections that say nothing for some minutes; by itself the kernel would probe after two hours."""

# How a server may ask for the password as it stands, or for what it can be computed from.
PLAIN_METHODS = ("mysql_clear_password", "dialog", "mysql_old_password")


class _Untold:
    """Stands in for the methods that tell the password to whoever asks for it, where that may be anybody."""

    def __init__(self, connection: Connection) -> None:
        pass

    def authenticate(self, packet: object) -> object:
        """Say nothing."""
        raise OperationalError(CR.CR_AUTH_PLUGIN_CANNOT_LOAD, "the server wants the bare password, and there is no TLS")


def connect(
    config: MysqlConfig, address: str, opened: Callable[[socket.socket], None] = lambda made: None
) -> Connection:
    """Return an open connection to "host:port" in utf8mb4, with autocommit and strict SQL.

    `opened` gets the socket as soon as there is one. Raises SqlUnavailable, whatever the cause.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        connection = _described(config, host, int(port))
        made = socket.create_connection((host, int(port)), config.connect_seconds)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _keep_alive(made)
        opened(made)
        connection.connect(made)
    except (MySQLError, OSError) as error:
        raise SqlUnavailable(f"MySQL at {address}: {told(error)}") from error
    except Exception as error:  # what answers there speaks another protocol, and PyMySQL stumbles anywhere
        raise SqlUnavailable(f"MySQL at {address}: no answer as of MySQL: {told(error)}") from error
    connection._read_timeout = connection._write_timeout = config.timeout_seconds
    return connection


def _keep_alive(made: socket.socket) -> None:
    """Let no firewall forget an idle connection, and notice when one has."""
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS // 4)


def _described(config: MysqlConfig, host: str, port: int) -> Connection:
    return Connection(
        host=host,
        port=port,
        user=config.user,
        password=config.password.encode(),  # as text PyMySQL would take Latin-1 only
        database=config.database,
        charset="utf8mb4",
        autocommit=True,
        sql_mode=SQL_MODE,
        connect_timeout=config.connect_seconds,
        read_timeout=config.connect_seconds,
        write_timeout=config.connect_seconds,
        ssl=_tls(config) if config.tls else None,
        auth_plugin_map={} if config.tls else dict.fromkeys(PLAIN_METHODS, _Untold),
        ssl_disabled=not config.tls,  # else PyMySQL speaks TLS without looking at the certificate
        defer_connect=True,
    )


def _tls(config: MysqlConfig) -> ssl.SSLContext:
    """Return what checks the server's certificate; read anew each time, so that renewed files are used."""
    authority = config.tls_authority_file
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    if config.tls_certificate_file is not None:
        context.load_cert_chain(config.tls_certificate_file, config.tls_key_file)
    return context
