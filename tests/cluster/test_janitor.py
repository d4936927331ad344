"""What is removed from a real Redis after a node's end, by whom, and what becomes of the node if it goes on then."""

from attrs import evolve

from registrar.bindings import Binding
from registrar.location.contract import Snapshot
from registrar.location.janitor import Janitor
from registrar.location.keeping import KEEP
from registrar.location.shared_form import snapshot_of, value_of
from rollcall.cluster.config import ClusterConfig
from tests.cluster.access_case import reactor
from tests.cluster.test_leases import LeasesCase, Member
from tests.registrar.examples import A, B, a_binding, a_bound, over_tcp

CONFIG = ClusterConfig(lease_seconds=1.0, renew_seconds=0.25, janitor_seconds=1.0, janitor_keys_per_second=5000)
RECORDS = 1200
KINDS = 3


class JanitorTests(LeasesCase):
    """Three nodes, one of which ends."""

    def janitor(self, member: Member) -> Janitor:
        """Return the janitor of a node, started."""
        janitor = Janitor(reactor, member.redis, member.leases, CONFIG, (member.name, member.epoch), reactor.seconds,
                          self.written.append)
        member.leases.on_change.append(janitor.ended)
        janitor.start()
        self.addCleanup(janitor.stop)
        return janitor

    async def bind(self, number: int, *bindings: Binding) -> bytes:
        """Keep a record as registrars do."""
        key = b"loc:%d@example.com" % number
        lasting = tuple(evolve(binding, expires_at=reactor.seconds() + 3600) for binding in bindings)
        answer = await self.redis.evaluate(KEEP, key, value_of(Snapshot(1, lasting)), 0,
                                           int((reactor.seconds() + 3600) * 1000), 10)
        self.assertEqual(answer, 1)
        return key

    async def kept(self, key: bytes) -> Snapshot:
        """Return what a record says."""
        snapshot = snapshot_of(await self.redis.ask(key, b"GET", key))
        assert snapshot is not None
        return snapshot

    async def test_after_death(self) -> None:
        """What hung on the dead node's connections is removed once, by one of the others; all else stays.

        When the node goes on nevertheless, it learns that its life is over.
        """
        a, b, c = await self.member("a"), await self.member("b"), await self.member("c")
        await self.knows(a, b, c)
        await self.knows(b, a, c)
        self.written: list[bytes] = []
        dead = evolve(a_bound(A, 7), source=over_tcp(7, c.name, c.epoch))
        living = evolve(a_bound(B, 8), source=over_tcp(8, b.name, b.epoch))
        of_dead = [await self.bind(number * KINDS, dead) for number in range(RECORDS // KINDS)]
        of_both = [await self.bind(number * KINDS + 1, dead, living) for number in range(RECORDS // KINDS)]
        of_living = [await self.bind(number * KINDS + 2, living, a_binding(A)) for number in range(RECORDS // KINDS)]
        janitors = [self.janitor(each) for each in (a, b)]
        c.kill()
        await self.knows(a, b)
        self.assertEqual([len((await self.kept(key)).bindings) for key in of_dead[:20]], [1] * 20)
        began = reactor.seconds()
        await self.until(lambda: sum(each.removed for each in janitors) >= len(of_dead + of_both), "removal of all")
        self.figure(f"{len(self.written)} of {RECORDS} records were cleaned up {reactor.seconds() - began:.1f} s after "
                    f"the end of their node (janitor_seconds {CONFIG.janitor_seconds:g})")
        self.assertEqual(sorted(self.written), sorted(of_dead + of_both))
        for key in of_dead:
            snapshot = await self.kept(key)
            self.assertEqual((snapshot.version, snapshot.bindings), (2, ()))
            self.assertApproximates(snapshot.lost_at, a.leases.ended_at(c.name, 1), CONFIG.renew_seconds)
        contacts = [[each.contact for each in (await self.kept(key)).bindings] for key in of_both + of_living]
        self.assertEqual(contacts, [[B]] * len(of_both) + [[B, A]] * len(of_living))
        self.assertLessEqual(await self.redis.ask(of_dead[0], b"TTL", of_dead[0]), 60)
        self.assertGreater(await self.redis.ask(of_both[0], b"TTL", of_both[0]), 3000)
        c.go_on()
        await self.until(lambda: c.is_over, "end of a life that was declared over")
