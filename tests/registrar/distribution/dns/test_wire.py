"""Queries from their bytes: what they say, and which error is for which mistake."""

import contextlib
from random import Random
from struct import pack

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.wire import (
    Edns,
    Query,
    Rcode,
    Subnet,
    Type,
    WireError,
    is_query,
    opt_record,
    parse_query,
    suffixes,
)
from tests.registrar.distribution.dns.zones import a_query

NAME = b"\3sip\7example\3com\0"
HEAD = b"\x12\x34\x01\x00"
QUESTION = NAME + pack("!HH", Type.A, 1)


def counts(*numbers: int) -> bytes:
    """Return the four counts of a header."""
    return pack("!HHHH", *numbers)


def an_opt(options: bytes = b"", owner: bytes = b"\0", payload: int = 1232, ttl: int = 0) -> bytes:
    """Return an OPT record."""
    return owner + pack("!HHIH", Type.OPT, payload, ttl, len(options)) + options


def an_ecs(family: int, bits: int, scope: int, prefix: bytes) -> bytes:
    """Return the option of a client's subnet."""
    return pack("!HHHBB", 8, 4 + len(prefix), family, bits, scope) + prefix


def with_opt(options: bytes) -> bytes:
    """Return a query that has an OPT with these options."""
    return HEAD + counts(1, 0, 0, 1) + QUESTION + an_opt(options)


class ParseTests(SynchronousTestCase):
    def refused(self, data: bytes) -> WireError:
        """Return the error that a message gives."""
        error: WireError = self.assertRaises(WireError, parse_query, data)
        return error

    def test_plain(self) -> None:
        """The name is given in lower case, with where it ended."""
        query = parse_query(HEAD + counts(1, 0, 0, 0) + b"\3SiP\7eXample\3com\0" + pack("!HH", Type.SRV, 1))
        self.assertEqual(query, Query(1, 12 + len(NAME), NAME, Type.SRV, 1, None, None))

    def test_edns(self) -> None:
        """OPT says how much is taken, at least 512 bytes, and whether signatures are wanted."""
        query = parse_query(a_query(edns=True, payload=4096, want_dnssec=True).to_wire())
        self.assertEqual(query.edns, Edns(4096, 0, True))
        small = parse_query(HEAD + counts(1, 0, 0, 1) + QUESTION + an_opt(payload=100))
        self.assertEqual(small.edns, Edns(512, 0, False))

    def test_subnet(self) -> None:
        """The client's subnet is read, of both families, and other options are noticed."""
        for text, subnet in (("192.0.2.0/24", Subnet(1, 24, b"\xc0\0\2")), ("2001:db8::/33", Subnet(
                2, 33, bytes.fromhex("20010db800"))), ("0.0.0.0/0", Subnet(1, 0, b""))):
            query = parse_query(a_query(subnet=text).to_wire())
            assert query.edns is not None
            self.assertEqual((query.edns.subnet, query.edns.has_others), (subnet, False))
        self.assertEqual(Subnet(1, 24, b"\xc0\0\2").address, b"\xc0\0\2\0")
        query = parse_query(with_opt(pack("!HH", 10, 8) + b"ABCDabcd"))
        self.assertEqual(query.edns, Edns(1232, 0, False, None, True))
        # dig +subnet=0 and others ask so that nothing of the client is told
        self.assertEqual(parse_query(with_opt(an_ecs(0, 0, 0, b""))).edns, Edns(1232, 0, False, Subnet(0, 0, b"")))

    def test_malformed_subnets(self) -> None:
        """Too few or too many octets, bits beyond the prefix, a scope or an unknown family are FORMERR (RFC 7871)."""
        for option in (an_ecs(1, 24, 0, b"\xc0\0"), an_ecs(1, 24, 0, b"\xc0\0\2\0"), an_ecs(1, 20, 0, b"\xc0\0\x0f"),
                       an_ecs(1, 24, 24, b"\xc0\0\2"), an_ecs(3, 8, 0, b"\1"), an_ecs(1, 33, 0, b"\xc0\0\2\0\0"),
                       an_ecs(0, 8, 0, b"\1"), an_ecs(1, 0, 0, b"\1"), pack("!HHH", 8, 2, 1),
                       an_ecs(1, 8, 0, b"\1") * 2):
            error = self.refused(with_opt(option))
            self.assertEqual((error.rcode, error.question_end), (Rcode.FORMERR, 12 + len(QUESTION)), option)
            self.assertIsNotNone(error.edns)

    def test_malformed(self) -> None:
        """What cannot be read is FORMERR, wherever it is."""
        for name, data in {
            "no question": HEAD + counts(0, 0, 0, 0),
            "two questions": HEAD + counts(2, 0, 0, 0) + QUESTION * 2,
            "an answer": HEAD + counts(1, 1, 0, 0) + QUESTION,
            "a long label": HEAD + counts(1, 0, 0, 0) + b"\x40" + b"a" * 64 + b"\0\0\1\0\1",
            "a long name": HEAD + counts(1, 0, 0, 0) + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
            "a pointer": HEAD + counts(1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
            "no class": HEAD + counts(1, 0, 0, 0) + NAME + b"\0\1",
            "an end in the name": HEAD + counts(1, 0, 0, 0) + NAME[:-4],
            "no OPT": HEAD + counts(1, 0, 0, 1) + QUESTION,
            "half an OPT": HEAD + counts(1, 0, 0, 1) + QUESTION + an_opt()[:-3],
            "two OPTs": HEAD + counts(1, 0, 0, 2) + QUESTION + an_opt() * 2,
            "an OPT with a name": HEAD + counts(1, 0, 0, 1) + QUESTION + an_opt(owner=b"\1a\0"),
            "an OPT too early": HEAD + counts(1, 0, 1, 0) + QUESTION + an_opt(),
            "half an option": with_opt(b"\0\x0a\0"),
            "an option too long": with_opt(b"\0\x0a\0\x09abc"),
            "something behind": HEAD + counts(1, 0, 0, 0) + QUESTION + b"x",
        }.items():
            self.assertEqual(self.refused(data).rcode, Rcode.FORMERR, name)

    def test_other_versions(self) -> None:
        """The options of another EDNS version are not looked at."""
        query = parse_query(HEAD + counts(1, 0, 0, 1) + QUESTION + an_opt(b"\0\x0a\0", ttl=1 << 16))
        self.assertEqual(query.edns, Edns(1232, 1, False))

    def test_opcodes(self) -> None:
        """What is no QUERY (UPDATE, NOTIFY, STATUS, ...) is not implemented, whatever it holds."""
        for opcode in range(1, 16):
            self.assertEqual(self.refused(b"\0\0" + bytes((opcode << 3, 0)) + counts(9, 9, 9, 9)).rcode, Rcode.NOTIMP)

    def test_serial(self) -> None:
        """An IXFR says which serial it has."""
        soa = b"\xc0\x0c" + pack("!HHIH", Type.SOA, 1, 0, 22) + b"\0\0" + pack("!IIIII", 77, 1, 1, 1, 1)
        data = HEAD + counts(1, 0, 1, 0) + NAME + pack("!HH", Type.IXFR, 1) + soa
        self.assertEqual(parse_query(data).serial, 77)

    def test_no_queries(self) -> None:
        """Answers and scraps are no queries."""
        self.assertEqual([is_query(data) for data in (b"", bytes(11), b"\0\0\x80" + bytes(9), bytes(12))],
                         [False, False, False, True])

    @given(st.binary(min_size=12, max_size=200))
    def test_anything(self, data: bytes) -> None:
        """Whatever comes is a query or a WireError."""
        try:
            parse_query(data)
        except WireError as error:
            self.assertLessEqual(error.question_end, len(data))

    def test_mutations(self) -> None:
        """Good queries with changed, lost and repeated bytes are queries or a WireError, too."""
        random = Random(7)
        good = [a_query(subnet="192.0.2.0/24").to_wire(), a_query("x.y.example.org", "AAAA").to_wire()]
        for _ in range(5000):
            data = bytearray(random.choice(good))
            for _ in range(random.randrange(1, 4)):
                at = random.randrange(len(data))
                data[at:at + random.randrange(3)] = random.randbytes(random.randrange(3))
            if is_query(bytes(data)):
                with contextlib.suppress(WireError):
                    parse_query(bytes(data))


class OptTests(SynchronousTestCase):
    def test_error_and_subnet(self) -> None:
        """An OPT carries the upper part of an error, the asker's DO bit, and the subnet with a scope."""
        opt = opt_record(Edns(4096, 0, True, Subnet(1, 24, b"\xc0\0\2")), 1232, Rcode.BADVERS, 24)
        self.assertEqual(opt, an_opt(an_ecs(1, 24, 24, b"\xc0\0\2"), ttl=1 << 24 | 0x8000))

    def test_suffixes(self) -> None:
        """A name is below all its suffixes."""
        self.assertEqual(suffixes(b"\1a\2bc\0"), [b"\1a\2bc\0", b"\2bc\0", b"\0"])
