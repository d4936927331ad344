"""Several nodes change the bindings of the same address-of-record at the same moment: never one too many, in order.

First the stores of three nodes against a model, over a real Redis; then phones that race for the same
addresses-of-record over a whole cluster.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count, permutations
from time import monotonic
from typing import Any, ClassVar

import attrs
from attrs import frozen
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred, gatherResults

from registrar.bindings import register, unbind
from registrar.location.contract import Conflict, Snapshot
from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import COMPACT
from registrar.location.redis import RedisLocation
from registrar.location.shared_form import snapshot_of
from registrar.records import Binding, BindingConfig, Refused, Stored, record_key
from registrar.registering import MAX_CONFLICTS
from tests.cluster.case import ClusterCase
from tests.cluster.rivals import History, Rival, Rivals, Wish
from tests.cluster.test_location_redis import RedisCase
from tests.registrar.examples import OVER_UDP, a_contact, a_register, over_tcp
from tools.laboratory.filling import LabUser

NODES = 3
EXAMPLES = 40
STEP_COUNT = 15
RACES = 25
Bindings = frozenset[Binding]


@frozen
class Registering:
    """One REGISTER that a node gets."""

    node: int
    phone: int
    series: int
    """Which of the phone's Call-IDs."""
    cseq: int
    seconds: int
    flow_id: int
    """0: over UDP."""
    short: bool
    """The node tries its short way first, which changes one packed record without waiting."""


@frozen
class Ending:
    """A connection to a node ends."""

    node: int
    flow_id: int


Step = Registering | Ending
Outcome = tuple[Any, ...]

REGISTERING = st.builds(
    Registering, st.integers(0, NODES - 1), st.integers(0, 2), st.integers(0, 1), st.integers(1, 6),
    st.sampled_from((3600, 60, 0, 3600)), st.integers(0, 2), st.booleans())
ENDING = st.builds(Ending, st.integers(0, NODES - 1), st.integers(1, 2))
STEPS: st.SearchStrategy[Step] = st.one_of(REGISTERING, REGISTERING, REGISTERING, ENDING)


class Stores:
    """The stores of all nodes, and what steps do to them."""

    def __init__(self, case: RedisCase, max_contacts: int) -> None:
        self.case = case
        self.config = BindingConfig(expiry_jitter=0.0, max_contacts=max_contacts)
        self.stores = [case.a_store(node=f"n{number}", max_contacts=max_contacts) for number in range(NODES)]
        for store in self.stores:
            case.run_now(store.start())
        self.figures: Counter[str] = Counter()
        self.wait_until_connected()

    def wait_until_connected(self) -> None:
        """Return when all nodes can ask Redis."""
        self.case.spin_until(lambda: all(store.takes_at_once(b"nobody@example.com", False) for store in self.stores))

    def break_connections(self, kind: str) -> None:
        """Let Redis close all connections of a kind, and return when all nodes are back."""
        before = self.reconnects()
        self.case.command("CLIENT", "KILL", "TYPE", kind)
        self.case.spin_until(lambda: all(now > was for now, was in zip(self.reconnects(), before, strict=True)))
        self.wait_until_connected()

    def reconnects(self) -> list[int]:
        """Return how often each node has connected to Redis again."""
        return [store._redis.servers[0].reconnects for store in self.stores]

    def at_once(self, aor: str, steps: list[Step]) -> list[Outcome]:
        """Let nodes do all steps at the same moment, and return what came of each."""
        doing = [Deferred.fromCoroutine(self._do(aor, step)) for step in steps]
        return self.case.result_of(gatherResults(doing))

    def wait_until_all_see(self, aor: str, bindings: Bindings) -> None:
        """Return when each node has heard what is bound; fails when one does not."""
        self.case.spin_until(lambda: all(seen == bindings for seen in self.seen(aor)))

    def seen(self, aor: str) -> list[Bindings]:
        """Return what each node says now."""
        now = self.case.clock.seconds()
        return [live(self.case.run_now(store.load(aor)).bindings, now) for store in self.stores]

    def stop(self) -> None:
        """Stop all stores."""
        for store in self.stores:
            self.case.spin_until(partial(self.let_pass, Deferred.fromCoroutine(store.stop())))

    def let_pass(self, waiting: "Deferred[None]") -> bool:
        """Let time pass, and say whether something is done."""
        self.case.clock.advance(1.0)
        return waiting.called

    async def _do(self, aor: str, step: Step) -> Outcome:
        store = self.stores[step.node]
        if isinstance(step, Ending):
            return removed(await store.unbind(aor, f"n{step.node}", 1, step.flow_id))
        for attempt in range(MAX_CONFLICTS):
            if step.short and attempt == 0 and await self._do_shortly(store, aor, step):
                self.figures["acknowledged the short way"] += 1
                return stored()
            current = await store.load_for_update(aor, step.seconds > 0)
            outcome = self.decided(aor, step, current.bindings)
            if isinstance(outcome, Refused):
                self.figures["refused"] += 1
                return refused(outcome)
            try:
                if outcome.changed:
                    await store.save(aor, current.followed_by(outcome.bindings))
                self.figures["acknowledged the whole way"] += 1
                return stored()
            except Conflict:
                self.figures["tried again"] += 1
        raise AssertionError("so many conflicts that a phone would get a 503")

    async def _do_shortly(self, store: RedisLocation, aor: str, step: Registering) -> bool:
        """Change one packed record without waiting, as the short way does; False when nothing was changed."""
        key = record_key(aor)
        if not store.takes_at_once(key, step.flow_id > 0):
            return False
        old = store.records.get(key)
        if old is not None and not old[8] & COMPACT:
            return False
        current = Snapshot() if old is None else store.packing.unpack(old)
        outcome = self.decided(aor, step, current.bindings)
        if isinstance(outcome, Refused) or len(outcome.bindings) != 1 or outcome.lapsed:
            return False
        (binding,) = outcome.bindings
        slot = int(binding.expires_at // SLOT_SECONDS)
        new = store.packing.pack(Snapshot(current.version + 1, (binding,)), slot)
        kept: Deferred[bool] = Deferred()
        store.keep(key, old, new, binding.source.transport, kept.callback)
        return await kept

    def decided(self, aor: str, step: Registering, bindings: Iterable[Binding]) -> Stored | Refused:
        """Return what the rules say of a REGISTER."""
        node = f"n{step.node}"
        source = over_tcp(step.flow_id, node) if step.flow_id else attrs.evolve(OVER_UDP, node=node)
        contact = a_contact(f"sip:alice@192.0.2.{step.phone + 4}", expires=step.seconds)
        request = a_register(contact, aor=aor, call_id=f"{step.series}@{step.phone}", cseq=step.cseq, source=source)
        return register(request, tuple(bindings), self.config, self.case.clock.seconds(), lambda: 0.0)


class SameAor(RuleBasedStateMachine):
    """One address-of-record, which the nodes' phones want, and what it has bound by the rules.

    Steps of the same moment may take effect in any order: the model follows the one that explains all outcomes.
    """

    stores: ClassVar[Stores]
    _numbers = count(1)

    def __init__(self) -> None:
        super().__init__()
        self.aor = f"sip:alice{next(self._numbers)}@example.com"
        self.bindings: Bindings = frozenset()
        self.version = 0
        self.moments = 0

    @rule(steps=st.lists(STEPS, min_size=2, max_size=4))
    def at_once(self, steps: list[Step]) -> None:
        """Nodes do some steps at the same moment; most requests are later ones than those of the steps before."""
        self.moments += 1
        steps = [attrs.evolve(step, cseq=step.cseq + 3 * self.moments) if isinstance(step, Registering) else step
                 for step in steps]
        outcomes = self.stores.at_once(self.aor, steps)
        after = self.kept()
        ways = [self.way(order, steps, outcomes) for order in permutations(range(len(steps)))]
        assert after in ways, f"{steps} had outcomes {outcomes} and led to {after}, which no order explains: {ways}"
        assert len(after) <= self.stores.config.max_contacts
        self.bindings = after

    @rule(seconds=st.sampled_from((1.0, 30.0, 61.0, 3601.0)))
    def later(self, seconds: float) -> None:
        """Time passes, and takes bindings with it."""
        self.stores.case.clock.advance(seconds)
        self.bindings = live(self.bindings, self.stores.case.clock.seconds())
        if self.stores.case.shared(self.aor) is None:
            # Versions begin anew.
            self.version = 0

    @rule(kind=st.sampled_from(("normal", "pubsub")), chance=st.integers(0, 5))
    def connections_break(self, kind: str, chance: int) -> None:
        """Redis closes all connections of a kind, and the nodes come back.

        What races have led to is looked at here and in no precondition: hypothesis wants the same choice each time.
        """
        if chance == 0 and self.version:
            self.stores.break_connections(kind)

    @invariant()
    def all_nodes_agree(self) -> None:
        """Each node sees what is bound."""
        self.stores.wait_until_all_see(self.aor, self.bindings)

    def kept(self) -> Bindings:
        """Return what Redis has, whose version only grows."""
        snapshot = self.stores.case.shared(self.aor)
        if snapshot is None:
            self.version = 0
            return frozenset()
        assert snapshot.version >= self.version
        self.version = snapshot.version
        return live(snapshot.bindings, self.stores.case.clock.seconds())

    def way(self, order: Iterable[int], steps: list[Step], outcomes: list[Outcome]) -> Bindings | None:
        """Return where steps lead in an order; None if they would have had other outcomes."""
        bindings = self.bindings
        for place in order:
            step = steps[place]
            if isinstance(step, Ending):
                left = frozenset(unbind(bindings, f"n{step.node}", 1, step.flow_id))
                outcome, bindings = removed(bindings - left), left
            else:
                decided = self.stores.decided(self.aor, step, bindings)
                outcome = refused(decided) if isinstance(decided, Refused) else stored()
                bindings = frozenset(decided.bindings) if isinstance(decided, Stored) else bindings
            if outcome != outcomes[place]:
                return None
        return bindings


def live(bindings: Iterable[Binding], now: float) -> Bindings:
    """Return those whose time is not over."""
    return frozenset(binding for binding in bindings if binding.expires_at > now)


def stored() -> Outcome:
    """Return what is noted of a REGISTER that was answered 200."""
    return ("stored",)


def refused(outcome: Refused) -> Outcome:
    """Return what is noted of one that was not."""
    return ("refused", outcome.status)


def removed(bindings: Iterable[Binding]) -> Outcome:
    """Return what is noted of bindings that went with their connection."""
    return ("removed", frozenset(bindings))


class SameAorTests(RedisCase):
    record: Callable[[str, object], None] = staticmethod(lambda name, value: None)

    def live_through(self, max_contacts: int, examples: int) -> None:
        """Let hypothesis look for a way to break the rules."""
        self.prepare()
        stores = Stores(self, max_contacts)

        class Machine(SameAor):
            pass

        Machine.stores = stores
        began_at = monotonic()
        run_state_machine_as_test(Machine, settings=settings(
            max_examples=examples, stateful_step_count=STEP_COUNT, deadline=None, phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck)))
        figures = ", ".join(f"{value} {name}" for name, value in sorted(stores.figures.items()))
        self.record("figure", f"{NODES} nodes, one AOR, at most {max_contacts} contacts: {figures}, "
                              f"in {monotonic() - began_at:.1f} s")
        stores.stop()

    def test_one_contact(self) -> None:
        """Of three nodes that register the same AOR at once with room for one contact, none ever adds a second."""
        self.live_through(1, EXAMPLES)

    def test_several_contacts(self) -> None:
        """With room for two, all that nodes do at once can be explained by some order of the same steps."""
        self.live_through(2, EXAMPLES)


class RaceTests(ClusterCase):
    """Phones that race for the same addresses-of-record over three registrars, with room for one contact each."""

    users = 120
    sections = "[bindings]\nmax_contacts = 1\n"

    def setUp(self) -> None:
        self.rivals = Rivals(self.lab.tcp, self.lab.domain)
        self.addCleanup(self.rivals.close)
        self.numbers = count(1)

    def rivals_for(self, users: Sequence[LabUser]) -> list[list[Rival]]:
        """Return for each user a phone at each node."""
        return [[Rival(user, face) for face in range(self.registrars)] for user in users]

    def test_two_phones(self) -> None:
        """Three phones ask three nodes for the same AOR at the same moment: one gets it, and Redis never has two."""
        users = self.lab.users[::2]
        each = self.rivals_for(users)
        statuses: Counter[int] = Counter()
        began_at = monotonic()
        with History(self.lab.redis.servers[0].port) as history:
            for _ in range(RACES):
                number = next(self.numbers)
                wishes = [[Wish(rival, self.contact(rival), f"two-{number}-{rival.face}", 1) for rival in rivals]
                          for rivals in each]
                answers = self.rivals.ask(wishes)
                statuses.update(status for some in answers for status in some)
                self.assertEqual({tuple(sorted(some)) for some in answers}, {(200, 403, 403)})
                winners = [wish for group, some in zip(wishes, answers, strict=True)
                           for wish, status in zip(group, some, strict=True) if status == 200]
                self.assertEqual(self.bound(users), {wish.rival.user.username: (wish.contact, 1) for wish in winners})
                removals = [[attrs.evolve(wish, cseq=2, expires=0)] for wish in winners]
                self.assertEqual({status for some in self.rivals.ask(removals) for status in some}, {200})
                self.assertEqual(self.bound(users), {})
        self.assert_in_order(history)
        self.figure(f"{statuses.total()} phones raced for {len(each)} AORs at {self.registrars} nodes, "
                    f"{statuses[200]} got theirs, {statuses[403]} were refused, "
                    f"{self.rivals.challenged} were challenged, {len(history)} values were kept and "
                    f"none had two contacts; {monotonic() - began_at:.1f} s")

    def test_one_phone(self) -> None:
        """Requests of one phone that reach three nodes at the same moment leave the last of them, whoever is first."""
        users = self.lab.users[1::2]
        each = self.rivals_for(users)
        statuses: Counter[int] = Counter()
        began_at = monotonic()
        with History(self.lab.redis.servers[0].port) as history:
            for turn in range(RACES):
                wishes = []
                for rivals in each:
                    # Each node gets the last request of some phones, and is asked first of some.
                    turned = [rivals[(turn + shift) % self.registrars] for shift in range(self.registrars)]
                    wishes.append([Wish(rival, "sip:one@192.0.2.1", "one", self.registrars * turn + place + 1)
                                   for place, rival in enumerate(turned)])
                    wishes[-1].sort(key=lambda wish: wish.rival.face)
                answers = self.rivals.ask(wishes)
                statuses.update(status for some in answers for status in some)
                last = self.registrars * (turn + 1)
                late = Counter(status for group, some in zip(wishes, answers, strict=True)
                               for wish, status in zip(group, some, strict=True) if wish.cseq == last)
                self.assertEqual(late, {200: len(each)})
                self.assertEqual(self.bound(users), {user.username: ("sip:one@192.0.2.1", last) for user in users})
        self.assertLessEqual(set(statuses), {200, 500})
        self.assert_in_order(history)
        self.figure(f"{statuses.total()} requests of {len(each)} phones raced to {self.registrars} nodes, "
                    f"{statuses[200]} were taken, {statuses[500]} were out of order, "
                    f"{self.rivals.challenged} were challenged, the last one stayed each time; "
                    f"{monotonic() - began_at:.1f} s")

    def contact(self, rival: Rival) -> str:
        """Return the contact of a phone."""
        return f"sip:{rival.user.username}@192.0.2.{rival.face + 1}"

    def bound(self, users: Iterable[LabUser]) -> dict[str, tuple[str, int]]:
        """Return contact and CSeq of the only binding that each user has in Redis."""
        found: dict[str, tuple[str, int]] = {}
        for user in users:
            server = self.lab.redis.servers[0]
            value = self.lab.redis.command(server, "GET", f"loc:{user.username}@{self.lab.domain}")
            snapshot = Snapshot() if value is None else snapshot_of(value)
            assert snapshot is not None
            for binding in snapshot.bindings:
                self.assertNotIn(user.username, found)
                found[user.username] = binding.contact, binding.cseq
        return found

    def assert_in_order(self, history: History) -> None:
        """Expect that no value had two contacts or went back, and that each followed the one before."""
        for name, values in history.kept.items():
            before = Snapshot()
            for value in values:
                assert value is not None, name
                self.assertLessEqual(len(value.bindings), 1, name)
                self.assertIn(value.version, (before.version + 1, 1), name)
                for old, new in zip(before.bindings, value.bindings, strict=False):
                    if old.call_id == new.call_id:
                        self.assertLess(old.cseq, new.cseq, name)
                before = value
