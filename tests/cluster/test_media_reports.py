"""Reports of a real rtpengine, for a call that phones send real RTCP through: over UDP, over TCP, and plain copies."""

import re
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.config import IngestConfig, RtcpConfig
from balancer.ingest.intake import Intake
from balancer.ingest.listening import IngestListeners
from rollcall.media.bencode import decode, encode
from rollcall.media.reports import PhoneReport, RtcpReport
from tests.balancer.ingest.packets import CAPTURE_ID, NODE, Nodes, a_block, an_rr, an_sr, voip_metrics
from tests.interop.process import LOOPBACK, free_ports
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

PATIENCE_SECONDS = 10.0
QUIET_SECONDS = 1.0
RECONNECT_SECONDS = 60.0
NTP_BEGIN = 2_208_988_800
CALLER, CALLEE = 0x0A0A0A0A, 0x0B0B0B0B
CALL_ID = "call-1@lab"


class Phone:
    """A phone's two ports, and where the media node wants its packets."""

    def __init__(self, host: str, ssrc: int) -> None:
        self.host = host
        self.ssrc = ssrc
        self.rtp_port, rtcp_port = free_ports(2)
        self._rtp = self._open(self.rtp_port)
        self._rtcp = self._open(rtcp_port)
        self._rtcp_port = rtcp_port
        self._node: tuple[str, int] = ("", 0)

    def sdp(self) -> str:
        """Return what the phone offers."""
        return (f"v=0\r\no=- 1 1 IN IP4 {self.host}\r\ns=-\r\nc=IN IP4 {self.host}\r\nt=0 0\r\n"
                f"m=audio {self.rtp_port} RTP/AVP 0\r\na=rtcp:{self._rtcp_port}\r\n")

    def take(self, sdp: str) -> None:
        """Learn where its packets go."""
        host, port = re.search(r"c=IN IP4 (\S+)", sdp), re.search(r"m=audio (\d+)", sdp)
        assert host is not None and port is not None, sdp
        self._node = host[1], int(port[1])

    def send_rtcp(self, packet: bytes) -> None:
        """Send an RTCP packet to the node."""
        self._rtcp.sendto(packet, (self._node[0], self._node[1] + 1))

    def send_rtp(self, number: int) -> None:
        """Send an RTP packet of 20 ms of PCMU."""
        head = b"\x80\0" + number.to_bytes(2, "big") + (number * 160).to_bytes(4, "big") + self.ssrc.to_bytes(4, "big")
        self._rtp.sendto(head + bytes(160), self._node)

    def close(self) -> None:
        """Close both ports."""
        self._rtp.close()
        self._rtcp.close()

    def _open(self, port: int) -> socket.socket:
        opened = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        opened.bind((self.host, port))
        return opened


class ReportsCase(SynchronousTestCase):
    """A balancer's listeners, one rtpengine that reports to them, and two phones in a call."""

    def setUp(self) -> None:
        self.heard: list[RtcpReport | PhoneReport] = []
        node_host, caller_host, callee_host = own_hosts(3)
        self.node_host = node_host
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.port, self.copies_port = free_ports(2)
        self.caller, self.callee = Phone(caller_host, CALLER), Phone(callee_host, CALLEE)
        self.addCleanup(self.caller.close)
        self.addCleanup(self.callee.close)

    def listen(self, **settings: Any) -> None:
        """Take reports as configured."""
        config = IngestConfig(**settings)
        self.reactor = EPollReactor()
        self.intake = Intake(config, Nodes(), self.heard.append, time)
        self.listeners = IngestListeners(self.reactor, config, self.intake)
        self.listeners.startService()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        """Close all sockets, and see that they are."""
        ended: list[object] = []
        self.listeners.stopService().addBoth(ended.append)
        self.assertTrue(self.turn_until(lambda: bool(ended) and len(self.listeners.connections) == 0))

    def rtpengine(self, *options: str, hep: tuple[str, int] | None = None) -> RtpengineProcess:
        """Return an rtpengine that runs."""
        process = RtpengineProcess(self.folder / "media", "media", self.node_host, CAPTURE_ID, hep, options)
        self.addCleanup(process.kill)
        process.start()
        return process

    def call(self, process: RtpengineProcess) -> None:
        """Set up the call through it."""
        offered = self.ask(process, "offer", self.caller.sdp())
        self.callee.take(offered)
        self.caller.take(self.ask(process, "answer", self.callee.sdp()))

    def ask(self, process: RtpengineProcess, command: str, sdp: str) -> str:
        """Return the SDP of the reply."""
        tags = {"from-tag": "caller"} | ({"to-tag": "callee"} if command == "answer" else {})
        reply = decode(process.ask(encode({"command": command, "call-id": CALL_ID, "sdp": sdp, **tags})))
        self.assertEqual(reply.get("result"), b"ok", reply)
        return bytes(reply["sdp"]).decode()

    def turn_until(self, is_done: Any, seconds: float = PATIENCE_SECONDS) -> bool:
        """Turn the reactor until something is so; say whether it became so in time."""
        ends_at = monotonic() + seconds
        while not is_done() and monotonic() < ends_at:
            self.reactor.iterate(0.01)
        return bool(is_done())

    def reports(self, count: int) -> list[RtcpReport]:
        """Return the reports that came, once there are so many."""
        self.assertTrue(self.turn_until(lambda: len(self.heard) >= count), f"{self.heard} {self.intake.outcomes}")
        heard, self.heard[:] = list(self.heard), []
        return [report for report in heard if isinstance(report, RtcpReport)]

    def converse(self) -> None:
        """Let both phones report, and see what came of it."""
        began = time()
        sent_at = began + NTP_BEGIN
        seconds, fraction = int(sent_at), int(sent_at % 1 * 2**32)
        middle = (seconds & 0xFFFF) << 16 | fraction >> 16
        self.caller.send_rtcp(an_sr(a_block(CALLEE, 26, 5, 149, 240), ssrc=CALLER, seconds=seconds, fraction=fraction))
        first, = self.reports(1)
        self.assertEqual((first.node, first.source, first.call_id, first.ssrc),
                         (NODE, self.caller.host, CALL_ID, CALLER))
        self.assertLess(abs(first.at - began), 1.0)
        assert first.sender is not None
        self.assertEqual(first.sender.ntp_middle, middle)
        self.assertEqual([(block.ssrc, block.fraction, block.lost, block.highest, block.jitter)
                          for block in first.blocks], [(CALLEE, 26, 5, 149, 240)])
        self.callee.send_rtcp(an_rr(a_block(CALLER, lost=-2, lsr=middle), ssrc=CALLEE) + voip_metrics(CALLER))
        second, = self.reports(1)
        self.assertEqual((second.source, second.ssrc, second.blocks[0].lost), (self.callee.host, CALLEE, -2))
        # By these two the way to the callee and back took no time at all.
        self.assertEqual(second.blocks[0].lsr, first.sender.ntp_middle)
        self.assertLess(second.at - first.at, 1.0)


class HepTests(ReportsCase):
    def test_over_udp(self) -> None:
        """What phones say in RTCP arrives as reports of their call, with their addresses, when they said it."""
        self.listen(hep_udp=(f"{LOOPBACK}:{self.port}",))
        self.call(self.rtpengine(hep=(LOOPBACK, self.port)))
        self.converse()
        self.assertEqual(self.intake.outcomes, {("hep_udp", "taken"): 2})

    def test_over_tcp(self) -> None:
        """The same over a connection."""
        self.listen(hep_tcp=(f"{LOOPBACK}:{self.port}",))
        self.call(self.rtpengine(*self.over_tcp()))
        self.connect()
        self.converse()
        self.assertEqual(set(self.intake.outcomes), {("hep_tcp", "taken")})

    def test_many_over_tcp(self) -> None:
        """Packets that share segments are all there, in their order."""
        self.listen(hep_tcp=(f"{LOOPBACK}:{self.port}",))
        self.call(self.rtpengine(*self.over_tcp()))
        self.connect()
        # At once rtpengine reads 50 packets of a port.
        for first in range(1000, 1300, 50):
            for number in range(first, first + 50):
                self.caller.send_rtcp(an_rr(a_block(CALLEE, highest=number), ssrc=CALLER))
            highest = [report.blocks[0].highest for report in self.reports(50)]
            self.assertEqual(highest, list(range(first, first + 50)))

    def test_media_alone(self) -> None:
        """Phones that send no RTCP are silent here: of RTP alone rtpengine tells nothing."""
        self.listen(hep_udp=(f"{LOOPBACK}:{self.port}",))
        self.call(self.rtpengine(hep=(LOOPBACK, self.port)))
        for number in range(50):
            self.caller.send_rtp(number)
            self.callee.send_rtp(number)
        self.assertFalse(self.turn_until(lambda: self.heard, QUIET_SECONDS), self.heard)

    @pytest.mark.long
    def test_kept_reports(self) -> None:
        """What a node kept while it could not reach us comes half a minute later, with the times when it was said."""
        self.listen(hep_tcp=(f"{LOOPBACK}:{self.port}",), idle_seconds=0.3)
        self.call(self.rtpengine(*self.over_tcp()))
        self.connect()
        # The connection is closed, which the node sees when it writes again; then it waits.
        self.turn_until(lambda: False, QUIET_SECONDS)
        self.listeners.connections.idle_seconds = RECONNECT_SECONDS
        began = time()

        def is_back() -> bool:
            self.caller.send_rtcp(an_rr(ssrc=CALLER))
            return self.turn_until(lambda: self.heard, QUIET_SECONDS)

        self.assertTrue(self.turn_until(is_back, RECONNECT_SECONDS), self.intake.outcomes)
        first = self.heard[0]
        self.assertGreater(time() - first.at, 15.0)
        self.assertLess(first.at - began, 5.0)

    def connect(self) -> None:
        """Have the node connect: the report for which it does that goes out with the next one."""
        def is_there() -> bool:
            self.caller.send_rtcp(an_rr(ssrc=CALLER))
            return self.turn_until(lambda: self.heard, 0.2)

        self.assertTrue(self.turn_until(is_there), self.intake.outcomes)
        self.turn_until(lambda: False, 0.2)
        self.heard.clear()

    def over_tcp(self) -> Iterable[str]:
        """Return the arguments with which rtpengine reports over TCP."""
        return f"--homer={LOOPBACK}:{self.port}", "--homer-protocol=tcp", f"--homer-id={CAPTURE_ID}"


class CopiesTests(ReportsCase):
    def test_plain_rtcp(self) -> None:
        """RTCP that is copied to a port of its node counts as its phones' reports."""
        self.listen(rtcp=(RtcpConfig(node=NODE, address=f"{LOOPBACK}:{self.copies_port}"),))
        for phone, other in ((self.caller, self.callee), (self.callee, self.caller)):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as copying:
                copying.bind((phone.host, 0))
                copying.sendto(an_sr(a_block(other.ssrc), ssrc=phone.ssrc), (LOOPBACK, self.copies_port))
        first, second = self.reports(2)
        self.assertEqual([report.source for report in (first, second)], [self.caller.host, self.callee.host])
        self.assertEqual((first.node, first.call_id), (NODE, second.call_id))
