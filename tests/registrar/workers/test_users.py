"""What the admin site of several workers does with users."""

import json
from typing import Any

from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.memory import MemorySource
from registrar.subscribers.store import CachedSubscribers
from registrar.subscribers_api import Users
from registrar.workers.member import answer
from registrar.workers.messages import Answer, Ask
from registrar.workers.users import AllUsers
from rollcall.ops.api import Routes
from tests.registrar.workers.test_site import SiteCase
from tests.registrar.workers.test_supervisor import Child
from tests.rollcall.ops.asking import Answered

ALICE = {"username": "alice", "domain": "example.org", "password": "secret"}
NAME = "/v1/users/alice@example.org"


class AllUsersTests(SiteCase):
    """Workers that answer as real ones do, above one table of users."""

    def setUp(self) -> None:
        super().setUp()
        AllUsers(self.supervisor).mount(self.site.routes)
        self.supervisor.start()
        for child in self.children:
            child.ready()
        subscribers = CachedSubscribers(self.clock, MemorySource(), CacheConfig())
        self.now(subscribers.start())
        self.routes = Routes()
        Users(subscribers).mount(self.routes)
        self.is_silent = False

    def now(self, coroutine: Any) -> Any:
        """Return what comes without waiting."""
        try:
            coroutine.send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it waits")

    def answer(self, child: Child, ask: Ask) -> None:
        """Answer as a worker does."""
        self.asked.append((child.index, ask.path, ask.query))
        if not self.is_silent:
            reply = self.now(answer(self.routes, ask.path, ask.query, ask.content))
            child.say(Answer(ask.number, reply.status, reply.content_type, reply.encode()))

    def change(self, method: str, path: str, body: object = None) -> Answered:
        """Return what the site answers."""
        return self.ask(method, path, body)

    def test_life(self) -> None:
        """A user is added, shown, changed, looked up again and removed: one worker is asked each time."""
        for method, path, body, status in (
            ("POST", "/v1/users", ALICE, 201), ("POST", "/v1/users", ALICE, 409), ("GET", NAME, None, 200),
            ("PUT", NAME + "/password", {"password": "x"}, 204), ("POST", NAME + "/password", {"password": ""}, 422),
            ("POST", NAME + "/forget", None, 204), ("DELETE", NAME, None, 204), ("POST", NAME + "/remove", None, 404),
            ("GET", NAME, None, 404),
        ):
            self.asked.clear()
            answered = self.change(method, path, body)
            self.assertEqual((answered.status, len(self.asked)), (status, 1), (method, path))
            if status == 200:
                self.assertEqual(json.loads(answered.content)["username"], "alice")

    def test_other_worker(self) -> None:
        """While a worker is not there another one is asked; when none is, that is said."""
        self.children[0].end()
        self.assertEqual(self.change("POST", "/v1/users", ALICE).status, 201)
        self.assertEqual([index for index, _, _ in self.asked], [2])
        self.children[1].end()
        self.assertEqual(self.change("GET", NAME).status, 503)

    def test_silent_worker(self) -> None:
        """Nothing is done twice: when a worker does not say whether it did what it was asked, no other is asked."""
        self.is_silent = True
        answered = self.ask("POST", "/v1/users", ALICE, seconds=60)
        self.assertEqual(answered.status, 503)
        self.assertIn("not known", answered.json["error"])
        self.assertEqual(len(self.asked), 1)
