"""Servers of MySQL without threads: a test says what each server answers, and when."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from pymysql.err import OperationalError
from twisted.internet.task import Clock

from rollcall.sql.config import MysqlConfig
from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.lanes import Answer, Outcome, Task, Trouble
from rollcall.sql.looking import Look
from rollcall.sql.servers import Servers

PRIMARY, FIRST, SECOND = "192.0.2.1:3306", "192.0.2.2:3306", "192.0.2.3:3306"
WELL_PRIMARY = Look(is_read_only=False)
WELL_REPLICA = Look(is_read_only=True, follows=True, lag_seconds=0.0)
PROMOTED = Look(is_read_only=False, follows=False, unfit="it follows nobody")
LOST = OperationalError(2013, "Lost connection to MySQL server during query")
REFUSED = SqlUnavailable("MySQL: connection refused")


@define(eq=False)
class ScriptedLanes:
    """Tasks stay until the test answers them. They have begun up to `count`."""

    name: str
    count: int
    tasks: list[Task] = field(factory=list)
    cuts: list[Task] = field(factory=list)
    renewed: int = 0
    stopped: Callable[[], None] | None = None

    @property
    def waiting(self) -> int:
        return max(len(self.tasks) - self.count, 0)

    def submit(self, task: Task) -> None:
        self.tasks.append(task)

    def take_back(self) -> list[Task]:
        taken, self.tasks = self.tasks[self.count:], self.tasks[:self.count]
        return taken

    def cut(self, task: Task) -> None:
        self.cuts.append(task)

    def renew(self) -> None:
        self.renewed += 1

    def stop(self, stopped: Callable[[], None]) -> None:
        self.stopped = stopped
        if not self.tasks:
            stopped()

    def cut_all(self) -> None:
        self.cuts.extend(self.tasks)

    def answer(self, outcome: Outcome | Any) -> None:
        """Give the oldest task an outcome; anything else is what it returned."""
        task = self.tasks.pop(0)
        task.answered(task, outcome if isinstance(outcome, Answer | Trouble) else Answer(outcome))


class ScriptedServers:
    """A client of a primary and two replicas, its clock, and what each server has been asked."""

    def __init__(self, replicas: tuple[str, ...] = (FIRST, SECOND), **settings: Any) -> None:
        self.clock = Clock()
        self.asked: dict[str, ScriptedLanes] = {}
        self.checked: dict[str, ScriptedLanes] = {}
        self.observed: list[tuple[str, float]] = []
        self.config = MysqlConfig(primary=PRIMARY, replicas=replicas, **settings)
        self.sql = Servers(self.clock, self.config, lambda *told: self.observed.append(told), self._make)

    def _make(self, name: str, count: int) -> ScriptedLanes:
        into = self.checked if name in self.asked else self.asked
        into[name] = ScriptedLanes(name, count)
        return into[name]

    def well(self) -> "ScriptedServers":
        """Start, and let all servers be well."""
        self.sql.start()
        for name in self.checked:
            self.look(name, WELL_PRIMARY if name == PRIMARY else WELL_REPLICA)
        return self

    def look(self, name: str, seen: Look | Trouble) -> None:
        """Answer the look that is on its way."""
        self.checked[name].answer(seen)

    def down(self, name: str) -> None:
        """Let a server be left out, at its next look."""
        if not self.checked[name].tasks:
            self.clock.advance(self.config.check_seconds)
        self.look(name, Trouble(REFUSED, True))

    def holders(self) -> list[str]:
        """Return who has queries."""
        return [name for name, lanes in self.asked.items() if lanes.tasks]
