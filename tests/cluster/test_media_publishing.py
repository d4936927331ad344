"""A phone's PUBLISH about a call that is over: its registrar answers, and every balancer hears of it through Redis."""

import tempfile
import time
from pathlib import Path

import pytest

from tests.cluster.case import ClusterCase
from tests.interop.process import wait_until
from tools.laboratory.balancer_node import BalancerNode
from tools.laboratory.lab import Lab
from tools.laboratory.media_phone import MediaPhone
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.media_servers import subscribers

TALK_SECONDS = 7.0
"""By then both phones have sent RTCP, so that the balancers know their call."""
QUIET_SECONDS = 2.0
REPORT = """VQSessionReport: CallTerm\r
LocalMetrics:\r
SessionDesc:PT=0 PD=PCMU SR=8000 PPS=50\r
PacketLoss:NLR=2.0 JDR=0.0\r
Delay:RTD=40 IAJ=2\r
CallID: {call_id}\r
"""


class PublishingTests(ClusterCase):
    """One registrar, one rtpengine and two balancers, of which one gets the rtpengine's reports."""

    registrars = 1
    users = 6

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = Lab(Path(cls._folder.name), cls.registrars, "single", cls.users, media=1, balancers=2)
        cls.lab.start()

    @pytest.mark.long
    def test_publish(self) -> None:
        """What a phone says after its call counts at both balancers; about a call that nobody knows, at none."""
        phones = MediaPhones(self.lab.tcp[0], self.lab.domain, subscribers(self.lab.users))
        phones.start()
        self.addCleanup(phones.stop)
        phones.register_all()
        wait_until(self.has_node, "a media node", 20)
        caller, callee = (phones.phones[index] for index in (0, 3))
        call, = phones.call_pairs([(caller, callee)], 10, TALK_SECONDS)
        phones.wait_over()
        self.wait_for_quiet()
        balancers = self.lab.media.balancers
        before = [counted(each) for each in balancers]
        self.assertTrue(all(before), before)
        self.publish(phones, caller, call.id)
        wait_until(lambda: [counted(each) for each in balancers] == [one + 1 for one in before] or None,
                   f"another report at both balancers than {before}")
        self.publish(phones, caller, "nobody's")
        wait_until(lambda: all(each.metric("rollcall_balancer_reports_refused_total", why="node") for each in balancers)
                   or None, "refusal of a report of no call")
        self.assertEqual([counted(each) for each in balancers], [one + 1 for one in before])
        self.assertEqual(self.lab.registrars[0].metric("rollcall_media_phone_reports_total", outcome="taken"), 2)

    def has_node(self) -> bool | None:
        """Say whether the registrar knows a node that takes calls."""
        return any(node["state"] == "up" for node in self.lab.registrars[0].get("/v1/media")["nodes"]) or None

    def wait_for_quiet(self) -> None:
        """Return once nothing more comes of the call."""
        balancers = self.lab.media.balancers
        while True:
            before = [counted(each) for each in balancers]
            time.sleep(QUIET_SECONDS)
            if [counted(each) for each in balancers] == before:
                return

    def publish(self, phones: MediaPhones, phone: MediaPhone, call_id: str) -> None:
        """Let a phone publish over the connection that it is registered on."""
        body = REPORT.format(call_id=call_id).encode()
        head = "\r\n".join([
            f"PUBLISH sip:collector@{self.lab.domain} SIP/2.0",
            f"Via: SIP/2.0/TCP {phone.local};branch=z9hG4bK{call_id[-6:]}", "Max-Forwards: 70",
            f"From: <{phone.aor}>;tag=1", f"To: <sip:collector@{self.lab.domain}>",
            f"Call-ID: publish-{call_id}", "CSeq: 1 PUBLISH", "Event: vq-rtcpxr",
            "Content-Type: application/vq-rtcpxr", f"Content-Length: {len(body)}", "", ""])
        taken = self.taken()
        phones.loop.do(lambda: phone.send(head.encode() + body))
        wait_until(lambda: self.taken() > taken or None, "answer to PUBLISH")

    def taken(self) -> float:
        """Return how many reports the registrar has taken."""
        return self.lab.registrars[0].metric("rollcall_media_phone_reports_total", outcome="taken")


def counted(balancer: BalancerNode) -> float:
    """Return how many reports have counted there."""
    return balancer.metric("rollcall_balancer_reports_counted_total")
