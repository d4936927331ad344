"""/v1/users of the admin site."""

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from registrar.observing_subscribers import watch_subscribers
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.memory import MemorySource
from registrar.subscribers.store import CachedSubscribers
from registrar.subscribers_api import Users
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.rollcall.ops.asking import Answered, ask

ALICE = {"username": "alice", "domain": "Example.org", "password": "secret"}


class UsersTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics(process=False)
        self.admin = AdminSite(MemoryReactorClock(), AdminConfig(), self.metrics)
        self.source = MemorySource()
        self.subscribers = CachedSubscribers(Clock(), self.source, CacheConfig())
        watch_subscribers(self.metrics, self.subscribers, None)
        self.successResultOf(Deferred.fromCoroutine(self.subscribers.start()))
        Users(self.subscribers).mount(self.admin.routes)

    def ask(self, method: str, path: str, body: Any = None) -> Answered:
        """Return what is answered."""
        return ask(self.admin.site, method, path, body)

    def test_life(self) -> None:
        """A user is added, shown without a hash, given another password, and removed."""
        added = self.ask("POST", "/v1/users", ALICE)
        self.assertEqual((added.status, added.json), (201, {"username": "alice", "domain": "example.org"}))
        shown = self.ask("GET", "/v1/users/alice@EXAMPLE.org")
        self.assertEqual((shown.status, shown.json), (200, {
            "username": "alice", "domain": "example.org", "algorithms": ["MD5", "SHA-256", "SHA-512-256"]}))
        before = self.subscribers.peek("alice@example.org", 0.0)
        self.assertEqual(self.ask("PUT", "/v1/users/alice@example.org/password", {"password": "other"}).status, 204)
        self.assertEqual(self.ask("GET", "/v1/users/alice@example.org").status, 200)
        self.assertNotEqual(self.subscribers.peek("alice@example.org", 0.0), before)
        self.assertEqual(self.ask("POST", "/v1/users/alice@example.org/forget").status, 204)
        self.assertIsNone(self.subscribers.peek("alice@example.org", 0.0))
        self.assertEqual(self.ask("DELETE", "/v1/users/alice@example.org").status, 204)
        self.assertEqual(self.ask("GET", "/v1/users/alice@example.org").status, 404)

    def test_refusals(self) -> None:
        """Who is there already, who is nobody, and what cannot be a name or password is refused, each in its way."""
        self.ask("POST", "/v1/users", ALICE)
        for method, path, body, status in (
            ("POST", "/v1/users", ALICE, 409),
            ("POST", "/v1/users", {**ALICE, "username": "a b"}, 422),
            ("POST", "/v1/users", {**ALICE, "username": "bob", "password": ""}, 422),
            ("POST", "/v1/users", {**ALICE, "ha1": "0"}, 400),
            ("GET", "/v1/users/bob@example.org", None, 404),
            ("GET", "/v1/users/bob", None, 422),
            ("DELETE", "/v1/users/bob@example.org", None, 404),
            ("PUT", "/v1/users/bob@example.org/password", {"password": "x"}, 404),
            ("PUT", "/v1/users/alice@example.org/password", {"password": "x" * 257}, 422),
            ("POST", "/v1/users/a%20b@example.org/forget", None, 422),
        ):
            self.assertEqual(self.ask(method, path, body).status, status, (method, path, body))

    def test_database_is_away(self) -> None:
        """Nothing is claimed of anybody while the database cannot be asked."""
        self.source.store.unavailable = "the server is gone"
        for method, path, body in (
            ("POST", "/v1/users", ALICE),
            ("GET", "/v1/users/alice@example.org", None),
            ("DELETE", "/v1/users/alice@example.org", None),
            ("PUT", "/v1/users/alice@example.org/password", {"password": "x"}),
        ):
            answer = self.ask(method, path, body)
            self.assertEqual(answer.status, 503, (method, path))
            self.assertIn("the server is gone", str(answer.json))

    def test_metrics(self) -> None:
        """Where users are found is counted."""
        self.ask("POST", "/v1/users", ALICE)
        for _ in range(3):
            self.ask("GET", "/v1/users/alice@example.org")
        page = self.metrics.render().decode()
        self.assertIn('rollcall_subscriber_lookups_total{level="database",outcome="found"} 1', page)
        self.assertIn('rollcall_subscriber_lookups_total{level="memory",outcome="found"} 2', page)
        self.assertIn("rollcall_subscribers_cached 1", page)
