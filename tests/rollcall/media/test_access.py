"""Access groups: prefixes, databases, what is remembered, and files that cannot be used."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from maxminddb import InvalidDatabaseError, open_database
from twisted.trial.unittest import SynchronousTestCase

from rollcall.media.access import AccessConfig, AccessGroups
from rollcall.media.selection import region_of
from tests.rollcall.media.databases import write_database

PREFIXES = """
# our own
192.0.2.0/24      tel   north   # all of it
192.0.2.128/25    tel   south
2001:db8::/32     cell  north
"""


class AccessGroupsTests(SynchronousTestCase):
    def setUp(self) -> None:
        directory = TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        self.prefixes = self.directory / "prefixes.txt"
        self.prefixes.write_text(PREFIXES)

    def groups(self, **values: Any) -> AccessGroups:
        return AccessGroups(AccessConfig(**values))

    def refusal(self, **values: Any) -> str:
        return str(self.assertRaises(ValueError, self.groups, **values))

    def test_prefixes(self) -> None:
        """The longest prefix counts, for IPv4 and IPv6; an IPv4 address may come as IPv6."""
        groups = self.groups(prefix_file=self.prefixes)
        for host, expected in [
            ("192.0.2.1", "tel/north"), ("192.0.2.200", "tel/south"), ("::ffff:192.0.2.200", "tel/south"),
            ("2001:db8::1", "cell/north"), ("2001:DB8:0::1%eth0", "cell/north"), ("198.51.100.1", ""), ("phone", ""),
            ("", ""), ("192.0.2", ""),
        ]:
            self.assertEqual(groups.group(host), expected, host)

    def test_databases(self) -> None:
        """What no prefix covers has the number of its autonomous system and its country, as far as they are known."""
        systems = write_database(self.directory / "asn.mmdb", {
            "192.0.2.0/24": {"autonomous_system_number": 1}, "198.51.100.0/24": {"autonomous_system_number": 64500},
            "203.0.113.0/25": {"autonomous_system_number": 7}})
        countries = write_database(self.directory / "country.mmdb", {
            "198.51.100.0/24": {"country": {"iso_code": "DE"}}, "2001:db9::/32": {"country": {"iso_code": "FR"}},
            "203.0.113.128/25": {"registered_country": {"iso_code": "GB"}}})
        groups = self.groups(prefix_file=self.prefixes, asn_file=systems, country_file=countries)
        for host, expected, region in [
            ("192.0.2.1", "tel/north", "north"), ("198.51.100.9", "AS64500/DE", "DE"), ("203.0.113.1", "AS7/", ""),
            ("203.0.113.200", "/GB", "GB"), ("2001:db9::5", "/FR", "FR"), ("10.0.0.1", "", ""),
        ]:
            self.assertEqual((groups.group(host), region_of(groups.group(host))), (expected, region), host)

    def test_damaged_database(self) -> None:
        """Where a file turns out to be damaged nothing is known, and nobody is kept from an answer."""
        path = write_database(self.directory / "asn.mmdb", {"192.0.2.0/24": {"autonomous_system_number": 1}})
        whole = path.read_bytes()
        start = whole.index(b"autonomous_system_number") - 2
        path.write_bytes(whole[:start] + b"\xff" * 4 + whole[start + 4:])
        self.assertRaises(InvalidDatabaseError, open_database(path).get, "192.0.2.1")
        self.assertEqual(self.groups(asn_file=path).group("192.0.2.1"), "")

    def test_an_old_database(self) -> None:
        """A database of IPv4 alone knows no IPv6 address."""
        systems = write_database(
            self.directory / "asn.mmdb", {"192.0.2.0/24": {"autonomous_system_number": 1}}, ip_version=4)
        groups = self.groups(asn_file=systems)
        self.assertEqual((groups.group("192.0.2.1"), groups.group("2001:db8::1")), ("AS1/", ""))

    def test_broken_lines(self) -> None:
        """A file with a mistake is refused as a whole, with its name and the line."""
        for line, said in [
            ("192.0.2.0/24 tel", "PREFIX CARRIER REGION"), ("192.0.2.1/24 tel north", "host bits"),
            ("nonsense tel north", "nonsense"), ("10.0.0.0/8 a/b north", "'/'"),
            ("192.0.2.0/24 other east", "already"),
        ]:
            self.prefixes.write_text(PREFIXES + line)
            refusal = self.refusal(prefix_file=self.prefixes)
            self.assertIn("prefixes.txt, line 6", refusal)
            self.assertIn(said, refusal)

    def test_files_that_are_none(self) -> None:
        """A file that is missing or no database is named."""
        self.assertTrue(self.refusal(prefix_file=self.directory / "nowhere.txt").endswith(
            "nowhere.txt: No such file or directory"))
        self.assertIn("nowhere.mmdb", self.refusal(asn_file=self.directory / "nowhere.mmdb"))
        self.assertIn("prefixes.txt", self.refusal(country_file=self.prefixes))

    def test_reload(self) -> None:
        """What was remembered is forgotten with a new file; one with a mistake changes nothing."""
        groups = self.groups(prefix_file=self.prefixes)
        self.assertEqual(groups.group("192.0.2.1"), "tel/north")
        self.prefixes.write_text("192.0.2.0/24 tel")
        self.assertRaises(ValueError, groups.reload)
        self.assertEqual((groups.group("192.0.2.1"), groups.group("192.0.2.2")), ("tel/north", "tel/north"))
        self.prefixes.write_text("192.0.2.0/24 tel east")
        groups.reload()
        self.assertEqual(groups.group("192.0.2.1"), "tel/east")

    def test_remembered(self) -> None:
        """No more addresses are remembered than configured, and answers are the same with none."""
        for remembered in (0, 3):
            groups = self.groups(prefix_file=self.prefixes, remembered=remembered)
            hosts = [f"192.0.2.{number}" for number in range(10)]
            self.assertEqual([groups.group(host) for host in hosts + hosts[::-1]], ["tel/north"] * 20)
            self.assertLessEqual(len(groups._remembered), remembered)
