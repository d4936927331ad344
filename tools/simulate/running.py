"""Plays the calls of a world with one policy, and scores each by what its receivers get."""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Protocol

from attrs import define, frozen

from tools.simulate.demand import Call
from tools.simulate.truth import mean_rating
from tools.simulate.world import World

LOOK_SECONDS = 5.0
"""So often it is noted what the receivers of a call get."""
BAD_R = 70.0
"""A call whose mean R is below this is a bad one."""


@frozen(kw_only=True)
class Outcome:
    """What became of the scored calls."""

    ratings: dict[str, float]
    """Mean R over time and both receivers by call id; 0 where every node refused it."""
    refused: int
    """Calls that every node refused."""
    peak: float
    """The highest u that any node ever had, once the world had warmed up."""
    busiest: float
    """The mean, over time, of the highest u."""

    @property
    def bad(self) -> float:
        """The share of bad calls."""
        return sum(rating < BAD_R for rating in self.ratings.values()) / max(len(self.ratings), 1)

    @property
    def mean(self) -> float:
        """The mean of their ratings."""
        return sum(self.ratings.values()) / max(len(self.ratings), 1)


class Policy(Protocol):
    """Whoever chooses."""

    def choose(self, call: Call, now: float, refused: frozenset[str]) -> str | None:
        """Return the node for a call; `refused` have just refused it, being full. None: nobody is left."""
        ...

    def placed(self, call: Call, node: str, now: float) -> None:
        """The call is at this node."""
        ...

    def ended(self, call: Call, now: float) -> None:
        """It is over."""
        ...


@define(eq=False)
class _Running:
    call: Call
    node: str
    looked_at: float
    ends_at: float
    total: float = 0.0
    seconds: float = 0.0


class Stage:
    """The world with its calls at nodes, as time goes on."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = Random(f"stage {seed}")
        """For chance that differs between policies, since they make different calls talk."""
        self.sessions = {node.id: 0 for node in world.nodes}
        self.capacities = {node.id: node.capacity for node in world.nodes}
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()

    def later(self, at: float, happen: Callable[..., None], *arguments: Any) -> None:
        """Have `happen(now, *arguments)` called."""
        heappush(self._heap, (at, next(self._numbers), happen, arguments))

    def every(self, seconds: float, first: float, happen: Callable[[float], None]) -> None:
        """Have it called again and again."""

        def again(now: float) -> None:
            happen(now)
            self.later(now + seconds, again)

        self.later(first, again)

    def run(self) -> None:
        """Let everything happen until the world's end."""
        end = self.world.scenario.seconds
        while self._heap and self._heap[0][0] < end:
            now, _, happen, arguments = heappop(self._heap)
            happen(now, *arguments)

    def load(self, node: str) -> float:
        """Return u, as it really is."""
        return self.sessions[node] / self.capacities[node]


class Play:
    """One policy's way through the calls."""

    def __init__(self, stage: Stage, policy: Policy) -> None:
        self._stage = stage
        self._policy = policy
        self._ratings: dict[str, float] = {}
        self._running: dict[str, _Running] = {}
        self._refused = 0
        self._peak = 0.0
        self._highest: list[float] = []

    def play(self, calls: Sequence[Call]) -> Outcome:
        """Return what became of them."""
        stage, scenario = self._stage, self._stage.world.scenario
        for call in calls:
            stage.later(call.at, self._arrive, call)
        stage.every(1.0, scenario.warm_up_seconds, self._observe)
        stage.run()
        for running in list(self._running.values()):
            self._end(min(running.ends_at, scenario.seconds), running)
        return Outcome(ratings=self._ratings, refused=self._refused, peak=self._peak,
                       busiest=sum(self._highest) / max(len(self._highest), 1))

    def _arrive(self, now: float, call: Call) -> None:
        node = self._chosen(call, now)
        if node is None:
            if call.is_scored:
                self._refused += 1
                self._ratings[call.id] = 0.0
            return
        self._stage.sessions[node] += 1
        if call.is_scored:
            self._peak = max(self._peak, self._stage.load(node))
        running = self._running[call.id] = _Running(call, node, now, now + call.seconds)
        self._policy.placed(call, node, now)
        self._look_later(now, running)

    def _chosen(self, call: Call, now: float) -> str | None:
        refused: frozenset[str] = frozenset()
        while len(refused) < len(self._stage.sessions):
            node = self._policy.choose(call, now, refused)
            if node is None or self._stage.load(node) < 1.0:
                return node
            refused |= {node}
        return None

    def _look_later(self, now: float, running: _Running) -> None:
        if running.ends_at <= now + LOOK_SECONDS:
            self._stage.later(running.ends_at, self._end, running)
        else:
            self._stage.later(now + LOOK_SECONDS, self._look, running)

    def _look(self, now: float, running: _Running) -> None:
        self._rate(now, running)
        self._look_later(now, running)

    def _rate(self, now: float, running: _Running) -> None:
        if not running.call.is_scored:
            return
        spent = now - running.looked_at
        node = running.node
        middle = self._stage.world.at(now - spent / 2)
        running.total += spent * mean_rating(middle, running.call, node, self._stage.load(node))
        running.seconds += spent
        running.looked_at = now

    def _end(self, now: float, running: _Running) -> None:
        self._rate(now, running)
        if running.seconds > 0:
            self._ratings[running.call.id] = running.total / running.seconds
        self._stage.sessions[running.node] -= 1
        del self._running[running.call.id]
        self._policy.ended(running.call, now)

    def _observe(self, now: float) -> None:
        self._highest.append(max(self._stage.load(node) for node in self._stage.sessions))
