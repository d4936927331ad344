"""Servers of MySQL are killed, come back, and are late, under 300 REGISTERs a second: no phone is turned away for it.

What registrars remember lapses within seconds here, so that they ask MySQL all the time; with what is configured
otherwise they would not notice. Calls go on meanwhile, and in the end the database has a record of each.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from time import sleep
from typing import ClassVar

from tests.cluster.case import spread
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import Call, CallState
from tests.cluster.mysql_lab import MysqlCase
from tests.interop.process import wait_until
from tools.laboratory.mariadb_process import MariadbProcess

STEADY = 450
NEW = 60
MOVING = 90
"""So many of the steady phones lose their connection during each trouble, and go to another registrar."""
REGISTRATIONS_PER_SECOND = 300.0
NEW_PER_SECOND = 30.0
CALLS_PER_SECOND = 10.0
TROUBLE_SECONDS = 4.0
AFTER_SECONDS = 1.0
BACK_SECONDS = 20.0
LATE_SECONDS = 30
RECORDED_SECONDS = 20.0


class FailureTests(MysqlCase):
    """Each test has its own trouble and its own new phones, whom no registrar knows when it comes."""

    users: ClassVar[int] = STEADY + 4 * NEW
    sections: ClassVar[str] = """
    [subscribers]
    cache_seconds = 3.0
    warm_up = false
    [mysql]
    max_lag_seconds = 3.0
    [calls]
    records = true
    """

    def setUp(self) -> None:
        self.fleet_here: Fleet = self.fleet(behaviour=Behaviour(when_unavailable="later", max_retry_seconds=1.0))
        number = sorted(name for name in dir(self) if name.startswith("test_")).index(self._testMethodName)
        phones = self.fleet_here.phones
        self.steady = phones[:STEADY]
        self.new = phones[STEADY + number * NEW:STEADY + (number + 1) * NEW]
        self.fleet_here.register(self.steady, REGISTRATIONS_PER_SECOND)
        self.fleet_here.wait_registered(self.steady)

    @property
    def primary(self) -> MariadbProcess:
        """The server that takes writes."""
        return self.lab.mysql.primary

    @property
    def replica(self) -> MariadbProcess:
        """The server that follows it."""
        return self.lab.mysql.replicas[0]

    # --- the troubles

    def test_replica_killed(self) -> None:
        """The replica is killed: the primary is read, new phones register, and the replica is used when it is back."""
        before = self.reads(self.replica)
        self.go_through("the replica killed", self.replica.kill, self.replica.start)
        self.assertEqual(self.fleet_here.refusals, [])
        wait_until(lambda: self.fit_at(self.replica) == self.registrars or None, "a fit replica", BACK_SECONDS)
        self.fleet_here.refresh(REGISTRATIONS_PER_SECOND)
        wait_until(lambda: self.reads(self.replica) > before or None, "reads at the replica", BACK_SECONDS)
        self.fleet_here.refresh(0)

    def test_primary_killed(self) -> None:
        """The primary is killed: the replica answers whatever is asked, and new phones register."""
        self.go_through("the primary killed", self.primary.kill, self.primary.start)
        self.assertEqual(self.fleet_here.refusals, [])

    def test_both_killed(self) -> None:
        """Both are killed: those who are known go on, also elsewhere; new phones are asked to wait, and then let in."""
        self.go_through("both killed", self.kill_both, self.start_both)
        refused = self.fleet_here.refusals
        self.assertEqual({refusal.line.split()[1] for refusal in refused}, {"503"})
        self.assertLessEqual({refusal.user for refusal in refused}, {phone.user for phone in self.new})

    def test_replica_late(self) -> None:
        """The replica is 30 s behind: it is not asked, so that phones of users who were just added register at once."""
        self.make_late()
        self.go_through("the replica 30 s behind", self.add_new, self.make_punctual)
        self.assertEqual(self.fleet_here.refusals, [])

    def kill_both(self) -> None:
        """Let nobody answer any more."""
        self.primary.kill()
        self.replica.kill()

    def start_both(self) -> None:
        """Let both answer again."""
        self.primary.begin()
        self.replica.begin()
        self.primary.wait_until_it_answers()
        self.replica.wait_until_it_answers()

    def make_late(self) -> None:
        """Let nobody know the new users, and the replica not do what the primary does since half a minute ago."""
        names = [phone.user for phone in self.new]
        self.primary.query("CREATE TABLE rollcall.added SELECT * FROM rollcall.subscriber WHERE username IN %s", names)
        self.primary.query("DELETE FROM rollcall.subscriber WHERE username IN %s", names)
        self.lab.mysql.wait_until_equal()
        # What the primary says to have done half a minute ago waits for as long again.
        self.lab.mysql.lag(self.replica, 2 * LATE_SECONDS)
        self.primary.script(f"SET TIMESTAMP = UNIX_TIMESTAMP() - {LATE_SECONDS}; CREATE TABLE late (id INT);",
                            "rollcall")
        wait_until(lambda: (self.replica.replica_state()["Seconds_Behind_Master"] or 0) >= LATE_SECONDS or None,
                   "a late replica", BACK_SECONDS)
        wait_until(lambda: self.fit_at(self.replica) == 0 or None, "a replica that is left alone", BACK_SECONDS)

    def add_new(self) -> None:
        """Let the primary know the new users; the replica will not hear of them before the test is over."""
        self.primary.query("INSERT INTO rollcall.subscriber SELECT * FROM rollcall.added")
        ((number,),) = self.replica.query("SELECT COUNT(*) FROM rollcall.subscriber WHERE username IN %s",
                                          [phone.user for phone in self.new])
        self.assertEqual(number, 0)

    def make_punctual(self) -> None:
        """Let the replica keep up again, which has been late all the time."""
        self.assertGreaterEqual(self.replica.replica_state()["Seconds_Behind_Master"], LATE_SECONDS)
        self.lab.mysql.lag(self.replica, 0)
        self.lab.mysql.wait_until_equal()

    # --- what goes on meanwhile

    def go_through(self, what: str, begin: Callable[[], None], end: Callable[[], None]) -> None:
        """Bring the trouble and end it while phones refresh, move, register for the first time and call each other."""
        fleet = self.fleet_here
        moving, staying = self.steady[:MOVING], self.steady[MOVING:]
        refreshed, before = len(fleet.register_seconds), self.totals()
        fleet.refresh(REGISTRATIONS_PER_SECOND)
        seconds = 2 * AFTER_SECONDS + TROUBLE_SECONDS
        calls = fleet.call_at_random(int(CALLS_PER_SECOND * seconds), CALLS_PER_SECOND, staying, staying, 0.5)
        sleep(AFTER_SECONDS)
        begin()
        fleet.drop(moving, come_back=True)
        fleet.register(self.new, NEW_PER_SECOND)
        sleep(TROUBLE_SECONDS)
        end()
        fleet.wait_registered([*self.steady, *self.new], BACK_SECONDS)
        sleep(AFTER_SECONDS)
        fleet.refresh(0)
        fleet.wait_calls(calls)
        self.check_phones(calls)
        self.check_records(calls)
        took = fleet.register_seconds[refreshed:]
        reads = {name: round(count - before[name]) for name, count in self.totals().items()}
        self.figure(f"{what}: {len(took)} REGISTERs answered 200 ({spread(took)}), of which {MOVING} moved and {NEW} "
                    f"new phones, {len(fleet.refusals)} × 503 to new ones, none else refused; users from {reads}; "
                    f"{len(calls)} calls, all with a record")

    def check_phones(self, calls: Sequence[Call]) -> None:
        """Check that no phone of before was refused or left without an answer, and that no call failed."""
        fleet = self.fleet_here
        known = {phone.user for phone in self.steady}
        self.assertEqual([refusal for refusal in fleet.refusals if refusal.user in known], [])
        self.assertEqual([refusal for refusal in fleet.refusals if refusal.line.split()[1] != "503"], [])
        ended = {ending.user for ending in fleet.endings}
        self.assertEqual((fleet.unanswered, ended - {phone.user for phone in self.steady[:MOVING]}), ([], set()))
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])

    def check_records(self, calls: Sequence[Call]) -> None:
        """Check that the database has a record of each of these calls, one, with its end."""
        wait_until(lambda: self.recorded() >= len(calls) or None, f"{len(calls)} records of calls", RECORDED_SECONDS)
        rows = self.primary.query(
            "SELECT call_id, status, hung_up_by, caller, callee, answered_at >= started_at, ended_at >= answered_at "
            "FROM rollcall.rollcall_call WHERE call_id LIKE %s", f"{self.fleet_here.name}-call-%")
        found = Counter(rows)
        wanted = Counter((call.id, 200, "caller", call.caller.aor, call.callee.aor, 1, 1) for call in calls)
        self.assertEqual((found - wanted, wanted - found), (Counter(), Counter()))

    def recorded(self) -> int:
        """Return how many calls of these phones have ended, as the database has it."""
        ((number,),) = self.primary.query(
            "SELECT COUNT(*) FROM rollcall.rollcall_call WHERE call_id LIKE %s AND ended_at IS NOT NULL",
            f"{self.fleet_here.name}-call-%")
        return int(number)

    def fit_at(self, server: MariadbProcess) -> int:
        """Return how many registrars take a server for one that can be read."""
        return round(sum(node.metric("rollcall_sql_fit", server=server.address) for node in self.lab.registrars))

    def reads(self, server: MariadbProcess) -> float:
        """Return how often registrars have read at a server."""
        return sum(node.metric("rollcall_sql_queries_total", server=server.address, kind="read")
                   for node in self.lab.registrars)

    def totals(self) -> dict[str, float]:
        """Return where registrars have found users until now."""
        return {level: sum(node.metric("rollcall_subscriber_lookups_total", level=level)
                           for node in self.lab.registrars) for level in ("memory", "redis", "database", "stale")}
