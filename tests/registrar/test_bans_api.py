"""GET and DELETE /v1/bans, and POST /v1/bans/lift."""

from typing import Any
from urllib.parse import urlencode

from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from registrar.bans import Bans, BansConfig
from registrar.bans_api import BansListed
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.rollcall.ops.asking import Answered, ask

NOW = 1_700_000_000.0
HERE = bytes([192, 0, 2, 7])
SITE = bytes.fromhex("20010db800000001")


class BansListedTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.bans = Bans(BansConfig(per_user_and_source=1, per_source=2, per_user=2, ban_seconds=60))
        self.admin = AdminSite(MemoryReactorClock(), AdminConfig(), Metrics(process=False))
        BansListed(self.bans, lambda: NOW + 20).mount(self.admin.routes)

    def fail_proof(self, user: str, source: bytes) -> None:
        self.bans.suspect(user, source, NOW)
        self.bans.fail(user, source, NOW)

    def listed(self) -> Any:
        answered = ask(self.admin.site, "GET", "/v1/bans")
        self.assertEqual(answered.status, 200)
        return answered.json["bans"]

    def lift(self, body: object) -> Answered:
        return ask(self.admin.site, "POST", "/v1/bans/lift", body, content_type="application/json")

    def test_listed(self) -> None:
        """Each ban says of whom it is, how long it lasts and what for."""
        self.assertEqual(self.listed(), [])
        self.fail_proof("alice@example.com", HERE)
        self.fail_proof("bob@example.com", HERE)
        self.fail_proof("bob@example.com", SITE)
        self.assertEqual([(each["kind"], each["user"], each["source"]) for each in self.listed()], [
            ("pair", "alice@example.com", "192.0.2.7"),
            ("pair", "bob@example.com", "192.0.2.7"),
            ("source", None, "192.0.2.7"),
            ("pair", "bob@example.com", "2001:db8:0:1::/64"),
            ("user", "bob@example.com", None),
        ])
        self.assertEqual({(each["seconds_left"], each["failures"]) for each in self.listed()}, {(40, 1), (40, 2)})

    def test_lifted(self) -> None:
        """Bans are lifted by the user, however he is written, and by the address."""
        self.fail_proof("alice@example.com", HERE)
        self.fail_proof("a%20b@example.com", SITE)
        for who, lifted in (("sip:alice@EXAMPLE.com", 1), ("bob@example.com", 0), ("2001:db8:0:1::9", 1)):
            answered = self.lift({"who": who})
            self.assertEqual((answered.status, answered.json), (200, {"lifted": lifted}), who)
        self.assertEqual(self.listed(), [])

    def test_written_otherwise(self) -> None:
        """A user may be named plainly, and a source as it is listed; with a user goes what was counted for him only."""
        self.fail_proof("a%20b@example.com", SITE)
        self.assertEqual(self.lift({"who": "a b@example.com"}).json, {"lifted": 1})
        self.fail_proof("a%20b@example.com", SITE)
        self.assertEqual(self.lift({"who": "2001:db8:0:1::/64"}).json, {"lifted": 2})

    def test_deleted(self) -> None:
        """DELETE does the same."""
        self.fail_proof("alice@example.com", HERE)
        path = "/v1/bans?" + urlencode({"who": "192.0.2.7"})
        self.assertEqual(ask(self.admin.site, "DELETE", path).json, {"lifted": 1})

    def test_nobody_meant(self) -> None:
        """What names neither a user nor an address is refused."""
        for who in ("", "alice", "@example.com", "alice@", "192.0.2.0/24"):
            self.assertEqual(self.lift({"who": who}).status, 400, who)
        self.assertEqual([self.lift({}).status, self.lift({"who": "a@b", "why": ""}).status], [400, 400])
        self.assertEqual(ask(self.admin.site, "DELETE", "/v1/bans").status, 400)
