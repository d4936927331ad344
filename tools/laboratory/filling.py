"""The users of a lab, put where its registrars look for them: into a file, or into real MariaDB."""

from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from registrar.subscribers.columns import TableConfig
from registrar.subscribers.contract import subscriber_with
from registrar.subscribers.table import SubscriberTable
from registrar.subscribers.tables import MysqlTable
from rollcall.sql.config import MysqlConfig
from tests.interop.process import InteropError
from tools.laboratory.mariadb_servers import MariadbServers

# What the registrars of a lab are told of the table: as one that serves many domains has it.
TABLE = TableConfig(use_domain=True)
SLICE = 1000


@frozen
class LabUser:
    """Somebody who may register."""

    username: str
    password: str


def fill_file(file: Path, users: Sequence[LabUser], domain: str) -> None:
    """Put users into the table of an SQLite file, which is made."""
    with SubscriberTable(file) as table:
        table.add_all((user.username, domain, user.password) for user in users)


def fill_servers(servers: MariadbServers, users: Sequence[LabUser], domain: str) -> None:
    """Make all tables as `rollcall db upgrade` does, put users in, and return when every replica has them."""
    # SQLAlchemy takes a while to import, which only labs with MySQL have to wait for.
    from registrar.database.engines import engine_of
    from registrar.database.upgrading import upgrade
    from registrar.subscribers.making import make_table

    config = settings_of(servers)
    engine = engine_of(config)
    make_table(engine, TABLE)
    upgrade(engine)
    with MysqlTable(config, TABLE) as table:
        for first in range(0, len(users), SLICE):
            made = [subscriber_with(user.username, domain, user.password) for user in users[first:first + SLICE]]
            if (done := table.add_hashed(made)).added < len(made):
                raise InteropError(f"not all users of the lab could be added: {done}")
    servers.wait_until_equal()


def settings_of(servers: MariadbServers) -> MysqlConfig:
    """Return the section [mysql] as a registrar reads it."""
    settings = servers.settings
    return MysqlConfig(**{**settings, "replicas": tuple(settings["replicas"])})
