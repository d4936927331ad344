"""Where the users are, and letting the registrars hear who was changed."""

from collections.abc import Collection

import click

from registrar.config import RegistrarConfig
from registrar.subscribers.announcing import announce_now, concerned, fresh_seconds
from registrar.subscribers.tables import UserTable, open_table


def open_users(config: RegistrarConfig, make: bool = False) -> UserTable:
    """Return the table of users; `make`: an SQLite file that is not there is made. Raises NoSuchSubscriber."""
    users = config.subscribers
    return open_table(users.kind, users, config.mysql, config.path(users.file, "subscribers.sqlite"), make)


def tell_registrars(config: RegistrarConfig, names: Collection[tuple[str, str]] | None) -> bool:
    """Let all registrars above the same Redis forget who was changed, None: everybody; say so when they do not hear it.

    Where users are in SQLite, or there is no Redis, they look for changes themselves. Returns whether they were told.
    """
    if config.subscribers.kind != "mysql" or config.location.kind != "redis":
        return False
    told = None if names is None else [(username, domain.lower()) for username, domain in names]
    if told is not None and not config.subscribers.use_domain:
        told = concerned(told, [domain.name.lower() for domain in config.domains])
    problem = announce_now(config.redis, told, fresh_seconds(config.mysql))
    if problem is not None:
        click.echo(f"Registrars were not told ({problem}): they may know the old password for "
                   f"{config.subscribers.cache_seconds:g} s; later `rollcall user forget` tells them.", err=True)
    return problem is None
