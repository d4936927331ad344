"""What every store of subscribers must do, whatever is under it. Subclasses name it in `make_store`."""

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.contract import (
    InvalidSubscriber,
    NoSuchSubscriber,
    SubscriberExists,
    SubscriberStore,
    subscriber_with,
)

T = TypeVar("T")

DOMAIN = "example.org"


class SubscriberContract:
    """Mixed into a SynchronousTestCase, whose stores answer at once."""

    store: SubscriberStore

    def make_store(self) -> SubscriberStore:
        """Return an empty store that is not started."""
        raise NotImplementedError

    def setUp(self) -> None:
        super().setUp()  # type: ignore[misc]  # the TestCase beside us has it
        self.store = self.make_store()
        self.result(self.store.start())

    def tearDown(self) -> None:
        self.result(self.store.stop())
        super().tearDown()  # type: ignore[misc]

    def result(self: Any, coroutine: Coroutine[Any, Any, T]) -> T:
        """Return what the coroutine returns, or raise what it raises, now."""
        test: SynchronousTestCase = self
        value: T = test.successResultOf(Deferred.fromCoroutine(coroutine))
        return value

    def error(self: Any, expected: type[Exception], coroutine: Coroutine[Any, Any, Any]) -> str:
        """Return the text of what the coroutine raises, now."""
        test: SynchronousTestCase = self
        return str(test.failureResultOf(Deferred.fromCoroutine(coroutine), expected).value)

    async def everybody(self, page_size: int = 500) -> list[str]:
        return [f"{each.username}@{each.domain}" async for each in self.store.list(page_size)]

    def plain(self, subscriber: Subscriber | None) -> tuple[str, str, dict[str, str], dict[str, str]] | None:
        """Return a subscriber's values, whatever mappings they are in."""
        if subscriber is None:
            return None
        return subscriber.username, subscriber.domain, dict(subscriber.ha1), dict(subscriber.ha1b)

    def test_nobody(self: Any) -> None:
        """An empty store knows nobody."""
        self.assertIsNone(self.result(self.store.find("alice", DOMAIN)))
        self.assertEqual(self.result(self.store.count()), 0)
        self.assertEqual(self.result(self.everybody()), [])

    def test_added(self: Any) -> None:
        """Who was added is found with the hashes of the password, though just before there was nobody."""
        self.assertIsNone(self.result(self.store.find("alice", DOMAIN)))
        self.result(self.store.add("alice", DOMAIN, "secret"))
        for _ in range(2):
            found = self.result(self.store.find("alice", DOMAIN))
            self.assertEqual(self.plain(found), self.plain(subscriber_with("alice", DOMAIN, "secret")))
        self.assertEqual(self.result(self.store.count()), 1)

    def test_names(self: Any) -> None:
        """The case of a username matters, that of a domain does not; the same name may be in two domains."""
        self.result(self.store.add("alice", "EXAMPLE.org", "secret"))
        self.result(self.store.add("alice", "example.net", "other"))
        self.result(self.store.add("Alice", DOMAIN, "third"))
        for username, domain, password in (
            ("alice", DOMAIN, "secret"), ("alice", "example.net", "other"), ("Alice", DOMAIN, "third")
        ):
            found = self.result(self.store.find(username, domain.upper()))
            self.assertEqual(self.plain(found), self.plain(subscriber_with(username, domain, password)))

    def test_added_twice(self: Any) -> None:
        """Nobody can be added twice, and the first password stays."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        self.assertIn("alice@example.org", self.error(SubscriberExists, self.store.add("alice", DOMAIN, "other")))
        found = self.result(self.store.find("alice", DOMAIN))
        self.assertEqual(self.plain(found), self.plain(subscriber_with("alice", DOMAIN, "secret")))

    def test_password_changed(self: Any) -> None:
        """Another password takes effect at once, and only for who has it."""
        for username in ("alice", "bob"):
            self.result(self.store.add(username, DOMAIN, "secret"))
            self.result(self.store.find(username, DOMAIN))
        self.result(self.store.set_password("alice", "Example.Org", "other"))
        for username, password in (("alice", "other"), ("bob", "secret")):
            found = self.result(self.store.find(username, DOMAIN))
            self.assertEqual(self.plain(found), self.plain(subscriber_with(username, DOMAIN, password)))
        self.error(NoSuchSubscriber, self.store.set_password("carol", DOMAIN, "other"))

    def test_removed(self: Any) -> None:
        """Who was removed is not found any more, and cannot be removed again."""
        self.result(self.store.add("alice", DOMAIN, "secret"))
        self.result(self.store.find("alice", DOMAIN))
        self.result(self.store.remove("alice", "Example.Org"))
        self.assertIsNone(self.result(self.store.find("alice", DOMAIN)))
        self.assertEqual(self.result(self.store.count()), 0)
        self.assertIn("alice@example.org", self.error(NoSuchSubscriber, self.store.remove("alice", DOMAIN)))

    def test_listed(self: Any) -> None:
        """Everybody is listed once, by username and domain, however long the pages are."""
        names = [f"user{number:02}@{domain}" for number in range(10) for domain in ("a.org", "b.org")]
        for name in reversed(names):
            self.result(self.store.add(*name.split("@"), "secret"))
        for page_size in (1, 3, 20, 500):
            self.assertEqual(self.result(self.everybody(page_size)), names)

    def test_strange_names_are_not_found(self: Any) -> None:
        """Whatever is looked up, what cannot be a name is nobody's."""
        for username, domain in (
            ("", DOMAIN), ("alice", ""), ("a" * 65, DOMAIN), ("alice", "a" * 65), ("al\x00ice", DOMAIN),
            ("alice@example.org", DOMAIN), ("\udcff", DOMAIN), ("alice", "\udcff"), ("' OR ''='", DOMAIN),
        ):
            self.assertIsNone(self.result(self.store.find(username, domain)), (username, domain))

    def test_strange_names_are_not_added(self: Any) -> None:
        """What cannot be a name is refused with a reason."""
        for username, domain in (
            ("", DOMAIN), ("a" * 65, DOMAIN), ("al ice", DOMAIN), ("al\tice", DOMAIN), ("al\x00ice", DOMAIN),
            ("a:b", DOMAIN), ("a@b", DOMAIN), ('a"b', DOMAIN), ("a\\b", DOMAIN), ("<a>", DOMAIN), ("\udcff", DOMAIN),
            ("alice", ""), ("alice", "a" * 65), ("alice", "a b"), ("alice", "a\n"), ("alice", "-a"), ("alice", "\xe4"),
        ):
            self.assertIn("has" if domain == DOMAIN else "is", self.error(
                InvalidSubscriber, self.store.add(username, domain, "secret")), (username, domain))
        self.assertEqual(self.result(self.store.count()), 0)

    def test_good_names(self: Any) -> None:
        """Numbers, signs, letters of any language and addresses are good names."""
        for username, domain in (
            ("+49-30-123456", DOMAIN), ("a" * 64, "a" * 64), ("j\xf6rg", "xn--bcher-kva.example"),
            ("b.o_b*1#", "10.0.0.1"), ("alice", "[2001:db8::1]"), ("a'b", "localhost"),
        ):
            self.result(self.store.add(username, domain, "secret"))
            self.assertIsNotNone(self.result(self.store.find(username, domain)))

    def test_passwords(self: Any) -> None:
        """A password is neither empty nor endless, has no control characters, and may be anything else."""
        for password in ("", "x" * 257, "a\nb", "\x00", "\udcff"):
            self.error(InvalidSubscriber, self.store.add("alice", DOMAIN, password))
        self.result(self.store.add("alice", DOMAIN, "x"))
        for password in ("x" * 256, "Circle of Life", "p\xe4ss:w\xf6rd@\"\\", "\u5bc6\u7801"):
            self.result(self.store.set_password("alice", DOMAIN, password))

    def test_composed_password(self: Any) -> None:
        """However an accent was typed, the password is the same (RFC 7616 §4)."""
        self.result(self.store.add("alice", DOMAIN, "cafe\u0301"))
        found = self.result(self.store.find("alice", DOMAIN))
        self.assertEqual(self.plain(found), self.plain(subscriber_with("alice", DOMAIN, "caf\xe9")))

    def test_stopped(self: Any) -> None:
        """A store that is stopped says so, and stopping it again does nothing."""
        self.result(self.store.stop())
        for coroutine in (
            self.store.find("alice", DOMAIN),
            self.store.add("alice", DOMAIN, "secret"),
            self.store.set_password("alice", DOMAIN, "secret"),
            self.store.remove("alice", DOMAIN),
            self.store.count(),
            self.everybody(),
        ):
            self.error(StoreUnavailable, coroutine)
