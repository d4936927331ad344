"""Who is turned away gets a time at which there is room for him, and is let in then."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.avalanche.appointments import Appointments, Standing

NOW = 1_000.0


class AppointmentTests(SynchronousTestCase):
    def setUp(self) -> None:
        """Make an empty book: at most a minute ahead, ten seconds too late is too late."""
        self.book = Appointments(60, 10, 1000)

    def test_nobody_has_one(self) -> None:
        """Of strangers nothing is known."""
        self.assertEqual(self.book.standing(1, NOW), (Standing.NONE, 0))

    def test_kept(self) -> None:
        """Who comes at his time is let in, and with his credentials after that too; it counts once."""
        seconds = self.book.book(1, 1, 5, NOW)
        assert seconds is not None
        self.assertEqual(self.book.standing(1, NOW + seconds), (Standing.DUE, 0))
        self.assertEqual(self.book.standing(1, NOW + seconds + 0.2), (Standing.DUE, 0))
        self.assertEqual((self.book.booked, self.book.kept), (1, 1))

    def test_too_early(self) -> None:
        """Who does not wait hears the same time again, and takes nobody's place for it."""
        for number in range(100):
            self.book.book(number, 1, 5, NOW)
        before = self.book.booked
        standing, seconds = self.book.standing(99, NOW + 3.0)
        self.assertEqual(standing, Standing.EARLY)
        self.assertEqual(self.book.standing(99, NOW + 3.0 + seconds), (Standing.DUE, 0))
        self.assertEqual(self.book.booked, before)

    def test_nearly_in_time(self) -> None:
        """Half a second too early is early enough."""
        seconds = self.book.book(1, 1, 5, NOW)
        assert seconds is not None
        self.assertEqual(self.book.standing(1, NOW + seconds - 0.4)[0], Standing.DUE)

    def test_missed(self) -> None:
        """Who comes much too late is a stranger again."""
        seconds = self.book.book(1, 1, 5, NOW)
        assert seconds is not None
        self.book.forget(NOW + seconds + 9)
        self.assertEqual((len(self.book), self.book.missed), (1, 0))
        self.book.forget(NOW + seconds + 11.2)
        self.assertEqual((len(self.book), self.book.missed), (0, 1))
        self.assertEqual(self.book.standing(1, NOW + seconds + 11.2), (Standing.NONE, 0))

    def test_late_and_again(self) -> None:
        """Who comes too late, but before he was forgotten, has missed his time and gets another; nobody is left."""
        seconds = self.book.book(1, 1, 5, NOW)
        assert seconds is not None
        late = NOW + seconds + 10.1
        self.assertEqual(self.book.standing(1, late), (Standing.NONE, 0))
        again = self.book.book(1, 1, 5, late)
        assert again is not None
        self.book.forget(late + 0.2)
        self.assertEqual((len(self.book), self.book.booked, self.book.missed), (1, 2, 1))
        self.assertEqual(self.book.standing(1, late + again), (Standing.DUE, 0))
        self.book.forget(late + again + 11)
        self.assertEqual((len(self.book), self.book.booked - self.book.kept - self.book.missed), (0, 0))

    def test_clock_set_back(self) -> None:
        """When the clock was set back nobody is asked to wait for it: appointments are made anew."""
        for number in range(3):
            self.book.book(number, 1, 1, NOW)
        before = NOW - 500
        self.assertEqual(self.book.standing(0, before), (Standing.NONE, 0))
        self.assertEqual(self.book.book(0, 1, 1, before), 1)
        self.book.forget(NOW)
        self.book.forget(before)
        self.assertEqual((len(self.book), self.book.missed), (0, 4))
        self.assertEqual(self.book.book(1, 1, 1, before), 1)

    def test_a_herd(self) -> None:
        """Those who ask in the same moment come in the same tenth of different seconds, as many as there is room."""
        times = Counter(self.book.book(number, 1, 5, NOW) for number in range(50))
        self.assertEqual(times, dict.fromkeys(range(1, 11), 5))

    def test_a_stream(self) -> None:
        """Those who ask one after the other all come in the next second."""
        times = {self.book.book(number, 1, 5, NOW + number / 50 + 0.001) for number in range(50)}
        self.assertEqual(times, {1})

    def test_no_room(self) -> None:
        """Beyond the latest time nobody gets one, nor when there are too many; more room makes room."""
        for number in range(60):
            self.assertEqual(self.book.book(number, 1, 1, NOW), number + 1)
        self.assertIsNone(self.book.book(60, 1, 1, NOW))
        self.book.look_again()
        self.assertEqual(self.book.book(61, 1, 2, NOW), 1)
        small = Appointments(60, 10, 2)
        self.assertEqual([small.book(number, 1, 1, NOW) for number in range(3)], [1, 2, None])

    def test_newcomers(self) -> None:
        """Who has no appointment is let in as long as those who have one leave room; one at a time always is."""
        self.assertEqual(self.book.book(1, 4, 5, NOW), 1)
        there = NOW + 1.0
        self.assertEqual([self.book.has_room(1, 6, there) for _ in range(3)], [True, True, False])
        self.assertTrue(self.book.has_room(2, 1, there + 0.1))
        self.assertFalse(self.book.has_room(2, 1, there + 0.1))

    @given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from([1.0, 2.0])), max_size=200), st.floats(2, 20))
    def test_never_more_than_fits(self, asked: list[tuple[float, float]], room: float) -> None:
        """Whoever asks whenever: no tenth of a second is promised to more than fit into it, and each comes in his."""
        book, used = Appointments(60, 10, 1000), Counter[int]()
        for name, (after, units) in enumerate(sorted(asked)):
            seconds = book.book(name, units, room, NOW + after)
            if seconds is not None:
                used[int((NOW + after) * 10) + seconds * 10] += int(units)
                self.assertEqual(book.standing(name, NOW + after + seconds)[0], Standing.DUE)
        self.assertTrue(all(units <= room for units in used.values()))
