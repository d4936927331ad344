"""Nodes of a cluster over loopback sockets, as far as their internal transport goes."""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as the_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from rollcall.net.config import LimitsConfig, ListenerConfig, MemberConfig, NetConfig
from rollcall.net.flow import Address, ConnectFailed, Flow
from rollcall.net.member_flow import MemberFlow
from rollcall.net.member_handshake import Life
from rollcall.net.members import Members
from rollcall.net.transports import Transports
from rollcall.net.wheel import TimerWheel
from tests.rollcall.net.certificates import Authority, an_authority
from tests.rollcall.net.flow_contract import QueueingUser

reactor: Any = the_reactor

KEY = b"a secret that all nodes share..."


class MemberNode:
    """One life of a node: its transports, its members, and what it is told."""

    def __init__(self, name: str, epoch: int = 1, key: bytes = KEY, listeners: tuple[ListenerConfig, ...] = (),
                 limits: LimitsConfig | None = None, **settings: Any) -> None:
        self.name = name
        self.epoch = epoch
        self.user = QueueingUser()
        self.lost: list[tuple[str, int, str]] = []
        self.wheel = TimerWheel(reactor)
        limits = limits or LimitsConfig(close_seconds=1.0)
        self.transports = Transports(reactor, self.wheel, self.user, NetConfig(listeners=listeners, limits=limits))
        config = MemberConfig(host="127.0.0.1", port=settings.pop("port", 0), **settings)
        self.members: Members = self.transports.members(config, (name, epoch), key, lambda *why: self.lost.append(why))

    def start(self) -> None:
        self.transports.startService()
        self.members.start()

    @property
    def local(self) -> Address:
        """Where its internal listener is bound."""
        assert self.members.listener is not None
        return self.members.listener.local

    @property
    def way(self) -> tuple[str, int, str, int]:
        """What others keep and ask for."""
        return (self.name, self.epoch, *self.local)

    @property
    def life(self) -> Life:
        """Which life of which node it is."""
        return Life(self.name, self.epoch)

    @property
    def flows(self) -> list[MemberFlow]:
        """Its internal connections that are open."""
        return [each for each in self.members.connections.flows() if isinstance(each, MemberFlow) and each.is_open]

    def flow_to(self, other: "MemberNode", **changed: Any) -> "Deferred[Flow]":
        """Ask for the connection with another node."""
        epoch = changed.get("epoch", other.epoch)
        return Deferred.fromCoroutine(self.members.flow(other.name, epoch, *other.local))


class MembersTestCase(TestCase):
    """Starts nodes that end with the test."""

    timeout = 20

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.authority = an_authority(self.folder)

    def node(self, name: str, epoch: int = 1, **settings: Any) -> MemberNode:
        node = MemberNode(name, epoch, **settings)
        node.start()
        self.addCleanup(node.transports.stopService)
        self.addCleanup(node.members.stop)
        return node

    def tls_node(self, name: str, authority: Authority | None = None, trusted: Authority | None = None) -> MemberNode:
        """Start a node with a certificate of an authority that trusts what is from an authority."""
        shown = (authority or self.authority).issue(f"{name}.example.com")
        return self.node(name, tls=True, certificate_file=shown.certificate_file, key_file=shown.key_file,
                         authority_file=(trusted or self.authority).file)

    async def until(self, reached: Callable[[], object], seconds: float = 10.0) -> None:
        """Return when something is so."""
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                raise AssertionError("it never came to that")
            await deferLater(reactor, 0.005, lambda: None)

    async def failure(self, connecting: "Deferred[Flow]") -> str:
        """Return why there is no connection."""
        try:
            await connecting
        except ConnectFailed as error:
            return str(error)
        raise AssertionError("it connected")

    async def stranger(self, address: Address) -> "Stranger":
        """Connect as nobody."""
        stranger = Stranger()
        await connectProtocol(TCP4ClientEndpoint(reactor, *address), stranger)
        return stranger


class Stranger(Protocol):
    """Says what a test wants it to, and keeps what it hears."""

    def __init__(self) -> None:
        self.heard = b""
        self.is_gone = False
        self.why = ""
        self.wire: Any = None

    def connectionMade(self) -> None:
        self.wire = self.transport

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.is_gone = True
        self.why = repr(reason.value)
