"""The name server as others see it: dig by UDP and TCP, a raw flood of noise, and knot as a secondary of it."""

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from socket import AF_INET, SOCK_DGRAM, create_connection, socket
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from twisted.internet import reactor as global_reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.internet.utils import getProcessOutput
from twisted.trial.unittest import TestCase

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.server import DnsServer
from tests.cluster.case import FIGURE
from tests.interop.process import LOOPBACK, Process, free_ports
from tests.registrar.distribution.dns.zones import NEAR, ZONE, a_query, a_snapshot

reactor: Any = global_reactor

NOISE = 10_000
KNOT = """
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
database:
    storage: "{folder}"
remote:
  - id: ours
    address: 127.0.0.1@{ours}
acl:
  - id: notified
    address: 127.0.0.1
    action: notify
zone:
  - domain: sip.example.com
    storage: "{folder}"
    master: ours
    acl: notified
"""


def by_second_octet(address: bytes) -> str:
    """Select the view "near" for networks such as 10.1.0.0/16."""
    return "near" if address[1] == 1 else "far"


class NameServerCase(TestCase):
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)

    def setUp(self) -> None:
        self.port, self.knot_port = free_ports(2)
        config = DnsConfig(listen=(f"{LOOPBACK}:{self.port}",), secondaries=(f"{LOOPBACK}:{self.knot_port}",))
        self.server = DnsServer(reactor, config)
        self.server.publish(a_snapshot(1, {"far": ZONE, "near": NEAR}, by_second_octet))
        self.server.start()
        self.addCleanup(self.server.stop)

    async def dig(self, *words: str, port: int = 0) -> str:
        """Return what dig prints."""
        command = ["+time=5", "+tries=1", "@" + LOOPBACK, "-p", str(port or self.port), *words]
        said: bytes = await getProcessOutput("/usr/bin/dig", command, env=os.environ)
        return said.decode()


class DigTests(NameServerCase):
    async def test_records(self) -> None:
        """Every type of record is what dig expects, with EDNS and cookies, without, and by TCP."""
        for options in (("+short",), ("+short", "+noedns"), ("+short", "+tcp"), ("+short", "+norecurse", "+nocookie")):
            self.assertEqual(await self.dig("SIP.example.COM", "A", *options), "192.0.2.10\n")
        for name, kind, expected in (
            ("sip.example.com", "NAPTR", '20 50 "s" "SIP+D2T" "" _sip._tcp.sip.example.com.'),
            ("_sip._udp.sip.example.com", "SRV", "10 60 5060 fra.sip.example.com."),
            ("sip.example.com", "AAAA", "2001:db8::10"),
            ("sip.example.com", "NS", "ns1.sip.example.com."),
            ("sip.example.com", "SOA", "ns1.sip.example.com. hostmaster.sip.example.com. 7 60 10 604800 30"),
        ):
            self.assertIn(expected + "\n", await self.dig(name, kind, "+short"))

    async def test_no_records(self) -> None:
        """What is not there, not ours or not understood is said as dig knows it, and without warnings."""
        for words, expected in ((("nobody.sip.example.com", "A"), "status: NXDOMAIN"),
                                (("_udp.sip.example.com", "A"), "status: NOERROR"),
                                (("example.org", "A"), "status: REFUSED"),
                                (("version.bind", "CH", "TXT"), "status: REFUSED"),
                                (("sip.example.com", "A", "+edns=1", "+noednsnegotiation"), "status: BADVERS"),
                                (("sip.example.com", "A", "+opcode=update"), "status: NOTIMP")):
            said = await self.dig("+norecurse", *words)
            self.assertIn(expected, said)
            self.assertNotIn("WARNING", said)

    async def test_subnets(self) -> None:
        """A client's subnet chooses the view, and comes back with its own length as the scope."""
        for subnet, status in (("10.1.0.0/16", "NXDOMAIN"), ("10.2.3.0/24", "NOERROR"), ("2a00:db8::/56", "NOERROR")):
            said = await self.dig("fra.sip.example.com", "A", f"+subnet={subnet}")
            self.assertIn(f"status: {status}", said)
            self.assertIn(f"; CLIENT-SUBNET: {subnet}/{subnet.partition('/')[2]}\n", said)
        self.assertIn("; CLIENT-SUBNET: 0.0.0.0/0/0\n", await self.dig("sip.example.com", "+subnet=0.0.0.0/0"))

    async def test_truncation(self) -> None:
        """What does not fit comes truncated by UDP, and dig then has all of it by TCP."""
        said = await self.dig("many.sip.example.com", "SRV", "+ignore")
        self.assertIn("flags: qr aa tc", said)
        self.assertIn("ANSWER: 0", said)
        for options in ((), ("+noedns",)):
            said = await self.dig("many.sip.example.com", "SRV", *options)
            self.assertIn("Truncated, retrying in TCP mode", said)
            self.assertIn("ANSWER: 60", said)
        self.assertEqual((self.server.datagram_services[0].queries, self.server.stream_services[0].queries), (3, 2))

    async def test_transfer(self) -> None:
        """A secondary's dig has the whole zone of the default view, between two SOA."""
        lines = (await self.dig("sip.example.com", "AXFR", "+onesoa", "+nocomments", "+nostats", "+nocmd")).splitlines()
        self.assertEqual(len([line for line in lines if line]), len(ZONE.strip().splitlines()))
        self.assertEqual(self.server.transfers, 1)

    async def test_noise(self) -> None:
        """After 10,000 random and changed packets over the wire, and broken streams, dig has its answer at once."""
        heard = await deferToThread(self.make_noise)
        self.assertEqual(await self.dig("sip.example.com", "A", "+short"), "192.0.2.10\n")
        self.assertEqual(self.flushLoggedErrors(), [])
        self.record(FIGURE, f"of {NOISE} packets of noise {heard} were answered")

    def make_noise(self) -> int:
        """Send it, some at a time so that the kernel loses none; return how many were answered."""
        random, heard = Random(1), 0
        good = a_query("_sip._udp.sip.example.com", "SRV", subnet="10.1.0.0/16").to_wire()
        with socket(AF_INET, SOCK_DGRAM) as asking:
            asking.connect((LOOPBACK, self.port))
            asking.settimeout(0.002)
            for number in range(NOISE):
                data = bytearray(random.randbytes(random.randrange(100)) if number % 4 == 0 else good)
                at = random.randrange(len(data) + 1)
                data[at:at + random.randrange(3)] = random.randbytes(random.randrange(1, 4))
                asking.send(data)
                if number % 50 == 49:
                    heard += self.hear(asking)
        for broken in (b"\0", b"\0\0", b"\xff\xff" + bytes(9000), b"\0\x20" + good, bytes(5000)):
            with create_connection((LOOPBACK, self.port)) as stream:
                stream.sendall(broken)
        return heard

    def hear(self, asking: socket) -> int:
        """Read what has come, and until nothing comes for a moment."""
        heard = 0
        while True:
            try:
                asking.recv(4096)
            except TimeoutError:
                return heard
            heard += 1


class SecondaryTests(NameServerCase):
    @pytest.mark.long
    async def test_knot(self) -> None:
        """Knot transfers the zone when it begins, and again when it is told of a change, and answers the same."""
        folder = Path(self.enterContext(TemporaryDirectory()))
        conf = folder / "conf"
        conf.write_text(KNOT.format(folder=folder, port=self.knot_port, ours=self.port))
        knot = self.enterContext(Process(["/usr/sbin/knotd", "-c", str(conf)], folder / "log"))
        await self.until_knot_has(7, knot)
        ours = await self.dig("_sip._udp.sip.example.com", "SRV", "+short")
        self.assertEqual(sorted((await self.dig("_sip._udp.sip.example.com", "SRV", "+short",
                                                port=self.knot_port)).split("\n")), sorted(ours.split("\n")))
        began_at = reactor.seconds()
        self.server.publish(a_snapshot(2))
        await self.until_knot_has(8, knot)
        seconds = reactor.seconds() - began_at
        self.record(FIGURE, f"knot has a new serial after {seconds:.2f} s")
        for _ in range(30):
            await deferLater(reactor, 0.1)
            if self.server.notifying.told:
                break
        self.assertGreaterEqual(self.server.notifying.told, 1)

    async def until_knot_has(self, serial: int, knot: Process) -> None:
        """Wait until knot answers with this serial."""
        for _ in range(200):
            said = await self.dig("sip.example.com", "SOA", "+short", port=self.knot_port)
            if f" {serial} 60 10 " in said:
                return
            await deferLater(reactor, 0.05)
        raise knot.error(f"has no serial {serial}")
