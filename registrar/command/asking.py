"""How commands ask the running registrar: by its admin site, with the token of its configuration."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlencode
from urllib.request import Request, urlopen

import click

from registrar.command.settings import full_name
from registrar.config import RegistrarConfig
from registrar.routing import aor_of_name

ADMIN_SECONDS = 10
PAGE_SIZE = 1000


def ask(config: RegistrarConfig, path: str, **query: object) -> Any:
    """Return what the registrar's admin site answers. Raises ClickException."""
    return _answered(config, Request(f"{config.admin.url}{path}?{urlencode(query)}"))


def tell(config: RegistrarConfig, path: str, body: Mapping[str, object]) -> Any:
    """Return what it answers to a POST. Raises ClickException."""
    headers = {"Content-Type": "application/json"}
    return _answered(config, Request(f"{config.admin.url}{path}", json.dumps(body).encode(), headers))


def ask_all(config: RegistrarConfig, path: str, name: str, **query: object) -> Iterator[Mapping[str, Any]]:
    """Yield all that it lists under `name`, page by page. Raises ClickException."""
    answer = ask(config, path, size=PAGE_SIZE, **query)
    yield from answer[name]
    while answer["next"] is not None:
        answer = ask(config, path, after=answer["next"])
        yield from answer[name]


def meant_aor(config: RegistrarConfig, text: str) -> str:
    """Return the address-of-record that is meant by "alice", "alice@example.com" or "sip:alice@example.com"."""
    username, domain = full_name(config, text.removeprefix("sip:"), served=False)
    return aor_of_name(username, domain.lower())


def in_path(text: str) -> str:
    """Return `text` as a part of a path."""
    return quote(text, safe="")


def _answered(config: RegistrarConfig, request: Request) -> Any:
    if config.admin.token:
        request.add_header("Authorization", f"Bearer {config.admin.token}")
    try:
        with urlopen(request, timeout=ADMIN_SECONDS) as answer:
            return json.load(answer)
    except HTTPError as error:
        raise click.ClickException(
            f"the registrar at {config.admin.url} answers {error.code}: {_said(error)}"
        ) from error
    except (URLError, TimeoutError) as error:
        reason = getattr(error, "reason", error)
        raise click.ClickException(f"no registrar answers at {config.admin.url} ({reason}); does it run?") from error


def _said(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
