"""Tenants and their node groups."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from balancer.tenants import READ_SECONDS, SAY, TENANTS, Tenants
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.metrics import Metrics
from tests.rollcall.cluster.stream_redis import StreamRedis
from tests.rollcall.ops.asking import Answered, ask

CONFIGURED = {"x.example": "gold"}


class TenantsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1_000.0)
        self.redis = StreamRedis(self.clock)
        self.redis.scripts[SAY.sha] = self.say
        self.changes = 0
        self.tenants, self.admin = self.balancer(self.redis)
        self.other, _ = self.balancer(self.redis)

    def balancer(self, redis: StreamRedis | None) -> tuple[Tenants, AdminSite]:
        """Return what a balancer knows, and the site where it is asked."""
        tenants = Tenants(self.clock, CONFIGURED, redis)
        tenants.on_change.append(self.changed)
        admin = AdminSite(self.clock, AdminConfig(), Metrics(process=False))
        tenants.mount(admin.routes)
        tenants.start()
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(tenants.stop())))
        return tenants, admin

    def say(self, key: bytes, name: bytes, group: bytes, moment: bytes) -> bytes:
        """Do what the script does, see tests/cluster/test_media_scripts.py."""
        held = self.redis.hashes.setdefault(key, {})
        last = int(held.get(name, b"0").partition(b" ")[0])
        said = int(moment) or max(round(self.clock.seconds() * 1000), last + 1)
        if not int(moment) or last < said:
            held[name] = b"%d %b" % (said, group)
        return held[name]

    def changed(self) -> None:
        """Count."""
        self.changes += 1

    def put(self, name: str, group: object) -> Answered:
        """Give a tenant a group."""
        return ask(self.admin.site, "PUT", f"/v1/tenants/{name}", {"group": group})

    def test_said(self) -> None:
        """What is said counts at once here, a moment later at other balancers, and still after a start."""
        answered = self.put("sip:robot@x.example", "outbound")
        self.assertEqual(answered.json, {"tenant": "sip:robot@x.example", "group": "outbound"})
        wanted = {"x.example": "gold", "sip:robot@x.example": "outbound"}
        self.assertEqual((self.tenants.groups, self.other.groups), (wanted, CONFIGURED))
        self.clock.advance(READ_SECONDS)
        self.assertEqual(self.other.groups, wanted)
        self.assertEqual(self.changes, 2)
        later, _ = self.balancer(self.redis)
        self.assertEqual(later.groups, wanted)

    def test_instead_of_what_is_configured(self) -> None:
        """What is said comes before what is configured, until it is taken back."""
        self.put("x.example", "silver")
        self.assertEqual(self.tenants.groups, {"x.example": "silver"})
        answered = ask(self.admin.site, "DELETE", "/v1/tenants/x.example")
        self.assertEqual(answered.json, {"tenant": "x.example", "group": "gold"})
        self.assertEqual(self.tenants.groups, CONFIGURED)
        self.assertEqual(ask(self.admin.site, "DELETE", "/v1/tenants/x.example").status, 404)

    def test_list(self) -> None:
        """The list shows which group each has, and which are configured."""
        self.put("y.example", "silver")
        self.assertEqual(ask(self.admin.site, "GET", "/v1/tenants").json, {
            "tenants": {"x.example": "gold", "y.example": "silver"}, "configured": CONFIGURED, "default": "general"})

    def test_bad_ones(self) -> None:
        """A group is a name, a tenant a printable text that is not too long; nothing is changed otherwise."""
        for name, group in (("x.example", "a b"), ("x.example", 7), ("x" * 256, "gold"), ("%00", "gold")):
            self.assertEqual(self.put(name, group).status, 400, name)
        self.assertEqual((self.redis.hashes, self.changes), ({}, 0))

    def test_redis_emptied(self) -> None:
        """What Redis has lost any balancer that knows it puts back; what was taken back stays so."""
        self.put("y.example", "silver")
        self.put("z.example", "silver")
        ask(self.admin.site, "DELETE", "/v1/tenants/z.example")
        self.clock.advance(READ_SECONDS)
        self.redis.clear()
        self.clock.pump([READ_SECONDS] * 3)
        later, _ = self.balancer(self.redis)
        wanted = {"x.example": "gold", "y.example": "silver"}
        self.assertEqual([each.groups for each in (self.tenants, self.other, later)], [wanted] * 3)

    def test_newest_word_lost(self) -> None:
        """When Redis has lost only the newest word, that is put back in the place of the one before it."""
        self.put("y.example", "silver")
        old = dict(self.redis.hashes[TENANTS])
        self.clock.advance(READ_SECONDS)
        self.put("y.example", "bronze")
        self.redis.hashes[TENANTS] = old
        self.clock.pump([READ_SECONDS] * 2)
        self.assertEqual((self.tenants.groups["y.example"], self.other.groups["y.example"]), ("bronze", "bronze"))

    def test_redis_away(self) -> None:
        """While Redis is away all stays as it is, and who says something hears that it does not count."""
        self.put("y.example", "silver")
        self.redis.problem = "away"
        answered = self.put("y.example", "bronze")
        self.assertEqual(answered.status, 503)
        self.assertIn("away", answered.json["error"])
        self.clock.pump([READ_SECONDS] * 5)
        self.assertEqual(self.tenants.groups, {"x.example": "gold", "y.example": "silver"})

    def test_alone(self) -> None:
        """Without Redis what is said lasts as long as the process."""
        alone, admin = self.balancer(None)
        ask(admin.site, "PUT", "/v1/tenants/y.example", {"group": "silver"})
        self.assertEqual(alone.groups, {"x.example": "gold", "y.example": "silver"})
