"""Leases in real Redis: one server, a master that is replaced, and a Cluster that loses a master."""

from shutil import rmtree

from rollcall.cluster.config import ClusterConfig
from rollcall.cluster.leases import Leases
from rollcall.cluster.nodes import NODES, Node, decode_lease, drain_key, epoch_key, lease_key
from rollcall.cluster.own_lease import CannotJoin
from rollcall.cluster.slots import slot_of
from tests.cluster.access_case import AccessCase, Heard, reactor, spread
from tests.cluster.case import ClusterCase
from tests.interop.process import wait_until
from tools.laboratory.redis_process import RedisProcess

CONFIG = ClusterConfig(lease_seconds=1.0, renew_seconds=0.25)
FAILOVER_SECONDS = 15.0


class Member:
    """One node: its leases over a client of its own, whose watcher they are."""

    def __init__(self, case: "LeasesCase", name: str, epoch: int) -> None:
        self.name, self.epoch = name, epoch
        self.is_over = False
        self.is_draining = False
        self.ended: list[tuple[str, int]] = []
        case.heard = heard = Forwarding()
        self.redis = case.made()
        self.leases = heard.told = Leases(reactor, self.redis, CONFIG, self.me, reactor.seconds, self.over)
        self.leases.on_change.append(self.ended.extend)
        case.addCleanup(self.leases.stop)

    def me(self) -> Node:
        """Return what its lease says."""
        return Node(node=self.name, epoch=self.epoch, host="127.0.0.1", port=5070, started_at=reactor.seconds(),
                    draining=self.is_draining)

    def over(self) -> None:
        """Note that this life was declared over."""
        self.is_over = True

    def names(self) -> list[str]:
        """Return who lives."""
        return [node.node for node in self.leases.nodes()]

    def kill(self) -> None:
        """Do nothing any more, as a process that is gone."""
        for call in (self.leases._next_beat, self.leases._next_look, self.leases._next_end):
            if call is not None and call.active():
                call.cancel()
        self.leases._is_running = False

    def go_on(self) -> None:
        """Go on, as a process that was held up."""
        self.leases._is_running = True
        self.leases._beat()


class Forwarding(Heard):
    """The watcher of a client, which tells leases of it, too."""

    told: Leases

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """See Watcher."""
        super().connected(server, run_id, may_have_lost)
        self.told.redis_connected()

    def leases_changed(self) -> None:
        """See Watcher."""
        super().leases_changed()
        self.told.leases_changed()


class LeasesCase(AccessCase):
    """Members with names of their own in each test."""

    async def member(self, name: str, epoch: int = 1) -> Member:
        """Return a node that has started."""
        member = Member(self, f"{self.id().rpartition('.')[2]}-{name}", epoch)
        await member.leases.start()
        return member

    async def knows(self, member: Member, *others: Member, seconds: float = 3.0) -> float:
        """Return after how long a node takes just these for living, besides itself."""
        began = reactor.seconds()
        wanted = sorted(each.name for each in (member, *others))

        def seen() -> bool:
            return [name for name in member.names() if name.startswith(self.id().rpartition(".")[2])] == wanted

        await self.until(seen, f"{wanted} at {member.name}, which knows {member.names()}", seconds)
        return float(reactor.seconds() - began)


class SingleTests(LeasesCase):
    """One server."""

    async def test_each_other(self) -> None:
        """Nodes that start and end in order know that of each other at once."""
        a, b = await self.member("a"), await self.member("b")
        came = await self.knows(a, b)
        await self.knows(b, a)
        await b.leases.stop()
        left = await self.knows(a)
        self.assertEqual(a.ended, [(b.name, 1)])
        self.figure(f"another node was known after {came * 1000:.0f} ms, its end in order after {left * 1000:.0f} ms")
        again = await self.member("b", 2)
        await self.knows(a, again)
        self.assertFalse(a.leases.is_living(b.name, 1))

    async def test_killed(self) -> None:
        """A node that is gone is dead when its lease has lapsed, and its next life begins then."""
        a, b = await self.member("a"), await self.member("b")
        await self.knows(a, b)
        b.kill()
        died = await self.knows(a)
        self.assertLess(died, CONFIG.lease_seconds + 0.3)
        self.figure(f"a node that was gone was dead after {died:.2f} s (lease of {CONFIG.lease_seconds:g} s)")
        again = await self.member("b", 2)
        await self.knows(a, again)

    async def test_restarted_at_once(self) -> None:
        """A node that is started again before the lease of its former life has lapsed waits for that."""
        first = await self.member("a")
        first.kill()
        began = reactor.seconds()
        second = await self.member("a", 2)
        self.assertLess(reactor.seconds() - began, CONFIG.lease_seconds + CONFIG.renew_seconds)
        self.assertEqual(second.leases.problem, None)
        first.go_on()
        await self.until(lambda: first.is_over, "end of the former life")
        self.assertEqual((second.is_over, second.leases.problem), (False, None))

    async def test_same_name(self) -> None:
        """Nobody takes the name of a node that lives, nor an epoch that was there."""
        first = await self.member("a", 5)
        with self.assertRaises(CannotJoin):
            await self.member("a", 6)
        await first.leases.stop()
        with self.assertRaises(CannotJoin):
            await self.member("a", 4)
        self.assertFalse(first.is_over)

    async def test_refused(self) -> None:
        """One that refuses connections is dead at once for who has noticed, and then for all; unless it lives."""
        a, b, c = await self.member("a"), await self.member("b"), await self.member("c")
        await self.knows(a, b, c)
        await self.knows(c, a, b)
        b.kill()
        for _ in range(2):
            a.leases.suspect(b.name, 1, "refused")
        self.assertFalse(a.leases.is_living(b.name, 1))
        self.assertLess(await self.knows(c, a), CONFIG.lease_seconds / 2)
        b.go_on()
        await self.knows(c, a, b)
        await self.knows(a, b, c)
        self.assertFalse(b.is_over)

    async def test_fenced(self) -> None:
        """A life that was declared over never goes on; one that lives is not declared over."""
        a, b = await self.member("a"), await self.member("b")
        await self.knows(a, b)
        self.assertFalse(await a.leases.fence(b.name, 1))
        b.kill()
        await self.knows(a)
        self.assertTrue(await a.leases.fence(b.name, 1))
        self.assertTrue(await a.leases.fence(b.name, 1))
        b.go_on()
        await self.until(lambda: b.is_over, "end of a life that was declared over")
        self.assertEqual(a.leases.is_living(b.name, 1), False)
        lease = decode_lease(await self.redis.ask(lease_key(b.name), b"GET", lease_key(b.name)))
        self.assertNotIsInstance(lease, Node)

    async def test_lapsed_but_living(self) -> None:
        """One that was held up, and was not declared over, goes on as it was: its connections are still there."""
        a, b = await self.member("a"), await self.member("b")
        await self.knows(a, b)
        b.kill()
        await self.knows(a)
        b.go_on()
        await self.knows(a, b)
        self.assertEqual((b.is_over, a.leases.is_living(b.name, 1), a.leases.ended_at(b.name, 1)), (False, True, None))

    async def test_wish(self) -> None:
        """A node hears from another that it shall be drained, says so by its lease, and the wish ends with its life."""
        a, b = await self.member("a"), await self.member("b")
        await self.knows(a, b)

        def hear(wished: bool) -> None:
            if wished is not b.is_draining:
                b.is_draining = wished
                b.leases.announce()

        b.leases.on_wish.append(hear)
        for wished in (True, False, True):
            self.assertTrue(await a.leases.wish(b.name, wished))
            await self.until(lambda wished=wished: (  # type: ignore[misc]
                (node := a.leases.node(b.name)) is not None and node.draining is wished), f"drained: {wished}")
        await b.leases.stop()
        self.assertEqual(await self.redis.ask(drain_key(b.name), b"EXISTS", drain_key(b.name)), 0)

    async def test_server_restarts_empty(self) -> None:
        """A server that comes back with nothing ends nobody."""
        a, b = await self.member("a"), await self.member("b")
        await self.knows(a, b)
        await self.knows(b, a)
        server = self.servers.servers[0]
        self.servers.kill(server.pid)
        rmtree(server.folder / "appendonlydir")
        self.servers.restart(0)
        self.assertEqual(server.ask("EXISTS", NODES), 0)
        await spread(2 * CONFIG.lease_seconds)
        self.assertEqual((a.ended, b.ended, a.is_over, b.is_over), ([], [], False, False))
        self.assertEqual((len(a.names()), len(b.names()), a.leases.problem), (2, 2, None))


class FailoverCase(LeasesCase):
    """Servers of which some take the place of others."""

    async def check(self, master: RedisProcess) -> None:
        """Kill a master under nodes that live and one that dies meanwhile."""
        a, b, c = await self.member("a"), await self.member("b"), await self.member("c")
        await self.knows(a, b, c)
        await self.knows(b, a, c)
        c.kill()
        began = reactor.seconds()
        self.servers.kill(master.pid)
        await self.knows(a, b, seconds=FAILOVER_SECONDS)
        await self.knows(b, a, seconds=FAILOVER_SECONDS)
        died = reactor.seconds() - began
        await self.until(lambda: a.leases.problem is None and b.leases.problem is None, "leases of all",
                         FAILOVER_SECONDS)
        self.figure(f"a node that died with the master was dead {died:.1f} s later, those that lived had their leases "
                    f"after {reactor.seconds() - began:.1f} s, and nobody took them for dead meanwhile")
        await spread(CONFIG.lease_seconds)
        self.assertEqual((a.ended, b.ended), ([(c.name, 1)], [(c.name, 1)]))
        self.assertEqual((a.is_over, b.is_over), (False, False))


class SentinelTests(FailoverCase):
    """A master with replicas and Sentinels."""

    kind = "sentinel"

    async def test_master_dies(self) -> None:
        """No node that lives is taken for dead while Sentinels replace the master, and one that died is."""
        await self.check(self.servers.master())


class RedisClusterTests(FailoverCase):
    """Masters whose slots their replicas take over."""

    kind = "cluster"

    async def test_master_dies(self) -> None:
        """The same in a Cluster, when the master with the names of all nodes dies."""
        await self.opened()
        await self.check(self.servers.master_of(slot_of(NODES)))

    async def test_master_of_a_lease_dies(self) -> None:
        """The same when the master dies that has the lease of a node which lives."""
        await self.opened()
        name = f"{self.id().rpartition('.')[2]}-b"
        await self.check(self.servers.master_of(slot_of(lease_key(name))))


class ProcessTests(ClusterCase):
    """A whole registrar."""

    registrars = 1
    users = 1

    def tearDown(self) -> None:
        """Its log tells of trouble, as it should."""

    def test_clock_gone_back(self) -> None:
        """A registrar whose clock has gone back, and that has lost its files, starts at the second attempt."""
        (node,) = self.lab.registrars
        node.stop()
        later = int(reactor.seconds() * 1000) + 3_600_000
        self.lab.redis.servers[0].ask("SET", epoch_key(node.name), later)
        node.begin()
        wait_until(lambda: not node.running or None, "end of a registrar that cannot start", 20.0)
        self.assertIn(f"has had epoch {later}", node.log())
        node.start()
        self.assertEqual([each["epoch"] for each in node.get("/v1/nodes")["nodes"]], [later + 1])
