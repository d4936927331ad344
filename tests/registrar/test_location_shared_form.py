"""Tests of registrar.location.shared_form."""

from typing import Any

import attrs
from hypothesis import assume, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.location.packing import COMPACT, GENERAL, HEAD, HIGHEST_VERSION, Packing, pack_general
from registrar.location.shared_form import (
    KEEP_TEXT,
    MAGIC,
    MOST_BYTES,
    MOST_TAILS,
    keep_arguments,
    owners_of,
    snapshot_of,
    to_shared,
    value_of,
    version_of_value,
)
from registrar.reading import read_register
from registrar.records import Binding, Source, Stored
from rollcall.sip.errors import ParseError
from rollcall.sip.message import Request, parse_message
from tests.registrar.examples import ALICE, NOW, OVER_UDP, PHONE, A, B, a_binding, a_bound, outcome_of, over_tcp

OUTBOUND: dict[str, Any] = {
    "params": (("reg-id", "1"), ("+sip.instance", f'"<{PHONE}>"'), ("ob", None)), "instance": PHONE, "reg_id": 1,
    "generation": 1_800_000_000_123,
}

# What registrations can make, and a little more: any text that ends no header field.
TEXTS = st.one_of(
    st.text(st.characters(exclude_characters="\r\n", exclude_categories=())),
    st.sampled_from(("", "é", "\0", "a\0b", "Téléphone \udcff", "x" * 300)),
)
TIMES = st.one_of(st.floats(0, 2.0**41), st.floats(NOW, NOW + 7200))
SOURCES = st.builds(
    Source, st.sampled_from(("UDP", "TCP", "TLS", "WS", "WSS")),
    st.one_of(st.ip_addresses().map(str), st.sampled_from(("fe80::1%eth0", "::ffff:192.0.2.1", "2001:DB8::1"))),
    st.integers(0, 65535), TEXTS, TEXTS, st.integers(0, 2**63 - 1), st.integers(0, 2**64 - 1))
CHANGES: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries({}, optional={
    "contact": st.sampled_from((A, B, "sips:x@[2001:db8::1]:5061;transport=tcp", "tel:+49")), "q": st.integers(0, 1000),
    "params": st.lists(st.tuples(TEXTS, st.one_of(st.none(), TEXTS)), max_size=2).map(tuple), "expires_at": TIMES,
    "call_id": TEXTS, "cseq": st.integers(0, 2**32 - 1), "path": st.just(("<sip:192.0.2.1;lr;ob>",)),
    "instance": st.one_of(st.none(), TEXTS), "reg_id": st.integers(1, 2**31 - 1), "source": SOURCES,
    "direct": st.booleans(), "connection_bound": st.booleans(), "user_agent": TEXTS, "registered_at": TIMES,
    "refreshed_at": TIMES, "generation": st.integers(0, 2**63 - 1),
})
BINDINGS = st.one_of(
    CHANGES.map(lambda changes: a_binding(**changes)),
    CHANGES.map(lambda changes: attrs.evolve(a_bound(A, 7, **OUTBOUND), **changes)))
SNAPSHOTS = st.one_of(
    st.builds(Snapshot, st.integers(1, 2**40), st.lists(BINDINGS, min_size=1, max_size=3).map(tuple)),
    st.builds(Snapshot, st.integers(1, 2**32), st.just(()), TIMES),
)

ODD_SOURCES: tuple[dict[str, Any], ...] = (
    {"transport": "X"}, {"host": "x"}, {"host": "1.2.3.4\n"}, {"port": -1}, {"port": 65536}, {"epoch": -1},
    {"flow_id": -1}, {"node": "a\r\nb"}, {"listener": "\n"},
)


FIELDS = {
    "Contact": (f'"A b" <{A};transport=tcp>;reg-id=1;+sip.instance="<{PHONE}>";q=0.5', "<tel:+49>;a=b",
                '<sip:a@[2001:db8::1]>;expires=60;methods="INVITE, ACK"', "sip:a@b;x=y", '<urn:x:y>;a="b\\"c"'),
    "Path": ("<sip:p.example.com;lr>", "<sip:p;lr;ob>, <sip:q;lr>"),
    "Call-ID": ("one@phone", "x"),
    "User-Agent": ("Phone/1", "x (y)"),
}
ODDITIES = ("\r\n ", "\r\n\t", "\r", "\n", "\0", "\t", " ", "é", "\x7f", "\x01", '"', "\\", "%00", "%zz", ";a",
            ';b="c"', ",", "<", ">", "\udcff")


def shared(snapshot: Snapshot, packing: Packing | None = None) -> bytes:
    """Return the value that a node writes for a snapshot."""
    packing = packing or Packing()
    return to_shared(packing, packing.pack(snapshot, 7, 99))


class RoundTripTests(SynchronousTestCase):
    @given(SNAPSHOTS)
    def test_other_node(self, snapshot: Snapshot) -> None:
        """What one node writes is read as it was, however that node numbers User-Agents and places."""
        other = Packing()
        other.agents.index(b"Another/1")
        other.places.index("TLS", "tls", "n9", 9)
        for packing in (Packing(), other, Packing(most_numbers=0)):
            value = shared(snapshot, packing)
            self.assertEqual(snapshot_of(value), snapshot)
            self.assertEqual(version_of_value(value), min(snapshot.version, HIGHEST_VERSION))

    @given(SNAPSHOTS)
    def test_without_packing(self, snapshot: Snapshot) -> None:
        """Tools that have no numbers at all read and write the same."""
        self.assertEqual(snapshot_of(shared(snapshot)), snapshot)
        self.assertEqual(snapshot_of(value_of(snapshot)), snapshot)
        self.assertEqual(version_of_value(value_of(snapshot)), min(snapshot.version, HIGHEST_VERSION))

    def test_usual_phone(self) -> None:
        """The value of a usual phone is the record itself and what explains it, no more than 250 bytes."""
        packing = Packing()
        binding = a_bound("sip:u0000001@192.0.2.4:49159;transport=tcp", 7, **OUTBOUND)
        record = packing.pack(Snapshot(3, (binding,)), 7)
        value = to_shared(packing, record)
        self.assertEqual(value, record + b"Phone/1TCP\0tcp\0n1\x001" + bytes((7, 0, 12, 0)) + MAGIC)
        self.assertLessEqual(len(value), 260)
        self.assertEqual(to_shared(packing, record), value)

    def test_place_with_odd_name(self) -> None:
        """A place whose names could not be read back makes the value take the general form."""
        for name in ("a\0b", "\ud800"):
            binding = a_binding(source=attrs.evolve(OVER_UDP, listener=name))
            value = shared(Snapshot(1, (binding,)))
            self.assertEqual(value[8], GENERAL)

    def test_tails_are_bounded(self) -> None:
        """What follows the records of many different phones is not remembered for good."""
        packing = Packing()
        for number in range(MOST_TAILS + 1):
            shared(Snapshot(1, (a_binding(user_agent=f"Phone/{number}"),)), packing)
        self.assertLessEqual(len(packing.tails), MOST_TAILS)


class UntrustedTests(SynchronousTestCase):
    @given(st.binary(max_size=400))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever stands in Redis is understood or not, but breaks nothing."""
        for value in (data, data + MAGIC, bytes(HEAD.size) + data + bytes(4) + MAGIC):
            self.read(value)

    @given(SNAPSHOTS, st.data())
    def test_damaged(self, snapshot: Snapshot, data: st.DataObject) -> None:
        """A value with some bytes changed, cut out or put in is understood or not, but breaks nothing."""
        value = bytearray(shared(snapshot))
        for _ in range(data.draw(st.integers(1, 4))):
            place = data.draw(st.integers(0, len(value) - 1))
            length = data.draw(st.integers(0, 3))
            value[place:place + length] = data.draw(st.binary(max_size=4))
            assume(value)
        self.read(bytes(value))

    def read(self, value: bytes) -> None:
        """Read a value in every way; what is understood has to come back from another node, too."""
        snapshot = snapshot_of(value)
        self.assertIsInstance(owners_of(value), frozenset)
        self.assertGreaterEqual(version_of_value(value), 0)
        if snapshot is not None:
            self.assertEqual(snapshot_of(shared(snapshot)), snapshot)
            self.assertEqual(version_of_value(value), min(snapshot.version, HIGHEST_VERSION))

    def test_not_sound(self) -> None:
        """What no registration can have made is not understood: such as text that would end a header field."""
        odd: dict[str, tuple[Any, ...]] = {
            "contact": ("", "sip:a@b\r\nX: y", "sip:", "sip:a@b>"), "call_id": ("a\nb", "a\rb"),
            "user_agent": ("a\r\nb",), "params": ((("a", "b\r\nc"),), (("a\n", None),)), "path": (("nothing",), ("",)),
            "q": (-1, 1001), "cseq": (-1, 2**32), "generation": (-1, 2**63), "reg_id": (0, -1, 2**31),
            "expires_at": (float("nan"), float("inf"), -1.0, 1e300), "refreshed_at": (float("nan"),),
            "registered_at": (float("-inf"),),
            "source": tuple(attrs.evolve(over_tcp(7), **changes) for changes in ODD_SOURCES),
        }
        for name, values in odd.items():
            for value in values:
                snapshot = Snapshot(1, (a_binding(B), a_binding(**{name: value})))
                self.assertIsNone(snapshot_of(_general(snapshot)), (name, value))
        for snapshot in (Snapshot(0, (a_binding(),)), Snapshot(1, (), float("nan")), Snapshot(1, (), -1.0),
                         Snapshot(1, (), 1e300)):
            self.assertIsNone(snapshot_of(value_of(snapshot)), snapshot)

    def test_not_sound_in_compact_form(self) -> None:
        """Neither is it in the compact form."""
        good = shared(Snapshot(1, (a_bound(A, 7, **OUTBOUND),)))
        self.assertTrue(good[8] & COMPACT)
        for old, new in ((A.encode(), b"sip:alice@\r\n2.0.2.4"), (b"ob\0", b"o\n\0"), (b"TCP\0", b"TXP\0"),
                         (b"\x001800000000123", b"\0180000000012x"), (b"n1\x001", b"n1\0x"), (b"Phone/1", b"Phone\n1"),
                         (b"reg-id=1", b"reg-id=0"), (b"one@phone\0", b"one@phone.")):
            self.assertIn(old, good)
            self.assertIsNone(snapshot_of(good.replace(old, new)), new)

    def test_too_long(self) -> None:
        """A value that no registration fills is not even looked at."""
        huge = value_of(Snapshot(1, (a_binding(call_id="x" * MOST_BYTES),)))
        self.assertEqual((snapshot_of(huge), version_of_value(huge), owners_of(huge)), (None, 0, frozenset()))


class RegisteredTests(SynchronousTestCase):
    @given(st.data())
    def test_whatever_is_accepted(self, data: st.DataObject) -> None:
        """Whatever a phone may register, with odd bytes in any of its header fields, other nodes understand."""
        texts = {name: data.draw(st.sampled_from(usual), name) for name, usual in FIELDS.items()}
        for name in data.draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2)):
            place = data.draw(st.integers(0, len(texts[name])))
            texts[name] = texts[name][:place] + data.draw(st.sampled_from(ODDITIES)) + texts[name][place:]
        lines = ("REGISTER sip:example.com SIP/2.0", "Via: SIP/2.0/TCP 192.0.2.4;branch=z9hG4bK1",
                 f"From: <{ALICE}>;tag=1", f"To: <{ALICE}>", "CSeq: 1 REGISTER", "Supported: path, outbound",
                 *[f"{name}: {text}" for name, text in texts.items()], "Content-Length: 0", "", "")
        try:
            request = parse_message("\r\n".join(lines).encode("utf-8", "surrogateescape"))
            assert isinstance(request, Request)
            wish = read_register(request, ALICE, over_tcp(7))
        except ParseError:
            return
        outcome = outcome_of(wish)
        if isinstance(outcome, Stored) and outcome.bindings:
            snapshot = Snapshot(1, outcome.bindings)
            self.assertEqual(snapshot_of(shared(snapshot)), snapshot)


class OwnersTests(SynchronousTestCase):
    def test_owners(self) -> None:
        """The owners of a value are those who hold the connections that its bindings live on."""
        one, other = a_bound(A, 7), a_binding(B, source=over_tcp(8, "n2", 5), connection_bound=True)
        for bindings, expected in (((one,), {("n1", 1)}), ((other,), {("n2", 5)}), ((a_binding(),), set()), ((), set()),
                                   ((one, other, a_binding("sip:c@x")), {("n1", 1), ("n2", 5)})):
            snapshot = Snapshot(1, bindings)
            self.assertEqual(owners_of(shared(snapshot)), expected)
            self.assertEqual(owners_of(value_of(snapshot)), expected)


class KeepArgumentsTests(SynchronousTestCase):
    def arguments(self, *bindings: Binding, empty_until: float = 0.0) -> tuple[Any, ...]:
        """Return what follows the value."""
        packing = Packing()
        record = packing.pack(Snapshot(5, bindings), 7)
        value, *others = keep_arguments(packing, record, 4, 10, empty_until)
        self.assertEqual(value, to_shared(packing, record))
        return tuple(others)

    def test_end(self) -> None:
        """A key ends with the last of its bindings, or when a record without any is to be forgotten."""
        first, last = a_binding(A, expires_at=NOW + 60.5), a_binding(B, expires_at=NOW + 90)
        self.assertEqual(self.arguments(first), (4, int((NOW + 60.5) * 1000), 10))
        self.assertEqual(self.arguments(last, first), (4, int((NOW + 90) * 1000), 10))
        self.assertEqual(self.arguments(empty_until=NOW + 7), (4, int((NOW + 7) * 1000), 10))

    def test_no_end_in_the_dawn_of_time(self) -> None:
        """Redis takes no end before the epoch, which a clock that is wrong could name."""
        self.assertEqual(self.arguments(a_binding(expires_at=0.0)), (4, 1, 10))

    def test_script(self) -> None:
        """The script is shipped with the package and knows how a value ends, and how long its head is."""
        self.assertIn(MAGIC.join((b"'", b"'")), KEEP_TEXT)
        self.assertIn(b"HEAD, TRAILER, ENTRY = %d, 8, 20" % HEAD.size, KEEP_TEXT)


def _general(snapshot: Snapshot) -> bytes:
    """Return a value of the general form, with whatever numbers."""
    one = value_of(attrs.evolve(snapshot, bindings=(a_binding(), a_binding(B))))
    table = one[-8 - 40:]
    return pack_general(snapshot) + table
