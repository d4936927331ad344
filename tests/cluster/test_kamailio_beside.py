"""Kamailio and its kamctl, as Debian has them, go on using the table that we use: each lets in whom the other added."""

import os
import subprocess
import tempfile
from pathlib import Path

from tests.cluster.table_case import DOMAIN, TableCase
from tests.cluster.test_kamailio_phones import LongNamePhone
from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK, Process, free_ports
from tools.laboratory.mariadb_servers import KAMAILIO_DATABASE

COMMAND_SECONDS = 60
CONFIG = """\
children=1
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/"
loadmodule "db_mysql.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "auth.so"
loadmodule "auth_db.so"
modparam("auth_db", "db_url", "mysql://{user}:{password}@{host}:{port}/{database}")
modparam("auth_db", "use_domain", {use_domain})
modparam("auth_db", "calculate_ha1", {calculate_ha1})
modparam("auth_db", "password_column", "{column}")
request_route {{
    if (!www_authorize("$td", "subscriber")) {{
        www_challenge("$td", "0");
        exit;
    }}
    sl_send_reply("200", "OK");
}}
"""
KAMCTLRC = """\
SIP_DOMAIN={domain}
DBENGINE=MYSQL
DBHOST={host}
DBPORT={port}
DBNAME={database}
DBRWUSER={user}
DBRWPW="{password}"
DBROUSER={user}
DBROPW="{password}"
STORE_PLAINTEXT_PW={clear}
"""


class KamailioBesideTests(TableCase):
    def setUp(self) -> None:
        self.make_kamailio()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name)
        self.known = {"user": self.mysql.user, "password": self.mysql.password, "host": LOOPBACK,
                      "port": self.mysql.primary.port, "database": KAMAILIO_DATABASE}

    def kamctl(self, *words: str, clear: bool = True) -> None:
        """Run the real kamctl."""
        (self.here / ".kamctlrc").write_text(KAMCTLRC.format(domain=DOMAIN, clear=int(clear), **self.known))
        done = subprocess.run(["kamctl", *words], env={**os.environ, "HOME": str(self.here)}, cwd=self.here,
                              capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False)
        self.assertEqual((done.returncode, "ERROR" in done.stdout + done.stderr), (0, False), done)

    def run_kamailio(self, use_domain: bool, calculate_ha1: bool) -> None:
        """Start a Kamailio that lets in whom the table knows, and nothing else; it ends with the test."""
        (self.sip,) = free_ports(1)
        file = self.here / "kamailio.cfg"
        file.write_text(CONFIG.format(use_domain=int(use_domain), calculate_ha1=int(calculate_ha1),
                                      column="password" if calculate_ha1 else "ha1", **self.known))
        kamailio = Process(["kamailio", "-DD", "-E", "-f", str(file), "-l", f"udp:{LOOPBACK}:{self.sip}", "-m", "32",
                            "-Y", str(self.here), "-w", str(self.here)], self.here / "kamailio.log")
        self.addCleanup(kamailio.end)
        kamailio.wait_until(lambda: self._answers() or None, "answer")

    def _answers(self) -> bool:
        try:
            return self.status("nobody", "") == 401
        except AssertionError:
            return False

    def status(self, user: str, password: str, kind: type[Phone] = Phone) -> int:
        """Return what Kamailio answers to a phone at the end."""
        with kind("UDP", (LOOPBACK, self.sip), user, DOMAIN, password) as phone:
            seconds = 1.0 if user == "nobody" else COMMAND_SECONDS
            fields = [("Contact", f"<{phone.contact}>")]
            request = phone.make("REGISTER", f"sip:{DOMAIN}", fields, to=f"<sip:{user}@{DOMAIN}>")
            return phone.ask(request, seconds).status

    def test_kamctl(self) -> None:
        """What the real kamctl adds and changes we find; and the tests' own statements make the same rows."""
        for clear in (True, False):
            name = "clear" if clear else "hashed"
            self.kamctl("add", f"{name}@{DOMAIN}", "old", clear=clear)
            self.mysql.add_as_kamctl(f"{name}-twin", DOMAIN, "old", clear=clear)
            self.kamctl("passwd", f"{name}@{DOMAIN}", "wonder", clear=clear)
            self.mysql.passwd_as_kamctl(f"{name}-twin", DOMAIN, "wonder", clear=clear)
            rows = self.sql("SELECT username, password FROM subscriber WHERE username LIKE %s ORDER BY id", f"{name}%")
            self.assertEqual(rows, [(each, "wonder" if clear else "") for each in (name, f"{name}-twin")])
            for each in (name, f"{name}-twin"):
                found = self.table(use_domain=True).find(each, DOMAIN)
                expected = self.mysql_hashes(each, "wonder")
                self.assertEqual(None if found is None else (found.ha1, found.ha1b), expected)

    def mysql_hashes(self, user: str, password: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the hashes of both forms, as MariaDB computes them."""
        ((short, long),) = self.sql("SELECT MD5(%s), MD5(%s)", f"{user}:{DOMAIN}:{password}",
                                    f"{user}@{DOMAIN}:{DOMAIN}:{password}")
        return {"MD5": short}, {"MD5": long}

    def check_kamailio(self, use_domain: bool, calculate_ha1: bool) -> None:
        """Let Kamailio take phones of users whom we have added and changed, and refuse everybody else."""
        self.kamctl("add", f"bob@{DOMAIN}", "old")
        table = self.table(use_domain=use_domain, calculate_ha1=calculate_ha1)
        table.add("alice", DOMAIN, "wonder")
        table.set_password("bob", DOMAIN, "builder")
        table.add("carol", DOMAIN, "gone")
        table.remove("carol", DOMAIN)
        self.run_kamailio(use_domain, calculate_ha1)
        for user, password in (("alice", "wonder"), ("bob", "builder")):
            self.assertEqual(self.status(user, password), 200)
            self.assertEqual(self.status(user, password, LongNamePhone), 200)
        for user, password in (("bob", "old"), ("carol", "gone"), ("alice", "builder")):
            self.assertEqual(self.status(user, password), 401)

    def test_hashes(self) -> None:
        """Kamailio with its defaults takes the hashes that we write."""
        self.check_kamailio(use_domain=False, calculate_ha1=False)

    def test_clear_text(self) -> None:
        """Kamailio that computes hashes itself takes the passwords in clear text that we keep up."""
        self.check_kamailio(use_domain=True, calculate_ha1=True)
