"""What alembic runs around our migrations; registrar.database.upgrading hands over the connection.

There is no alembic.ini: `rollcall db upgrade` knows which database it is from the registrar's configuration.
"""

from alembic import context

from registrar.database.upgrading import alembic_settings

given = context.config.attributes
context.configure(**alembic_settings(given.get("connection"), given.get("dialect", "mysql")))
with context.begin_transaction():
    context.run_migrations()
