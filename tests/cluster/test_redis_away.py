"""Redis is away for a while: phones go on refreshing and calling, and afterwards Redis has what was acknowledged."""

from collections.abc import Iterable
from time import monotonic, sleep
from typing import ClassVar

from registrar.location.contract import Snapshot
from registrar.location.shared_form import snapshot_of
from tests.cluster.case import ClusterCase, spread
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import CallState
from tests.cluster.fleet_phone import FleetPhone
from tools.laboratory.redis_process import RedisProcess

PHONES = 600
REGISTRATIONS_PER_SECOND = 400.0
REFRESHES_PER_SECOND = 150.0
PAUSE_SECONDS = 5.0
GONE_SECONDS = 10.0
CONVERGED_SECONDS = 15.0
CALLS = 40
CALLS_PER_SECOND = 40.0


class AwayCase(ClusterCase):
    """Three registrars over one Redis server that the tests take away."""

    users: ClassVar[int] = PHONES

    @property
    def server(self) -> RedisProcess:
        """The Redis server."""
        return self.lab.redis.servers[0]

    def shared(self) -> dict[str, Snapshot]:
        """Return what Redis has, by user, read there and not at a registrar."""
        found = {}
        for key in self.server.ask("KEYS", "loc:*"):
            snapshot = snapshot_of(self.server.ask("GET", key))
            assert snapshot is not None
            found[key.decode().removeprefix("loc:").partition("@")[0]] = snapshot
        return found

    def compare(self, fleet: Fleet) -> int:
        """Check each record in Redis against what its phone was told last; return how many there are."""
        promised, shared = fleet.promised(), self.shared()
        wrong = {}
        for phone in fleet.phones:
            if not phone.acknowledged:
                continue
            promise = promised.get(phone.user)
            wanted = [(promise.contact, promise.cseq, self.lab.registrars[phone.face].name)] if promise else []
            snapshot = shared.get(phone.user, Snapshot())
            found = [(each.contact, each.cseq, each.source.node) for each in snapshot.bindings]
            if found != wanted:
                wrong[phone.user] = f"promised {wanted}, found {found}"
        self.assertEqual(wrong, {})
        return len(promised)

    def wait_converged(self) -> float:
        """Return how long it takes until no registrar owes Redis anything, or doubts what it knows."""
        began = monotonic()
        while sum(self.waiting(what) for what in ("owed", "in_doubt", "writes", "journal_records")):
            self.assertLess(monotonic() - began, CONVERGED_SECONDS, "something is still owed to Redis")
            sleep(0.1)
        return monotonic() - began

    def waiting(self, what: str) -> float:
        """Return what waits for Redis at all registrars."""
        return sum(node.metric("rollcall_location_waiting", what=what) for node in self.lab.registrars)

    def events(self, event: str) -> float:
        """Return how often something has happened at all registrars."""
        return sum(node.metric("rollcall_location_events_total", event=event) for node in self.lab.registrars)

    def call_among(self, fleet: Fleet, phones: Iterable[FleetPhone]) -> None:
        """Let phones of each registrar call each other, and check that all calls succeed."""
        pairs = []
        for face in range(self.registrars):
            here = [phone for phone in phones if phone.face == face]
            pairs += list(zip(here[::2], here[1::2], strict=False))
        calls = fleet.call_pairs(pairs[:CALLS], CALLS_PER_SECOND)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
        self.assertEqual(len(calls), CALLS)

    def check_all_accepted(self, fleet: Fleet) -> None:
        """Check that no phone was ever told anything but 200."""
        self.assertEqual((fleet.refusals, fleet.unanswered), ([], []))


class JournalTests(AwayCase):
    """Writes go into the journal meanwhile."""

    def test_client_pause(self) -> None:
        """While Redis answers nobody (CLIENT PAUSE) refreshes are answered 200, and phones call each other."""
        fleet = self.fleet()
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        self.server.ask("CLIENT", "PAUSE", int(PAUSE_SECONDS * 1000), "ALL")
        self.check_paused(fleet, "CLIENT PAUSE")

    def test_stopped(self) -> None:
        """The same while its process is stopped (SIGSTOP)."""
        fleet = self.fleet()
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        self.lab.redis.pause(self.server.pid)
        self.addCleanup(self.lab.redis.resume, self.server.pid)
        self.check_paused(fleet, "SIGSTOP")

    def check_paused(self, fleet: Fleet, how: str) -> None:
        """Refresh while Redis is paused, let it go on, and compare."""
        before, first = self.events("journal_written"), len(fleet.register_seconds)
        fleet.refresh(REFRESHES_PER_SECOND)
        self.call_among(fleet, fleet.phones[:300])
        sleep(PAUSE_SECONDS - 2.0)
        journaled = self.events("journal_written") - before
        if how == "SIGSTOP":
            self.lab.redis.resume(self.server.pid)
        else:
            sleep(1.0)
        sleep(1.5)
        fleet.refresh(0)
        sleep(1.0)
        converged = 1.0 + self.wait_converged()
        self.check_all_accepted(fleet)
        count = self.compare(fleet)
        self.figure(f"Redis paused {PAUSE_SECONDS:.0f} s by {how}: {len(fleet.register_seconds) - first} refreshes, "
                    f"all answered 200 ({spread(fleet.register_seconds[first:])}), {journaled:.0f} by the journal; "
                    f"{count} records as acknowledged at most {converged:.1f} s after the last one")
        self.assertGreater(journaled, 100)

    def test_gone(self) -> None:
        """Redis is killed and comes back: phones register, move and leave meanwhile, and nothing of it is lost."""
        fleet = self.fleet()
        fleet.register(fleet.phones[:500], REGISTRATIONS_PER_SECOND)
        fleet.wait_registered(fleet.phones[:500])
        fleet.refresh(REFRESHES_PER_SECOND)
        sleep(0.5)
        self.lab.redis.kill(self.server.pid)
        gone_at, first, before = monotonic(), len(fleet.register_seconds), self.events("journal_written")
        fleet.register(fleet.phones[500:], REGISTRATIONS_PER_SECOND)
        fleet.unregister(fleet.phones[:50])
        fleet.drop(fleet.phones[50:150], come_back=True)
        fleet.wait_registered(fleet.phones[50:])
        self.call_among(fleet, fleet.phones[150:450])
        sleep(max(0.0, gone_at + GONE_SECONDS - monotonic()))
        journaled = self.events("journal_written") - before
        self.lab.redis.restart(0)
        sleep(1.0)
        fleet.refresh(0)
        sleep(1.0)
        converged = 1.0 + self.wait_converged()
        self.check_all_accepted(fleet)
        count = self.compare(fleet)
        self.assertEqual(len(fleet.removed()), 50)
        for node in self.lab.registrars:
            self.check_promises(fleet, node)
        self.figure(f"Redis killed for {GONE_SECONDS:.0f} s: {len(fleet.register_seconds) - first} REGISTERs, 100 of "
                    f"new phones, 100 of moved ones, 50 removals, all answered 200, {journaled:.0f} by the journal; "
                    f"{count} records as acknowledged at most {converged:.1f} s after the last one")


class RefusingTests(AwayCase):
    """The configuration says that nothing is kept meanwhile."""

    sections = """
    [location]
    when_unavailable = "refuse"
    """

    def test_gone(self) -> None:
        """Refreshes are answered 503 with Retry-After, never anything worse; phones call each other, and come back."""
        fleet = self.fleet(behaviour=Behaviour(when_unavailable="later"))
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        sleep(1.5)  # so long Redis may take until what it has acknowledged is on its disk
        self.lab.redis.kill(self.server.pid)
        fleet.refresh(REFRESHES_PER_SECOND)
        self.call_among(fleet, fleet.phones[:300])
        sleep(1.0)
        self.assertFalse(any(node.is_ready() for node in self.lab.registrars))
        self.lab.redis.restart(0)
        fleet.wait_registered(fleet.phones)
        sleep(2.5)
        fleet.refresh(0)
        sleep(1.0)
        self.wait_converged()
        self.assertEqual({refusal.line.split()[1] for refusal in fleet.refusals}, {"503"})
        self.assertEqual((fleet.unanswered, fleet.endings), ([], []))
        count = self.compare(fleet)
        self.figure(f"Redis killed, writes refused: {len(fleet.refusals)} REGISTERs answered 503 and repeated; "
                    f"{count} records as acknowledged")
        self.assertEqual(self.events("journal_written"), 0)
