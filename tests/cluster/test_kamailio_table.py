"""Users in tables that Kamailio's own SQL and OpenSIPS' made, added as kamctl does: found, and changed alone."""

from hashlib import md5
from typing import Any

from registrar.auth import StoreUnavailable, Subscriber
from registrar.subscribers.contract import InvalidSubscriber, NoSuchSubscriber, SubscriberExists, subscriber_with
from registrar.subscribers.tables import MysqlTable
from rollcall.sip.digest import ALGORITHMS, ha1
from tests.cluster.table_case import DOMAIN, TableCase
from tools.laboratory.mariadb_servers import DATABASE

OTHER = "example.net"


def plain(subscriber: Subscriber | None) -> tuple[str, str, dict[str, str], dict[str, str]] | None:
    """Return a subscriber's values, whatever mappings they are in."""
    if subscriber is None:
        return None
    return subscriber.username, subscriber.domain, dict(subscriber.ha1), dict(subscriber.ha1b)


def by_md5(username: str, domain: str, password: str) -> tuple[str, str, dict[str, str], dict[str, str]]:
    """Return what is found of a user of kamctl's."""
    long_name = f"{username}@{domain}"
    return (username, domain, {"MD5": ha1("MD5", username, domain, password)},
            {"MD5": ha1("MD5", long_name, domain, password)})


class KamailioTableTests(TableCase):
    """The table `subscriber` of auth_db-create.sql, with its collation that takes Alice for alice."""

    def setUp(self) -> None:
        self.make_kamailio()

    def row(self, username: str, domain: str = DOMAIN) -> tuple[Any, ...]:
        """Return password, ha1 and ha1b of a user."""
        ((*values,),) = self.sql(
            "SELECT password, ha1, ha1b FROM subscriber WHERE username = %s AND domain = %s", username, domain)
        return tuple(values)

    def assert_finds(self, table: MysqlTable, username: str, password: str, domain: str = DOMAIN) -> None:
        """Expect the hashes of a password that kamctl has set."""
        self.assertEqual(plain(table.find(username, domain)), by_md5(username, domain, password))

    def test_user_of_kamctl(self) -> None:
        """A user whom kamctl has added is found with both hashes, with and without the domain, clear text or not."""
        self.mysql.add_as_kamctl("alice", DOMAIN, "secret")
        self.mysql.add_as_kamctl("bob", DOMAIN, "hidden", clear=False)
        for use_domain in (False, True):
            table = self.table(use_domain=use_domain)
            self.assert_finds(table, "alice", "secret")
            self.assert_finds(table, "bob", "hidden")
            self.assertIsNone(table.find("carol", DOMAIN))

    def test_letters(self) -> None:
        """A username in other letters is another user, though MySQL takes it for the same; a domain is the same."""
        self.mysql.add_as_kamctl("alice", "Example.Org", "secret")
        for use_domain in (False, True):
            table = self.table(use_domain=use_domain)
            for name in ("Alice", "ALICE", "alic\xe9"):
                self.assertIsNone(table.find(name, DOMAIN), name)
            self.assertIsNotNone(table.find("alice", DOMAIN))
            self.assertIsNone(table.find("\u5bc6", DOMAIN))
            self.assertRaises(NoSuchSubscriber, table.set_password, "Alice", DOMAIN, "other")
            self.assertRaises(SubscriberExists, table.add, "ALICE", DOMAIN, "other")

    def test_usernames_of_latin_1(self) -> None:
        """A name that the table's character set has is found, and written so that it is found."""
        table = self.table(use_domain=True)
        table.add("j\xf6rg", DOMAIN, "secret")
        self.assert_finds(table, "j\xf6rg", "secret")
        self.assertIsNone(table.find("jorg", DOMAIN))
        self.assertRaisesRegex(InvalidSubscriber, "username", table.add, "\u5bc6\u7801", DOMAIN, "secret")

    def test_without_domains(self) -> None:
        """Without use_domain a username is enough; of several rows that of the domain counts, else the oldest."""
        for domain in ("b.example", OTHER, ""):
            self.mysql.add_as_kamctl("alice", domain, f"secret of {domain}")
        table = self.table()
        found = table.find("alice", OTHER)
        self.assertEqual(plain(found), by_md5("alice", OTHER, f"secret of {OTHER}"))
        found = table.find("alice", DOMAIN)
        assert found is not None
        self.assertEqual((found.domain, found.ha1["MD5"]),
                         (DOMAIN, ha1("MD5", "alice", "b.example", "secret of b.example")))
        self.assertIsNone(self.table(use_domain=True).find("alice", DOMAIN))

    def test_without_domains_a_name_is_somebodys_once(self) -> None:
        """Without use_domain nobody is added whose username is there in whatever domain; with it that is another."""
        self.mysql.add_as_kamctl("alice", OTHER, "secret")
        self.assertRaises(SubscriberExists, self.table().add, "alice", DOMAIN, "other")
        self.table(use_domain=True).add("alice", DOMAIN, "other")
        self.assertEqual(self.table().count(), 2)

    def test_added(self) -> None:
        """Whom we add is there as kamctl would have added him without clear text, for Kamailio to read."""
        self.table().add("alice", DOMAIN, "secret")
        self.mysql.add_as_kamctl("twin", DOMAIN, "secret", clear=False)
        expected = ("", md5(b"alice:example.org:secret").hexdigest(),
                    md5(b"alice@example.org:example.org:secret").hexdigest())
        self.assertEqual(self.row("alice"), expected)
        self.assertEqual(self.row("twin")[0], "")

    def test_password_changed(self) -> None:
        """Another password leaves none of the old one behind, neither hashed nor in clear text, and nobody else's."""
        for name in ("alice", "bob"):
            self.mysql.add_as_kamctl(name, DOMAIN, "secret")
        before = self.row("bob")
        self.table().set_password("alice", DOMAIN, "other")
        self.assert_finds(self.table(), "alice", "other")
        self.assertEqual(self.row("alice")[0], "")
        self.assertEqual(self.row("bob"), before)

    def test_removed(self) -> None:
        """Who is removed is gone, and nobody else is."""
        for name in ("alice", "bob"):
            self.mysql.add_as_kamctl(name, DOMAIN, "secret")
        table = self.table()
        table.remove("alice", DOMAIN.upper())
        self.assertEqual([each.username for each in table.page()], ["bob"])
        self.assertRaises(NoSuchSubscriber, table.remove, "alice", DOMAIN)

    def test_clear_text(self) -> None:
        """With calculate_ha1 the password in clear text counts, for every algorithm and whatever stands in ha1."""
        self.mysql.add_as_kamctl("alice", DOMAIN, "secret")
        self.sql("UPDATE subscriber SET ha1 = REPEAT('0', 32), ha1b = '' WHERE username = 'alice'")
        found = self.table(calculate_ha1=True).find("alice", DOMAIN)
        assert found is not None
        for algorithm in ALGORITHMS:
            self.assertEqual(found.ha1[algorithm], ha1(algorithm, "alice", DOMAIN, "secret"))
            self.assertEqual(found.ha1b[algorithm], ha1(algorithm, f"alice@{DOMAIN}", DOMAIN, "secret"))

    def test_no_clear_text(self) -> None:
        """With calculate_ha1 who has no password in clear text has the hashes; an empty password is nobody's."""
        self.mysql.add_as_kamctl("alice", DOMAIN, "secret", clear=False)
        self.assert_finds(self.table(calculate_ha1=True), "alice", "secret")

    def test_clear_text_is_kept_up(self) -> None:
        """With calculate_ha1 a new password is written in clear text and as hashes, in the form that phones hash."""
        self.mysql.add_as_kamctl("alice", DOMAIN, "secret")
        table = self.table(calculate_ha1=True)
        table.set_password("alice", DOMAIN, "cafe\u0301")
        table.add("bob", DOMAIN, "sesame")
        self.assertEqual(self.row("alice")[0], "caf\xe9")
        self.assertEqual(self.row("bob"),
                         ("sesame", ha1("MD5", "bob", DOMAIN, "sesame"), ha1("MD5", f"bob@{DOMAIN}", DOMAIN, "sesame")))
        found = table.find("alice", DOMAIN)
        expected = subscriber_with("alice", DOMAIN, "caf\xe9").ha1
        self.assertEqual(None if found is None else found.ha1, expected)

    def test_what_does_not_fit(self) -> None:
        """A password in clear text that is too long, or has letters that the table has not, is refused unseen."""
        table = self.table(calculate_ha1=True)
        table.add("alice", DOMAIN, "secret")
        for password in ("x" * 65, "\u5bc6\u7801"):
            with self.assertRaises(InvalidSubscriber) as refused:
                table.set_password("alice", DOMAIN, password)
            self.assertIn("password", str(refused.exception))
            self.assertNotIn("\\x", str(refused.exception))
            self.assertNotIn("xxx", str(refused.exception))
        self.assertEqual(self.row("alice")[0], "secret")
        self.table().set_password("alice", DOMAIN, "x" * 65)

    def test_other_hashes(self) -> None:
        """64 digits are a hash by the algorithm that is configured, and stay so; what is no hash is as if not there."""
        by_sha_256 = ha1("SHA-256", "alice", DOMAIN, "secret")
        for name, digits in (("alice", by_sha_256), ("bob", "f" * 128), ("carol", "x" * 32)):
            self.mysql.add_as_kamctl(name, DOMAIN, "secret", clear=False)
            self.sql("UPDATE subscriber SET ha1 = UPPER(%s), ha1b = '' WHERE username = %s", digits, name)
        table = self.table(use_domain=True)
        found = table.find("alice", DOMAIN)
        self.assertEqual(None if found is None else found.ha1, {"SHA-256": by_sha_256})
        for name in ("bob", "carol"):
            self.assertEqual(plain(table.find(name, DOMAIN)), (name, DOMAIN, {}, {}))
        found = self.table(hash_of_64_digits="SHA-512-256").find("alice", DOMAIN)
        self.assertEqual(None if found is None else list(found.ha1), ["SHA-512-256"])
        table.set_password("alice", DOMAIN, "other")
        self.assertEqual(self.row("alice")[1], ha1("SHA-256", "alice", DOMAIN, "other"))

    def test_listed(self) -> None:
        """Everybody is listed once, however long the pages are, with the domain as it is written."""
        names = [(f"user{number:02}", domain) for number in range(10) for domain in ("A.org", "b.org")]
        for name in reversed(names):
            self.mysql.add_as_kamctl(*name, "secret")
        table = self.table()
        for size in (1, 3, 20, 500):
            after, found = ("", ""), []
            while page := table.page(after, size):
                after = page[-1].username, page[-1].domain
                found += [(each.username, each.domain) for each in page]
            self.assertEqual(found, names)

    def test_nothing_else_is_touched(self) -> None:
        """Kamailio's other tables, the structure of this one and the rows of others stay as they are."""
        for name in ("alice", "bob"):
            self.mysql.add_as_kamctl(name, DOMAIN, "secret")
        before = self.traces()
        table = self.table()
        table.find("alice", DOMAIN)
        table.page()
        table.count()
        self.assertEqual(self.traces(), before)
        table.add("carol", DOMAIN, "secret")
        table.set_password("carol", DOMAIN, "other")
        table.remove("carol", DOMAIN)
        after = self.traces()
        made, checksum = after.pop("subscriber")
        ((highest,),) = self.sql("SELECT MAX(id) FROM subscriber")
        self.assertEqual((made.replace("AUTO_INCREMENT=4", f"AUTO_INCREMENT={highest + 1}"), checksum),
                         before.pop("subscriber"))
        self.assertEqual(after, before)

    def test_old_table(self) -> None:
        """Columns of a site's own that must say something, or of an old Kamailio, hinder nobody from being added."""
        self.sql("ALTER TABLE subscriber ADD email_address VARCHAR(64) NOT NULL, ADD rpid VARCHAR(64) DEFAULT NULL, "
                 "ADD tenant INT NOT NULL, ADD created DATETIME NOT NULL, ADD seen TIMESTAMP, "
                 "ADD notes TEXT NOT NULL, ADD long_name VARCHAR(130) AS (CONCAT(username, '@', domain)) VIRTUAL, "
                 "ADD plan ENUM('basic', 'full') NOT NULL")
        table = self.table()
        table.add("alice", DOMAIN, "secret")
        self.assert_finds(table, "alice", "secret")
        self.assertEqual(self.sql("SELECT email_address, rpid, tenant, notes, plan FROM subscriber"),
                         [("", None, 0, "", "basic")])

    def test_columns_come_and_go(self) -> None:
        """A column for hashes that is dropped while it is used is no longer read; one that is added is filled."""
        self.mysql.add_as_kamctl("alice", DOMAIN, "secret")
        table = self.table()
        self.assert_finds(table, "alice", "secret")
        self.sql("ALTER TABLE subscriber DROP ha1b")
        found = table.find("alice", DOMAIN)
        self.assertEqual(plain(found), ("alice", DOMAIN, {"MD5": ha1("MD5", "alice", DOMAIN, "secret")}, {}))
        self.sql("ALTER TABLE subscriber ADD ha1_sha256 VARCHAR(64) NOT NULL DEFAULT ''")
        table.set_password("alice", DOMAIN, "other")
        found = table.find("alice", DOMAIN)
        self.assertEqual(None if found is None else set(found.ha1), {"MD5", "SHA-256"})

    def test_other_names(self) -> None:
        """The table and its columns may be called otherwise."""
        self.sql("CREATE TABLE `users$1` (nr INT PRIMARY KEY AUTO_INCREMENT, `user` VARCHAR(64) NOT NULL, "
                 "realm VARCHAR(64) NOT NULL, `key` CHAR(64), plain VARBINARY(64), UNIQUE (`user`, realm))")
        names = {"table": "users$1", "username_column": "user", "domain_column": "realm", "ha1_column": "key",
                 "password_column": "plain", "ha1b_column": ""}
        table = self.table(use_domain=True, **names)
        table.add("alice", DOMAIN, "secret")
        expected = {"MD5": ha1("MD5", "alice", DOMAIN, "secret")}
        self.assertEqual(plain(table.find("alice", DOMAIN)), ("alice", DOMAIN, expected, {}))
        with_clear_text = self.table(calculate_ha1=True, **names)
        with_clear_text.set_password("alice", DOMAIN, "caf\xe9")
        self.assertEqual(self.sql("SELECT plain FROM `users$1`"), [("caf\xe9".encode(),)])
        found = with_clear_text.find("alice", DOMAIN)
        self.assertEqual(None if found is None else found.ha1["SHA-256"], ha1("SHA-256", "alice", DOMAIN, "caf\xe9"))

    def test_no_table(self) -> None:
        """Without the table, or a column that is needed, it is said what is missing and that nothing is known."""
        self.make_empty()
        self.assertRaisesRegex(StoreUnavailable, "rollcall db upgrade", self.table(DATABASE).find, "alice", DOMAIN)
        self.assertRaisesRegex(StoreUnavailable, "rollcall db upgrade", self.table(DATABASE).count)
        self.assertRaisesRegex(StoreUnavailable, "no column user$",
                               self.table(username_column="user").find, "alice", DOMAIN)
        self.assertRaisesRegex(StoreUnavailable, "no column nothing$",
                               self.table(ha1_column="nothing", ha1b_column="").find, "alice", DOMAIN)

    def test_no_rights(self) -> None:
        """Without the right to change the table that is said, and nothing has been changed."""
        self.mysql.add_as_kamctl("alice", DOMAIN, "secret")
        user = f"{self.mysql.user}@127.0.0.1"
        self.sql(f"REVOKE ALL ON kamailio.* FROM {user}")
        self.sql(f"GRANT SELECT ON kamailio.* TO {user}")
        self.addCleanup(self.sql, f"GRANT ALL ON kamailio.* TO {user}")
        table = self.table()
        self.assert_finds(table, "alice", "secret")
        with self.assertRaises(StoreUnavailable) as refused:
            table.set_password("alice", DOMAIN, "other")
        self.assertIn("denied", str(refused.exception))


class OpensipsTableTests(TableCase):
    """OpenSIPS' table has no ha1b and two more columns of hashes."""

    def setUp(self) -> None:
        self.make_opensips()

    def test_all_algorithms(self) -> None:
        """All hashes that the table has room for are read side by side, and all are written."""
        self.sql("INSERT INTO subscriber (username, domain, ha1, ha1_sha256) VALUES ('alice', %s, %s, %s)", DOMAIN,
                 ha1("MD5", "alice", DOMAIN, "secret"), ha1("SHA-256", "alice", DOMAIN, "secret"), database=DATABASE)
        table = self.table(DATABASE)
        expected = subscriber_with("alice", DOMAIN, "secret").ha1
        found = table.find("alice", DOMAIN)
        assert found is not None
        self.assertEqual(found.ha1, {name: expected[name] for name in ("MD5", "SHA-256")})
        table.set_password("alice", DOMAIN, "other")
        self.assertEqual(plain(table.find("alice", DOMAIN)),
                         ("alice", DOMAIN, dict(subscriber_with("alice", DOMAIN, "other").ha1), {}))
        self.assertEqual(self.sql("SELECT password, email_address, rpid FROM subscriber", database=DATABASE),
                         [("", "", None)])
