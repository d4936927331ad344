"""RedisLocation while connections break all the time: nothing acknowledged is lost, and nobody believes what is old."""

from collections.abc import Coroutine
from random import Random
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from registrar.location.contract import Conflict, LocationUnavailable, Snapshot
from registrar.records import Binding
from tests.cluster.test_location_redis import RedisCase
from tests.registrar.examples import NOW, A, a_bound, over_tcp

AORS = 12
TURNS = 250
NODES = 3
CONFLICTS = 30


class LossesTests(RedisCase):
    """Phones, each of which registers again and again at changing nodes once it has its answer, or stays away.

    Its connection ends then, and its node hears of that at any time.
    """

    ticks = True

    def setUp(self) -> None:
        self.prepare()
        self.stores = [self.a_store(f"n{number}") for number in range(NODES)]
        for store in self.stores:
            self.run_now(store.start())
        # By address-of-record: what was acknowledged last, the connection it came over, and what was asked last.
        self.acknowledged: dict[str, int] = {}
        self.flows: dict[str, tuple[int, int]] = {}
        self.asked: dict[str, int] = {}
        self.busy: set[str] = set()
        self.problems: list[Failure] = []

    def begin(self, aor: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let a phone do something, and nothing else until then."""
        self.busy.add(aor)
        doing = Deferred.fromCoroutine(coroutine)
        doing.addErrback(self.problems.append)
        doing.addBoth(lambda _: self.busy.discard(aor))

    async def register(self, number: int, aor: str) -> None:
        """Register at a node, over a new connection instead of the old one."""
        if aor in self.flows:
            old, flow_id = self.flows[aor]
            ending = Deferred.fromCoroutine(self.stores[old].unbind(aor, f"n{old}", 1, flow_id))
            ending.addErrback(self.problems.append)
        cseq = self.asked[aor] = self.asked.get(aor, 0) + 1
        store = self.stores[number]
        for _ in range(CONFLICTS):
            try:
                seen = await store.load_for_update(aor, True)
                await store.save(aor, seen.followed_by((self._bound(cseq, number),)))
            except Conflict:
                await succeed(None)
                continue
            except LocationUnavailable:
                return
            self.acknowledged[aor], self.flows[aor] = cseq, (number, cseq)
            return
        raise AssertionError(f"{CONFLICTS} conflicts for {aor}")

    async def end(self, aor: str) -> None:
        """Lose the connection that was registered over last."""
        number, flow_id = self.flows.pop(aor)
        await self.stores[number].unbind(aor, f"n{number}", 1, flow_id)
        self.acknowledged.pop(aor)

    def _bound(self, cseq: int, number: int) -> Binding:
        now = self.clock.seconds()
        return evolve(a_bound(A, cseq), source=over_tcp(cseq, f"n{number}"), cseq=cseq, refreshed_at=now,
                      registered_at=NOW, expires_at=now + 3600)

    def settled(self) -> bool:
        """Say whether nobody waits, owes or doubts anything."""
        levels = [store.levels() for store in self.stores]
        return not self.busy and not any(
            each["owed"] or each["in_doubt"] or each["writes"] or each["reads"] for each in levels)

    def run_with(self, seed: int, lose: Any) -> None:
        """Register at random while `lose(chance)` does its worst, then compare."""
        chance = Random(seed)
        aors = [f"sip:u{number}@example.com" for number in range(AORS)]
        for _ in range(TURNS):
            aor = chance.choice(aors)
            if aor in self.busy:
                pass
            elif aor in self.flows and chance.random() < 0.3:
                self.begin(aor, self.end(aor))
            else:
                self.begin(aor, self.register(chance.randrange(NODES), aor))
            if chance.random() < 0.2:
                Deferred.fromCoroutine(chance.choice(self.stores).load(chance.choice(aors))).addErrback(
                    lambda failure: failure.trap(LocationUnavailable))
            lose(chance)
            self.spin(chance.random() * 0.006)
            self.clock.pump([0.01])
        self.spin_until(self.settled)
        self.spin(0.05)
        self.assertEqual(self.problems, [])
        for aor in aors:
            bindings = (self.shared(aor) or Snapshot()).bindings
            promised = [self.acknowledged[aor]] if aor in self.acknowledged else []
            self.assertEqual([each.cseq for each in bindings], promised, aor)
            for store in self.stores:
                self.assertEqual(self.run_now(store.load(aor)).bindings, bindings, aor)
        for store in self.stores:
            self.run_now(store.stop())

    def test_connections_break(self) -> None:
        """Redis closes connections, of data or of invalidations, whenever it likes."""
        def lose(chance: Random) -> None:
            if chance.random() < 0.03:
                kind = chance.choice(("normal", "pubsub"))
                self.command("CLIENT", "KILL", "TYPE", kind)

        self.run_with(1, lose)

    def test_redis_hangs(self) -> None:
        """Redis stops for a moment, shorter or longer than we wait for it."""
        def lose(chance: Random) -> None:
            if chance.random() < 0.01:
                self.command("CLIENT", "PAUSE", chance.choice((100, 300, 1500)), "ALL")

        self.run_with(2, lose)

    def test_redis_dies(self) -> None:
        """Redis is killed and started again; what it lost of the last second is put back."""
        def lose(chance: Random) -> None:
            if chance.random() < 0.01:
                self.redis.kill(self.redis.servers[0].pid)
                self.spin(0.05)
                self.redis.restart(0)

        self.run_with(3, lose)

    def test_redis_is_emptied(self) -> None:
        """Somebody empties Redis."""
        def lose(chance: Random) -> None:
            if chance.random() < 0.01:
                self.command("FLUSHALL")

        self.run_with(4, lose)
