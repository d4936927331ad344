"""The parts of a JSON API: which route answers, what a call asks, and who may ask."""

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.api import ApiError, Bearer, Call, Reply, Routes


class Choice(msgspec.Struct, forbid_unknown_fields=True):
    """A body."""

    call_id: str
    count: int = 1


def nothing(call: Call) -> None:
    """Answer with nothing."""


def something(call: Call) -> str:
    """Answer with something."""
    return "something"


class RoutesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes()

    def refusal(self, method: str, *segments: str) -> ApiError:
        error: ApiError = self.assertRaises(ApiError, self.routes.find, method, segments)
        return error

    def test_path_and_method(self) -> None:
        """The route with this path and method answers; HEAD is answered like GET."""
        self.routes.get("/v1/nodes", nothing)
        self.routes.post("/v1/nodes", something)
        self.assertEqual(self.routes.find("GET", ("v1", "nodes")), (nothing, {}))
        self.assertEqual(self.routes.find("HEAD", ("v1", "nodes")), (nothing, {}))
        self.assertEqual(self.routes.find("POST", ("v1", "nodes")), (something, {}))

    def test_parts_in_braces(self) -> None:
        """A part in braces takes any segment and hands it over by its name."""
        self.routes.delete("/v1/placements/{id}", nothing)
        self.assertEqual(self.routes.find("DELETE", ("v1", "placements", "a/b")), (nothing, {"id": "a/b"}))

    def test_fixed_parts_win(self) -> None:
        """A fixed path wins over one with braces, in whichever order they were added."""
        self.routes.get("/v1/nodes/{id}", nothing)
        self.routes.get("/v1/nodes/best", something)
        self.assertEqual(self.routes.find("GET", ("v1", "nodes", "best"))[0], something)
        self.assertEqual(self.routes.find("GET", ("v1", "nodes", "n1"))[0], nothing)

    def test_unknown_path(self) -> None:
        """A path that nobody answers is 404, shorter and longer ones too."""
        self.routes.get("/v1/nodes", nothing)
        for segments in (("v1",), ("v1", "node"), ("v1", "nodes", ""), ("",)):
            self.assertEqual(self.refusal("GET", *segments).status, 404)

    def test_unknown_method(self) -> None:
        """A path that is answered, but not by this method, is 405 with what is allowed."""
        self.routes.get("/v1/nodes", nothing)
        self.routes.post("/v1/nodes", something)
        refusal = self.refusal("DELETE", "v1", "nodes")
        self.assertEqual((refusal.status, refusal.headers), (405, {"Allow": "GET, POST"}))

    def test_twice(self) -> None:
        """Two answers to the same method and path are a mistake of ours."""
        self.routes.get("/v1/nodes", nothing)
        self.assertRaises(ValueError, self.routes.get, "/v1/nodes", something)


class CallTests(SynchronousTestCase):
    def test_query(self) -> None:
        """Query parameters are texts with defaults, or bounded whole numbers."""
        call = Call({}, {"aor": "sip:a@b", "page": "7"})
        self.assertEqual(call.text("aor"), "sip:a@b")
        self.assertEqual(call.text("none", "x"), "x")
        self.assertEqual(call.number("page", 1, 1, 10), 7)
        self.assertEqual(call.number("size", 50, 1, 100), 50)

    def test_numbers_out_of_bounds(self) -> None:
        """A number that is none, or not within the bounds, is 400 with the parameter's name."""
        for text in ("0", "11", "x", "", "-1", "１"):
            error = self.assertRaises(ApiError, Call({}, {"page": text}).number, "page", 1, 1, 10)
            self.assertEqual(error.status, 400)
            self.assertIn("page", error.message)

    def test_body(self) -> None:
        """A JSON body becomes the asked type; parameters of its media type do not matter."""
        call = Call({}, {}, b'{"call_id": "x"}', "application/json; charset=utf-8")
        self.assertEqual(call.body(Choice), Choice("x", 1))

    def test_bad_body(self) -> None:
        """A body that does not fit is 400 and names the field, a broken one says so."""
        for content, said in (
            (b"{}", "call_id"),
            (b'{"call_id": 5}', "$.call_id"),
            (b'{"call_id": "x", "cuont": 5}', "cuont"),
            (b'{"call_id": "x", "count": "many"}', "$.count"),
            (b"{", "truncated"),
            (b"", "truncated"),
            (b'{"call_id": "\xff"}', "UTF-8"),
        ):
            error = self.assertRaises(ApiError, Call({}, {}, content, "application/json").body, Choice)
            self.assertEqual(error.status, 400)
            self.assertIn(said, error.message)

    def test_body_of_another_type(self) -> None:
        """A body that does not say to be JSON is 415: no page in a browser can send one that does unasked."""
        for content_type in ("", "text/plain", "application/x-www-form-urlencoded"):
            error = self.assertRaises(ApiError, Call({}, {}, b'{"call_id": "x"}', content_type).body, Choice)
            self.assertEqual(error.status, 415)


class ReplyTests(SynchronousTestCase):
    def test_json(self) -> None:
        """A value becomes one line of JSON; bytes stay what they are."""
        self.assertEqual(Reply({"a": [1, None]}).encode(), b'{"a":[1,null]}\n')
        self.assertEqual(Reply(b"as it is").encode(), b"as it is")


class BearerTests(SynchronousTestCase):
    def refused(self, token: str | None, authorization: str, host: str) -> int | None:
        """Return the status of the refusal, or None."""
        try:
            Bearer(token).check(authorization, host)
        except ApiError as error:
            return error.status
        return None

    def test_token(self) -> None:
        """With a token only those who show it may ask, from any host."""
        self.assertIsNone(self.refused("t0p", "Bearer t0p", "admin.example.com"))
        self.assertIsNone(self.refused("t0p", "bearer  t0p ", ""))
        for authorization in ("", "Bearer", "Bearer t0", "Bearer t0pp", "Basic t0p", "t0p", "Bearer tôp"):
            self.assertEqual(self.refused("t0p", authorization, "localhost"), 401, authorization)

    def test_no_token(self) -> None:
        """Without a token only loopback is bound, and a Host of another name is refused (DNS rebinding)."""
        for host in ("localhost", "localhost:8060", "LOCALHOST", "127.0.0.1:8060", "[::1]:8060", "127.9.9.9"):
            self.assertIsNone(self.refused(None, "", host), host)
        for host in ("", "evil.example.com", "evil.example.com:8060", "192.0.2.1", "[2001:db8::1]:8060", "[::1"):
            self.assertEqual(self.refused(None, "", host), None if host == "[::1" else 403, host)
