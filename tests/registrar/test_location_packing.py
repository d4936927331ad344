"""Tests of registrar.location.packing."""

from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.location.packing import (
    COMPACT,
    CONNECTION_BOUND,
    DIRECT,
    GENERAL,
    GENERATION,
    HEAD,
    HIGHEST_VERSION,
    MAX_AGENT_BYTES,
    Packing,
    is_kept_on_connection,
    moved,
    slot_and_expiry,
    version_of,
)
from registrar.records import Binding, Source
from rollcall.net.flow import pack_address
from tests.registrar.examples import NOW, PHONE, A, B, a_binding, a_bound

INSTANCE = ("+sip.instance", f'"<{PHONE.upper()}>"')
OUTBOUND: dict[str, Any] = {
    "params": (("reg-id", "1"), INSTANCE, ("ob", None)), "instance": PHONE, "reg_id": 1,
    "generation": 1_800_000_000_123,
}

# Mostly what phones send, and everything else that a str can hold.
NAMES = st.one_of(st.sampled_from(("+sip.instance", "reg-id", "methods", "x", "", "A", "a b", "ä")), st.text())
TEXTS = st.one_of(
    st.text(), st.text(st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)),
    st.text(st.characters(max_codepoint=0x10FFFF, exclude_categories=())),
    st.sampled_from(("", "sip:a@[::1]", "\0", "a\0b", '"<urn:uuid:1>"', "a;b=c", "\udcc3\udca9", "é", "1", "x" * 300)),
)
FLOATS = st.one_of(st.floats(allow_nan=False), st.floats(NOW, NOW + 7200))
NUMBERS = st.one_of(
    st.integers(0, 10), st.sampled_from((2**16, 2**31, 2**32 - 1, 2**32, 2**64 - 1)), st.integers(-2**63, 2**64 - 1))
HOSTS = st.one_of(
    st.ip_addresses().map(str), st.sampled_from(("fe80::1%eth0", "::ffff:192.0.2.1", "2001:DB8::1", "01.2.3.4", "x")),
    TEXTS)
SOURCES = st.builds(Source, TEXTS, HOSTS, st.one_of(st.integers(0, 65535), NUMBERS), TEXTS, TEXTS, NUMBERS, NUMBERS)
PARAMS = st.lists(st.tuples(NAMES, st.one_of(st.none(), TEXTS)), max_size=3).map(tuple)
BINDINGS = st.one_of(
    st.builds(Binding, TEXTS, PARAMS, NUMBERS, FLOATS, TEXTS, NUMBERS, st.lists(TEXTS, max_size=2).map(tuple),
              st.one_of(st.none(), TEXTS), st.one_of(st.none(), NUMBERS), SOURCES, st.booleans(), st.booleans(), TEXTS,
              FLOATS, FLOATS, NUMBERS),
    # One field of a usual binding is odd.
    st.fixed_dictionaries({}, optional={
        "contact": TEXTS, "params": PARAMS, "q": NUMBERS, "expires_at": FLOATS, "call_id": TEXTS, "cseq": NUMBERS,
        "path": st.lists(TEXTS, max_size=2).map(tuple), "instance": st.one_of(st.none(), TEXTS),
        "reg_id": st.one_of(st.none(), NUMBERS), "source": SOURCES, "direct": st.booleans(),
        "connection_bound": st.booleans(), "user_agent": TEXTS, "registered_at": FLOATS, "refreshed_at": FLOATS,
        "generation": NUMBERS,
    }).map(lambda changes: a_binding(**{**OUTBOUND, **changes})),
)
SNAPSHOTS = st.one_of(
    st.builds(Snapshot, NUMBERS, st.one_of(st.tuples(BINDINGS), st.lists(BINDINGS, max_size=3).map(tuple))),
    st.builds(Snapshot, NUMBERS, st.just(()), FLOATS),
)


def identical(one: Any, other: Any) -> bool:
    """Say whether two values are equal, and of the same types all the way down."""
    return repr(one) == repr(other) and one == other


class RoundTripTests(SynchronousTestCase):
    @given(SNAPSHOTS)
    def test_every_snapshot(self, snapshot: Snapshot) -> None:
        """Whatever is packed comes back equal: any text, any number of 64 bits, any parameters."""
        packing = Packing()
        self.assertTrue(identical(packing.unpack(packing.pack(snapshot, 7)), snapshot))

    @given(st.lists(SNAPSHOTS, max_size=5))
    def test_without_numbers(self, snapshots: list[Snapshot]) -> None:
        """So it does when there are no more numbers for User-Agents and places."""
        packing = Packing(most_numbers=1)
        records = [packing.pack(snapshot, 7) for snapshot in snapshots]
        self.assertTrue(identical([packing.unpack(record) for record in records], snapshots))

    @given(SNAPSHOTS)
    def test_what_is_told_without_unpacking(self, snapshot: Snapshot) -> None:
        """Version, slot, first expiry and transports are those of the snapshot."""
        packing = Packing()
        record = packing.pack(snapshot, 7)
        bindings = snapshot.bindings
        if snapshot.version >= 0:
            self.assertEqual(version_of(record), snapshot.version)
        self.assertEqual(slot_and_expiry(record), (7, min([binding.expires_at for binding in bindings], default=0.0)))
        self.assertEqual(packing.transports(record), tuple(binding.source.transport for binding in bindings))
        again = moved(record, 2**32 - 1)
        self.assertEqual((slot_and_expiry(again)[0], packing.unpack(again)), (2**32 - 1, snapshot))


class CompactTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.packing = Packing()

    def kind(self, *bindings: Binding, version: int = 1) -> int:
        """Return the kind of the record of these bindings, after a look at whether they come back."""
        snapshot = Snapshot(version, bindings)
        record = self.packing.pack(snapshot, 7)
        self.assertEqual(self.packing.unpack(record), snapshot)
        kind: int = HEAD.unpack_from(record)[2]
        return kind

    def test_usual_phones(self) -> None:
        """A phone with one contact fits, over UDP or a connection, with outbound or not, behind a proxy or not."""
        ipv6 = attrs.evolve(a_binding().source, host="2001:db8::1")
        for binding, kind in (
            (a_binding(), COMPACT | DIRECT),
            (a_binding(direct=False), COMPACT),
            (a_bound(A, 7), COMPACT | DIRECT | CONNECTION_BOUND),
            (a_bound(A, 7, **OUTBOUND), COMPACT | DIRECT | CONNECTION_BOUND | GENERATION),
            (a_binding(source=ipv6, user_agent="", call_id=""), COMPACT | DIRECT),
            (a_binding(user_agent="Téléphone \udcff", contact="sip:ä@x"), COMPACT | DIRECT),
            (a_binding(params=(("methods", '"INVITE, ACK"'), ("audio", None))), COMPACT | DIRECT),
        ):
            self.assertEqual(self.kind(binding), kind, binding)

    def test_everything_else(self) -> None:
        """What the compact form has no place for takes the general one: several contacts, a Path, a q, oddities."""
        odd: dict[str, Any] = {
            "path": ("<sip:p;lr>",), "q": 500, "instance": PHONE, "reg_id": 1, "params": (("X", None),),
            "contact": "sip:a\0b", "call_id": "\0", "user_agent": "x" * (MAX_AGENT_BYTES + 1), "cseq": 2**32,
            "expires_at": 1_800_000_000,
        }
        for name, value in odd.items():
            self.assertEqual(self.kind(a_binding(**{name: value})), GENERAL, name)
        self.assertEqual(self.kind(a_binding(A), a_binding(B)), GENERAL)
        self.assertEqual(self.kind(), GENERAL)
        self.assertEqual(self.kind(a_binding(), version=HIGHEST_VERSION + 1), GENERAL)

    def test_layout(self) -> None:
        """A compact record is laid out as documented, so that others can compare and renew it."""
        binding = a_bound(A, 7, **OUTBOUND)
        record = self.packing.pack(Snapshot(3, (binding,)), 360_000_000, 2**64 - 1)
        kind = COMPACT | DIRECT | CONNECTION_BOUND | GENERATION
        agent, place = self.packing.agents.index(b"Phone/1"), self.packing.places.index("TCP", "tcp", "n1", 1)
        self.assertEqual(HEAD.unpack_from(record), (
            3, 360_000_000, kind, 6, agent, place, NOW + 3600, NOW, NOW, 1, 7, 2**64 - 1))
        params = f';reg-id=1;{INSTANCE[0]}={INSTANCE[1]};ob'
        identity = f"{A}\0{params}\0one@phone\x001800000000123".encode()
        self.assertEqual(record[HEAD.size:], pack_address("192.0.2.4", 49159) + identity)

    def test_size(self) -> None:
        """The record of a usual UDP phone takes no more than 160 bytes."""
        phone = a_binding("sip:u0000000@127.0.0.1:5060", call_id="c0000000-4f2a9d01c37b@127.0.0.1")
        self.assertLessEqual(self.packing.pack(Snapshot(1, (phone,)), 7).__sizeof__(), 160)

    def test_lives_on_a_connection(self) -> None:
        """A record says whether its one binding lives on a connection; of several it says no."""
        for bindings, expected in (((a_binding(),), False), ((a_bound(A, 7),), True),
                                   ((a_bound(A, 7), a_bound(B, 7)), False), ((), False)):
            self.assertEqual(is_kept_on_connection(self.packing.pack(Snapshot(1, bindings), 7)), expected)


class NumbersTests(SynchronousTestCase):
    def test_the_same_number(self) -> None:
        """What is the same has the same number, and the next new one the next."""
        packing = Packing()
        self.assertEqual([packing.agents.index(agent) for agent in (b"a", b"b", b"a", b"")], [0, 1, 0, 2])
        places = (("UDP", "u", "n", 1), ("TCP", "t", "n", 1), ("UDP", "u", "n", 1), ("UDP", "u", "n", 2))
        self.assertEqual([packing.places.index(*place) for place in places], [0, 1, 0, 2])

    def test_no_numbers_left(self) -> None:
        """When all are taken a new one is refused, and the old ones stay."""
        packing = Packing(most_numbers=1)
        self.assertEqual([packing.agents.index(agent) for agent in (b"a", b"b", b"a")], [0, None, 0])
        self.assertEqual([packing.places.index("UDP", name, "n", 1) for name in "aba"], [0, None, 0])

    def test_strangers_do_not_fill_memory(self) -> None:
        """A very long User-Agent is never remembered, and to ask whether one is known makes it no better known."""
        agents = Packing().agents
        self.assertIsNone(agents.index(b"x" * (MAX_AGENT_BYTES + 1)))
        self.assertEqual([agents.known(b"a"), agents.known(b"a"), agents.index(b"a"), agents.known(b"a")],
                         [None, None, 0, 0])
