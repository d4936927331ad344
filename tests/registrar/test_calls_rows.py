"""The rows of calls in SQLite: whatever order their parts come in, and however often (MariaDB: tests/cluster)."""

from datetime import timedelta
from itertools import permutations

import sqlalchemy as sa
from twisted.trial.unittest import TestCase

from registrar.calls.parts import CallPart
from registrar.calls.rows import SLICE, as_moment, recent, remove_older, values_of, write
from tests.registrar.call_records import ALICE, BOB, TAGS, a_database, a_failure, a_folder, an_answer, an_end, counted
from tests.registrar.examples import NOW


class RowsCase(TestCase):
    def setUp(self) -> None:
        self.engine = self.made_engine()

    def made_engine(self) -> sa.Engine:
        """Return an empty database."""
        return a_database(self, a_folder(self))

    def write(self, *parts: CallPart) -> None:
        """Write these in one transaction."""
        with self.engine.begin() as connection:
            write(connection, [values_of(part) for part in parts])

    def rows(self) -> list[dict[str, object]]:
        """Return all rows without what only counts them."""
        with self.engine.connect() as connection:
            return [{name: value for name, value in row.items() if name != "id"} for row in recent(connection, 100)]

    def row(self) -> dict[str, object]:
        """Return the only row."""
        (row,) = self.rows()
        return row

    def empty(self) -> None:
        """Forget all rows."""
        with self.engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM rollcall_call"))


class WriteTests(RowsCase):
    def test_whole_call(self) -> None:
        """A call that was answered and ended is one row that says all of it."""
        self.write(an_answer(), an_end(quality='{"hung up": {}}'))
        self.assertEqual(self.row(), {
            "call_id": "call-1", "tag_low": TAGS[0], "tag_high": TAGS[1], "caller_tag": TAGS[0], "caller": ALICE,
            "callee": BOB, "started_at": as_moment(NOW), "answered_at": as_moment(NOW + 5),
            "ended_at": as_moment(NOW + 60), "status": 200, "hung_up_by": "caller", "hung_up_tag": TAGS[0],
            "node": "n1", "media_node": None, "quality": '{"hung up": {}}'})

    def test_any_order(self) -> None:
        """In whatever order, in one transaction or in several, and if some are written again: the row is the same."""
        parts = an_answer(), an_end(by_callee=True), an_end(at=NOW + 60.25)
        self.write(*parts)
        expected = self.row()
        self.assertEqual((expected["hung_up_by"], expected["ended_at"]), ("callee", as_moment(NOW + 60)))
        for order in permutations((*parts, parts[0], parts[1])):
            self.empty()
            self.write(*order[:2])
            for part in order[2:]:
                self.write(part)
            self.assertEqual(self.row(), expected)

    def test_end_alone(self) -> None:
        """Of a call whose answer is not known yet, nobody knows who called."""
        self.write(an_end())
        row = self.row()
        self.assertEqual((row["caller"], row["hung_up_by"], row["started_at"]), (None, None, as_moment(NOW + 60)))

    def test_tried_again(self) -> None:
        """A call that is tried again under the same Call-ID is one row, of the last try, and from the first on."""
        for order in ((486, 603), (603, 486)):
            self.empty()
            self.write(a_failure(status=order[0]))
            self.write(a_failure(at=NOW + 20, status=order[1]))
            row = self.row()
            self.assertEqual((row["status"], row["started_at"], row["ended_at"], row["hung_up_by"]),
                             (order[1], as_moment(NOW), as_moment(NOW + 23), None))

    def test_different_calls(self) -> None:
        """Call-IDs and tags differ by case, and a refusal and an answer of one Call-ID are two rows."""
        self.write(an_answer(), a_failure())
        for name in ("call_id", "tag_low"):
            values = values_of(an_answer())
            with self.engine.begin() as connection:
                write(connection, [{**values, name: values[name].upper()}])
        self.assertEqual(len(self.rows()), 4)

    def test_no_moment(self) -> None:
        """A moment that no calendar has is said to be none."""
        for seconds in (1e300, float("nan"), float("inf")):
            self.assertRaises(ValueError, as_moment, seconds)


class RecentTests(RowsCase):
    def test_newest_first(self) -> None:
        """The latest calls come first, no more than asked for, and no older ones."""
        self.write(*(an_answer(number, NOW + number) for number in range(10)))
        with self.engine.connect() as connection:
            self.assertEqual([row["call_id"] for row in recent(connection, 3)], ["call-9", "call-8", "call-7"])
            since = recent(connection, 100, as_moment(NOW + 8))
        self.assertEqual([row["call_id"] for row in since], ["call-9", "call-8"])

    def test_of_one_address(self) -> None:
        """The calls of an address are those that it made and those that it got, each once."""
        with self.engine.begin() as connection:
            for number, (caller, callee) in enumerate(((ALICE, BOB), (BOB, ALICE), (ALICE, ALICE), (BOB, BOB))):
                values = values_of(an_answer(number, NOW + number))
                write(connection, [{**values, "caller": caller, "callee": callee}])
        with self.engine.connect() as connection:
            found = [row["call_id"] for row in recent(connection, 100, party=ALICE)]
        self.assertEqual(found, ["call-2", "call-1", "call-0"])


class RetentionTests(RowsCase):
    def test_slices(self) -> None:
        """What started earlier goes slice by slice, the oldest first, and nothing else."""
        self.write(*(an_answer(number, NOW - number) for number in range(SLICE + 20)))
        before = as_moment(NOW) - timedelta(seconds=9.5)
        removed = []
        for _ in range(3):
            with self.engine.connect() as connection:
                removed.append(remove_older(connection, before))
        self.assertEqual((removed, counted(self.engine)), ([SLICE, 10, 0], 10))
