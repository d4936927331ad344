"""`rollcall contacts`: who is registered. Asks the running registrar, which alone knows the connections."""

import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import click

from registrar.command.settings import Settings, anywhere, full_name, print_json, print_table, with_settings
from registrar.config import RegistrarConfig
from registrar.routing import aor_of_name

ADMIN_SECONDS = 10
PAGE_SIZE = 1000


@click.command()
@click.argument("aor", required=False, metavar="[USER[@DOMAIN]]")
@anywhere
@with_settings
def contacts(settings: Settings, aor: str | None) -> None:
    """Show who is registered, and where; asks the running registrar."""
    config = settings.config()
    found = list(_ask_contacts(config, aor))
    if settings.as_json:
        print_json({"contacts": found})
    elif found:
        print_table(
            ("address", "contact", "over", "from", "expires", "agent"),
            (
                (
                    each["aor"],
                    each["contact"],
                    each["transport"],
                    f"{each['host']}:{each['port']}",
                    f"{each['expires_seconds']} s",
                    each["user_agent"] or "",
                )
                for each in found
            ),
        )
    else:
        click.echo("Nobody is registered." if aor is None else f"{aor} is not registered.", err=True)


def _ask_contacts(config: RegistrarConfig, aor: str | None) -> Iterator[Mapping[str, Any]]:
    if aor is not None:
        yield from _ask(config, "/v1/contacts", aor=_aor(config, aor))["contacts"]
        return
    answer = _ask(config, "/v1/contacts", size=PAGE_SIZE)
    yield from answer["contacts"]
    while answer["next"] is not None:
        answer = _ask(config, "/v1/contacts", after=answer["next"])
        yield from answer["contacts"]


def _aor(config: RegistrarConfig, text: str) -> str:
    username, domain = full_name(config, text.removeprefix("sip:"), served=False)
    return aor_of_name(username, domain.lower())


def _ask(config: RegistrarConfig, path: str, **query: object) -> Any:
    """Return what the registrar's admin site answers. Raises ClickException."""
    url = f"{config.admin.url}{path}?{urlencode(query)}"
    headers = {"Authorization": f"Bearer {config.admin.token}"} if config.admin.token else {}
    try:
        with urlopen(Request(url, headers=headers), timeout=ADMIN_SECONDS) as answer:
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
