"""Tests of registrar.location.merging."""

from collections.abc import Sequence
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import register
from registrar.location.merging import Change, change_between, folded, merged
from registrar.records import Binding, Stored
from tests.registrar.examples import (
    EXACT,
    NOW,
    PHONE,
    TABLET,
    A,
    B,
    C,
    a_binding,
    a_bound,
    a_contact,
    a_register,
    over_tcp,
)

MANY = 10


def of(contact: str = A, cseq: int = 1, at: float = 0.0, **changes: Any) -> Binding:
    """Return a binding that was registered `at` seconds after NOW."""
    return a_binding(contact, **{"cseq": cseq, "refreshed_at": NOW + at, "expires_at": NOW + at + 3600, **changes})


def kept(*bindings: Binding) -> Change:
    """Return what a registration of these has changed."""
    return Change(bindings, (), bindings[0].refreshed_at)


def removed(*bindings: Binding, at: float) -> Change:
    """Return what a removal of these has changed, `at` seconds after NOW."""
    return Change((), bindings, NOW + at)


def merge(current: Sequence[Binding], *changes: Change, max_contacts: int = MANY, at: float = 100.0,
          **others: Any) -> tuple[Binding, ...]:
    """Merge `at` seconds after NOW."""
    return merged(tuple(current), changes, max_contacts, NOW + at, **others)


class ChangeTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """Between equal bindings nothing has changed."""
        self.assertEqual(change_between((of(),), (of(),), NOW), Change((), (), NOW))

    def test_refreshed_added_removed(self) -> None:
        """A change names what was added or refreshed as it is, and what is gone as it was."""
        old = of(A), of(B), of(C)
        new = of(A), of(B, 2, 5), of("sip:d@x")
        self.assertEqual(change_between(old, new, NOW + 5), Change(new[1:], (of(C),), NOW + 5))

    def test_other_spelling(self) -> None:
        """A contact that is refreshed in another spelling of its URI, or by its instance and reg-id, is not gone."""
        flow: dict[str, Any] = {"instance": PHONE, "reg_id": 1}
        for old, new in ((of("sip:a@example.com"), of("SIP:a@EXAMPLE.com", 2)), (of(A, **flow), of(B, 2, **flow))):
            self.assertEqual(change_between((old,), (new,), NOW).removed, ())


class MergedTests(SynchronousTestCase):
    def test_no_change(self) -> None:
        """Without anything new the current bindings stay as they are, in their order."""
        current = of(B, at=5), of(A)
        for changes in ((), (kept(of(A)),), (kept(of(B, at=5)), kept(of(A))), (kept(of(A, at=-5)),)):
            self.assertIs(merge(current, *changes), current)

    def test_lapsed(self) -> None:
        """What has lapsed is left out, here and there."""
        lapsed = of(A, expires_at=NOW + 99)
        self.assertEqual(merge((lapsed, of(B)), kept(of(C, expires_at=NOW + 100))), (of(B),))

    def test_newer_stays(self) -> None:
        """Of two for one contact that stays which was registered later."""
        for one, other in ((of(call_id="x", at=1), of(call_id="y", at=2)), (of(cseq=1, at=1), of(cseq=2, at=2))):
            self.assertEqual(merge((one,), kept(other)), (other,))
            self.assertEqual(merge((other,), kept(one)), (other,))

    def test_cseq_before_clock(self) -> None:
        """Within one Call-ID the higher CSeq counts, whatever the clocks say."""
        one, other = of(cseq=2, at=1), of(cseq=1, at=2)
        self.assertEqual(merge((one,), kept(other)), (one,))
        self.assertEqual(merge((other,), kept(one)), (one,))

    def test_same_request_twice(self) -> None:
        """A request that two nodes have answered leaves one binding, the same on every node."""
        one = a_bound(A, 7)
        other = attrs.evolve(one, source=over_tcp(7, "n2"))
        self.assertEqual(merge((one,), kept(other)), merge((other,), kept(one)))

    def test_instance(self) -> None:
        """A phone that came back with another contact has one binding, if its instance may have no more."""
        one, other = of(A, instance=PHONE, call_id="x"), of(B, at=5, instance=PHONE, call_id="y")
        self.assertEqual(merge((one,), kept(other)), (other,))
        self.assertEqual(merge((other,), kept(one)), (other,))
        self.assertEqual(len(merge((other,), kept(one), one_contact_per_instance=False)), 2)
        self.assertEqual(len(merge((other,), kept(attrs.evolve(one, instance=TABLET)))), 2)

    def test_instance_with_several_contacts(self) -> None:
        """Two contacts of one instance that one request named both stay, as do its flows by outbound."""
        one, other = of(A, instance=PHONE), of(B, instance=PHONE)
        self.assertEqual(set(merge((one,), kept(other))), {one, other})
        one, other = attrs.evolve(one, reg_id=1), attrs.evolve(other, reg_id=2, cseq=2)
        self.assertEqual(set(merge((one,), kept(other))), {one, other})

    def test_too_many(self) -> None:
        """Beyond the limit the newest stay; a limit that was lowered takes nobody's binding away."""
        a, b, c = of(A, at=1), of(B, at=2), of(C, at=3)
        self.assertEqual(merge((a,), kept(c), kept(b), max_contacts=2), (b, c))
        self.assertEqual(merge((c,), kept(a), max_contacts=1), (c,))
        self.assertEqual(merge((a, b), kept(c), max_contacts=1), (b, c))
        self.assertEqual(merge((a, b), max_contacts=1), (a, b))

    def test_removal(self) -> None:
        """A removal takes what was registered before it on any node, and leaves what came later."""
        self.assertEqual(merge((of(at=1),), removed(of(at=1), at=2)), ())
        self.assertEqual(merge((of(cseq=2, at=1.5),), removed(of(at=1), at=2)), ())
        self.assertEqual(merge((of(B),), removed(of(A), at=2)), (of(B),))
        later = of(cseq=3, at=3)
        self.assertEqual(merge((later,), removed(of(at=1), at=2)), (later,))
        self.assertEqual(merge((), removed(of(at=1), at=2), kept(later)), (later,))

    def test_removal_by_a_slow_clock(self) -> None:
        """A removal takes the very binding that it names, even if the clock was put back meanwhile."""
        self.assertEqual(merge((of(at=1),), removed(of(at=1), at=-50)), ())


# What phones do at nodes that do not know of each other: (node, phone, whether it registers).
STEPS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.booleans()), max_size=12)
CONTACTS = (A, B, C, "sip:alice@192.0.2.7")


def step_register(current: tuple[Binding, ...], phone: int, number: int, seconds: int) -> tuple[Binding, ...]:
    """Return the bindings after a REGISTER of a phone."""
    contact = a_contact(CONTACTS[phone], expires=seconds)
    request = a_register(contact, call_id=f"{phone}@phone", cseq=number + 1)
    stored = register(request, current, EXACT, NOW + number, lambda: 0.0)
    assert isinstance(stored, Stored)
    return stored.bindings


class NodesTests(SynchronousTestCase):
    """Several nodes begin with the same bindings and go on alone."""

    def live_through(self, steps: list[tuple[int, int, bool]]) -> tuple[tuple[Binding, ...], list[list[Change]], Any]:
        """Return what all knew at first, the changes of each node, and each phone's last state."""
        start = step_register(step_register((), 0, 0, 3600), 1, 0, 3600)
        nodes: list[tuple[Binding, ...]] = [start] * 3
        changes: list[list[Change]] = [[], [], []]
        states: dict[int, Binding | None] = dict(enumerate(start))
        for number, (node, phone, stays) in enumerate(steps, 1):
            new = step_register(nodes[node], phone, number, 3600 if stays else 0)
            changes[node].append(change_between(nodes[node], new, NOW + number))
            states[phone] = next((one for one in new if one.contact == CONTACTS[phone]), None)
            nodes[node] = new
        return start, changes, states

    @given(STEPS.map(lambda steps: [(node, phone, True) for node, phone, _ in steps]), st.permutations(range(3)),
           st.integers(1, 4))
    def test_any_order(self, steps: list[tuple[int, int, bool]], order: list[int], limit: int) -> None:
        """Whosever registrations are merged first, the same bindings come out, and again when all come twice."""
        start, changes, states = self.live_through(steps)
        one = other = start
        for node in range(3):
            one = merge(one, *changes[node], max_contacts=limit)
        for node in [*order, *order]:
            other = merge(other, *changes[node], max_contacts=limit)
        self.assertEqual(set(one), set(other))
        newest = sorted(states.values(), key=lambda binding: binding.refreshed_at, reverse=True)
        if limit >= len(CONTACTS):
            self.assertEqual(set(one), set(newest))

    @given(STEPS, st.permutations(range(3)))
    def test_phone_that_stays_at_its_node(self, steps: list[tuple[int, int, bool]], order: list[int]) -> None:
        """Phones that speak to one node each have what they asked for, removals too, whoever comes first."""
        start, changes, states = self.live_through([(phone % 3, phone, stays) for _, phone, stays in steps])
        bindings = start
        for node in [*order, *order]:
            bindings = merge(bindings, *changes[node])
        self.assertEqual(set(bindings), {binding for binding in states.values() if binding is not None})

    @given(STEPS, st.permutations(range(3)))
    def test_nothing_newer_is_lost(self, steps: list[tuple[int, int, bool]], order: list[int]) -> None:
        """A phone whose last request was a registration is bound as it said, whatever it removed elsewhere before."""
        start, changes, states = self.live_through(steps)
        bindings = start
        for node in [*order, *order]:
            bindings = merge(bindings, *changes[node])
        self.assertLessEqual({binding for binding in states.values() if binding is not None}, set(bindings))

    @given(STEPS, st.integers(1, 4), st.integers(0, 12))
    def test_one_node(self, steps: list[tuple[int, int, bool]], limit: int, cut: int) -> None:
        """The changes of one node, merged into what it began with or any later state, give its last state."""
        start, changes, states = self.live_through([(0, phone, stays) for _, phone, stays in steps])
        middle = merge(start, *changes[0][:cut])
        expected = {binding for binding in states.values() if binding is not None}
        self.assertEqual(set(merge(start, *changes[0])), expected)
        self.assertEqual(set(merge(middle, *changes[0])), expected)
        self.assertEqual(set(merge(middle, *changes[0][cut:])), expected)
        self.assertLessEqual(len(merge(start, *changes[0], max_contacts=limit)), max(limit, len(start)))

    @given(STEPS, st.integers(1, 4), st.permutations(range(3)))
    def test_folded(self, steps: list[tuple[int, int, bool]], limit: int, order: list[int]) -> None:
        """Without what later ones have made void, the changes of each node come to the same, wherever they are merged.
        """
        start, changes, _ = self.live_through(steps)
        short: list[list[Change]] = [[], [], []]
        for node in range(3):
            for change in changes[node]:
                short[node] = folded(short[node], change)
            self.assertLessEqual(len(short[node]), 2 * len(CONTACTS))
        one = other = start
        for node in order:
            one = merge(one, *changes[node], max_contacts=limit)
            other = merge(other, *short[node], max_contacts=limit)
            self.assertEqual(set(one), set(other))


class FoldedTests(SynchronousTestCase):
    def test_a_phone_that_registers_again_and_again(self) -> None:
        """Its last binding is left, be it of the same series of requests or not; nothing else is touched."""
        changes: list[Change] = [kept(of(B, at=1))]
        for number in range(2, 50):
            changes = folded(changes, kept(of(A, number, number, call_id=f"{number // 10}@phone")))
        self.assertEqual(changes, [kept(of(B, at=1)), kept(of(A, 49, 49, call_id="4@phone"))])

    def test_removed(self) -> None:
        """What was kept and removed again is neither; that it was removed stays."""
        self.assertEqual(folded([kept(of(A), of(B))], removed(of(A), at=5)), [kept(of(B)), removed(of(A), at=5)])
        self.assertEqual(folded([removed(of(A), at=5)], removed(of(A, 3, 7), at=8)), [removed(of(A, 3, 7), at=8)])
        self.assertEqual(folded([removed(of(A), at=5)], kept(of(A, 3, 7))), [removed(of(A), at=5), kept(of(A, 3, 7))])

    def test_older(self) -> None:
        """What would not take the place of another leaves it where it is."""
        before = [kept(of(A, 5, 5))]
        self.assertEqual(folded(before, kept(of(A, 4, 6))), [*before, kept(of(A, 4, 6))])
        self.assertEqual(folded(before, kept(of(A, 1, 4, call_id="two@phone"))),
                         [*before, kept(of(A, 1, 4, call_id="two@phone"))])
