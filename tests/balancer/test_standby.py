"""Who is the master, and from when to when."""

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from balancer.standby import LATE_SECONDS, MASTER, RENEWALS, Mastership, StandbyConfig
from tests.balancer.lease_redis import LeaseRedis

LEASE = 1.5
STEP = 0.01
NOW = 1_000.0


class StandbyCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.redis = LeaseRedis(self.clock)
        self.told: list[str] = []

    def balancer(self, name: str, started: bool = True) -> Mastership:
        """Return a balancer's, which ends with the test."""
        made = Mastership(self.clock, self.redis, StandbyConfig(lease_seconds=LEASE), name, life=f"life of {name}")
        made.on_change.append(lambda: self.told.append(f"{name} {'is' if made.is_master else 'is not'} the master"))
        if started:
            made.start()
        return made

    def end(self, balancer: Mastership) -> None:
        """Stop it in order."""
        self.successResultOf(Deferred.fromCoroutine(balancer.stop()))

    def kill(self, balancer: Mastership) -> None:
        """Let nothing of it happen any more."""
        for call in (balancer._polling._next, balancer._lapse, balancer._sooner):
            if call is not None and call.active():
                call.cancel()

    def pass_time(self, seconds: float) -> None:
        """Let time pass in small steps."""
        self.clock.pump([STEP] * round(seconds / STEP))


class MastershipTests(StandbyCase):
    def test_the_first(self) -> None:
        """The first who asks is the master, and stays it as long as he renews."""
        first, second = self.balancer("b1"), self.balancer("b2")
        self.assertEqual((first.is_master, second.is_master), (True, False))
        self.pass_time(10 * LEASE)
        self.assertEqual((first.is_master, second.is_master), (True, False))
        self.assertEqual((second.master, self.told), ("b1", ["b1 is the master"]))

    def test_told(self) -> None:
        """Who stands by says once who the master is, and so does a master who has become none."""
        with capturedLogs() as events:
            first, _ = self.balancer("b1"), self.balancer("b2")
            self.pass_time(10 * LEASE)
            self.end(first)
            self.pass_time(LEASE)
        told = [formatEvent(event) for event in events if event["log_namespace"].endswith("Mastership")]
        self.assertEqual([each.partition(",")[0] for each in told], [
            "b1 is the master of the media nodes", "b1 is the master of the media nodes",
            "b1 is not the master of the media nodes any more: it stops", "b2 is the master of the media nodes"])
        self.assertEqual(told[1], "b1 is the master of the media nodes, b2 stands by")

    def test_fence(self) -> None:
        """The fence is the time of Redis in ms; the next master has a greater one, also when that clock goes back."""
        first = self.balancer("b1")
        self.assertEqual(first.fence, NOW * 1000)
        self.end(first)
        self.redis.ahead_ms = -60_000
        second = self.balancer("b2")
        self.assertEqual(second.fence, NOW * 1000 + 1)

    def test_an_emptied_redis(self) -> None:
        """Where Redis has lost the lease the next master has a greater fence all the same."""
        first, second = self.balancer("b1"), self.balancer("b2")
        self.kill(first)
        self.pass_time(1.0)
        self.redis.clear()
        self.pass_time(LEASE)
        self.assertTrue(second.is_master)
        self.assertGreater(second.fence, first.fence)

    def test_the_end_in_order(self) -> None:
        """Who stops gives the lease back, and the next has it when he asks next."""
        first, second = self.balancer("b1"), self.balancer("b2")
        self.end(first)
        self.assertFalse(first.is_master)
        self.pass_time(LEASE / RENEWALS + STEP)
        self.assertTrue(second.is_master)

    def test_killed(self) -> None:
        """When the master is killed the standby has the lease as soon as it lapses: within 2 s of the death."""
        first, second = self.balancer("b1"), self.balancer("b2")
        self.pass_time(0.77)
        self.kill(first)
        waited = 0.0
        while not second.is_master:
            self.pass_time(STEP)
            waited += STEP
        self.assertLessEqual(waited, LEASE + LATE_SECONDS + STEP)
        self.assertGreater(second.fence, first.fence)

    def test_stopped_and_woken(self) -> None:
        """A master that was stopped for longer than his lease knows at once that he is none, before he asks anybody."""
        first = self.balancer("b1")
        self.kill(first)
        self.pass_time(LEASE - 2 * STEP)
        self.assertTrue(first.is_master)
        self.pass_time(4 * STEP)
        self.assertFalse(first.is_master)
        second = self.balancer("b2")
        first._polling._begin()
        self.assertEqual((first.is_master, second.is_master, first.master), (False, True, "b2"))

    def test_an_answer_too_late(self) -> None:
        """A lease whose answer takes longer than it lasts is worth nothing."""
        late = self.balancer("b1", started=False)
        until = self.clock.seconds()
        late._have(7, until)
        self.assertEqual((late.is_master, self.told), (False, []))

    def test_redis_away(self) -> None:
        """While Redis is away the lease lapses; the same master goes on with the same fence if nobody else had it."""
        first = self.balancer("b1")
        fence = first.fence
        self.redis.problem = "away"
        self.pass_time(2 * LEASE)
        self.assertEqual((first.is_master, first.problem), (False, "away"))
        self.redis.problem = None
        self.pass_time(1.0)
        self.assertEqual((first.is_master, first.fence, first.problem), (True, fence, None))
        self.assertEqual(self.told, ["b1 is the master", "b1 is not the master", "b1 is the master"])

    def test_an_answer_that_was_lost(self) -> None:
        """Who has got the lease without hearing of it is the master with his next question."""
        self.redis.loses_answers = True
        first = self.balancer("b1")
        self.assertFalse(first.is_master)
        self.redis.loses_answers = False
        self.pass_time(LEASE / RENEWALS + STEP)
        self.assertTrue(first.is_master)

    def test_overtaken(self) -> None:
        """Who hears of a greater fence in the stream is no master, and then one with a greater fence still."""
        first = self.balancer("b1")
        first.overtaken(first.fence + 5_000)
        self.pass_time(STEP)
        self.assertTrue(first.is_master)
        self.assertEqual(first.fence, NOW * 1000 + 5_001)
        self.assertEqual(self.told, ["b1 is the master", "b1 is not the master", "b1 is the master"])

    def test_one_life(self) -> None:
        """The same name started again is another balancer: it waits until the lease of its life before has lapsed."""
        self.kill(self.balancer("b1"))
        again = Mastership(self.clock, self.redis, StandbyConfig(lease_seconds=LEASE), "b1", life="another")
        again.start()
        self.assertFalse(again.is_master)
        self.pass_time(LEASE + LATE_SECONDS + STEP)
        self.assertTrue(again.is_master)
        self.assertEqual(self.redis.hashes[MASTER][b"name"], b"b1")

    def test_nothing_is_left(self) -> None:
        """After the end nothing is asked any more."""
        for balancer in (self.balancer("b1"), self.balancer("b2")):
            self.end(balancer)
        self.assertEqual(self.clock.getDelayedCalls(), [])
