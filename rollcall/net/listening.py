"""Sockets with the options that Twisted has no words for (tcp(7), ip(7)), bound and ready to be adopted."""

import socket
from ipaddress import ip_address
from typing import Any

from attrs import evolve

from rollcall.net.config import KeepaliveConfig, ListenerConfig
from rollcall.net.flow import Address

# Addresses for documentation (RFC 5737, RFC 3849): routing to them is asked, nothing is sent.
SOMEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}

WILDCARDS = frozenset(("0.0.0.0", "::"))

# linux/in.h; the socket module does not name it.
IP_FREEBIND = 15


def family_of(host: str) -> socket.AddressFamily:
    """Return the address family of a numeric host."""
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def numeric_host(text: str) -> str:
    """Return an IP address without brackets. Raises ValueError for names."""
    host = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    ip_address(host)
    return host


def is_loopback(host: str) -> bool:
    """Whether a numeric host is this machine's own."""
    return ip_address(host).is_loopback


def stream_socket(config: ListenerConfig, keepalive: KeepaliveConfig) -> socket.socket:
    """Return a socket that accepts connections; these inherit its keepalive options. Raises OSError."""
    listening = _bound(config, socket.SOCK_STREAM)
    watch_idle(listening, keepalive)
    listening.listen(config.backlog)
    return listening


def accept_at_most(port: Any, most: int) -> None:
    """Bound what one of Twisted's ports accepts in a turn: it begins with 100 connections, and learns to take more."""
    accept = port.doRead

    def accept_some() -> None:
        port.numberAccepts = most
        accept()

    port.doRead = accept_some


def datagram_socket(config: ListenerConfig) -> socket.socket:
    """Return a socket that receives datagrams. Raises OSError."""
    return _bound(config, socket.SOCK_DGRAM)


def check_free(config: ListenerConfig) -> None:
    """Raise OSError, with the listener's name, when it cannot be bound by one process alone."""
    kind = socket.SOCK_DGRAM if config.transport == "udp" else socket.SOCK_STREAM
    try:
        _bound(evolve(config, reuse_port=False), kind).close()
    except OSError as error:
        place = f"{config.transport} {config.host}:{config.port}"
        raise OSError(error.errno, f"listener {config.name} ({place}): {error.strerror}") from error


def watch_idle(connection: socket.socket, keepalive: KeepaliveConfig) -> None:
    """Have the kernel probe an idle peer, give up a silent one, and send small messages at once."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.probes)
    # Probes are not sent while data is unacknowledged: this limit covers that case.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, keepalive.user_timeout_ms)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def bound_address(bound: socket.socket) -> Address:
    """Return where a socket is bound."""
    host, port = bound.getsockname()[:2]
    return host, port


def advertised_host(config: ListenerConfig) -> str:
    """Return the host that peers are told, IPv6 in brackets."""
    host = config.advertise_host or config.host
    if host in WILDCARDS:
        host = _own_address(family_of(host))
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def has_no_way_out(config: ListenerConfig) -> bool:
    """Say whether peers would be told a loopback address only because no route leads out of this machine."""
    is_unsaid = config.host in WILDCARDS and not config.advertise_host
    return is_unsaid and ip_address(_own_address(family_of(config.host))).is_loopback


def _own_address(family: socket.AddressFamily) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(SOMEWHERE[family])
            return bound_address(asking)[0]
        except OSError:  # no route: this machine talks to itself only
            return "::1" if family is socket.AF_INET6 else "127.0.0.1"


def _bound(config: ListenerConfig, kind: socket.SocketKind) -> socket.socket:
    family = family_of(config.host)
    bound = socket.socket(family, kind)
    try:
        bound.setblocking(False)
        if kind is socket.SOCK_STREAM:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if config.reuse_port:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if config.free_bind:
            bound.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        if config.receive_buffer_bytes:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, config.receive_buffer_bytes)
        if family is socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((config.host, config.port))
    except OSError:
        bound.close()
        raise
    return bound
