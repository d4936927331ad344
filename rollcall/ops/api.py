"""What a JSON API is made of, without its sockets: routes, calls, replies, refusals and the bearer token."""

import hmac
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import ip_address
from typing import TypeVar

import msgspec
from attrs import field, frozen

JSON = "application/json"

BodyType = TypeVar("BodyType")


class ApiError(Exception):
    """A refusal: the status to answer and a sentence for the caller."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


@frozen
class Reply:
    """An answer: `value` becomes JSON, unless it is bytes, which stand as they are."""

    value: object = None
    status: int = 200
    content_type: str = JSON
    headers: Mapping[str, str] = field(factory=dict)

    def encode(self) -> bytes:
        return self.value if isinstance(self.value, bytes) else msgspec.json.encode(self.value) + b"\n"


@frozen
class Call:
    """What a route is asked: the parts of the path that were in braces, the query, and the body."""

    parts: Mapping[str, str]
    query: Mapping[str, str]
    content: bytes = b""
    content_type: str = ""

    def text(self, name: str, default: str | None = None) -> str | None:
        """Return a query parameter."""
        return self.query.get(name, default)

    def number(self, name: str, default: int, low: int, high: int) -> int:
        """Return a query parameter that is a whole number from `low` to `high`. Raises ApiError (400)."""
        text = self.query.get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and low <= int(text) <= high):
            raise ApiError(400, f"{name}: {low} to {high} is allowed, not {text!r}")
        return int(text)

    def body(self, kind: type[BodyType]) -> BodyType:
        """Return the JSON body as a `kind`, a msgspec Struct. Raises ApiError (400, 415) that names the field."""
        # A page in a browser can post to this address without being asked, but not with this type.
        if self.content_type.partition(";")[0].strip().lower() != JSON:
            raise ApiError(415, f"the body must be {JSON}, and Content-Type say so")
        try:
            return msgspec.json.decode(self.content, type=kind)
        except msgspec.DecodeError as error:
            raise ApiError(400, str(error)) from error
        except UnicodeDecodeError as error:
            raise ApiError(400, "the body is not UTF-8") from error


Answer = Callable[[Call], Reply | Awaitable[Reply] | object]


class Routes:
    """Which function answers which method and path. A path such as /v1/nodes/{id} has parts in braces."""

    def __init__(self) -> None:
        self._routes: list[tuple[tuple[str, ...], dict[str, Answer]]] = []

    def get(self, path: str, answer: Answer) -> None:
        self.add("GET", path, answer)

    def post(self, path: str, answer: Answer) -> None:
        self.add("POST", path, answer)

    def delete(self, path: str, answer: Answer) -> None:
        self.add("DELETE", path, answer)

    def add(self, method: str, path: str, answer: Answer) -> None:
        """Let `answer(call)` answer; it may be async, and returns a Reply, or the value of one, or None for 204."""
        pattern = tuple(path.strip("/").split("/"))
        methods = next((methods for known, methods in self._routes if known == pattern), None)
        if methods is None:
            methods = {}
            self._routes.append((pattern, methods))
            # fixed parts win over braces, whichever was added first
            self._routes.sort(key=lambda route: [part.startswith("{") for part in route[0]])
        if method in methods:
            raise ValueError(f"{method} {path} is already answered")
        methods[method] = answer

    def find(self, method: str, segments: tuple[str, ...]) -> tuple[Answer, dict[str, str]]:
        """Return the function and the parts for it. Raises ApiError (404, 405)."""
        for pattern, methods in self._routes:
            parts = _match(pattern, segments)
            if parts is None:
                continue
            answer = methods.get("GET" if method == "HEAD" else method)
            if answer is None:
                allow = ", ".join(sorted(methods))
                raise ApiError(405, f"{method} is not allowed here; allowed: {allow}", {"Allow": allow})
            return answer, parts
        raise ApiError(404, "there is nothing at this path")


def _match(pattern: tuple[str, ...], segments: tuple[str, ...]) -> dict[str, str] | None:
    if len(pattern) != len(segments):
        return None
    parts = {}
    for part, segment in zip(pattern, segments, strict=True):
        if part.startswith("{"):
            parts[part.strip("{}")] = segment
        elif part != segment:
            return None
    return parts


class Bearer:
    """Who may ask below /v1: whoever has the token, or without one whoever is on this machine (RFC 6750 §2.1)."""

    def __init__(self, token: str | None) -> None:
        self._token = token.encode() if token else None

    def check(self, authorization: str, host: str, origin: str = "") -> None:
        """Raise ApiError (401, 403) unless these header values are good enough."""
        if self._token is None:
            # Only loopback is bound then; a foreign Host means that a browser was led here by DNS rebinding, and a
            # foreign Origin that a page from elsewhere has it post here (RFC 6454 §7), for which it may need no body.
            if not _is_here(host) or (origin and not _is_here(origin.partition("://")[2])):
                raise ApiError(403, "without a token only this machine may ask, by the name localhost")
            return
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self._token):
            raise ApiError(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})


def _is_here(host: str) -> bool:
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        return name.lower() == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False
