"""Tests for registrar.admission: who is counted with whom, and that one flood does not refuse the rest."""

from random import Random
from socket import AF_INET, AF_INET6, inet_pton

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.admission import SHARED_COUNTS, Admission, AdmissionConfig, Budget

NOW = 1_700_000_000.25
ALICE, BOB = inet_pton(AF_INET, "192.0.2.20"), inet_pton(AF_INET, "192.0.2.21")


def a_budget(per_source: int = 2, in_all: int = 0, max_sources: int = 100, window_seconds: float = 1.0) -> Budget:
    """Return a small budget."""
    return Budget(AdmissionConfig(requests_per_source=per_source, requests=in_all, max_sources=max_sources,
                                  window_seconds=window_seconds))


def v6(text: str) -> bytes:
    """Return an IPv6 address as flows have it."""
    return inet_pton(AF_INET6, text)


class SourceTests(SynchronousTestCase):
    def test_as_many_as_configured(self) -> None:
        """A source is refused what exceeds its limit in a window, and has all of it in the next."""
        budget = a_budget(per_source=2)
        self.assertEqual([budget.admits(ALICE, NOW) for _ in range(4)], [True, True, False, False])
        self.assertEqual([budget.admits(ALICE, NOW + 1) for _ in range(3)], [True, True, False])
        self.assertEqual(budget.refused, {"requests_per_source": 3, "requests": 0})
        self.assertEqual(budget.reached, "requests_per_source")

    def test_others_are_served(self) -> None:
        """A source at its limit is nobody else's trouble."""
        budget = a_budget(per_source=2)
        for _ in range(1000):
            budget.admits(ALICE, NOW)
        self.assertEqual([budget.admits(BOB, NOW) for _ in range(2)], [True, True])

    def test_windows_are_as_long_as_configured(self) -> None:
        """Counts are kept for one window, however long it is."""
        budget = a_budget(per_source=1, window_seconds=10.0)
        start = 1_700_000_000.0
        self.assertEqual([budget.admits(ALICE, start + after) for after in (0.0, 9.9, 10.0, 19.9, 20.0)],
                         [True, False, True, False, True])

    def test_a_clock_that_is_set_back(self) -> None:
        """Another time, later or earlier, is another window: nobody is refused until the clock is where it was."""
        budget = a_budget(per_source=1)
        self.assertTrue(budget.admits(ALICE, NOW))
        self.assertFalse(budget.admits(ALICE, NOW))
        self.assertTrue(budget.admits(ALICE, NOW - 3600))

    def test_ipv6_networks(self) -> None:
        """The addresses of an IPv6 /64 are one source, those of two are not."""
        budget = a_budget(per_source=1)
        self.assertTrue(budget.admits(v6("2001:db8:0:1::1"), NOW))
        self.assertFalse(budget.admits(v6("2001:db8:0:1:ffff::2"), NOW))
        self.assertTrue(budget.admits(v6("2001:db8:0:2::1"), NOW))
        self.assertEqual(budget.sources, 2)


class InAllTests(SynchronousTestCase):
    def test_no_limit(self) -> None:
        """Without a limit as many come as there are sources."""
        budget = a_budget(per_source=1, max_sources=100_000)
        self.assertTrue(all(budget.admits(number.to_bytes(4), NOW) for number in range(20_000)))

    def test_limit(self) -> None:
        """What comes from whomever is refused when it is too much in all, until the next window."""
        budget = a_budget(per_source=2, in_all=3)
        self.assertEqual([budget.admits(number.to_bytes(4), NOW) for number in range(5)], [True] * 3 + [False] * 2)
        self.assertEqual((budget.refused["requests"], budget.reached), (2, "requests"))
        self.assertTrue(budget.admits(BOB, NOW + 1))

    def test_refused_requests_use_up_nothing(self) -> None:
        """A flood that is refused for its source leaves the others what they may have together."""
        budget = a_budget(per_source=2, in_all=4)
        for _ in range(1000):
            budget.admits(ALICE, NOW)
        self.assertEqual([budget.admits(BOB, NOW) for _ in range(3)], [True, True, False])


class InventedSourcesTests(SynchronousTestCase):
    def test_memory_is_bounded(self) -> None:
        """However many addresses somebody makes up, no more counts are kept than configured and those to share."""
        budget = a_budget(per_source=3, max_sources=100)
        random = Random(7)
        for _ in range(20_000):
            budget.admits(random.randbytes(4), NOW)
            budget.admits(random.randbytes(16), NOW)
        self.assertLessEqual(budget.sources, 100 + SHARED_COUNTS)
        self.assertTrue(budget.admits(ALICE, NOW + 1))
        self.assertEqual(budget.sources, 1)

    def test_known_sources_keep_their_count(self) -> None:
        """Who was there before the flood of addresses has a count of his own, and so all of his limit."""
        budget = a_budget(per_source=5, max_sources=100)
        self.assertTrue(budget.admits(ALICE, NOW))
        for number in range(50_000):
            budget.admits(number.to_bytes(4), NOW)
        self.assertEqual([budget.admits(ALICE, NOW) for _ in range(5)], [True] * 4 + [False])

    def test_a_flooder_among_unknown_sources_is_limited(self) -> None:
        """Who comes when no more sources are counted one by one gets no more than his limit all the same."""
        budget = a_budget(per_source=5, max_sources=1)
        self.assertTrue(budget.admits(BOB, NOW))
        self.assertEqual(sum(budget.admits(ALICE, NOW) for _ in range(100)), 5)

    @given(st.lists(st.tuples(st.sampled_from([ALICE, BOB, v6("::1"), v6("2001:db8::1")]), st.integers(0, 20))),
           st.integers(1, 4), st.integers(0, 8))
    def test_never_more_than_allowed(self, asked: list[tuple[bytes, int]], per_source: int, in_all: int) -> None:
        """In no window more is let in than the limits say, and while both have room nobody is refused."""
        budget = a_budget(per_source=per_source, in_all=in_all)
        taken: dict[tuple[int, bytes], int] = {}
        for source, second in sorted(asked, key=lambda each: each[1]):
            of_all = sum(count for (when, _), count in taken.items() if when == second)
            room = taken.get((second, source), 0) < per_source and (not in_all or of_all < in_all)
            self.assertEqual(budget.admits(source, NOW + second), room)
            taken[second, source] = taken.get((second, source), 0) + room


class AdmissionTests(SynchronousTestCase):
    def test_calls_have_a_budget_of_their_own(self) -> None:
        """What begins something does not use up what calls in progress may need, nor the other way round."""
        admission = Admission(AdmissionConfig(requests_per_source=1))
        self.assertEqual([admission.admits(ALICE, NOW) for _ in range(3)], [True, False, False])
        self.assertEqual([admission.in_calls.admits(ALICE, NOW) for _ in range(2)], [True, False])
        self.assertTrue(admission.admits(BOB, NOW))
        self.assertEqual(admission.sources(), 3)

    def test_counts(self) -> None:
        """What was refused is told by kind and by limit, all of them from the beginning."""
        admission = Admission(AdmissionConfig(requests_per_source=1, requests=1))
        for source in (ALICE, ALICE, BOB, BOB):
            admission.admits(source, NOW)
        self.assertEqual(admission.refused(), {
            ("beginning", "requests_per_source"): 1, ("beginning", "requests"): 2,
            ("in_call", "requests_per_source"): 0, ("in_call", "requests"): 0})
