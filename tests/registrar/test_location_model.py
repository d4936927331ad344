"""registrar.location.memory beside a model: whatever is done in whatever order, it has what a dictionary would have."""

from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from registrar.bindings import Binding
from registrar.location.contract import Conflict, Snapshot
from registrar.location.memory import SLOT_SECONDS, MemoryLocation
from registrar.location.packing import HEAD
from registrar.records import record_key
from rollcall.net.wheel import TimerWheel
from tests.registrar.examples import NOW, A, B, C, a_binding, a_bound
from tests.registrar.location_contract import LATE_SECONDS

AORS = st.sampled_from(("sip:alice@example.com", "sip:bob@example.com"))
FLOWS = st.integers(0, 2)
SECONDS = st.sampled_from((60.0, 61.5, 64.999, 65.0, 120.0, 3600.0, 7200.0))


def a_phone(contact: str, flow: int, expires_at: float, path: tuple[str, ...] = ()) -> Binding:
    """Return a binding that lives on connection `flow`, or over UDP when that is 0."""
    if flow:
        return a_bound(contact, flow, expires_at=expires_at, path=path)
    return a_binding(contact, expires_at=expires_at, path=path)


PHONES = st.lists(
    st.tuples(st.sampled_from((A, B, C)), FLOWS, SECONDS, st.sampled_from(((), (), ("<sip:p;lr>",)))), max_size=3)


class Locations(RuleBasedStateMachine):
    """Phones come, go and are forgotten; `model` holds every binding that may still be there, with the version."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.advance(NOW)
        self.told: list[tuple[str, Binding]] = []
        self.store = MemoryLocation(TimerWheel(self.clock), self.clock.seconds, self.lapsed)
        self.model: dict[str, Snapshot] = {}

    @property
    def now(self) -> float:
        """The time by the clock."""
        return self.clock.seconds()

    def lapsed(self, aor: str, gone: tuple[Binding, ...], left: Snapshot) -> None:
        """Every lapse is one of bindings whose time is over and that nobody has removed."""
        known = self.model[aor]
        assert gone and all(binding.expires_at <= self.now for binding in gone)
        live = tuple(binding for binding in known.bindings if binding.expires_at > self.now)
        assert left.bindings == live and set(gone) | set(live) == set(known.bindings)
        self.model[aor] = known.followed_by(live)
        if not live:
            assert left == Snapshot()
            del self.model[aor]

    def stored(self, aor: str) -> Snapshot:
        """Return what the store has, and look whether it is what the model has."""
        found: list[Snapshot] = []
        Deferred.fromCoroutine(self.store.load(aor)).addCallback(found.append)
        known = self.model.get(aor)
        if known is None:
            assert found == [Snapshot()], found
        elif known.bindings or found[0].version:
            assert found == [known], (found, known)
        else:
            # Without bindings it may have been forgotten.
            del self.model[aor]
        return found[0]

    def save(self, aor: str, new: Snapshot) -> Failure | None:
        """Save, and return the failure if it fails."""
        failures: list[Failure] = []
        Deferred.fromCoroutine(self.store.save(aor, new)).addErrback(failures.append)
        return failures[0] if failures else None

    @rule(aor=AORS, phones=PHONES)
    def replace(self, aor: str, phones: list[tuple[str, int, float, tuple[str, ...]]]) -> None:
        bindings = tuple(a_phone(contact, flow, self.now + seconds, path) for contact, flow, seconds, path in phones)
        seen = self.stored(aor)
        assert self.save(aor, seen.followed_by(bindings)) is None
        if bindings or aor in self.model:
            self.model[aor] = seen.followed_by(bindings)

    @rule(aor=AORS, away=st.sampled_from((-2, -1, 1, 5)))
    def conflict(self, aor: str, away: int) -> None:
        seen = self.stored(aor)
        failure = self.save(aor, Snapshot(seen.version + 1 + away, (a_binding(C, expires_at=self.now + 60),)))
        assert failure is not None and failure.check(Conflict)

    @rule(aor=AORS, flow=st.integers(1, 2))
    def end_flow(self, aor: str, flow: int) -> None:
        seen = self.stored(aor)
        removed: list[Any] = []
        Deferred.fromCoroutine(self.store.unbind(aor, "n1", 1, flow)).addCallback(removed.append)
        gone = tuple(binding for binding in seen.bindings if binding.source.flow_id == flow)
        assert removed == [gone], removed
        if gone:
            left = tuple(binding for binding in seen.bindings if binding.source.flow_id != flow)
            self.model[aor] = Snapshot(seen.version + 1, left, 0.0 if left else self.now)

    @precondition(lambda self: any(len(known.bindings) == 1 for known in self.model.values()))
    @rule(data=st.data(), seconds=SECONDS)
    def refresh(self, data: st.DataObject, seconds: float) -> None:
        """As the short way does it: the head alone is written anew."""
        aor = data.draw(st.sampled_from([aor for aor, known in self.model.items() if len(known.bindings) == 1]))
        key, known = record_key(aor), self.stored(aor)
        record = self.store.records[key]
        version, slot, kind, length, agent, place, _, _, registered_at, cseq, flow_id, _ = HEAD.unpack_from(record)
        if not kind or not self.store.takes_at_once(key, bool(flow_id)):
            return
        head = HEAD.pack(version + 1, slot, kind, length, agent, place, self.now + seconds, self.now, registered_at,
                         cseq + 1, flow_id, 7)
        self.store.refresh(key, head + record[HEAD.size:])
        (binding,) = known.bindings
        self.model[aor] = known.followed_by((attrs.evolve(
            binding, expires_at=self.now + seconds, refreshed_at=self.now, cseq=cseq + 1),))

    @rule(aor=AORS, flow=FLOWS, seconds=SECONDS)
    def insert(self, aor: str, flow: int, seconds: float) -> None:
        binding = a_phone(A, flow, self.now + seconds)
        record = self.store.packing.pack(Snapshot(1, (binding,)), int(binding.expires_at // SLOT_SECONDS))
        self.stored(aor)
        is_there = record_key(aor) in self.store.records
        try:
            self.store.insert(record_key(aor), record, binding.source.transport)
        except Conflict:
            assert is_there
        else:
            assert not is_there
            self.model[aor] = Snapshot(1, (binding,))

    @rule(seconds=st.sampled_from((0.5, 4.0, 30.0, 61.0, 1000.0, 4000.0)))
    def wait(self, seconds: float) -> None:
        self.clock.pump([0.5] * 2 + [seconds])

    @invariant()
    def agrees(self) -> None:
        """Snapshots, counts and pages say what the model says."""
        for aor in list(self.model):
            self.stored(aor)
        bound = {aor: known for aor, known in self.model.items() if known.bindings}
        counts = self.store.counts()
        transports = [binding.source.transport for known in bound.values() for binding in known.bindings]
        assert counts.aors == len(bound)
        assert counts.bindings == {name: transports.count(name) for name in set(transports)}
        pages: list[Any] = []
        Deferred.fromCoroutine(self._pages()).addCallback(pages.extend)
        assert dict(pages) == bound

    async def _pages(self) -> list[tuple[str, Snapshot]]:
        return [entry async for page in self.store.pages(1) for entry in page]

    @invariant()
    def forgets_in_time(self) -> None:
        """Nothing that has lapsed is there much longer, and nothing that lives is missing."""
        for known in self.model.values():
            assert all(binding.expires_at > self.now - LATE_SECONDS for binding in known.bindings)

    def teardown(self) -> None:
        """After the longest time nothing is left, not even a timer."""
        self.clock.advance(7200 + LATE_SECONDS)
        assert not self.store.records and not self.store.counts().aors
        assert self.clock.getDelayedCalls() == []


LocationsTest = Locations.TestCase
LocationsTest.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)
