"""HEP packets, and the stream of them."""

import zlib
from itertools import pairwise
from struct import pack

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from balancer.ingest.hep import MOST_BYTES, HepError, HepFramer, is_allowed, parse_hep
from tests.balancer.ingest.packets import a_packet, chunk, hep
from tests.vectors.hep import packet, recorded


class HepTests(SynchronousTestCase):
    def test_what_rtpengine_sends(self) -> None:
        """A recorded packet tells when and whence, which call, and by its capture id which node."""
        said = parse_hep(packet("1 SR"))
        self.assertEqual((said.at, said.source, said.source_port), (1795223792.674795, "127.0.0.1", 51145))
        self.assertEqual((said.payload_type, said.capture_id, said.correlation_id), (5, 2001, "call-1@lab"))
        self.assertTrue(said.payload.startswith(b'{ "sender_information"'))

    def test_all_recorded(self) -> None:
        """Every recorded packet, over UDP or TCP, is understood."""
        for about, data in recorded():
            self.assertEqual(parse_hep(data).capture_id, 2001, about)

    def test_ipv6(self) -> None:
        """IPv6 addresses are written without brackets; an IPv4 address within one is that."""
        self.assertEqual(parse_hep(a_packet(source="2001:db8::7")).source, "2001:db8::7")
        self.assertEqual(parse_hep(a_packet(source="::ffff:198.51.100.7")).source, "198.51.100.7")

    def test_unknown_chunks(self) -> None:
        """Chunks of other vendors and of unknown types change nothing."""
        plain = parse_hep(a_packet(b"{}"))
        more = [chunk(15, b"not this", vendor=3), chunk(0x20, b"\x01\x02"), chunk(0xFFFF, b"")]
        self.assertEqual(parse_hep(a_packet(b"{}", more=more)), plain)

    def test_names(self) -> None:
        """The node's name is understood, however it is ended; bytes that are no text are not fatal."""
        self.assertEqual(parse_hep(hep(chunk(0x13, b"media1\0"))).node_name, "media1")
        self.assertEqual(parse_hep(hep(chunk(17, b"caf\xe9@h"))).correlation_id, "caf\N{REPLACEMENT CHARACTER}@h")

    def test_malformed(self) -> None:
        """What is cut off, too long, or of another version is refused."""
        whole = a_packet(b"{}")
        for data in (b"", b"HEP3", b"HEP2" + whole[4:], whole[:-1], whole + b"x", hep(b"\0\0"),
                     hep(pack("!HHH", 0, 15, 5)), hep(pack("!HHH", 0, 15, 7)),
                     hep(chunk(9, b"\1")), hep(chunk(11, b"")), b'{"type": 200}'):
            self.assertRaises(HepError, parse_hep, data)

    def test_compressed(self) -> None:
        """A compressed payload is unpacked, but no more of it than a packet may have."""
        self.assertEqual(parse_hep(hep(chunk(16, zlib.compress(b"{}" * 500)))).payload, b"{}" * 500)
        self.assertRaises(HepError, parse_hep, hep(chunk(16, zlib.compress(bytes(MOST_BYTES + 1)))))
        self.assertRaises(HepError, parse_hep, hep(chunk(16, zlib.compress(b"{}" * 500)[:-6])))
        self.assertRaises(HepError, parse_hep, hep(chunk(16, b"plain")))

    def test_key(self) -> None:
        """Where a key is asked for, a packet needs that very one; where none is, any will do."""
        keyed, other, plain = (parse_hep(hep(*chunks)) for chunks in (
            [chunk(14, b"s3cret\0")], [chunk(14, b"s3cre")], []))
        self.assertEqual([is_allowed(each, "s3cret") for each in (keyed, other, plain)], [True, False, False])
        self.assertEqual([is_allowed(each, None) for each in (keyed, other, plain)], [True, True, True])

    @settings(max_examples=300, deadline=None)
    @given(st.binary(max_size=200), st.integers(0, 5))
    def test_anything(self, body: bytes, cut: int) -> None:
        """Whatever stands in a packet, it is understood or refused."""
        for data in (hep(body), hep(chunk(15, b"x"), body), body, a_packet(body)[:-cut or None]):
            try:
                parse_hep(data)
            except HepError:
                continue


class FramerTests(SynchronousTestCase):
    def test_shared_segments(self) -> None:
        """Packets come out as they went in, whatever pieces they arrive in."""
        packets = [data for _, data in recorded()]
        stream = b"".join(packets)
        for size in (1, 7, 600, 1460, len(stream)):
            framer = HepFramer()
            cuts = [*range(0, len(stream), size), len(stream)]
            self.assertEqual([each for a, b in pairwise(cuts) for each in framer.feed(stream[a:b])], packets, str(size))

    def test_no_hep(self) -> None:
        """A stream that does not begin, or go on, as HEP is given up at its first wrong byte."""
        for pieces in ([b"GET / HTTP/1.1\r\n"], [b"HE", b"LO"], [b"HEP3\0\5"], [a_packet() + b"HEP4"]):
            framer = HepFramer()
            with self.assertRaises(HepError):
                for piece in pieces:
                    framer.feed(piece)

    @settings(max_examples=200, deadline=None)
    @given(st.lists(st.binary(max_size=40), max_size=8))
    def test_any_pieces(self, pieces: list[bytes]) -> None:
        """No pieces make it keep more than one packet."""
        framer = HepFramer()
        try:
            for piece in [b"HEP3\xff\xff", *pieces]:
                self.assertEqual(framer.feed(piece), [])
        except HepError:
            self.fail("a packet that is not whole yet was refused")
        self.assertLess(len(framer._rest), MOST_BYTES)
