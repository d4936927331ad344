"""What the tables of the directory do, wherever they are: changed by commands, read by the registrar."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TypeVar

from twisted.trial.unittest import SynchronousTestCase

from registrar.directory.entries import (
    BUSY,
    NO_ANSWER,
    NOTHING,
    Entry,
    EntryExists,
    Forwarding,
    InvalidEntry,
    NoSuchEntry,
)
from registrar.directory.opening import OpenDirectory
from registrar.directory.reaching import NoTables
from registrar.directory.statements import Connection, Statements, Survey

T = TypeVar("T")

BOB, CAROL, SALES = (f"sip:{name}@example.com" for name in ("bob", "carol", "sales"))
WORDY = "sip:50%25_\\'\"?@example.com"


class TablesContract(SynchronousTestCase):
    """Mix it in first; make the tables in `make_tables`."""

    def make_tables(self) -> None:
        """Make them, empty."""
        raise NotImplementedError

    def remove_tables(self) -> None:
        """Remove them again."""
        raise NotImplementedError

    def opened(self) -> AbstractContextManager[OpenDirectory]:
        """Return them as commands see them."""
        raise NotImplementedError

    def ask(self, question: Callable[[Statements, Connection], T]) -> T:
        """Return what the registrar reads."""
        raise NotImplementedError

    def survey(self) -> Survey:
        """Return what there is altogether."""
        return self.ask(lambda statements, on: statements.survey(on))

    def entry(self, aor: str) -> Entry:
        """Return what there is of an address-of-record."""
        return self.ask(lambda statements, on: statements.entry(on, aor))

    def test_empty(self) -> None:
        """In the beginning there is nothing."""
        self.make_tables()
        self.assertEqual((self.survey(), self.entry(BOB)), (Survey(), NOTHING))

    def test_without_tables(self) -> None:
        """What was never made is missing, and not empty; commands are told what makes it."""
        with self.assertRaises(NoTables):
            self.survey()
        with self.assertRaises(NoTables) as raised, self.opened() as directory:
            directory.aliases()
        self.assertIn("rollcall db upgrade", str(raised.exception))

    def test_made_later(self) -> None:
        """Tables that are made, or removed, meanwhile are noticed."""
        with self.assertRaises(NoTables):
            self.survey()
        self.make_tables()
        self.assertEqual(self.survey(), Survey())
        self.remove_tables()
        with self.assertRaises(NoTables):
            self.survey()

    def test_domains(self) -> None:
        """Domains come, once each, and go."""
        self.make_tables()
        with self.opened() as directory:
            directory.add_domain("example.net", "Zoë's 🦊")
            self.assertEqual(directory.domains(), [("example.net", "Zoë's 🦊")])
            self.assertEqual(self.survey(), Survey(("example.net",)))
            with self.assertRaises(EntryExists):
                directory.add_domain("example.net", "")
            directory.remove_domain("example.net")
            with self.assertRaises(NoSuchEntry):
                directory.remove_domain("example.net")
        self.assertEqual(self.survey(), Survey())

    def test_aliases(self) -> None:
        """Aliases come, once each, and go; letters are compared as they are."""
        self.make_tables()
        with self.opened() as directory:
            directory.add_alias(SALES, BOB)
            self.assertEqual((self.entry(SALES), self.survey()), (Entry(BOB), Survey((), True)))
            self.assertEqual(self.entry(SALES.replace("sales", "Sales")), NOTHING)
            with self.assertRaises(EntryExists):
                directory.add_alias(SALES, CAROL)
            self.assertEqual(directory.aliases(), [(SALES, BOB)])
            directory.remove_alias(SALES)
            with self.assertRaises(NoSuchEntry):
                directory.remove_alias(SALES)
        self.assertEqual(self.survey(), Survey())

    def test_forwardings(self) -> None:
        """One of each kind for each user: the later one counts."""
        self.make_tables()
        with self.opened() as directory:
            directory.set_forwarding(BOB, Forwarding(BUSY, SALES))
            directory.set_forwarding(BOB, Forwarding(BUSY, CAROL))
            directory.set_forwarding(BOB, Forwarding(NO_ANSWER, CAROL, 20))
            directory.set_forwarding(SALES, Forwarding(BUSY, BOB))
            expected = (Forwarding(BUSY, CAROL), Forwarding(NO_ANSWER, CAROL, 20))
            self.assertEqual(self.entry(BOB), Entry(None, expected))
            self.assertEqual([each for _, each in directory.forwardings(BOB)], list(expected))
            self.assertEqual([whose for whose, _ in directory.forwardings()], [BOB, BOB, SALES])
            self.assertTrue(self.survey().is_used)
            directory.remove_forwarding(BOB, BUSY)
            with self.assertRaises(NoSuchEntry):
                directory.remove_forwarding(BOB, BUSY)
            self.assertEqual(self.entry(BOB), Entry(None, expected[1:]))
            directory.remove_forwarding(BOB)
            directory.remove_forwarding(SALES)
        self.assertEqual(self.survey(), Survey())

    def test_what_cannot_be(self) -> None:
        """What is no URI, is too long or rings too long is refused, and nothing stays of it."""
        self.make_tables()
        with self.opened() as directory:
            for target in ("bob", "tel:+4930123", "sip:", f"sip:{'x' * 300}@example.com", "sip:a@b?Subject=x"):
                with self.assertRaises(InvalidEntry):
                    directory.add_alias(SALES, target)
                with self.assertRaises(InvalidEntry):
                    directory.set_forwarding(BOB, Forwarding(BUSY, target))
            for kind, seconds in ((BUSY, 5), (NO_ANSWER, 0), (NO_ANSWER, 601)):
                with self.assertRaises(InvalidEntry):
                    directory.set_forwarding(BOB, Forwarding(kind, CAROL, seconds))
        self.assertEqual(self.survey(), Survey())

    def test_marks(self) -> None:
        """No letter of a name means anything to the database."""
        self.make_tables()
        self.assertEqual(self.entry(WORDY), NOTHING)
        with self.opened() as directory:
            directory.add_domain("example.net", "50% of %s and ?")
            self.assertEqual(directory.domains(), [("example.net", "50% of %s and ?")])
