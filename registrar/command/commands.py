"""The `rollcall` command: users, contacts, nodes and connections, a check of the configuration, and the demonstration.

Exit codes: 0 it is done, 1 it could not be done (a sentence on stderr says why), 2 it was asked for wrongly.
"""

from typing import Any

import click

from registrar.auth import StoreUnavailable
from registrar.command import (
    aliases,
    bans,
    calls,
    check,
    check_sip,
    contacts,
    db,
    demo,
    directors,
    dns,
    forwarding,
    importing,
    media,
    nodes,
    served,
    sites,
    users,
)
from registrar.command.preparing import DemoError
from registrar.command.settings import anywhere
from registrar.database.errors import DatabaseProblem
from registrar.directory.entries import DirectoryProblem
from registrar.subscribers.contract import InvalidSubscriber, NoSuchSubscriber, SubscriberExists
from registrar.subscribers.import_journal import JournalProblem
from registrar.subscribers.import_sources import ImportProblem
from rollcall.ops.config import ConfigError
from rollcall.sql.errors import SqlUnavailable

KNOWN_FAILURES = (
    ConfigError,
    DatabaseProblem,
    DemoError,
    DirectoryProblem,
    ImportProblem,
    InvalidSubscriber,
    JournalProblem,
    NoSuchSubscriber,
    SqlUnavailable,
    StoreUnavailable,
    SubscriberExists,
)


class _Group(click.Group):
    """Turns what can go wrong in the commands into a sentence and exit code 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except KNOWN_FAILURES as error:
            raise click.ClickException(str(error)) from error
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{place}{error.strerror or error}") from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rollcall")
@anywhere
def main() -> None:
    """Look after a Rollcall registrar."""


users.user.add_command(importing.import_users)
for command in (users.user, contacts.contacts, nodes.nodes, nodes.flows, nodes.drain, check.check, db.db, demo.demo):
    main.add_command(command)
for command in (aliases.alias, forwarding.forward, served.domain, bans.bans, calls.calls, media.media, dns.dns,
                sites.sites):
    main.add_command(command)
for command in (directors.keepalived, directors.haproxy, directors.nftables, directors.sysctl, check_sip.check_sip):
    main.add_command(command)
