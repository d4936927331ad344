"""The HTTP side of a JSON API: twisted.web in the reactor, with bounded bodies, and errors that are JSON too."""

from collections.abc import Iterator
from inspect import isawaitable
from typing import Any, cast
from urllib.parse import unquote

import msgspec
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import Request as HTTPRequest
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from rollcall.ops.api import JSON, ApiError, Bearer, Call, Reply, Routes

PROTECTED = "v1"
BODY_BYTES = 65536


class Pages(Resource):
    """The routes as a twisted.web resource; paths below /v1 are for bearers only."""

    isLeaf = True
    _log = Logger()

    def __init__(self, routes: Routes, bearer: Bearer) -> None:
        super().__init__()
        self._routes = routes
        self._bearer = bearer

    def render(self, request: HTTPRequest) -> int:
        request.notifyFinish().addErrback(lambda _: None)  # a caller who leaves does not stop what he asked for
        answering = Deferred.fromCoroutine(self._reply(request))
        answering.addCallback(self._send, request)
        answering.addErrback(self._failed, request)
        return NOT_DONE_YET

    async def _reply(self, request: HTTPRequest) -> Reply:
        try:
            return await self._answer(request)
        except ApiError as error:
            return Reply({"error": error.message}, error.status, headers=error.headers)
        except Exception:
            self._log.failure("while answering {method} {path}", method=request.method, path=request.path)
            return Reply({"error": "this failed here, and the log says why"}, 500)

    async def _answer(self, request: HTTPRequest) -> Reply:
        segments = tuple(_segments(request.path))
        if segments[0] == PROTECTED:
            self._bearer.check(
                _header(request, "authorization"), _header(request, "host"), _header(request, "origin"))
        answer, parts = self._routes.find(request.method.decode("latin-1"), segments)
        query = {_text(name): _text(values[-1]) for name, values in request.args.items()}
        content = request.content.read() if request.content else b""
        value = answer(Call(parts, query, content, _header(request, "content-type")))
        if isawaitable(value):
            value = await value
        if value is None:
            return Reply(b"", 204)
        return value if isinstance(value, Reply) else Reply(value)

    def _send(self, reply: Reply, request: HTTPRequest) -> None:
        if request.channel is None:
            return  # he left before the answer
        body = reply.encode()
        request.setResponseCode(reply.status)
        headers = {"Cache-Control": "no-store", **reply.headers}
        if reply.status != 204:
            headers |= {"Content-Type": reply.content_type, "Content-Length": str(len(body))}
        for name, value in headers.items():
            request.setHeader(name, value)
        request.write(body)
        request.finish()

    def _failed(self, failure: Failure, request: HTTPRequest) -> None:
        self._log.failure("while sending the answer to {path}", failure=failure, path=request.path)
        request.loseConnection()


def _segments(path: bytes) -> Iterator[str]:
    for segment in path.strip(b"/").split(b"/"):
        yield unquote(segment.decode("latin-1"))


def _header(request: HTTPRequest, name: str) -> str:
    values = request.requestHeaders.getRawHeaders(name, [])
    return values[0] if values else ""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")


class BoundedRequest(Request):
    """A request whose body may have at most the site's `body_bytes`; a longer one is answered 413 at once."""

    _received = 0
    _refused = False

    def gotLength(self, length: int | None) -> None:
        longest = self._longest()
        super().gotLength(min(length or 0, longest))
        if length is not None and length > longest:
            self._refuse()

    def handleContentChunk(self, data: bytes) -> None:
        if self._refused:
            return
        self._received += len(data)
        if self._received > self._longest():
            self._refuse()
        else:
            super().handleContentChunk(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if not self._refused:
            super().requestReceived(command, path, version)

    def _longest(self) -> int:
        return cast(BoundedSite, cast(Any, self.channel).site).body_bytes

    def _refuse(self) -> None:
        if self._refused:
            return
        self._refused = True
        body = msgspec.json.encode({"error": f"a body may have {self._longest()} bytes"})
        head = (
            f"HTTP/1.1 413 Content Too Large\r\nContent-Type: {JSON}\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        cast(Any, self.channel).transport.write(head.encode() + body)
        cast(Any, self.channel).loseConnection()


class BoundedSite(Site):
    """The factory for such requests; it logs each at debug level, because scrapes come all day."""

    noisy = False
    requestFactory = BoundedRequest
    _log = Logger()

    def __init__(self, resource: Resource, body_bytes: int = BODY_BYTES, **arguments: Any) -> None:
        super().__init__(resource, parsePOSTFormSubmission=False, **arguments)
        self.body_bytes = body_bytes

    def log(self, request: HTTPRequest) -> None:
        self._log.debug("{method} {path} {status}", method=request.method, path=request.path, status=request.code)
