"""What tickles look like, byte by byte."""

from socket import AF_INET, AF_INET6, IPPROTO_TCP, inet_pton

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.packets import (
    ACK,
    MAX_RECORDS,
    RECORD,
    SYN_ACK,
    checksum,
    pack_record,
    packets,
    unpack_records,
)

HERE4, PHONE4 = inet_pton(AF_INET, "192.0.2.1"), inet_pton(AF_INET, "198.51.100.7")
HERE6, PHONE6 = inet_pton(AF_INET6, "2001:db8::1"), inet_pton(AF_INET6, "2001:db8:1::7")


class PacketTests(SynchronousTestCase):
    def test_ipv4(self) -> None:
        """An ACK and a SYN+ACK go from our address and port to the phone's, without data."""
        made = list(packets(HERE4, 5060, PHONE4, 40000))
        self.assertEqual([packet[33] for packet in made], [ACK, SYN_ACK])
        for packet in made:
            self.assertEqual((packet[0], packet[9], len(packet)), (0x45, IPPROTO_TCP, 40))
            self.assertEqual(packet[12:20], HERE4 + PHONE4)
            self.assertEqual((int.from_bytes(packet[20:22]), int.from_bytes(packet[22:24])), (5060, 40000))
            self.assertEqual(packet[32] >> 4, 5)

    def test_ipv6(self) -> None:
        """So they do over IPv6."""
        made = list(packets(HERE6, 5060, PHONE6, 40000))
        self.assertEqual([packet[53] for packet in made], [ACK, SYN_ACK])
        for packet in made:
            self.assertEqual((packet[0] >> 4, int.from_bytes(packet[4:6]), packet[6], len(packet)),
                             (6, 20, IPPROTO_TCP, 60))
            self.assertEqual(packet[8:40], HERE6 + PHONE6)

    def test_checksums(self) -> None:
        """Summed up with its pseudo header a segment gives nothing (RFC 1071): the phone's kernel takes it."""
        for packet in packets(HERE4, 5060, PHONE4, 40000):
            self.assertEqual(checksum(HERE4 + PHONE4 + bytes((0, IPPROTO_TCP, 0, 20)) + packet[20:]), 0)
        for packet in packets(HERE6, 5061, PHONE6, 40001):
            self.assertEqual(checksum(HERE6 + PHONE6 + bytes((0, 0, 0, 20, 0, 0, 0, IPPROTO_TCP)) + packet[40:]), 0)

    def test_never_both_in_the_window(self) -> None:
        """The two numbers are half a turn apart, and no window of TCP is so large (RFC 7323 §2.3)."""
        first, second = (int.from_bytes(packet[24:28]) for packet in packets(HERE4, 5060, PHONE4, 40000))
        self.assertEqual(second - first, 1 << 31)


class RecordTests(SynchronousTestCase):
    def test_there_and_back(self) -> None:
        """A message of records of both families is read as it was written."""
        message = pack_record(HERE4, 5060, PHONE4, 40000) + pack_record(HERE6, 5061, PHONE6, 40001)
        self.assertEqual(list(unpack_records(message)),
                         [(HERE4, 5060, PHONE4, 40000), (HERE6, 5061, PHONE6, 40001)])

    def test_two_families(self) -> None:
        """No connection is between an IPv4 and an IPv6 address."""
        self.assertRaises(ValueError, pack_record, HERE4, 5060, PHONE6, 40000)
        self.assertRaises(ValueError, pack_record, b"", 5060, b"", 40000)

    def test_too_long(self) -> None:
        """A message has its most."""
        record = pack_record(HERE4, 5060, PHONE4, 40000)
        self.assertEqual(len(list(unpack_records(record * MAX_RECORDS))), MAX_RECORDS)
        self.assertRaises(ValueError, list, unpack_records(record * (MAX_RECORDS + 1)))

    @given(st.binary(max_size=3 * RECORD.size))
    def test_rubbish(self, message: bytes) -> None:
        """Whatever comes is either records with two whole ends or refused as a whole."""
        try:
            found = list(unpack_records(message))
        except ValueError:
            return
        for source, source_port, target, target_port in found:
            self.assertIn(len(source), (4, 16))
            self.assertEqual(len(source), len(target))
            self.assertTrue(source_port and target_port)
