"""Sockets as we bind them, asked for their options."""

import socket
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Factory
from twisted.internet.tcp import Port
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.config import KeepaliveConfig, ListenerConfig
from rollcall.net.listening import (
    IP_FREEBIND,
    accept_at_most,
    advertised_host,
    bound_address,
    check_free,
    datagram_socket,
    family_of,
    has_no_way_out,
    is_loopback,
    numeric_host,
    stream_socket,
)

KEEPALIVE = KeepaliveConfig(idle=77, interval=7, probes=5)


def a_config(**changes: Any) -> ListenerConfig:
    """Return a listener on a loopback port that the kernel chooses."""
    settings: dict[str, Any] = {"name": "test", "transport": "tcp", "host": "127.0.0.1", "port": 0, **changes}
    return ListenerConfig(**settings)


class SocketTests(SynchronousTestCase):
    def bind(self, **changes: Any) -> socket.socket:
        config = a_config(**changes)
        bound = datagram_socket(config) if config.transport == "udp" else stream_socket(config, KEEPALIVE)
        self.addCleanup(bound.close)
        return bound

    def option(self, of: socket.socket, level: int, name: int) -> int:
        return of.getsockopt(level, name)

    def test_keepalive_is_inherited(self) -> None:
        """An accepted connection has the options of its listener without a system call of ours."""
        listening = self.bind()
        peer = socket.create_connection(bound_address(listening))
        self.addCleanup(peer.close)
        accepted, _ = listening.accept()
        self.addCleanup(accepted.close)
        tcp = socket.IPPROTO_TCP
        options = (
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (tcp, socket.TCP_KEEPIDLE, 77),
            (tcp, socket.TCP_KEEPINTVL, 7),
            (tcp, socket.TCP_KEEPCNT, 5),
            (tcp, socket.TCP_USER_TIMEOUT, (77 + 7 * 5) * 1000),
            (tcp, socket.TCP_NODELAY, 1),
        )
        for level, name, expected in options:
            self.assertEqual(self.option(accepted, level, name), expected, str(name))

    def test_connections_in_a_turn(self) -> None:
        """Of many that wait some are accepted in a turn, the same number in each."""
        listening = self.bind()
        for _ in range(50):
            self.addCleanup(socket.create_connection(bound_address(listening)).close)
        accepted: list[IAddress] = []
        factory = Factory()
        self.patch(factory, "buildProtocol", accepted.append)
        port: Any = Port._fromListeningDescriptor(reactor, listening.fileno(), socket.AF_INET, factory)
        port.startListening()
        self.addCleanup(port.stopListening)
        accept_at_most(port, 20)
        counts = []
        for _ in range(4):
            port.doRead()
            counts.append(len(accepted))
        self.assertEqual(counts, [20, 40, 50, 50])

    def test_does_not_block(self) -> None:
        """Sockets are ready for a reactor."""
        self.assertFalse(self.bind().getblocking())
        self.assertFalse(self.bind(transport="udp").getblocking())

    def test_ipv6_only(self) -> None:
        """A socket of IPv6 leaves IPv4 to another."""
        for transport in ("tcp", "udp"):
            bound = self.bind(transport=transport, host="::1")
            self.assertEqual(self.option(bound, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY), 1)

    def test_shared_port(self) -> None:
        """With reuse_port two sockets have the same port, without it the second is refused."""
        for transport in ("tcp", "udp"):
            first = self.bind(transport=transport, reuse_port=True)
            port = bound_address(first)[1]
            self.assertEqual(bound_address(self.bind(transport=transport, reuse_port=True, port=port))[1], port)
            self.assertRaises(OSError, self.bind, transport=transport, port=port)

    def test_options_on_request(self) -> None:
        """Buffers and addresses that are not there yet are asked for."""
        bound = self.bind(transport="udp", receive_buffer_bytes=20_000, free_bind=True, host="192.0.2.1")
        # The kernel doubles what it is asked for, see socket(7).
        self.assertEqual(self.option(bound, socket.SOL_SOCKET, socket.SO_RCVBUF), 40_000)
        self.assertEqual(self.option(bound, socket.IPPROTO_IP, IP_FREEBIND), 1)

    def test_address_of_somebody_else(self) -> None:
        """An address that this machine does not have is refused."""
        self.assertRaises(OSError, self.bind, host="192.0.2.1")


class CheckFreeTests(SynchronousTestCase):
    def test_taken(self) -> None:
        """A port that anybody has is not free, not even to share it; the listener is named. Nothing stays bound."""
        for transport, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                taken.bind(("127.0.0.1", 0))
                if transport == "tcp":
                    taken.listen()
                config = a_config(transport=transport, port=taken.getsockname()[1], reuse_port=True)
                error = self.assertRaises(OSError, check_free, config)
                self.assertIn(f"listener test ({transport} 127.0.0.1:{config.port}): Address already", str(error))
            check_free(config)
            check_free(config)


class AdvertisedHostTests(SynchronousTestCase):
    def test_configured(self) -> None:
        """What is configured is advertised, IPv6 in brackets."""
        self.assertEqual(advertised_host(a_config(advertise_host="sip.example.com")), "sip.example.com")
        self.assertEqual(advertised_host(a_config(advertise_host="2001:db8::1")), "[2001:db8::1]")
        self.assertEqual(advertised_host(a_config(advertise_host="[2001:db8::1]")), "[2001:db8::1]")

    def test_bound(self) -> None:
        """Otherwise the bound address is."""
        self.assertEqual(advertised_host(a_config()), "127.0.0.1")
        self.assertEqual(advertised_host(a_config(host="::1")), "[::1]")

    def test_all_addresses(self) -> None:
        """When all addresses are bound, one that a peer can use is advertised."""
        for host in ("0.0.0.0", "::"):
            advertised = advertised_host(a_config(host=host)).strip("[]")
            self.assertNotIn(advertised, ("0.0.0.0", "::"))
            self.assertEqual(numeric_host(advertised), advertised)

    def test_no_network(self) -> None:
        """A machine without a route speaks to itself."""
        with mock.patch("socket.socket.connect", side_effect=OSError(101, "Network is unreachable")):
            self.assertEqual(advertised_host(a_config(host="0.0.0.0")), "127.0.0.1")
            self.assertEqual(advertised_host(a_config(host="::")), "[::1]")
            self.assertTrue(has_no_way_out(a_config(host="0.0.0.0")))
            for config in (a_config(host="0.0.0.0", advertise_host="192.0.2.1"), a_config()):
                self.assertFalse(has_no_way_out(config), "somebody has said what peers are told")


class AddressTests(SynchronousTestCase):
    def test_families(self) -> None:
        """A colon makes it IPv6."""
        self.assertEqual(family_of("192.0.2.1"), socket.AF_INET)
        self.assertEqual(family_of("2001:db8::1"), socket.AF_INET6)

    def test_numeric_hosts(self) -> None:
        """Brackets are taken off, names refused."""
        self.assertEqual(numeric_host("[::1]"), "::1")
        self.assertEqual(numeric_host("192.0.2.1"), "192.0.2.1")
        for host in ("example.com", "", "[::1", "192.0.2.1.5"):
            self.assertRaises(ValueError, numeric_host, host)

    def test_loopback(self) -> None:
        """127/8 and ::1 are this machine's own."""
        self.assertEqual(
            [is_loopback(host) for host in ("127.0.0.9", "::1", "192.0.2.1", "fe80::1%eth0")],
            [True, True, False, False],
        )
