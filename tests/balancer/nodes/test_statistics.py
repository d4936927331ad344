"""What nodes say of their load."""

from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.statistics import LoadReport, read_statistics
from tests.balancer.nodes.examples import a_load


def a_reply(**changes: Any) -> dict[str, Any]:
    """Return the part of a reply of rtpengine 10.5 that is read, as it came, with some figures changed."""
    figures: dict[str, Any] = {"sessionsown": 12, "uptime": b"4711", "free": 8960, "managedsessions": 80} | changes
    return {"result": b"ok", "statistics": {
        "currentstatistics": {
            "sessionsown": figures["sessionsown"], "sessionsforeign": 3, "sessionstotal": 15, "packetrate": 1198,
            "byterate": 205_000, "errorrate": 2},
        "totalstatistics": {
            "uptime": figures["uptime"], "managedsessions": figures["managedsessions"], "relayedpackets": 123_456},
        "interfaces": [
            {"name": b"default", "address": b"192.0.2.1", "ports": {
                "min": 23000, "max": 31999, "used": 40, "used_pct": b"0.44", "free": figures["free"], "totals": 9000}},
            {"name": b"internal", "address": b"10.0.0.1", "ports": {"free": 8961}}]}}


class StatisticsTests(SynchronousTestCase):
    def test_of_rtpengine(self) -> None:
        """Own calls and rates are taken, texts as numbers; the interface with the fewest ports says what room is."""
        load = read_statistics(a_reply())
        self.assertEqual((load.sessions, load.packets_per_second, load.bytes_per_second, load.errors_per_second),
                         (12, 1198.0, 205_000.0, 2.0))
        self.assertEqual((load.room, load.uptime_seconds, load.counted), (2240, 4711.0, (80.0, 123_456.0)))

    def test_malformed(self) -> None:
        """What is no statistics is a ValueError, whatever it is."""
        reply = a_reply()
        broken: dict[str, Any]
        for broken in ({}, {"statistics": 1}, {"statistics": {"currentstatistics": {}}}, a_reply(sessionsown=b"many"),
                       a_reply(free=None), a_reply(uptime=[])):
            self.assertRaises(ValueError, read_statistics, broken)
        del reply["statistics"]["interfaces"]
        self.assertIsNone(read_statistics(reply).room)

    def test_another_life(self) -> None:
        """Whatever only goes up tells two lives of a process apart; a load without such figures says nothing."""
        load = a_load(uptime=100.0, counted=(5.0, 900.0))
        self.assertFalse(load.is_before(load))
        self.assertFalse(load.is_before(a_load(uptime=101.0, counted=(5.0, 901.0))))
        self.assertTrue(load.is_before(a_load(uptime=99.0, counted=(5.0, 900.0))))
        self.assertTrue(load.is_before(a_load(uptime=101.0, counted=(4.0, 900.0))))
        self.assertTrue(load.is_before(a_load(uptime=101.0, counted=(5.0, 0.0))))
        self.assertFalse(load.is_before(a_load(uptime=None, counted=())))

    def test_idle(self) -> None:
        """Only a node with neither calls nor packets is idle."""
        for sessions, packets, is_idle in ((0, 0.0, True), (1, 0.0, False), (0, 50.0, False), (0, None, True)):
            self.assertIs(a_load(sessions, packets_per_second=packets).is_idle, is_idle)

    def test_reports(self) -> None:
        """A report says how many calls there are, and more if it likes; figures that cannot be are refused."""
        report = msgspec.json.decode(b'{"sessions": 7, "uptime_seconds": 3.5}', type=LoadReport)
        load = report.as_load()
        self.assertEqual((load.sessions, load.packets_per_second, load.uptime_seconds), (7, None, 3.5))
        for body in (b"{}", b'{"sessions": -1}', b'{"sessions": 1, "uptime_seconds": 1e13}', b'{"sessions": "1"}',
                     b'{"sessions": 1, "cpu": 2}', b'{"sessions": 1, "packets_per_second": -0.1}'):
            self.assertRaises(msgspec.ValidationError, msgspec.json.decode, body, type=LoadReport)
