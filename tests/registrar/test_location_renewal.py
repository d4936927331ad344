"""The renewal of packed records: the compiled way and its twin are one, and both do what unpacking and packing does."""

from unittest import SkipTest

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import HEAD, Packing
from registrar.location.renewal import is_early, plainly_is_early, plainly_renewed, renewed
from rollcall.sip.compiled import compiled_module
from tests.registrar.examples import NOW, PHONE, a_binding, over_tcp

CONTACT = "sip:alice@192.0.2.20:49152"

CHANGES = st.fixed_dictionaries({
    "now": st.floats(NOW - 10, NOW + 7200), "seconds": st.integers(1, 7200), "cseq": st.integers(0, 2**31 - 1),
    "flow_id": st.sampled_from([0, 7, 2**40]), "place": st.sampled_from([-1, 0, 1]), "agent": st.sampled_from([0, 1]),
    "shift": st.sampled_from([0, 0, 0, 1, -1]), "repeat": st.integers(0, 2**64 - 1), "cut": st.sampled_from([0, 0, 1]),
})


class RenewalCase(SynchronousTestCase):
    """A record of a phone on a connection."""

    def setUp(self) -> None:
        self.packing = Packing()
        self.binding = a_binding(CONTACT, call_id="one", cseq=5, source=over_tcp(7), direct=True,
                                 connection_bound=True, expires_at=NOW + 3600)
        self.record = self.pack()
        self.start = HEAD.size + 6

    def pack(self) -> bytes:
        """Return the record, in the slot of its expiry."""
        return self.packing.pack(Snapshot(3, (self.binding,)), int(self.binding.expires_at // SLOT_SECONDS))

    def renew(self, cseq: int = 6, now: float = NOW + 1800, seconds: int = 3600, flow_id: int = 7, place: int = 0,
              agent: int = 0, repeat: int = 0) -> bytes | None:
        """Return the record after a refresh."""
        end = self.record.index(b"one", self.start) + len(b"one")
        return renewed(self.record, self.start, end, place, flow_id, agent, cseq, now, seconds, repeat)


class RenewedTests(RenewalCase):
    """A refresh changes times, CSeq and version, and nothing else."""

    def test_refreshed(self) -> None:
        """What comes out unpacks as the binding with its new times."""
        new = self.renew()
        assert new is not None
        expected = evolve(self.binding, cseq=6, refreshed_at=NOW + 1800, expires_at=NOW + 5400)
        self.assertEqual(self.packing.unpack(new), Snapshot(4, (expected,)))

    def test_refreshed_instance(self) -> None:
        """The generation of an instance stays."""
        self.binding = evolve(self.binding, params=(("+sip.instance", f'"<{PHONE}>"'),), instance=PHONE, generation=9)
        self.record = self.pack()
        new = self.renew()
        assert new is not None
        self.assertEqual(self.packing.unpack(new).bindings[0].generation, 9)

    def test_not_for_renewal(self) -> None:
        """Another flow, place or User-Agent, a request out of order and a lapsed binding are for others to judge."""
        self.assertIsNone(self.renew(flow_id=8))
        self.assertIsNone(self.renew(place=1))
        self.assertIsNone(self.renew(agent=1))
        self.assertIsNone(self.renew(cseq=5))
        self.assertIsNone(self.renew(now=NOW + 3600))

    def test_general_form(self) -> None:
        """A record of several bindings, or of none, is not renewed."""
        for bindings in ((), (self.binding, a_binding("sip:alice@192.0.2.21"))):
            record = self.packing.pack(Snapshot(3, bindings), 0)
            self.assertIsNone(renewed(record, HEAD.size, len(record), 0, 7, 0, 6, NOW, 3600, 0))

    def test_early(self) -> None:
        """A record that lapses before its slot comes up has to be moved."""
        later, sooner = self.renew(), self.renew(now=NOW + 1, seconds=60)
        assert later is not None and sooner is not None
        self.assertEqual((is_early(later), is_early(sooner)), (False, True))


class TwinTests(RenewalCase):
    """The compiled functions and their twins agree."""

    @given(CHANGES)
    def test_same(self, changes: dict[str, float]) -> None:
        """Whatever a refresh asks for, both give the same bytes."""
        compiled = compiled_module("registrar.location._renewal")
        if compiled is None:
            raise SkipTest("the twins are asked for")
        start = self.start + int(changes["shift"])
        end = len(self.record) - int(changes["cut"])
        words = (self.record, start, end, changes["place"], changes["flow_id"], changes["agent"], changes["cseq"],
                 changes["now"], changes["seconds"], changes["repeat"])
        mine, theirs = plainly_renewed(*words), compiled.renewed(*words)  # type: ignore[arg-type]
        self.assertEqual(mine, theirs)
        if mine is not None:
            self.assertEqual(plainly_is_early(mine), compiled.is_early(mine))
