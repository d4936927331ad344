"""What is made of the frames that tcpdump has seen."""

from types import SimpleNamespace
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.keepalive_bytes import DEFAULT_IDLE, FRAME, WAYS, Cost, Subject, _cost, _plan, table

LINE = ("1795289417.427 aa:bb:cc:dd:ee:ff > 00:11:22:33:44:55, ethertype IPv4 (0x0800), length 66: "
        "10.77.0.11.28206 > 10.77.0.100.40712: tcp 0")


def a_subject(way: int, port: int = 40712) -> Subject:
    phone = cast(Any, SimpleNamespace(port=port, transport="TCP"))
    return Subject(WAYS[way], phone, "", "one@phone")


class KeepaliveBytesTests(SynchronousTestCase):
    def test_frame(self) -> None:
        """A line of tcpdump says when, how long with its Ethernet header, and between which ports."""
        match = FRAME.match(LINE)
        assert match is not None
        self.assertEqual(match.groups(), ("1795289417.427", "66", "28206", "40712"))

    def test_cost(self) -> None:
        """Frames of other connections do not count; two frames are one probe, and are scaled to the hour."""
        frames = [(1.0, 66, frozenset((5060, 40712))), (1.1, 66, frozenset((5060, 40712))),
                  (2.0, 900, frozenset((5060, 40713)))]
        probed = _cost(a_subject(0), 0, frames)
        self.assertEqual((probed.exchanges, probed.octets, probed.per_hour(), probed.per_hour(DEFAULT_IDLE)),
                         (1, 132, 7920.0, 792.0))
        asked = _cost(a_subject(2, 40713), 1, frames)
        self.assertEqual((asked.octets, asked.per_hour()), (900, 108_000.0))

    def test_plan(self) -> None:
        """Each phone does its part once a period, and has ended before the time is over; the kernel does its own."""
        self.assertEqual([at for at, _ in _plan([a_subject(0), a_subject(1)], 100)], [5.0, 35.0, 65.0])

    def test_table(self) -> None:
        """A row for each, and one for the default of the kernel's probes."""
        rows = table([Cost(WAYS[0], "TCP", 2, 4, 264), Cost(WAYS[3], "TLS", 2, 6, 3600)]).splitlines()
        self.assertEqual([row.split("|")[-2].strip() for row in rows[2:]], ["7,920", "792", "108,000"])
