"""Whatever happens in whatever order, a subscriber knows in the end what is bound, and is never told too often."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from registrar.records import Binding
from registrar.regevent.subscription import MAX_FAILURES
from tests.registrar.examples import a_binding
from tests.registrar.regevent.case import EventsCase, FarLocation

PHONES = 3
NODES = ("n2", "n3")
STEP_SECONDS = 0.25
LONGEST_SECONDS = 30.0
"""What bindings may live in a test, but for those that outlive it."""

phones = st.integers(0, PHONES - 1)
Step = tuple[str, int]
steps: st.SearchStrategy[list[Step]] = st.lists(st.one_of(
    st.tuples(st.sampled_from(["comes", "comes_briefly", "stays", "goes"]), phones),
    st.tuples(st.just("passes"), st.integers(1, 40)),
    st.tuples(st.sampled_from(["refresh", "store_away", "store_back", "slow", "quick", "busy"]), st.just(0)),
    st.tuples(st.just("node_ends"), st.integers(0, len(NODES) - 1)),
), min_size=5, max_size=40)


class World(EventsCase):
    """Alice's phones, and somebody who watches her. Each method that takes a number is something that may happen."""

    __test__ = False
    location = FarLocation

    def runTest(self) -> None:
        """This is no test of its own."""

    def setUp(self) -> None:
        super().setUp()
        self.bindings: dict[int, Binding] = {}
        self.times: list[float] = []
        self.busy_times = 0
        self.watcher = self.watching()

    def comes(self, phone: int, seconds: float = 7000.0) -> None:
        """A phone registers over a connection of a node that lives."""
        now = self.clock.seconds()
        living = [node for node in NODES if (node, 1) not in self.dead] or ["n1"]
        binding = a_binding(f"sip:alice@192.0.2.{phone}", expires_at=now + seconds, connection_bound=True,
                            registered_at=now, refreshed_at=now)
        source = attrs.evolve(binding.source, node=living[phone % len(living)], epoch=1)
        self.bindings[phone] = attrs.evolve(binding, source=source)
        self.bind(*self.bindings.values())

    def comes_briefly(self, phone: int) -> None:
        """A phone registers for some seconds."""
        self.comes(phone, 4.0 + 4 * phone)

    def stays(self, phone: int) -> None:
        """A phone refreshes, of which the store says nothing."""
        now, old = self.clock.seconds(), self.bindings.get(phone)
        if old is not None and old.expires_at > now:
            longer = max(old.expires_at, now + LONGEST_SECONDS)
            self.bindings[phone] = attrs.evolve(old, cseq=old.cseq + 1, refreshed_at=now, expires_at=longer)
            self.bind(*self.bindings.values(), tells=False)

    def goes(self, phone: int) -> None:
        """A phone is switched off."""
        if self.bindings.pop(phone, None) is not None:
            self.bind(*self.bindings.values())

    def node_ends(self, number: int) -> None:
        """A node dies, with the connections on it."""
        ended = NODES[number], 1
        if ended not in self.dead:
            self.dead.add(ended)
            self.events.nodes_ended(frozenset({ended}))
            self.clock.advance(0)

    def store_away(self, _: int) -> None:
        """Nothing can be read."""
        self.registrar.location.down = True

    def store_back(self, _: int) -> None:
        """It can again."""
        self.registrar.location.down = False

    def slow(self, _: int) -> None:
        """What is read takes its time."""
        self.registrar.location.holds = True

    def quick(self, _: int) -> None:
        """All of it is there."""
        self.registrar.location.holds = False
        self.registrar.location.let_pass()

    def busy(self, _: int) -> None:
        """The watcher cannot take what comes next; who cannot too often in a row is forgotten."""
        if self.busy_times < MAX_FAILURES - 1:
            self.busy_times += 1
            self.watcher.answers_with = 503

    def refresh(self, _: int) -> None:
        """The watcher subscribes again, unless it waits for an answer."""
        if self.watcher.answer is None:
            return
        self.watcher.answer = None
        self.watcher.phone.receive_whole(self.watcher.a_subscribe().serialise())

    def passes(self, quarters: int) -> None:
        """Some time passes."""
        for _ in range(quarters):
            self.clock.advance(STEP_SECONDS)
            self.look()

    def look(self) -> None:
        """Let the watcher read and answer."""
        for notify in self.watcher.told():
            self.times.append(self.clock.seconds())
            if self.watcher.answers_with != 200 and notify.body:
                self.watcher.table.version += 1
        if self.times and self.times[-1] == self.clock.seconds():
            self.watcher.answers_with = 200

    def bound(self) -> list[str]:
        """Return the contacts that are bound now."""
        now = self.clock.seconds()
        return sorted(each.contact for each in self.bindings.values()
                      if each.expires_at > now and (each.source.node, each.source.epoch) not in self.dead)


class ModelTests(EventsCase):
    @settings(max_examples=300, deadline=None)
    @given(steps)
    def test_watcher_knows(self, what: list[Step]) -> None:
        """Phones come, stay, lapse and go; nodes die; the store and the watcher cannot be reached at times."""
        world = World()
        world.setUp()
        for step, number in what:
            getattr(world, step)(number)
            world.look()
        world.store_back(0)
        world.quick(0)
        world.passes(int((LONGEST_SECONDS + 15) / STEP_SECONDS))
        self.assertEqual(sorted(world.watcher.table.active.values()), world.bound())
        self.assertEqual(world.watcher.table.state == "active", bool(world.bound()))
        self.assertEqual(len(world.events.book), 1)
        if all(step != "refresh" for step, _ in what):
            pauses = [later - earlier for earlier, later in zip(world.times, world.times[1:], strict=False)]
            self.assertGreaterEqual(min(pauses, default=5.0), 5.0 - STEP_SECONDS)
