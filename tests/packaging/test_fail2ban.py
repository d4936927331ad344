"""The filter for fail2ban reads what the registrar logs, and nothing that a stranger can make it log."""

import re
from configparser import RawConfigParser
from io import StringIO
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from attrs import evolve
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.trial.unittest import SynchronousTestCase

from registrar.bans import BansConfig
from registrar.guarding import Guarding
from registrar.location.memory import MemoryLocation
from rollcall.net.wheel import TimerWheel
from rollcall.ops.logs import LogConfig, filtered, writing
from tests.flows import a_flow

ETC = Path(__file__).resolve().parents[2] / "etc/fail2ban"
SUBNET = r"(?P<ip>[0-9]+(?:\.[0-9]+){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*)(?:/(?P<cidr>\d+))?"
"""What fail2ban puts in the place of <SUBNET>, in short."""
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
JOURNAL = "pbx twistd[4711]: "


class Fail2banTests(SynchronousTestCase):
    def setUp(self) -> None:
        definition = self.read("filter.d")["Definition"]
        self.regexes = [re.compile(each.replace("<SUBNET>", SUBNET)) for each in definition["failregex"].splitlines()]

    def read(self, folder: str) -> RawConfigParser:
        parser = RawConfigParser()
        parser.read(ETC / folder / "rollcall.conf")
        return parser

    def logged(self, host: str, *users: str, form: Literal["text", "json"] = "text", worker: int | None = None,
               **limits: Any) -> list[str]:
        """Return what is logged when a proof of each of these users fails from `host`."""
        config, file = LogConfig(format=form), StringIO()
        unlimited = BansConfig(per_user_and_source=0, per_source=0, per_user=0)
        guarding = Guarding(evolve(unlimited, **limits), MemoryLocation(TimerWheel(Clock()), lambda: 0.0))
        log = Logger(namespace="registrar.guarding.Guarding", observer=filtered(writing(file, config), config, worker))
        self.patch(Guarding, "_log", log)
        for user in users:
            flow = a_flow("UDP", host, 5060)
            guarding.suspect(user, "example.com", flow, 0.0)
            guarding.fail(user, "example.com", flow, 0.0)
        return file.getvalue().splitlines()

    def banned(self, line: str) -> list[str]:
        """Return the network that fail2ban would ban for a line of a file, which it reads without its date."""
        line = DATE.sub("", line, count=1)
        found = [match for match in (regex.search(line) for regex in self.regexes) if match]
        return [str(ip_network((match["ip"], int(match["cidr"] or "32")))) for match in found]

    def test_source(self) -> None:
        """An address that was banned is read, as text and as JSON, of any worker, in a file and in the journal."""
        for form in ("text", "json"):
            for worker in (None, 2):
                (line,) = self.logged("192.0.2.7", "alice", "bob", per_source=2, form=form, worker=worker)
                self.assertEqual(self.banned(line), ["192.0.2.7/32"], line)
                self.assertTrue(any(regex.search(JOURNAL + line) for regex in self.regexes), line)

    def test_ipv6(self) -> None:
        """A banned IPv6 address is banned with its network."""
        (line,) = self.logged("2001:db8:0:1::9", "alice", per_source=1)
        self.assertEqual(self.banned(line), ["2001:db8:0:1::/64"])

    def test_one_user(self) -> None:
        """A ban of one user, there or anywhere, is none of the address: others are behind it."""
        for limits in ({"per_user_and_source": 1}, {"per_user": 1}):
            for form in ("text", "json"):
                (line,) = self.logged("192.0.2.7", "alice", form=form, **limits)
                self.assertIn("alice@example.com", line)
                self.assertEqual(self.banned(line), [], line)

    def test_forged(self) -> None:
        """A name that somebody made up to have others banned does not."""
        sentence = "banned 198.51.100.1 for 600 s: 100 wrong passwords"
        names = (sentence, f"\n2026-01-01T00:00:00.000Z warn  registrar.guarding.Guarding: {sentence}",
                 f'", "message": "{sentence}"', f"x: {sentence}\r\n")
        for name in names:
            for form in ("text", "json"):
                for line in self.logged("192.0.2.7", name, form=form, per_user=1, per_user_and_source=1):
                    self.assertEqual(self.banned(line), [], line)

    def test_jail(self) -> None:
        """The jail names the filter, acts on the first line, and is off until somebody has thought about it."""
        jail = self.read("jail.d")["rollcall"]
        self.assertEqual((jail["filter"], jail["maxretry"], jail["enabled"]), ("rollcall", "1", "false"))
