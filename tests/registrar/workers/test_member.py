"""What a worker answers when its supervisor asks it as its admin site would be asked."""

import json

import msgspec
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.workers.member import answer
from rollcall.ops.api import Call, Routes


class Wish(msgspec.Struct):
    """A body."""

    undo: bool = False


class AnswerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.routes = Routes()
        self.routes.get("/v1/things/{name}", lambda call: {"name": call.parts["name"], "query": dict(call.query)})
        self.routes.post("/v1/things/{name}", self.post)

    async def post(self, call: Call) -> dict[str, object]:
        """Take a wish."""
        return {"name": call.parts["name"], "undo": call.body(Wish).undo}

    def answer(self, path: str, content: bytes | None = None) -> tuple[int, object]:
        """Return status and content of an answer."""
        reply = self.successResultOf(Deferred.fromCoroutine(answer(self.routes, path, {"size": "1"}, content)))
        return reply.status, json.loads(reply.encode())

    def test_get(self) -> None:
        """Without content it is a GET, with its query and the parts of its path as they were meant."""
        self.assertEqual(self.answer("/v1/things/a%20b%2Fc"), (200, {"name": "a b/c", "query": {"size": "1"}}))

    def test_post(self) -> None:
        """With content it is a POST of JSON."""
        self.assertEqual(self.answer("/v1/things/a", b'{"undo":true}'), (200, {"name": "a", "undo": True}))

    def test_refused(self) -> None:
        """What the site would refuse is refused, with its reason."""
        self.assertEqual(self.answer("/v1/nothing"), (404, {"error": "there is nothing at this path"}))
        self.assertEqual(self.answer("/v1/things/a", b"x")[0], 400)
