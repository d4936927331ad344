"""The phones that measure media nodes, in calls through Kamailio and real rtpengines: what they tell is the truth."""

import json
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path as File
from struct import unpack_from
from typing import Any, ClassVar

import pytest
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.emodel import POOR_R
from tests.cluster.namespaces import Namespace, namespace_or_skip
from tests.interop.process import LOOPBACK
from tools.laboratory.kamailio_media import KamailioMedia
from tools.laboratory.media_call import State
from tools.laboratory.media_line import Path, Paths
from tools.laboratory.media_loss import Losses
from tools.laboratory.media_phone import Subscriber
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

CARRIERS = {"A": "127.201.0.0/16", "B": "127.202.0.0/16"}
HEP_PORT = 9060
TALK_SECONDS = 6.0
SLOW = Path(delay_ms=60, jitter_ms=8)
NTP_EPOCH = 2_208_988_800


class MediaPhonesTests(SynchronousTestCase):
    """Four phones of each carrier, and one rtpengine, in a network of their own."""

    network: ClassVar[Namespace]
    folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    media: ClassVar[RtpengineProcess]
    proxy: ClassVar[KamailioMedia]
    hep: ClassVar[socket.socket]
    losses: ClassVar[Losses]

    @classmethod
    def setUpClass(cls) -> None:
        cls.network = namespace_or_skip()
        cls.folder = tempfile.TemporaryDirectory()
        here = File(cls.folder.name)
        with cls.network.entered():
            cls.hep = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            cls.hep.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
            cls.hep.bind((LOOPBACK, HEP_PORT))
            cls.media = RtpengineProcess(here / "media", "media-1", own_hosts(1)[0], 1, (LOOPBACK, HEP_PORT))
            cls.media.start()
            cls.proxy = KamailioMedia(here / "kamailio", [cls.media.address])
            cls.proxy.start()
            cls.losses = Losses()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.proxy.stop()
        cls.media.stop()
        cls.hep.close()
        cls.network.close()
        cls.folder.cleanup()

    def setUp(self) -> None:
        self.set_losses({})
        paths = Paths({("B", self.media.host): SLOW})
        who = [Subscriber(user=f"{carrier}{number}", host=f"127.{201 + index}.0.{number}", carrier=carrier)
               for index, carrier in enumerate(CARRIERS) for number in range(1, 5)]
        with self.network.entered():
            self.phones = MediaPhones(self.proxy.tcp, "lab.test", who, paths)
            self.phones.start()
        self.addCleanup(self.phones.stop)
        self.phones.register_all()
        self.of = {each.who.user: each for each in self.phones.phones}

    def set_losses(self, losses: dict[tuple[str, str], float]) -> None:
        """Lose these parts of packets from now on."""
        with self.network.entered():
            self.losses.set(losses)

    def talk(self, *pairs: tuple[str, str], seconds: float = TALK_SECONDS) -> None:
        """Let phones talk, all pairs at once, and expect that all calls end as they should."""
        self.calls = self.phones.call_pairs([(self.of[one], self.of[other]) for one, other in pairs], 10, seconds)
        self.phones.wait_over(self.calls)
        self.assertEqual([str(call) for call in self.calls if call.state is not State.ENDED], [])

    def reports(self) -> list[dict[str, Any]]:
        """Return the RTCP that rtpengine has told of, each with who sent it and when it was seen."""
        self.hep.setblocking(False)
        found: list[dict[str, Any]] = []
        while True:
            try:
                data = self.hep.recv(65536)
            except BlockingIOError:
                return found
            chunks = _chunks(data)
            seconds, micros = (unpack_from("!I", chunks[kind])[0] for kind in (9, 10))
            found.append({**json.loads(chunks[15]), "from": socket.inet_ntoa(chunks[3]), "at": seconds + micros / 1e6})

    # --- what is shown

    @pytest.mark.long
    def test_sound(self) -> None:
        """Without losses everybody hears everything, over slower lines later."""
        self.talk(("A1", "A2"), ("B1", "B2"))
        for call in self.calls:
            self.assertEqual(call.node, self.media.host)
            for heard in call.heard.values():
                self.assertEqual(heard.lost, 0)
                self.assertGreater(heard.packets, 50 * (TALK_SECONDS - 1))
        fast, slow = self.calls
        self.assertGreater(fast.r, POOR_R)
        delays = [min(heard.delay_ms for heard in call.heard.values()) for call in (fast, slow)]
        # Twice the line's delay, the playout buffer and a packet's length; a busy machine adds to both.
        self.assertGreater(delays[0], 2 * 20 + 80)
        self.assertGreater(delays[1], 2 * SLOW.delay_ms + 80)
        self.assertLess(delays[0], delays[1])

    def test_reports_are_true(self) -> None:
        """RTCP tells of the losses, the jitter and the round trip of just the lines that there are."""
        self.set_losses({(CARRIERS["A"], self.media.host): 0.10})
        self.reports()
        self.talk(("A1", "B1"), ("A2", "B2"), ("A3", "B3"), ("A4", "B4"), seconds=20)
        told = self.reports()
        blocks = [(each["from"], block) for each in told for block in each["report_blocks"]]
        self.assertGreater(len(blocks), 16)
        lost = sum(heard.lost for call in self.calls for heard in call.heard.values())
        packets = sum(heard.packets for call in self.calls for heard in call.heard.values())
        self.assertGreater(lost / packets, 0.05)
        self.assertLess(lost / packets, 0.15)
        last = {(host, block["source_ssrc"]): block["packets_lost"] for host, block in blocks}
        # The last report comes some seconds before the end.
        self.assertGreater(sum(last.values()), 0.5 * lost)
        self.assertLessEqual(sum(last.values()), lost)
        self.assertLess(max(call.r for call in self.calls), POOR_R)
        for host, expected in (("127.201.", 40.0), ("127.202.", 120.0)):
            trips = _round_trips([each for each in told if each["from"].startswith(host)], told)
            self.assertGreater(len(trips), 4)
            median = sorted(trips)[len(trips) // 2]
            self.assertGreater(median, expected)
            self.assertLess(median, expected + 60)

    @pytest.mark.long
    def test_lost_ways_are_chosen(self) -> None:
        """Only the phones of the network that the losses are set for have them, and none when they are gone."""
        self.set_losses({(CARRIERS["A"], self.media.host): 0.2})
        self.talk(("A1", "A2"), ("B1", "B2"))
        bad, good = self.calls
        self.assertLess(bad.r, POOR_R)
        self.assertEqual([each.lost for each in good.heard.values()], [0, 0])
        with self.network.entered():
            self.assertGreaterEqual(self.losses.dropped(), sum(each.lost for each in bad.heard.values()))
        self.set_losses({})
        self.talk(("A1", "A2"))
        self.assertEqual([each.lost for each in self.calls[0].heard.values()], [0, 0])

    @pytest.mark.long
    def test_random_calls(self) -> None:
        """Calls between phones that are free go on until they are told not to, and all end as they should."""
        self.phones.call_on(2.0, (2.0, 3.0))
        self.phones.wait(lambda: len(self.phones.calls) >= 8, "calls", 20)
        self.phones.call_on(0, (0.0, 0.0))
        self.phones.wait_over()
        self.assertEqual({call.state for call in self.phones.calls.values()}, {State.ENDED})
        self.assertIn(b"11:sessionsowni0e", self.asked_in_there(lambda: self.media.ask(b"d7:command10:statisticse")))

    def asked_in_there(self, ask: Callable[[], bytes]) -> bytes:
        """Return what somebody in the network says."""
        with self.network.entered():
            return ask()



def _chunks(data: bytes) -> dict[int, bytes]:
    """Return the chunks of a HEP packet by their types."""
    found, place = {}, 6
    while place < len(data):
        _, kind, length = unpack_from("!HHH", data, place)
        found[kind] = data[place + 6 : place + length]
        place += length
    return found


def _round_trips(answers: list[dict[str, Any]], told: list[dict[str, Any]]) -> list[float]:
    """Return the round trips between the node and the senders of these, in ms, each from a sender report it names."""
    seen = {}
    for each in told:
        if "sender_information" in each:
            sender = each["sender_information"]
            middle = (sender["ntp_timestamp_sec"] & 0xFFFF) << 16 | sender["ntp_timestamp_usec"] >> 16
            seen[each["ssrc"], middle] = each["at"]
    return [(each["at"] - seen[block["source_ssrc"], block["lsr"]] - block["dlsr"] / 65536) * 1000
            for each in answers for block in each["report_blocks"]
            if (block["source_ssrc"], block["lsr"]) in seen]
