"""A whole registrar over a database that Kamailio's scripts made, with users added as kamctl does: phones register.

The registrar's user may read that one table and nothing else, and afterwards nothing in the database has changed.
"""

import tempfile
from pathlib import Path
from typing import Any

from rollcall.sip.message import Response
from tests.cluster.table_case import TableCase
from tests.interop.baresip import Account, Baresip
from tests.interop.case import TROUBLE
from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK
from tests.interop.registrar_process import RegistrarProcess
from tests.interop.script import DOMAIN, HERE, Script, says
from tests.interop.sipp import Sipp
from tools.laboratory.mariadb_servers import KAMAILIO_DATABASE
from tools.laboratory.toml import toml_of

OTHER = "sip.elsewhere"
TRANSPORTS = "udp", "tcp"
READING = ("SELECT", "SHOW", "SET ", "COMMIT", "ROLLBACK", "BEGIN")


class LongNamePhone(Phone):
    """A phone that names itself with its domain when it proves who it is."""

    def credentials(self, challenge: str, method: str, uri: str, body: bytes = b"") -> str:
        """Return the value of an Authorization header."""
        user, self.user = self.user, f"{self.user}@{self.domain}"
        try:
            return super().credentials(challenge, method, uri, body)
        finally:
            self.user = user


class KamailioPhonesTests(TableCase):
    def setUp(self) -> None:
        self.make_kamailio()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.here = Path(folder.name)
        user = f"{self.mysql.user}@{LOOPBACK}"
        self.sql(f"REVOKE ALL ON {KAMAILIO_DATABASE}.* FROM {user}")
        self.sql(f"GRANT SELECT ON {KAMAILIO_DATABASE}.subscriber TO {user}")
        self.addCleanup(self.sql, f"GRANT ALL ON {KAMAILIO_DATABASE}.* TO {user}")

    def run_registrar(self, **subscribers: Any) -> None:
        """Start a registrar over the database; it ends with the test, and its log must be content."""
        mysql = {**self.mysql.settings, "database": KAMAILIO_DATABASE}
        sections = toml_of({"domain": [{"name": OTHER}], "mysql": mysql,
                            "subscribers": {"kind": "mysql", "recheck_seconds": 0.001, **subscribers}})
        self.registrar = RegistrarProcess(self.here / "registrar", (), sections, DOMAIN, TRANSPORTS)
        self.registrar.start()
        self.addCleanup(self.registrar.stop)

    def check_log(self) -> None:
        """Expect no error of ours in the log, and that it tells once that our tables are missing."""
        lines = self.registrar.process.text().splitlines()
        told = [line for line in lines if "rollcall db upgrade" in line]
        self.assertEqual(len(told), len({line.partition(" ")[2] for line in told}), told)
        self.assertTrue(any("rollcall_change" in line for line in told), told)
        self.assertEqual([line for line in lines if any(word in line for word in TROUBLE)], [])

    # --- phones

    def play_sipp(self, user: str, password: str, transport: str) -> None:
        """Let sipp register, be challenged, prove the password, and be told its contact."""
        script = Script(user)
        contact = f"Contact: {HERE.format(user=user)}"
        script.register(contact)
        script.expect(401)
        script.register(contact, "[authentication]")
        script.expect(200, says("\nContact: "))
        scenario = self.here / f"{user}-{transport}.xml"
        scenario.write_text(script.xml)
        sipp = Sipp(scenario, self.here / f"sipp-{user}-{transport}", self.registrar.address(transport), transport,
                    credentials=(user, password), auth_uri=DOMAIN, call_id=f"{user}-{transport}")
        self.addCleanup(sipp.end)
        sipp.check()

    def run_baresip(self, user: str, password: str) -> None:
        """Let baresip register, and wait until it is."""
        account = Account(user, password, DOMAIN, "tcp", address=self.registrar.address("tcp"))
        phone = Baresip(account, self.here / f"baresip-{user}")
        self.addCleanup(phone.finish)
        self.registrar.wait_contacts(user, 1)

    def register(self, user: str, password: str, domain: str = DOMAIN, agent: str = "Phone/1",
                 kind: type[Phone] = Phone) -> Response:
        """Return the last answer to a phone of ours that registers."""
        with kind("UDP", (LOOPBACK, self.registrar.ports["udp"]), user, domain, password) as phone:
            return phone.register(headers=[("User-Agent", agent)])

    def challenges(self, user: str, agent: str) -> list[str]:
        """Return which algorithms are offered to a phone that has proved itself by none."""
        answer = self.register(user, "", agent=agent)
        return [value.split("algorithm=")[1].split(",")[0] for value in answer.get_all("WWW-Authenticate")]

    # --- what is shown

    def try_phones(self, algorithms: list[str]) -> None:
        """Let phones of every kind come: those with the password register, and the others do not."""
        self.mysql.primary.note_statements()
        before = self.traces()
        for transport in TRANSPORTS:
            self.play_sipp("alice", "wonder", transport)
        self.run_baresip("bob", "builder")
        self.assertEqual(self.register("alice", "wonder", kind=LongNamePhone).status, 200)
        self.assertEqual(self.register("alice", "wonder", agent="Linphone/5.1").status, 200)
        self.assertEqual(self.challenges("alice", "Linphone/5.1"), algorithms)
        for user, password in (("alice", "other"), ("Alice", "wonder"), ("mallory", "wonder")):
            self.assertEqual(self.register(user, password).status, 401, user)
        self.assertEqual(self.traces(), before)
        asked = self.mysql.primary.statements(self.mysql.user)
        self.assertEqual([text for text in asked if not text.upper().lstrip().startswith(READING)], [])
        self.assertGreaterEqual(len([text for text in asked if "FROM `subscriber`" in text]), 3)
        self.check_log()

    def add_users(self, clear: bool) -> None:
        """Add Alice and Bob as kamctl does, with passwords in clear text or without."""
        for name, password in (("alice", "wonder"), ("bob", "builder")):
            self.mysql.add_as_kamctl(name, DOMAIN, password, clear=clear)

    def test_hashes(self) -> None:
        """As Kamailio is set by default: a username alone, and hashes by MD5."""
        self.add_users(clear=False)
        self.run_registrar()
        self.try_phones(["MD5"])

    def test_hashes_with_domains(self) -> None:
        """With use_domain the same username is somebody else in another domain."""
        self.add_users(clear=True)
        self.mysql.add_as_kamctl("alice", OTHER, "glass")
        self.run_registrar(use_domain=True)
        self.try_phones(["MD5"])
        self.assertEqual(self.register("alice", "glass", OTHER).status, 200)
        self.assertEqual(self.register("alice", "wonder", OTHER).status, 401)
        self.assertEqual(self.register("bob", "builder", OTHER).status, 401)

    def test_clear_text(self) -> None:
        """With calculate_ha1 passwords in clear text do, for every algorithm and in every domain; hashes do not."""
        self.add_users(clear=True)
        self.sql("UPDATE subscriber SET ha1 = REPEAT('0', 32), ha1b = '', domain = ''")
        self.run_registrar(calculate_ha1=True)
        self.try_phones(["SHA-256", "SHA-512-256", "MD5"])
        self.assertEqual(self.register("alice", "wonder", OTHER).status, 200)

    def test_clear_text_with_domains(self) -> None:
        """With both, each domain has its users and their passwords in clear text."""
        self.add_users(clear=True)
        self.mysql.add_as_kamctl("alice", OTHER, "glass")
        self.sql("UPDATE subscriber SET ha1 = '', ha1b = ''")
        self.run_registrar(use_domain=True, calculate_ha1=True)
        self.try_phones(["SHA-256", "SHA-512-256", "MD5"])
        self.assertEqual(self.register("alice", "glass", OTHER, agent="Linphone/5.1").status, 200)
        self.assertEqual(self.register("bob", "builder", OTHER).status, 401)

    def test_changed_by_kamctl(self) -> None:
        """A password that kamctl changes, and a user whom it adds, are good at once, whatever is remembered."""
        self.add_users(clear=True)
        self.run_registrar()
        self.assertEqual(self.register("alice", "wonder").status, 200)
        self.assertEqual(self.register("dora", "new").status, 401)
        self.mysql.passwd_as_kamctl("alice", DOMAIN, "hatter")
        self.assertEqual(self.register("alice", "hatter").status, 200)
        self.assertEqual(self.register("alice", "wonder").status, 401)
        self.mysql.add_as_kamctl("dora", DOMAIN, "new")
        self.assertEqual(self.register("dora", "new").status, 200)
        self.check_log()
