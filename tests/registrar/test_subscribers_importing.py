"""What rows of users elsewhere mean, and that an import ended at any moment leaves nobody out and nobody twice."""

import csv
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import Subscriber
from registrar.subscribers.bulk import Bulk
from registrar.subscribers.contract import InvalidSubscriber, subscriber_with
from registrar.subscribers.import_journal import ImportJournal, JournalProblem
from registrar.subscribers.import_sources import MAX_LINE_BYTES, CsvFile, ImportProblem
from registrar.subscribers.importing import BATCH, Counts, Reading, Rejected, Row, import_rows
from registrar.subscribers.table import SubscriberTable
from rollcall.sip.digest import ha1

READING = Reading(domains={"example.com": "example.com", "sip.example.com": "example.com"},
                  default_domain="example.com")
MD5 = ha1("MD5", "alice", "example.com", "sesame")
SHA256 = ha1("SHA-256", "alice", "example.com", "sesame")
ALICE = subscriber_with("alice", "example.com", "sesame")


class ReadingTests(SynchronousTestCase):
    def row(self, username: str = "alice", domain: str = "example.com", **secrets: str) -> Row:
        return Row((1,), "line 2", username, domain, secrets)

    def assert_rejected(self, reason: str, row: Row, reading: Reading = READING) -> None:
        """Fail unless a row is rejected for this reason."""
        with self.assertRaises(InvalidSubscriber) as raised:
            reading.subscriber(row)
        self.assertIn(reason, str(raised.exception))

    def test_password(self) -> None:
        """A password becomes all hashes."""
        self.assertEqual(READING.subscriber(self.row(password="sesame")), ALICE)

    def test_hashes(self) -> None:
        """Hashes are taken as they are, and make no others."""
        self.assertEqual(READING.subscriber(self.row(ha1=MD5.upper(), ha1b="")),
                         Subscriber("alice", "example.com", {"MD5": MD5}))
        all_of_them = {"ha1": MD5, "ha1b": ALICE.ha1b["MD5"], "ha1_sha256": SHA256,
                       "ha1_sha512t256": ALICE.ha1["SHA-512-256"]}
        self.assertEqual(READING.subscriber(self.row(**all_of_them)), ALICE)

    def test_64_digits(self) -> None:
        """What a hash of 64 digits in `ha1` is made by is configured."""
        for algorithm in ("SHA-256", "SHA-512-256"):
            reading = Reading(domains={}, default_domain="example.com", hash_of_64_digits=algorithm)
            self.assertEqual(reading.subscriber(self.row(ha1=SHA256)).ha1, {algorithm: SHA256})

    def test_where(self) -> None:
        """The domain is that of the row, that behind the @ of its username, or the first one; aliases mean theirs."""
        for username, domain in (("alice", ""), ("alice@example.com", ""), ("alice@SIP.example.com", ""),
                                 ("alice", "EXAMPLE.com"), ("alice", "sip.example.com")):
            self.assertEqual(READING.subscriber(self.row(username, domain, password="sesame")), ALICE, username)

    def test_other_domains(self) -> None:
        """Domains that are not served are refused, unless any is taken."""
        row = self.row(domain="elsewhere.org", password="x")
        self.assert_rejected("elsewhere.org is no domain of this registrar", row)
        self.assertEqual(Reading(domains={}, default_domain="example.com").subscriber(row).domain, "elsewhere.org")

    def test_hashes_of_an_alias(self) -> None:
        """Hashes for an alias are of no use, for phones are asked for those of the domain itself."""
        row = self.row(domain="sip.example.com", ha1=MD5)
        self.assert_rejected("its hashes are for sip.example.com, which is only another name of example.com", row)

    def test_rejected(self) -> None:
        """What cannot be a user is rejected with the reason."""
        for reason, row in (
            ("neither a password nor a hash", self.row()),
            ("neither a password nor a hash", self.row(ha1b=MD5)),
            ("ha1 is no hash: that has 32 or 64 hexadecimal digits", self.row(ha1=MD5[:-1])),
            ("ha1 is no hash: that has 32 or 64 hexadecimal digits", self.row(ha1="g" * 32)),
            ("ha1_sha256 is no hash: that has 64 hexadecimal digits", self.row(ha1_sha256=MD5)),
            ("a username has no blanks", self.row("a b", password="x")),
            ("a domain is", self.row(domain="a b", password="x")),
            ("a password has", self.row(password="x" * 257)),
            ("broken", Row((1,), "line 2", problem="broken")),
        ):
            self.assert_rejected(reason, row)

    def test_both(self) -> None:
        """With a password and its hashes all hashes are made; when they differ somebody has to say which is right."""
        self.assertEqual(READING.subscriber(self.row(password="sesame", ha1=MD5)), ALICE)
        row = self.row(password="open", ha1=MD5)
        self.assert_rejected("its hashes are not those of its password", row)
        trusting = {which: Reading(domains={}, default_domain="example.com", trust=which).subscriber(row)
                    for which in ("password", "hashes")}
        self.assertEqual(trusting["password"], subscriber_with("alice", "example.com", "open"))
        self.assertEqual(trusting["hashes"].ha1, {"MD5": MD5})


class CsvFileTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(TemporaryDirectory())) / "users.csv"

    def rows(self, content: str | bytes, after: tuple[int, ...] = ()) -> list[Row]:
        """Return the rows of a file with this content."""
        self.path.write_bytes(content.encode() if isinstance(content, str) else content)
        return list(CsvFile(self.path).rows(after))

    def test_delimiters(self) -> None:
        """Commas, semicolons and tabs divide; columns come in any order and case, others are ignored."""
        for delimiter in ",;\t":
            header = delimiter.join(("E-Mail", " Password", "USERNAME"))
            (row,) = self.rows(f"\ufeff{header}\r\n" + delimiter.join(("a@b", '"s;e,s\tame"', "alice")) + "\r\n")
            self.assertEqual((row.username, row.domain, row.secrets), ("alice", "", {"password": "s;e,s\tame"}))

    def test_broken_lines(self) -> None:
        """A broken line spoils itself only, and is named as editors number it."""
        good = b"alice,sesame\n"
        lines = [b"username,password\n", good, b'"bob,x\n', b"\n", good, b"\xff,x\n", b"a,b,c\n", b"only\n", good]
        rows = self.rows(b"".join(lines))
        self.assertEqual([row.place for row in rows if not row.problem], ["line 2", "line 5", "line 9"])
        problems = {row.place: row.problem for row in rows if row.problem}
        self.assertEqual(list(problems), ["line 3", "line 6", "line 7", "line 8"])
        self.assertEqual(problems["line 6"], "it is not in UTF-8")
        self.assertEqual(problems["line 7"], "it has 3 columns and the header 2")

    def test_endless_lines(self) -> None:
        """A line longer than any row can be is read past, without being held."""
        for size in (MAX_LINE_BYTES - 1, MAX_LINE_BYTES, 3 * MAX_LINE_BYTES):
            rows = self.rows("username,password\n" + "x" * size + "\nalice,sesame\n")
            self.assertEqual([(row.place, bool(row.problem)) for row in rows], [("line 2", True), ("line 3", False)])

    def test_headers(self) -> None:
        """A file whose first line does not say what is in it is refused."""
        for header in ("", "alice,sesame\n", "username,ha1b\n", "password\n", "username,password,password\n",
                       b"\xff,username\n"):
            with self.assertRaises(ImportProblem):
                self.rows(header)

    @given(st.lists(st.text("ab,;\"'\n\r é", max_size=6), max_size=8), st.data())
    def test_positions(self, lines: list[str], data: st.DataObject) -> None:
        """Reading on behind any row gives the rows that followed it."""
        content = "username,password\n" + "".join(f"{line}\n" for line in lines)
        rows = self.rows(content)
        for number, row in enumerate(rows):
            self.assertEqual(self.rows(content, row.position), rows[number + 1 :])


class Ended(Exception):
    """The process was killed."""


class Mortal:
    """A journal or a table whose process ends after so many calls, before or after what the call does."""

    def __init__(self, inner: Any, name: str, lives: int, is_done: bool) -> None:
        self._inner, self._name, self._lives, self._is_done = inner, name, lives, is_done

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name != self._name:
            return method

        def call(*arguments: Any, **named: Any) -> Any:
            self._lives -= 1
            if self._lives < 0 and not self._is_done:
                raise Ended
            outcome = method(*arguments, **named)
            if self._lives < 0:
                raise Ended
            return outcome

        return call


class ImportTests(SynchronousTestCase):
    """Imports into SQLite."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.path = self.folder / "users.csv"
        self.report = self.folder / "rejected.csv"
        self.table = SubscriberTable(self.folder / "subscribers.sqlite")
        self.table.open()
        self.addCleanup(self.table.close)

    def write(self, lines: Sequence[str]) -> None:
        """Let the file have these rows."""
        self.path.write_text("\n".join(("username,password", *lines, "")))

    def journal(self) -> ImportJournal:
        return ImportJournal(self.folder / "state", self.report, CsvFile(self.path).what)

    def run_import(self, update: bool = False, table: Any = None, journal: Any = None) -> Counts:
        """Import the file, or go on."""
        own = journal or self.journal()
        return import_rows(CsvFile(self.path).rows(own.position), READING, table or self.table, own, update,
                           lambda row, counts: None)

    def rejected(self) -> list[tuple[str, str, str]]:
        """Return what the report says: row, username, reason."""
        with self.report.open(newline="") as file:
            return [(each["row"], each["username"], each["reason"]) for each in csv.DictReader(file)]

    def test_counts(self) -> None:
        """Everybody is added; who is there already or cannot be is rejected, in the order of the file."""
        self.table.add("bob", "example.com", "old")
        self.write(["alice,sesame", "bob,new", ",x", "alice,again", "=cmd,"])
        self.assertEqual(self.run_import(), Counts(read=5, added=1, rejected=4))
        self.assertEqual(self.table.find("alice", "example.com"), ALICE)
        self.assertEqual([(place, name) for place, name, _ in self.rejected()],
                         [("line 3", "bob"), ("line 4", ""), ("line 5", "alice"), ("line 6", "'=cmd")])
        self.assertEqual(self.table.find("bob", "example.com"), subscriber_with("bob", "example.com", "old"))

    def test_update(self) -> None:
        """With `update` who is there already gets what the file says."""
        self.table.add("alice", "example.com", "old")
        self.write(["alice,sesame", "bob,x"])
        self.assertEqual(self.run_import(update=True), Counts(read=2, added=1, replaced=1))
        self.assertEqual(self.table.find("alice", "example.com"), ALICE)

    def test_ended_anywhere(self) -> None:
        """Wherever it is ended, the next run goes on: all are there, the report and the counts as if never ended."""
        for name in ("add_hashed", "save"):
            for lives, is_done in ((0, False), (0, True), (2, False), (2, True), (3, True)):
                with self.subTest(name=name, lives=lives, is_done=is_done):
                    self.end_and_go_on(name, lives, is_done)

    def end_and_go_on(self, name: str, lives: int, is_done: bool) -> None:
        self.setUp()
        users = [f"user{number},{'' if number % 500 == 7 else 'x'}" for number in range(3 * BATCH + 1)]
        self.write([*users, "user1,other"])
        table, journal = (Mortal(each, name, lives, is_done) for each in (self.table, self.journal()))
        with self.assertRaises(Ended):
            self.run_import(table=table, journal=journal)
        going_on = self.journal()
        self.assertTrue(going_on.is_resumed)
        self.assertEqual(self.run_import(journal=going_on), Counts(read=3002, added=2995, rejected=7))
        self.assertEqual(self.table.count(), 2995)
        self.assertEqual([place for place, _, _ in self.rejected()],
                         ["line 9", "line 509", "line 1009", "line 1509", "line 2009", "line 2509", "line 3003"])

    def test_somebody_elses_meanwhile(self) -> None:
        """Of the batch in doubt only those are ours who have the hashes of the file."""
        self.write(["alice,sesame", "bob,x"])
        with self.assertRaises(Ended):
            self.run_import(table=Mortal(self.table, "add_hashed", 0, True))
        self.table.set_password("bob", "example.com", "other")
        self.assertEqual(self.run_import(), Counts(read=2, added=1, rejected=1))
        self.assertEqual(self.rejected(), [("line 3", "bob", "exists already")])


class JournalTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.enterContext(TemporaryDirectory()))

    def journal(self, **what: object) -> ImportJournal:
        return ImportJournal(self.folder / "state", self.folder / "report", what)

    def test_another_import(self) -> None:
        """The state of another import, or of a file that was changed, is not gone on with."""
        self.journal(file="a", bytes=1)
        with self.assertRaises(JournalProblem) as raised:
            self.journal(file="a", bytes=2)
        self.assertIn("is the state of another import (file a, bytes 1)", str(raised.exception))

    def test_not_ours(self) -> None:
        """A file that is no state is named, and left as it is."""
        for content in ("", "[]", '{"import": {}, "position": [], "counts": {"read": 1}}'):
            (self.folder / "state").write_text(content)
            with self.assertRaises(JournalProblem):
                self.journal()
            self.assertEqual((self.folder / "state").read_text(), content)

    def test_private(self) -> None:
        """Nobody else may read who was imported."""
        self.journal().save((1,), Counts(), [Rejected("line 1", "alice", "", "x")])
        modes = {stat.S_IMODE(path.stat().st_mode) for path in self.each_file()}
        self.assertEqual(modes, {0o600})

    def each_file(self) -> Iterator[Path]:
        yield from self.folder.iterdir()

    def test_finished(self) -> None:
        """A finished import leaves the report, and the next one begins anew."""
        journal = self.journal()
        journal.save((1,), Counts(read=1), [Rejected("line 1", "alice", "", "x")])
        journal.finish()
        self.assertEqual(self.journal().counts, Counts())
        self.assertEqual((self.folder / "report").read_text(), "row,username,domain,reason\n")


class BulkTests(SynchronousTestCase):
    def test_refused(self) -> None:
        """What the table itself does not take is rejected with its reason."""

        class Refusing:
            def find(self, username: str, domain: str) -> None:
                return None

            def add_hashed(self, subscribers: Sequence[Subscriber], replace: bool = False) -> Bulk:
                return Bulk(0, 0, (), tuple((each.username, each.domain, "no room") for each in subscribers))

        with TemporaryDirectory() as folder:
            journal = ImportJournal(Path(folder, "state"), Path(folder, "report"), {})
            rows = [Row((1,), "line 2", "alice", "", {"password": "x"})]
            counts = import_rows(rows, READING, Refusing(), journal, False, lambda row, counts: None)
            self.assertEqual(counts, Counts(read=1, rejected=1))
            self.assertIn("line 2,alice,example.com,no room", Path(folder, "report").read_text())
