"""The master of the keys dies while 500 phones a second register: all are answered 200, and nothing of it is lost."""

from time import monotonic, sleep

from registrar.location.shared_form import snapshot_of
from tests.cluster.case import ClusterCase, spread
from tests.cluster.fleet import Fleet, Promise
from tests.interop.process import wait_until
from tools.laboratory.redis_process import RedisProcess

PHONES = 750
"""So many refresh, all the time."""
NEWCOMERS = 100
"""So many register for the first time while the master is dead."""
ORPHANS = 100
"""So many register, once, when the master has them alone: its replicas get nothing any more."""
REGISTERS_PER_SECOND = 500.0
BEFORE_SECONDS = 2.0
PARTED_SECONDS = 0.5
"""How long replicas get nothing before the master dies: a bad day, but one that Redis's replication allows."""
AWAY_SECONDS = 5.0
"""From the master's death until the refreshes end; by then its replica has taken over."""
LONGEST_SECONDS = 5.0
"""No REGISTER may take longer."""


class FailoverCase(ClusterCase):
    """What happens, whatever Redis is."""

    users = PHONES + NEWCOMERS + ORPHANS

    def some(self, first: int, number: int) -> Fleet:
        """Return phones for users of the lab."""
        fleet = Fleet(self.lab.tcp, self.lab.users[first : first + number], self.lab.domain)
        fleet.start()
        self.addCleanup(fleet.stop)
        return fleet

    def fail_over(self, old: RedisProcess) -> None:
        """Kill a master under load, and compare what was acknowledged with what is there afterwards."""
        fleets = phones, newcomers, orphans = (
            self.some(0, PHONES), self.some(PHONES, NEWCOMERS), self.some(PHONES + NEWCOMERS, ORPHANS))
        phones.register_all(REGISTERS_PER_SECOND)
        phones.refresh(REGISTERS_PER_SECOND)
        sleep(BEFORE_SECONDS)
        self.lab.redis.part(old)
        orphans.register_all(ORPHANS / PARTED_SECONDS)
        answered, killed_at = phones.answers["REGISTER", 200], monotonic()
        already, alone = len(phones.register_seconds), self.only_at(old)
        self.lab.redis.kill(old.pid)
        self.lab.redis.rejoin(old)
        newcomers.register(newcomers.phones, NEWCOMERS / AWAY_SECONDS)
        sleep(AWAY_SECONDS)
        rate = (phones.answers["REGISTER", 200] - answered) / (monotonic() - killed_at)
        phones.refresh(0)
        newcomers.wait_registered(newcomers.phones)
        phones.wait(lambda: not any(phone.asked_at for phone in phones.phones), "answers to all that was asked")
        seconds = phones.register_seconds[already:] + newcomers.register_seconds
        self.figure(f"{rate:.0f} refreshes a second were answered 200 from the death on: {spread(seconds)}; "
                    f"{sum(len(each.refusals) for each in fleets)} refused, "
                    f"{self.events('journal_written')} were kept in journals meanwhile")
        for each in fleets:
            self.assertEqual((each.refusals, each.unanswered, each.endings), ([], [], []))
        self.assertLess(max(seconds), LONGEST_SECONDS)
        self.check_all_is_there(fleets)
        self.figure(f"{alone} of them were new, and only at the master that died")
        self.assertGreater(alone, ORPHANS // 10)

    def only_at(self, master: RedisProcess) -> int:
        """Return how many records no other server has."""
        others = {key for each in self.lab.redis.servers if each is not master for key in each.ask("KEYS", "loc:*")}
        return len(set(master.ask("KEYS", "loc:*")) - others)

    def check_all_is_there(self, fleets: tuple[Fleet, ...]) -> None:
        """Return once Redis has what the phones were told last, and every registrar sees it."""
        started = monotonic()
        promised = {user: promise for fleet in fleets for user, promise in fleet.promised().items()}
        self.assertEqual(len(promised), self.users)
        wait_until(lambda: not self.missing(promised) or None, "all that was acknowledged", 10)
        self.figure(f"all {len(promised)} bindings are in Redis {monotonic() - started:.1f} s after the last answer")
        for node in self.lab.registrars:
            seen = {user: [each["contact"] for each in found] for user, found in self.bindings(node).items()}
            self.assertEqual(seen, {user: [promise.contact] for user, promise in promised.items()}, node.name)

    def missing(self, promised: dict[str, Promise]) -> dict[str, str]:
        """Return by user what Redis itself lacks of what was acknowledged."""
        found: dict[str, list[tuple[str, int]]] = {}
        for server in self.lab.redis.servers:
            if server.running and server.ask("ROLE")[0] == b"master":
                for key in server.ask("KEYS", "loc:*"):
                    snapshot = snapshot_of(server.ask("GET", key))
                    assert snapshot is not None
                    bindings = [(binding.contact, binding.cseq) for binding in snapshot.bindings]
                    found[key.decode().removeprefix("loc:").partition("@")[0]] = bindings
        return {
            user: f"{promise} was acknowledged, found {found.get(user)}"
            for user, promise in promised.items()
            if found.get(user) != [(promise.contact, promise.cseq)]
        }

    def events(self, name: str) -> int:
        """Return how often something has happened to writes, at all registrars together."""
        return int(sum(node.metric("rollcall_location_events_total", event=name) for node in self.lab.registrars))


class SentinelFailoverTests(FailoverCase):
    """A master that Sentinels replace."""

    redis = "sentinel"

    def test_master_dies(self) -> None:
        """No acknowledged registration is lost with the master, and none is refused meanwhile."""
        self.fail_over(self.lab.redis.master())


class ClusterFailoverTests(FailoverCase):
    """One of three masters of a Redis Cluster, which its replica replaces."""

    redis = "cluster"

    def test_master_dies(self) -> None:
        """No acknowledged registration is lost with the master, and none is refused meanwhile."""
        self.fail_over(self.lab.redis.master_of(0))
