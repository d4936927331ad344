"""The calls of a world: who calls whom, when, for how long, and what phones report. The same for every policy."""

from collections.abc import Iterator
from enum import Enum
from random import Random

from attrs import frozen

from tools.simulate.world import CODECS, World, region_of

PHONES = 200
"""In each access group."""
LIARS_CALL = 3
"""A phone that lies calls so many times as often as others: those who would move calls are busy."""
NEIGHBOURS = 0.6
"""The share of calls that stay in the caller's region."""
FILLING_SECONDS = 10.0
"""The calls that a world begins with are placed within this time."""


class Habit(Enum):
    """What a phone reports."""

    TRUE = "what it received"
    SILENT = "nothing"
    BAD = "that most is lost"
    GOOD = "that nothing is lost"
    NONSENSE = "whatever"


@frozen(kw_only=True)
class Phone:
    """A phone of an access group."""

    address: str
    group: str
    habit: Habit


@frozen(kw_only=True)
class Call:
    """A call as it is wanted: nobody hangs up because of the sound."""

    id: str
    at: float
    seconds: float
    caller: Phone
    callee: Phone
    codec: str
    registrar: int
    """Where it comes in."""
    is_scored: bool

    @property
    def sides(self) -> tuple[str, str]:
        """The access groups of its ends."""
        return (self.caller.group, self.callee.group)


class Demand:
    """Draws the calls of a world."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._random = Random(f"demand {seed}")
        self._phones = {group: self._drawn(number, group) for number, group in enumerate(world.groups)}
        self._count = 0

    def calls(self) -> list[Call]:
        """Return all of them, in order."""
        return sorted([*self._first(), *self._steady(), *self._crowds()], key=lambda call: (call.at, call.id))

    def group_of(self) -> dict[str, str]:
        """Return the access group of each phone's address."""
        return {phone.address: phone.group for some in self._phones.values() for phone in some}

    def _drawn(self, number: int, group: str) -> list[Phone]:
        return [Phone(address=f"10.{number}.{index // 250}.{index % 250 + 1}", group=group, habit=self._habit())
                for index in range(PHONES)]

    def _habit(self) -> Habit:
        scenario, point = self._world.scenario, self._random.random()
        if point < scenario.silent:
            return Habit.SILENT
        if point < scenario.silent + scenario.lying:
            return self._random.choice([Habit.BAD, Habit.GOOD, Habit.NONSENSE])
        return Habit.TRUE

    def _first(self) -> Iterator[Call]:
        for _ in range(round(self._world.scenario.load * self._world.capacity)):
            yield self._call(self._random.uniform(0.0, FILLING_SECONDS))

    def _steady(self) -> Iterator[Call]:
        scenario = self._world.scenario
        rate = scenario.load * self._world.capacity / scenario.call_seconds
        now = self._random.expovariate(rate)
        while now < scenario.seconds:
            yield self._call(now)
            now += self._random.expovariate(rate)

    def _crowds(self) -> Iterator[Call]:
        scenario = self._world.scenario
        for _ in range(scenario.flash_crowds):
            begins = self._random.uniform(scenario.warm_up_seconds, scenario.seconds - scenario.flash_seconds)
            group = self._random.choice(self._world.groups)
            for _ in range(round(scenario.flash_share * self._world.capacity)):
                yield self._call(begins + self._random.uniform(0.0, scenario.flash_seconds), group)

    def _call(self, at: float, group: str = "") -> Call:
        scenario, random = self._world.scenario, self._random
        self._count += 1
        group = group or random.choice(self._world.groups)
        return Call(
            id=f"{self._count:05d}-{random.getrandbits(32):08x}", at=at,
            seconds=random.expovariate(1 / scenario.call_seconds),
            caller=self._phone(group), callee=self._phone(self._other(group)),
            codec=random.choices([name for name, _ in CODECS], [share for _, share in CODECS])[0],
            registrar=random.randrange(scenario.registrars), is_scored=at >= scenario.warm_up_seconds)

    def _other(self, group: str) -> str:
        if self._random.random() < NEIGHBOURS:
            near = [each for each in self._world.groups if region_of(each) == region_of(group)]
            return self._random.choice(near)
        return self._random.choice(self._world.groups)

    def _phone(self, group: str) -> Phone:
        phones = self._phones[group]
        liars = [phone for phone in phones if phone.habit not in (Habit.TRUE, Habit.SILENT)]
        if liars and self._random.random() < LIARS_CALL * len(liars) / len(phones):
            return self._random.choice(liars)
        return self._random.choice(phones)
