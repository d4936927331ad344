"""The registrar as a service: joined from its configuration, started on loopback, stopped without a trace."""

import gc
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase, TestCase

from registrar.config import RegistrarConfig
from registrar.joining import build
from registrar.service import Options, RegistrarService, makeService
from rollcall.ops.collecting import THRESHOLDS
from rollcall.ops.config import loads
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Request, Response, parse_message
from tests.flows import MemoryFlow
from tests.registrar.joined import PASSWORDS, Client, Registrar
from tests.rollcall.net.certificates import an_authority
from tests.rollcall.net.peers import DatagramPeer, Peer, StreamPeer
from tests.rollcall.ops.asking import Answered, Connection, written

ROOT = Path(__file__).parents[2]
CONFIG = """
[registrar]
node = "n1"
retry_after_seconds = 40
[[domain]]
name = "Example.COM"
[[listen]]
name = "udp"
transport = "udp"
host = "127.0.0.1"
port = 0
[[listen]]
name = "tcp"
transport = "tcp"
host = "127.0.0.1"
port = 0
[limits]
close_seconds = 0.2
[admin]
port = 0
"""
LOOK_SECONDS = 0.01


class Phone:
    """A Client over a real socket."""

    def __init__(self, peer: Peer, transport: str) -> None:
        self.peer = peer
        self.client = Client(cast(Registrar, None), "alice", MemoryFlow(transport, peer.local, None))

    async def ask(self, request: Request) -> Response:
        """Send a request and return its final answer."""
        self.peer.send(request.serialise())
        while True:
            answer = parse_message(await self.peer.inbox.get())
            assert isinstance(answer, Response)
            if answer.status >= 200:
                return answer

    async def register(self, **changes: Any) -> Response:
        """Register, with the password once it is asked for; return the last answer."""
        contact = f"sip:alice@127.0.0.1:{self.peer.local[1]}"
        answer = await self.ask(self.client.a_register(contact, **changes))
        if answer.status == 401:
            self.client.take_challenge(answer)
            answer = await self.ask(self.client.a_register(contact, **changes))
        return answer


class RunningCase(TestCase):
    """A registrar on loopback, with its data in a directory of its own."""

    timeout = 20
    config = CONFIG

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        self.config_file = self.directory / "registrar.toml"
        self.threads = threading.active_count()

    def service(self, more: str = "", config_file: Path | None = None) -> RegistrarService:
        """Return a service that is built and not started; `parts` are its parts."""
        config = loads(self.config + more, RegistrarConfig, self.config_file)
        self.parts = build(config, reactor)
        service = RegistrarService(config, self.parts, reactor, config_file)
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    async def started(self, more: str = "", config_file: Path | None = None) -> RegistrarService:
        """Return a service that runs until the end of the test."""
        service = self.service(more, config_file)
        service.startService()
        while self.readiness()[0] != 200:
            await self.later()
        return service

    def later(self, seconds: float = LOOK_SECONDS) -> "Deferred[None]":
        """Let the reactor run for a moment."""
        return deferLater(cast(Any, reactor), seconds)

    def get(self, path: str) -> Answered:
        """Return what the admin site answers."""
        connection = Connection(self.parts.admin.site)
        connection.send(written("GET", path))
        (answered,) = connection.answers()
        connection.transport.loseConnection()
        return answered

    def readiness(self) -> tuple[int, str]:
        """Return what /readyz answers, and the reason."""
        answered = self.get("/readyz")
        return answered.status, answered.json["checks"]["registrar"]

    def metric(self, line: str) -> bool:
        """Say whether /metrics has this line."""
        return line in self.get("/metrics").content.decode().splitlines()

    def port(self, listener: str) -> int:
        """Return the port that a listener has bound."""
        return self.parts.transports.listeners[listener].local[1]

    async def phone(self, transport: str = "UDP") -> Phone:
        """Return a phone of alice's that is connected."""
        peer: Peer = DatagramPeer() if transport == "UDP" else StreamPeer()
        await peer.connect(reactor, ("127.0.0.1", self.port(transport.lower())))
        if transport == "UDP":
            self.addCleanup(peer.leave)
        return Phone(peer, transport)

    async def add_alice(self) -> None:
        """Make alice a subscriber."""
        await self.parts.databases.subscribers.add("alice", "example.com", PASSWORDS["alice"])


class LifeTests(RunningCase):
    async def test_start_and_stop(self) -> None:
        """A service is ready once everything is open, and leaves no thread and no socket when it has stopped."""
        service = self.service()
        self.assertEqual(self.readiness(), (503, "starting"))
        self.assertEqual((self.parts.transports.listeners, threading.active_count()), ({}, self.threads))
        service.startService()
        self.assertEqual(self.readiness(), (503, "starting"))
        while self.readiness()[0] != 200:
            await self.later()
        self.assertEqual(self.readiness(), (200, "ok"))
        ports = [self.port("tcp"), int(self.parts.admin.url.rpartition(":")[2])]
        phone = await self.phone("TCP")
        self.assertEqual((await phone.ask(phone.client.request("OPTIONS", "sip:example.com"))).status, 200)
        stopping = service.stopService()
        self.assertEqual(self.readiness(), (503, "stopping"))
        await stopping
        await phone.peer.gone
        self.assertEqual((threading.active_count(), len(self.parts.wheel)), (self.threads, 0))
        for port in ports:
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)

    async def test_stopped_while_starting(self) -> None:
        """A service that is stopped before it was ready does not become ready, and leaves nothing either."""
        service = self.service()
        service.startService()
        await service.stopService()
        self.assertEqual(self.readiness(), (503, "stopping"))
        self.assertEqual((self.parts.transports.listeners, threading.active_count()), ({}, self.threads))

    async def test_registration(self) -> None:
        """A phone registers with its password over UDP and over TCP, and the metrics and the admin site know."""
        await self.started()
        await self.add_alice()
        over_udp, over_tcp = await self.phone("UDP"), await self.phone("TCP")
        for phone in (over_udp, over_tcp):
            self.assertEqual((await phone.register()).status, 200)
        contacts = self.get("/v1/contacts?aor=sip:alice@example.com").json["contacts"]
        self.assertEqual([(contact["transport"], contact["host"], contact["port"]) for contact in contacts],
                         [("UDP", *over_udp.peer.local), ("TCP", *over_tcp.peer.local)])
        for line in ('rollcall_flows{transport="TCP"} 1.0', 'rollcall_bindings{transport="TCP"} 1.0',
                     'rollcall_aors 1.0', 'rollcall_answers_total{method="REGISTER",status="401"} 2.0',
                     'rollcall_socket_events_total{event="accepted"} 1.0'):
            self.assertTrue(self.metric(line), line)
        over_tcp.peer.leave()
        await over_tcp.peer.gone
        while not self.metric('rollcall_registrations_total{kind="unbound",transport="TCP"} 1.0'):
            await self.later()
        self.assertTrue(self.metric('rollcall_flows{transport="TCP"} 0.0'))

    async def test_pauses(self) -> None:
        """While it serves, turns and collections are measured, and the latter rare; afterwards all is as it was."""
        before = gc.get_threshold()
        service = await self.started()
        self.assertEqual(gc.get_threshold(), THRESHOLDS)
        self.assertIn("rollcall_gc_pause_longest_seconds", self.get("/metrics").content.decode())
        while self.metric("rollcall_turn_longest_seconds 0.0"):
            await self.later()
        await service.stopService()
        self.assertEqual((gc.get_threshold(), gc.get_freeze_count()), (before, 0))

    async def test_next_life(self) -> None:
        """What was bound over UDP is bound after a restart, what was bound to a connection is not; nonces are valid."""
        first = await self.started()
        await self.add_alice()
        phone = await self.phone("UDP")
        await phone.register()
        await (await self.phone("TCP")).register()
        await first.stopService()
        await self.started()
        contacts = self.get("/v1/contacts?aor=sip:alice@example.com").json["contacts"]
        self.assertEqual([contact["transport"] for contact in contacts], ["UDP"])
        again = await self.phone("UDP")
        again.client.challenge, again.client.nc = phone.client.challenge, phone.client.nc
        self.assertEqual((await again.ask(again.client.a_register())).status, 200)

    async def test_forgetful(self) -> None:
        """Bindings in memory are gone after a restart, and nobody needs a password when none is required."""
        more = '[location]\nkind = "memory"\n[auth]\nrequired = false\n'
        first = await self.started(more)
        self.assertEqual((await (await self.phone()).register()).status, 200)
        self.assertEqual(self.parts.location.counts().aors, 1)
        await first.stopService()
        await self.started(more)
        self.assertEqual(self.parts.location.counts().aors, 0)
        self.assertFalse((self.directory / "data" / "location.sqlite").exists())

    async def test_own_address(self) -> None:
        """Requests for the address and port that are listened on are for the registrar itself."""
        await self.started()
        phone = await self.phone()
        for uri, status in ((f"sip:127.0.0.1:{self.port('udp')}", 200), ("sip:127.0.0.1:9", 407)):
            self.assertEqual((await phone.ask(phone.client.request("OPTIONS", uri))).status, status)

    async def test_advertised_address(self) -> None:
        """Requests for what a listener is advertised as are for the registrar too, as those for what it has bound."""
        advertised = 'port = 0\nadvertise_host = "edge.example.net"\nadvertise_port = 5999'
        self.config = CONFIG.replace("port = 0", advertised, 1)
        await self.started()
        phone = await self.phone()
        for uri in (f"sip:127.0.0.1:{self.port('udp')}", "sip:edge.example.net:5999", "sip:edge.example.net"):
            self.assertEqual((await phone.ask(phone.client.request("OPTIONS", uri))).status, 200)

    async def test_realm(self) -> None:
        """However the domain is written in the configuration, its realm is the name that passwords are hashed with."""
        await self.started()
        phone = await self.phone()
        for caller in ("<sip:alice@example.com>;tag=1", "<sip:me@elsewhere.example>;tag=1"):
            request = phone.client.request("MESSAGE", "sip:them@elsewhere.example", caller=caller)
            answer = await phone.ask(request)
            challenge = parse_authorization(answer.get("Proxy-Authenticate") or "").params
            self.assertEqual((answer.status, challenge["realm"]), (407, "example.com"))

    async def test_store_down(self) -> None:
        """While subscribers cannot be read, phones shall come again after half of the longest pause or more."""
        await self.started()
        await self.parts.databases.subscribers.stop()
        pauses = set()
        phone = await self.phone()
        for _ in range(20):
            answer = await phone.register()
            self.assertEqual(answer.status, 503)
            pauses.add(int(answer.get("Retry-After") or 0))
        self.assertLessEqual(pauses, set(range(20, 41)))
        self.assertGreater(len(pauses), 1)


class ReloadTests(RunningCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = an_authority(self.directory)
        self.certificate = self.authority.issue("sip.example.com")
        files = f'certificate_file = "{self.certificate.certificate_file}", key_file = "{self.certificate.key_file}"'
        self.more = f"[tls]\ncertificates = [{{ {files} }}]\n"
        self.config_file.write_text(CONFIG + self.more)

    def shown(self) -> float:
        """Return when the certificate that is shown expires."""
        (certificate,) = self.parts.transports.certificates
        return certificate.expires_at

    async def test_hang_up(self) -> None:
        """SIGHUP shows the renewed certificate; after the stop it means again what it did before."""
        before = signal.getsignal(signal.SIGHUP)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        service = await self.started(self.more, self.config_file)
        old = self.shown()
        self.authority.issue("sip.example.com", days=60)
        with capturedLogs() as events:
            os.kill(os.getpid(), signal.SIGHUP)
            while self.shown() == old:
                await self.later()
        self.assertIn("certificates reloaded", formatEvent(events[-1]))
        await service.stopService()
        self.assertIs(signal.getsignal(signal.SIGHUP), before)

    def test_mistakes(self) -> None:
        """When anything is wrong, everything stays as it was, and the log says why."""
        service = self.service(self.more, self.config_file)
        old = self.shown()
        renewed = self.authority.issue("sip.example.com", days=60)
        for change, reason in (
            (lambda: self.config_file.write_text(CONFIG + self.more + "[log]\nlevel = 'loud'"), "log.level"),
            (self.config_file.unlink, "registrar.toml"),
            (lambda: (self.config_file.write_text(CONFIG + self.more), renewed.key_file.write_text("x")), "sip.exam"),
        ):
            cast(Any, change)()
            with capturedLogs() as events:
                service.reload()
            self.assertEqual(len(events), 1)
            said = formatEvent(events[0])
            self.assertIn("nothing was reloaded", said)
            self.assertIn(reason, said)
            self.assertEqual(self.shown(), old)


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        self.path = self.directory / "registrar.toml"
        self.options = Options()
        self.options.parseOptions(["--config", str(self.path)])

    def make(self, text: str) -> MemoryReactorClock:
        """Make a service on a reactor that keeps what is asked of it."""
        self.path.write_text(text)
        memory = MemoryReactorClock()
        makeService(self.options, memory)
        return memory

    def refusal(self, text: str) -> str:
        """Return why a service cannot be made."""
        return str(self.assertRaises(SystemExit, self.make, text))

    def test_nothing_listens_yet(self) -> None:
        """Making a service opens no port, starts no thread and leaves nothing with the reactor."""
        threads = threading.active_count()
        memory = self.make(CONFIG)
        self.assertEqual((memory.tcpServers, memory.adoptedPorts, memory.getDelayedCalls()), ([], [], []))
        self.assertEqual(threading.active_count(), threads)

    def test_secret(self) -> None:
        """The node's secret is made once, for its owner's eyes only."""
        self.make(CONFIG)
        secret = self.directory / "data" / "node.secret"
        before = secret.read_bytes()
        self.assertEqual(stat.S_IMODE(secret.stat().st_mode), 0o600)
        self.make(CONFIG)
        self.assertEqual(secret.read_bytes(), before)

    def test_bad_configuration(self) -> None:
        """All mistakes of a configuration are told at once."""
        said = self.refusal(CONFIG + "[log]\nlevel = 'loud'\n[bindings]\nmax_contacts = 0\n")
        self.assertTrue(said.startswith("The registrar cannot start:\n"))
        self.assertIn("log.level", said)
        self.assertIn("bindings.max_contacts", said)

    def test_unusable_files(self) -> None:
        """A certificate, secret or data directory that cannot be used is named."""
        (self.directory / "short").write_bytes(b"short")
        for text, name in (
            (CONFIG + '[tls]\ncertificates = [{certificate_file = "no.pem", key_file = "no.key"}]', "no.pem"),
            (CONFIG.replace("[registrar]", '[registrar]\nsecret_file = "short"'), "short holds 5 bytes"),
            (CONFIG.replace("[registrar]", '[registrar]\ndata_dir = "registrar.toml"'), "registrar.toml"),
        ):
            self.assertIn(name, self.refusal(text))


class TwistdTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        self.path = self.directory / "registrar.toml"

    def end(self, text: str) -> tuple[int, str]:
        """Run `twistd -n registrar` until it ends by itself; return its exit status and what it said."""
        self.path.write_text(text)
        command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=",
                   "registrar", "--config", str(self.path)]
        done = subprocess.run(command, cwd=self.directory, env={"PYTHONPATH": str(ROOT)}, timeout=20, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout

    def test_port_taken(self) -> None:
        """A start that fails late says why in one critical line, stops what has started, and is no success."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
            other.bind(("127.0.0.1", 0))
            port = other.getsockname()[1]
            status, said = self.end(CONFIG.replace("port = 0", f"port = {port}", 1))
        self.assertEqual(status, 1, said)
        critical = [line for line in said.splitlines() if " critical " in line]
        self.assertEqual(len(critical), 1, said)
        self.assertRegex(critical[0], re.escape(f"listener udp (udp 127.0.0.1:{port}): Address already"))
        self.assertIn("stopped", said.splitlines()[-1])
        self.assertNotIn("Traceback", said)

    def test_unusable_data(self) -> None:
        """A start that fails early says why, without a traceback."""
        status, said = self.end(CONFIG.replace("[registrar]", '[registrar]\ndata_dir = "registrar.toml"'))
        self.assertEqual((status, "Traceback" in said), (1, False), said)
        self.assertIn("The registrar cannot start:", said)
