"""Tests of rollcall.sip.scanner: both ways say the same, and nothing but what the whole parser would say."""

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.flow import pack_address
from rollcall.sip import plain_scanner
from rollcall.sip.message import parse_message, split_head
from rollcall.sip.scanner import GRUU, MAX_HEAD_BYTES, MAX_LINES, OUTBOUND, PATH, UsualRegister, scan_register
from tests.rollcall.sip.registers import UNUSUAL, USUAL, a_register, mutated, register_of
from tests.rollcall.sip.scanner_oracle import compiled_scanner, differences
from tests.vectors import torture
from tools.fuzz_scanner import search

FUZZ_SECONDS = 8
START = USUAL["start"][0]
SCANNERS = [plain_scanner.scan_register] + ([] if compiled_scanner is None else [compiled_scanner.scan_register])
SPLITTERS = [] if compiled_scanner is None else [compiled_scanner.split_fields]

PHONE = (
    b"REGISTER sip:example.com SIP/2.0\r\n"
    b"Via: SIP/2.0/TCP 192.168.1.20:5060;branch=z9hG4bKabc;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice" <sip:alice@example.com>;tag=88sja8x\r\n'
    b't : "Alice" <sip:alice@Example.com>\t\r\n'
    b"Call-ID: 843817637684230@998sdasdh09\r\n"
    b"CSeq: 1826 REGISTER\r\n"
    b'Contact: <sip:alice@192.168.1.20;transport=tcp>;reg-id=1;+sip.instance="<urn:uuid:1>";expires=60\r\n'
    b"Expires: 3600\r\n"
    b"Supported: path, GRUU\r\n"
    b"User-Agent: Phone 1.0\r\n"
    b'Authorization: Digest username="alice",realm="example.com",nonce="n",uri="sip:example.com",response="AB",'
    b'cnonce="c",nc=0000001f,qop=auth\r\n'
    b"Content-Length: 0\r\n\r\n"
)


def scanned(data: bytes, start: int = 0) -> UsualRegister:
    """Return what the scanner of this run finds, which must be something."""
    register = scan_register(data, start)
    assert register is not None, data
    return register


class MeaningTests(SynchronousTestCase):
    """What a register says, in plain values."""

    def test_addresses(self) -> None:
        """The Request-URI and the user come as they are, the host in lower case."""
        register = scanned(PHONE)
        self.assertEqual(register.request_uri, b"sip:example.com")
        self.assertEqual((register.user, register.host), (b"alice", b"example.com"))

    def test_binding(self) -> None:
        """Contact is its URI and the parameters without expires, and its expires counts more than the header."""
        register = scanned(PHONE)
        self.assertEqual(register.contact, b"sip:alice@192.168.1.20;transport=tcp")
        self.assertEqual(register.params, b';reg-id=1;+sip.instance="<urn:uuid:1>"')
        self.assertEqual((register.expires, register.is_plain), (60, False))
        self.assertEqual(scanned(PHONE.replace(b";expires=60", b"")).expires, 3600)
        self.assertEqual(scanned(PHONE.replace(b";expires=60", b"").replace(b"Expires", b"X")).expires, -1)

    def test_identity(self) -> None:
        """The identity is the same in a refresh, whatever its CSeq, branch and expires are."""
        later = PHONE.replace(b"1826", b"1827").replace(b"4bKabc", b"4bKxyz").replace(b";expires=60", b"")
        later = later.replace(b";reg-id", b";expires=7;reg-id")
        self.assertEqual(scanned(PHONE).identity, scanned(later).identity)
        register = scanned(PHONE)
        self.assertEqual(register.identity, b"\0".join([register.contact, register.params, register.call_id]))

    def test_series(self) -> None:
        """Call-ID and CSeq say which request of which phone it is."""
        self.assertEqual((scanned(PHONE).call_id, scanned(PHONE).cseq), (b"843817637684230@998sdasdh09", 1826))

    def test_via(self) -> None:
        """Via gives the key of the transaction, in lower case where case says nothing, and where to answer."""
        register = scanned(PHONE.replace(b"192.168.1.20:5060;b", b"Phone.Invalid:5062;b"))
        self.assertEqual(register.transaction_key, "z9hG4bKabc phone.invalid:5062 REGISTER")
        self.assertEqual((register.via_host, register.via_port, register.wants_rport), (b"Phone.Invalid", 5062, True))
        self.assertEqual(scanned(PHONE.replace(b":5060;branch", b";branch")).via_port, 0)

    def test_extensions(self) -> None:
        """Supported is a sum of what matters to a registrar."""
        self.assertEqual(scanned(PHONE).supported, PATH + GRUU)
        self.assertEqual(scanned(PHONE.replace(b"path, GRUU", b"outbound")).supported, OUTBOUND)

    def test_credentials(self) -> None:
        """Credentials come unquoted, the response in lower case; without them their attributes are empty."""
        register = scanned(PHONE)
        self.assertEqual((register.username, register.realm, register.nonce), (b"alice", b"example.com", b"n"))
        self.assertEqual((register.uri, register.response, register.cnonce), (b"sip:example.com", b"ab", b"c"))
        self.assertEqual((register.nc, register.count, register.has_credentials), (b"0000001f", 31, True))
        without = scanned(PHONE.replace(b"Authorization", b"X-Authorization"))
        self.assertEqual((without.username, without.response, without.nc, without.count), (b"", b"", b"", 0))
        self.assertFalse(without.has_credentials)

    def test_reply(self) -> None:
        """A response copies lines as they came, with our tag and the source of the request, and ends with the rest."""
        reply = scanned(PHONE).reply(b"SIP/2.0 200 OK", b"ours", pack_address("192.0.2.1", 65000), b"Date: x\r\n\r\n")
        self.assertEqual(
            reply,
            b"SIP/2.0 200 OK\r\n"
            b"Via: SIP/2.0/TCP 192.168.1.20:5060;branch=z9hG4bKabc;rport=65000;received=192.0.2.1\r\n"
            b'From: "Alice" <sip:alice@example.com>;tag=88sja8x\r\n'
            b't: "Alice" <sip:alice@Example.com>;tag=ours\r\n'
            b"Call-ID: 843817637684230@998sdasdh09\r\n"
            b"CSeq: 1826 REGISTER\r\n"
            b"Date: x\r\n\r\n",
        )

    def test_reply_to_nobody(self) -> None:
        """An address that is none is an error of the caller."""
        for scan in SCANNERS:
            register = scan(PHONE)
            assert register is not None
            for address in (b"", b"\0", b"\0\1", b"12345", b"12345678"):
                with self.assertRaises(ValueError):
                    register.reply(b"SIP/2.0 200 OK", b"ours", address, b"\r\n")

    def test_end(self) -> None:
        """A message may stand anywhere in the data, and says where it ends and whether a stream could know that."""
        data = b"\r\n\r\n" + PHONE + PHONE
        register = scanned(data, 4)
        self.assertEqual((register.end, register.has_length), (4 + len(PHONE), True))
        self.assertEqual(scanned(data, register.end).end, len(data))
        without = PHONE.replace(b"Content-Length: 0\r\n", b"")
        self.assertEqual((scanned(without).end, scanned(without).has_length), (len(without), False))
        self.assertIsNone(scan_register(without + b"x"))

    def test_nothing_there(self) -> None:
        """Where no message begins there is none, be it before the data, in the middle, at the end or beyond."""
        for scan in SCANNERS:
            for start in (-1, -len(PHONE), 1, len(PHONE), len(PHONE) + 1, 2**62):
                self.assertIsNone(scan(PHONE, start))

    def test_longest(self) -> None:
        """A head of the greatest length and number of lines is usual; one more of either is not."""
        room = MAX_HEAD_BYTES - len(PHONE)
        filler = b"X: " + b"x" * (room - 5) + b"\r\n"
        lines = b"X: x\r\n" * (MAX_LINES - PHONE.count(b"\r\n") + 1)
        for scan in SCANNERS:
            self.assertIsNotNone(scan(PHONE.replace(b"Expires:", filler + b"Expires:")))
            self.assertIsNone(scan(PHONE.replace(b"Expires:", b"X" + filler + b"Expires:")))
            self.assertIsNotNone(scan(PHONE.replace(b"Expires:", lines + b"Expires:")))
            self.assertIsNone(scan(PHONE.replace(b"Expires:", b"X:\r\n" + lines + b"Expires:")))


class TableTests(SynchronousTestCase):
    """Each part of a message by itself, in an otherwise usual one."""

    def check(self, name: str, value: bytes, is_usual: bool, reason: str) -> None:
        start, headers = (value, []) if name == "start" else (START, [(name, value)])
        for length in ((), (("Content-Length", b"0"),)):
            data = register_of(start, [*headers, *length] if name != "Content-Length" else headers)
            for scan in SCANNERS:
                self.assertEqual(scan(data) is not None, is_usual, f"{name}: {value!r} ({reason})")
            self.assertEqual(differences(data), [], data)

    def test_usual(self) -> None:
        """What phones write is usual, and both ways and the parser agree about it."""
        for name, values in USUAL.items():
            for value in values:
                self.check(name, value, True, "usual")

    def test_unusual(self) -> None:
        """What needs another rule, or is another spelling, or is malformed, is left to the parser."""
        for name, reasons in UNUSUAL.items():
            for reason, values in reasons.items():
                for value in values:
                    self.check(name, value, False, reason)

    def test_twice(self) -> None:
        """No header that matters may come twice, in whatever spelling, nor be missing if the parser needs it."""
        lines = PHONE.split(b"\r\n")
        for line in lines[1:-2]:
            name = line.partition(b":")[0].strip()
            for scan in SCANNERS:
                self.assertIsNone(scan(PHONE.replace(line, line + b"\r\n" + line)), name)
                self.assertIsNone(scan(PHONE.replace(line, line + b"\r\n" + line.lower())), name)
                without = scan(PHONE.replace(line + b"\r\n", b""))
                needed = name in (b"Via", b"From", b"t", b"Call-ID", b"CSeq", b"Contact")
                self.assertEqual(without is None, needed, name)

    def test_lines(self) -> None:
        """Folded lines, lone CR or LF, NUL and other control characters, names that are none are not usual."""
        for crumb in (b"\r\n x", b"\r\n\tx", b"\n", b"\r", b"\0", b"\x0b", b"\x1f", b"\x7f", b"\r\nx", b"\r\n: x",
                      b"\r\nX y: z", b"\r\nX\xc3\xa9: z", b"\r\n(x): z"):
            data = PHONE.replace(b"Phone 1.0", b"Phone" + crumb)
            for scan in SCANNERS:
                self.assertIsNone(scan(data), crumb)
            self.assertEqual(differences(data), [], data)

    def test_every_length(self) -> None:
        """A message that is cut off anywhere is not usual, and one that is not is read from any place of the data."""
        for length in range(len(PHONE)):
            for scan in SCANNERS:
                self.assertIsNone(scan(PHONE[:length]))
            self.assertEqual(differences(PHONE[:length]), [], length)


class AgreementTests(SynchronousTestCase):
    """The compiled scanner, its twin and the whole parser agree."""

    def test_vectors(self) -> None:
        """They do about all messages of RFC 4475 and RFC 5118, as they are in the archives and as they were meant."""
        for vectors in (torture.rfc4475(), torture.rfc5118(), torture.messages()):
            for name, data in vectors.items():
                self.assertEqual(differences(data), [], name)

    @settings(max_examples=300, deadline=None)
    @given(st.randoms(use_true_random=False), st.integers(0, 3))
    def test_generated(self, random: Random, mutations: int) -> None:
        """They do about REGISTERs of which some parts were exchanged, doubled, cut off or spoilt."""
        data = a_register(random, 0.05)
        for _ in range(mutations):
            data = mutated(random, data)
        self.assertEqual(differences(data), [])

    @settings(max_examples=50, deadline=None)
    @given(st.randoms(use_true_random=False))
    def test_streams(self, random: Random) -> None:
        """They do about messages that follow one another."""
        first, second = a_register(random), mutated(random, a_register(random))
        self.assertEqual(differences(first + second, len(first)), [])
        self.assertEqual(differences(first + second), [])

    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=64), st.sampled_from([b"", b"REGISTER sip:", b"REGISTER sip:a SIP/2.0\r\n"]))
    def test_noise(self, noise: bytes, before: bytes) -> None:
        """They do about bytes that are nothing at all."""
        self.assertEqual(differences(before + noise), [])
        self.assertEqual(differences(before + noise + b"\r\n\r\n"), [])

    def test_fuzz(self) -> None:
        """They do for as long as one lets them; `make fuzz` takes another seed and five minutes."""
        tried, usual, found = search(FUZZ_SECONDS, seed=4475)
        self.assertEqual(found, [])
        self.assertGreater(usual, tried // 10)


class HeadTests(SynchronousTestCase):
    """Heads of any message, split by the compiled way."""

    def test_messages(self) -> None:
        """A head that is split at once is the one that the parser finds."""
        for name, data in torture.messages().items():
            for split in SPLITTERS:
                head = split(data)
                if head is not None:
                    self.assertEqual(head, split_head(data), name)

    def test_usual_messages(self) -> None:
        """Requests and responses as they are on the wire need no other way, compact and unknown names included."""
        fields = [("via", "v", "SIP/2.0/UDP a"), ("x-never-seen", "X-Never-Seen", "\udcff\t1"), ("to", "To", "")]
        for start in (b"INVITE sip:a@b SIP/2.0", b"SIP/2.0 180 Ringing", b"BYE sip:a@b SIP/2.0", b"x"):
            data = start + b"\r\nv: SIP/2.0/UDP a\r\nX-Never-Seen : \xff\t1 \r\nTo:\r\nL: 3\r\n\r\nabcdef"
            for split in SPLITTERS:
                head = split(data)
                self.assertEqual(head, (start.decode(), fields, 3, len(data) - 6))
                self.assertEqual(head, split_head(data))

    def test_left_to_the_parser(self) -> None:
        """Whatever is folded, doubled, malformed or not whole is left to the parser."""
        for data in (b"", b"\r\n", b"\r\n\r\n", b"a\r\n\r", b"a\r\nb\r\n\r\n", b"a\r\n: b\r\n\r\n",
                     b"a\r\nb: c\r\n d\r\n\r\n", b"a\nb: c\r\n\r\n", b"a\r\nb: c\rd\r\n\r\n",
                     b"a\r\nl: 1\r\nl: 1\r\n\r\n", b"a\r\nl: x\r\n\r\n",
                     b"a\r\nl: 12345678901\r\n\r\n", b"a\r\nb c: d\r\n\r\n", b"\r\na\r\n\r\n",
                     b"a\r\n" + b"b: c\r\n" * 256 + b"\r\n"):
            for split in SPLITTERS:
                self.assertIsNone(split(data), data)

    def test_blank_lines_before(self) -> None:
        """Blank lines before a message make no difference to what it is."""
        for blank in (b"\r\n", b"\r\n\r\n", b"\r\n\r\n\r\n"):
            self.assertEqual(parse_message(blank + PHONE), parse_message(PHONE))
