"""The HTTP side: answers, refusals, bounded bodies, and callers who leave."""

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.api import ApiError, Bearer, Call, Reply, Routes
from rollcall.ops.site import BoundedSite, Pages
from tests.rollcall.ops.asking import Answered, Connection, ask, written


class Named(msgspec.Struct):
    """A body."""

    name: str


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes()
        self.site = self.make_site(None)

    def make_site(self, token: str | None) -> BoundedSite:
        pages = Pages(self.routes, Bearer(token))
        return BoundedSite(pages, body_bytes=100, timeout=30, reactor=MemoryReactorClock())

    def answer(self, answer: Callable[[Call], Any], path: str = "/v1/x", method: str = "GET") -> Answered:
        """Return what a caller of this route gets."""
        self.routes.add(method, "/v1/x", answer)
        return ask(self.site, method, path)

    def test_value(self) -> None:
        """A value is answered as JSON with 200, its length, and the wish that nobody keeps it."""
        answered = self.answer(lambda call: {"nodes": [1, 2]})
        self.assertEqual((answered.status, answered.json), (200, {"nodes": [1, 2]}))
        self.assertEqual(answered.headers["content-type"], "application/json")
        self.assertEqual(answered.headers["cache-control"], "no-store")

    def test_reply(self) -> None:
        """A Reply decides the status, the headers and the type."""
        answered = self.answer(lambda call: Reply(b"text", 202, "text/plain", {"X-Y": "z"}))
        self.assertEqual((answered.status, answered.content, answered.headers["x-y"]), (202, b"text", "z"))

    def test_nothing(self) -> None:
        """None is 204 without a body."""
        answered = self.answer(lambda call: None)
        self.assertEqual((answered.status, answered.content), (204, b""))

    def test_later(self) -> None:
        """An answer may take its time."""
        waiting: Deferred[str] = Deferred()

        async def later(call: Call) -> str:
            return await waiting

        self.routes.get("/v1/x", later)
        connection = Connection(self.site)
        connection.send(written("GET", "/v1/x"))
        self.assertEqual(connection.answers(), [])
        waiting.callback("now")
        self.assertEqual([answered.json for answered in connection.answers()], ["now"])

    def test_page_from_elsewhere(self) -> None:
        """A page from elsewhere that has a browser post here, which takes no body, is refused without a token."""
        asked: list[Call] = []
        self.routes.post("/v1/x", asked.append)
        for origin in ("https://evil.example", "null", "http://localhost.evil.example:8060"):
            self.assertEqual(ask(self.site, "POST", "/v1/x", origin=origin).status, 403, origin)
        self.assertEqual(asked, [])
        for origin in ("http://localhost:8060", "http://[::1]:8060"):
            self.assertEqual(ask(self.site, "POST", "/v1/x", origin=origin).status, 204, origin)
        self.site = self.make_site("t0p")
        answered = ask(self.site, "POST", "/v1/x", origin="https://admin.example", authorization="Bearer t0p")
        self.assertEqual(answered.status, 204)

    def test_the_caller_leaves(self) -> None:
        """A caller who leaves stops nothing, and nobody is answered or blamed."""
        waiting: Deferred[str] = Deferred()
        done = []

        async def later(call: Call) -> str:
            done.append(await waiting)
            return "late"

        self.routes.get("/v1/x", later)
        connection = Connection(self.site)
        connection.send(written("GET", "/v1/x"))
        connection.transport.loseConnection()
        waiting.callback("done")
        self.assertEqual((done, connection.answers()), (["done"], []))

    def test_query_and_parts(self) -> None:
        """Parts of the path and the query arrive decoded, a coded slash included."""
        self.routes.get("/v1/users/{name}", lambda call: [dict(call.parts), dict(call.query)])
        answered = ask(self.site, "GET", "/v1/users/a%2Fb%C3%A9?aor=sip%3Aa%40b&empty=")
        self.assertEqual(answered.json, [{"name": "a/bé"}, {"aor": "sip:a@b", "empty": ""}])

    def test_head(self) -> None:
        """HEAD is answered with the headers of GET alone."""
        self.routes.get("/v1/x", lambda call: "abc")
        connection = Connection(self.site)
        connection.send(written("HEAD", "/v1/x"))
        value = connection.transport.value()
        self.assertTrue(value.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(value.endswith(b"\r\n\r\n"))

    def test_refusals_are_json(self) -> None:
        """A refusal is JSON with its status and a sentence."""
        self.routes.post("/v1/x", lambda call: call.body(Named).name)
        for method, path, body, status in (
            ("GET", "/v1/none", None, 404),
            ("GET", "/", None, 404),
            ("GET", "/v1/x", None, 405),
            ("BREW", "/v1/x", None, 405),
            ("POST", "/v1/x", {}, 400),
            ("POST", "/v1/x", b"{", 400),
        ):
            answered = ask(self.site, method, path, body)
            self.assertEqual(answered.status, status, path)
            self.assertTrue(answered.json["error"])
        self.assertIn("name", ask(self.site, "POST", "/v1/x", {}).json["error"])
        self.assertEqual(ask(self.site, "GET", "/v1/x").headers["allow"], "POST")

    def test_raised_refusal(self) -> None:
        """A route may refuse by raising."""

        async def refuse(call: Call) -> object:
            raise ApiError(409, "not now")

        answered = self.answer(refuse)
        self.assertEqual((answered.status, answered.json), (409, {"error": "not now"}))

    def test_failure(self) -> None:
        """A route that fails is 500 without details, which are in the log."""
        answered = self.answer(lambda call: 1 / 0)
        self.assertEqual(answered.status, 500)
        self.assertNotIn("division", answered.json["error"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_an_answer_that_is_no_json(self) -> None:
        """A value that cannot be JSON is logged, and the caller's connection ends."""
        self.routes.get("/v1/x", lambda call: object())
        connection = Connection(self.site)
        connection.send(written("GET", "/v1/x"))
        self.assertFalse(connection.transport.connected)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)

    def test_token(self) -> None:
        """Below /v1 the token is asked for, before it is told what there is; elsewhere it is not."""
        self.routes.get("/v1/x", lambda call: "x")
        self.routes.get("/healthz", lambda call: "y")
        site = self.make_site("t0p")
        for path in ("/v1/x", "/v1/none", "/v1", "/%76%31/x", "//v1/x"):
            answered = ask(site, "GET", path)
            self.assertEqual((answered.status, answered.headers["www-authenticate"]), (401, "Bearer"), path)
        self.assertEqual(ask(site, "GET", "/v1/x", authorization="Bearer t0p").json, "x")
        self.assertEqual(ask(site, "GET", "/healthz").json, "y")

    def test_two_on_one_connection(self) -> None:
        """Requests behind one another on a connection are answered in order."""
        self.routes.get("/v1/users/{name}", lambda call: call.parts["name"])
        connection = Connection(self.site)
        connection.send(written("GET", "/v1/users/a") + written("GET", "/v1/users/b"))
        self.assertEqual([answered.json for answered in connection.answers()], ["a", "b"])


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        routes = Routes()
        routes.post("/v1/x", lambda call: len(call.content))
        self.site = BoundedSite(Pages(routes, Bearer(None)), body_bytes=100, reactor=MemoryReactorClock())
        self.connection = Connection(self.site)

    def test_as_long_as_allowed(self) -> None:
        """A body of just the allowed length is taken, in one piece or in chunks."""
        self.assertEqual(ask(self.site, "POST", "/v1/x", b"x" * 100).json, 100)
        self.connection.send(written("POST", "/v1/x", transfer_encoding="chunked"))
        self.connection.send(b"32\r\n" + b"x" * 50 + b"\r\n" + b"32\r\n" + b"y" * 50 + b"\r\n0\r\n\r\n")
        self.assertEqual([answered.json for answered in self.connection.answers()], [100])

    def test_announced_too_long(self) -> None:
        """A body announced too long is refused before it comes, and the connection ends."""
        self.connection.send(written("POST", "/v1/x", content_length="101"))
        (answered,) = self.connection.answers()
        self.assertEqual((answered.status, answered.json), (413, {"error": "a body may have 100 bytes"}))
        self.assertFalse(self.connection.transport.connected)

    def test_whole_but_too_long(self) -> None:
        """A body too long that comes at once is refused once."""
        self.connection.send(written("POST", "/v1/x", b"x" * 101))
        self.assertEqual([answered.status for answered in self.connection.answers()], [413])

    def test_chunks_without_end(self) -> None:
        """Chunks that grow too long are refused as soon as they do."""
        self.connection.send(written("POST", "/v1/x", transfer_encoding="chunked"))
        self.connection.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        self.assertEqual(self.connection.answers(), [])
        self.connection.send(b"1\r\nx\r\n")
        self.assertEqual([answered.status for answered in self.connection.answers()], [413])
        self.assertFalse(self.connection.transport.connected)
