"""The rtpengines that tests and the lab use: they do what tests of others rely on."""

import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.process import LOOPBACK, InteropError
from tools.laboratory.rtpengine_process import PING, PONG, RtpengineProcess, own_hosts

STATISTICS = b"d7:command10:statisticse"
SDP = (b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
       b"m=audio 9 RTP/AVP 0\r\n")
OFFER = b"d7:call-id1:%s7:command5:offer8:from-tag1:f3:sdp" + b"%d:" % len(SDP) + SDP + b"8:supportsl10:load limitee"


class RtpengineProcessTests(SynchronousTestCase):
    """Two rtpengines, each with the same ports at an address of its own."""

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.media = [
            RtpengineProcess(Path(folder.name) / f"media-{number}", f"media-{number}", host, number, (LOOPBACK, 9))
            for number, host in enumerate(own_hosts(2), 1)
        ]
        for each in self.media:
            self.addCleanup(each.kill)
            each.start()

    def test_answers_for_itself(self) -> None:
        """Each answers pings and says that it has no calls."""
        for each in self.media:
            self.assertEqual(each.ask(PING), PONG)
            self.assertIn(b"11:sessionsowni0e", each.ask(STATISTICS))

    def test_kill_and_start(self) -> None:
        """A killed one is gone without the other, and serves again at the same address."""
        first, second = self.media
        first.kill()
        self.assertFalse(first.running)
        self.assertRaises(InteropError, first.answers)
        self.assertTrue(second.answers())
        first.start()
        self.assertEqual(first.ask(PING), PONG)

    def test_pause(self) -> None:
        """A paused one answers nothing until it goes on."""
        first = self.media[0]
        first.pause()
        self.assertFalse(first.answers())
        first.resume()
        first.wait_until_it_answers(5)

    def test_stop(self) -> None:
        """One that is stopped ends by itself, and has not complained."""
        self.media[0].stop()
        self.assertFalse(self.media[0].running)
        self.assertNotIn("ERR", self.media[0].log())

    def test_options(self) -> None:
        """Further arguments are taken: one that may have one call refuses the second."""
        first = self.media[0]
        first.stop()
        again = RtpengineProcess(first.log_file.parent, "media-1", first.host, 1, options=("--max-sessions=1",))
        self.addCleanup(again.kill)
        again.start()
        self.assertIn(again.host.encode(), again.ask(OFFER % b"a"))
        self.assertIn(b"load limit", again.ask(OFFER % b"b"))
        self.assertIn(b"11:sessionsowni1e", again.ask(STATISTICS))
