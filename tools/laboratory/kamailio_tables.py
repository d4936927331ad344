"""A database as Kamailio's own tools make it: its tables by its own SQL, its users by the statements of kamctl."""

import re
from hashlib import md5
from pathlib import Path

from tools.laboratory.mariadb_process import MariadbProcess

SCRIPTS = Path("/usr/share/kamailio/mysql")
KAMDBCTL = Path("/usr/lib/x86_64-linux-gnu/kamailio/kamctl/kamdbctl.base")
# kamdbctl offers no Unicode and proposes what the server has, which Debian's has not: this is what its file suggests.
CHARSET = "latin1"
_STANDARD = re.compile(r"STANDARD_MODULES:-'([a-z_\s]+)'")

# kamctl's `add` and `passwd`, word for word but for the values.
ADD = "insert into subscriber (username,domain,ha1,ha1b,password) values (%s,%s,%s,%s,%s)"
PASSWD = "update subscriber set ha1=%s, ha1b=%s, password=%s WHERE username=%s and domain=%s"


def standard_modules() -> list[str]:
    """Return the names of the scripts that `kamdbctl create` runs, in its order."""
    found = _STANDARD.search(KAMDBCTL.read_text())
    if found is None:
        raise RuntimeError(f"{KAMDBCTL} names no STANDARD_MODULES")
    return found[1].split()


def make_database(server: MariadbProcess, name: str) -> None:
    """Make a database with Kamailio's standard tables, `subscriber` among them, as `kamdbctl create` does."""
    server.query(f"CREATE DATABASE {name} CHARACTER SET {CHARSET}")
    for module in standard_modules():
        server.script((SCRIPTS / f"{module}-create.sql").read_text(), name)


def add_user(server: MariadbProcess, database: str, username: str, domain: str, password: str, clear: bool) -> None:
    """Add a subscriber as `kamctl add` does, with its password in clear text or, as STORE_PLAINTEXT_PW=0 has it, not.

    Raises pymysql.err.IntegrityError when there is one.
    """
    ha1, ha1b = hashes(username, domain, password)
    server.query(ADD, username, domain, ha1, ha1b, password if clear else "", database=database)


def set_password(server: MariadbProcess, database: str, username: str, domain: str, password: str,
                 clear: bool) -> None:
    """Change a password as `kamctl passwd` does."""
    ha1, ha1b = hashes(username, domain, password)
    server.query(PASSWD, ha1, ha1b, password if clear else "", username, domain, database=database)


def hashes(username: str, domain: str, password: str) -> tuple[str, str]:
    """Return what stands in ha1 and ha1b."""
    return (md5(f"{username}:{domain}:{password}".encode()).hexdigest(),
            md5(f"{username}@{domain}:{domain}:{password}".encode()).hexdigest())
