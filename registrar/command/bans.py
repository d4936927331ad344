"""`rollcall bans` and `rollcall bans lift`: who is not listened to because of wrong passwords."""

from ipaddress import ip_address

import click

from registrar.bans_api import BANS, LIFT
from registrar.command.asking import ask, tell
from registrar.command.settings import Settings, anywhere, full_name, print_json, print_table, with_settings
from registrar.config import RegistrarConfig


@click.group(invoke_without_command=True)
@anywhere
@click.pass_context
@with_settings
def bans(settings: Settings, context: click.Context) -> None:
    """Show who is banned after too many wrong passwords; asks the running registrar."""
    if context.invoked_subcommand is None:
        _show(settings)


@bans.command()
@click.argument("who", metavar="ADDRESS|USER[@DOMAIN]")
@anywhere
@with_settings
def lift(settings: Settings, who: str) -> None:
    """Listen to somebody again, and forget which wrong passwords were counted."""
    config = settings.config()
    answer = tell(config, LIFT, {"who": _meant(config, who)})
    if settings.as_json:
        print_json(answer)
        return
    lifted = answer["lifted"]
    click.echo(f"{who}: {lifted} {'ban' if lifted == 1 else 'bans'} lifted." if lifted else f"{who} was not banned.")


def _show(settings: Settings) -> None:
    answer = ask(settings.config(), BANS)
    if settings.as_json:
        print_json(answer)
    elif answer["bans"]:
        print_table(
            ("user", "source", "for another", "wrong passwords", "worker"),
            (
                (
                    each["user"] or "any",
                    each["source"] or "anywhere",
                    f"{each['seconds_left']} s",
                    str(each["failures"]),
                    str(each.get("worker", "")),
                )
                for each in answer["bans"]
            ),
        )
    else:
        click.echo("Nobody is banned.", err=True)


def _meant(config: RegistrarConfig, who: str) -> str:
    try:
        ip_address(who.partition("/")[0].strip("[]"))
    except ValueError:
        return "@".join(full_name(config, who.removeprefix("sip:"), served=False))
    return who
