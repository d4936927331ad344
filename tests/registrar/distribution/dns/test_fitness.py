"""How sites stand from one look to the next, and in which order they are told."""

from collections.abc import Mapping
from itertools import pairwise

from attrs import evolve
from hypothesis import given
from hypothesis.strategies import booleans, dictionaries, floats, integers, lists, sampled_from, tuples
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.fitness import (
    MOST_WEIGHT,
    Fitness,
    Judging,
    Offer,
    Standing,
    are_all_well,
    offers,
)
from registrar.distribution.dns.preferences import Preference
from rollcall.cluster.sites import SiteState
from tests.registrar.distribution.dns.sites import NOW, a_config, a_state

PLACES = ("fra", "ams", "nyc")
ORDER = tuple((place,) for place in PLACES)
WELL = Standing(Fitness.WELL, 400)
EMPTY = Standing(Fitness.EMPTY, 0)


class JudgingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.judging = Judging(a_config(), PLACES, 20_000, NOW)
        self.states = {name: a_state(name, 100, 100) for name in PLACES}
        self.now = NOW

    def look(self, later: float = 0.25, **changes: SiteState) -> dict[str, Standing]:
        """Look again after some time, with these states instead."""
        self.now += later
        self.states |= changes
        return self.judging.look(self.states, self.now)

    def fitness(self, later: float = 0.25, **changes: SiteState) -> Fitness:
        """Return what fra is then."""
        return self.look(later, **changes)["fra"].fitness

    def test_well(self) -> None:
        """Sites with living nodes are well; their weight is what is free, in hundreds of connections."""
        standings = self.look(ams=a_state("ams", 50, 100))
        self.assertEqual({name: each.weight for name, each in standings.items()}, {"fra": 400, "ams": 300, "nyc": 400})
        self.assertTrue(are_all_well(standings.values()))

    def test_no_sites(self) -> None:
        """Where there are no sites, the only place is always well."""
        judging = Judging(a_config(), ("registrar",), 5000, NOW)
        self.assertEqual(judging.look({}, NOW + 100), {"registrar": Standing(Fitness.WELL, 50)})

    def test_leaves_at_once(self) -> None:
        """A site without living nodes is out at the next look, and so is one of which nothing is heard."""
        self.look()
        self.assertIs(self.fitness(fra=a_state("fra")), Fitness.EMPTY)
        self.look(100, fra=a_state("fra", 100))
        self.assertIs(self.fitness(fra=a_state("fra", 100, reachable=False)), Fitness.SILENT)

    def test_not_heard_yet(self) -> None:
        """After our start, a site that nothing was heard of counts for a while."""
        unheard = SiteState(name="fra", nodes=(), heard_at=0.0, reachable=False)
        self.assertIs(self.fitness(0, fra=unheard), Fitness.WELL)
        self.assertIs(self.fitness(4.9), Fitness.WELL)
        self.assertIs(self.fitness(0.2), Fitness.SILENT)

    def test_clock_put_back_at_start(self) -> None:
        """A clock that is put back right after our start does not have us wait until it is there again."""
        unheard = SiteState(name="fra", nodes=(), heard_at=0.0, reachable=False)
        self.assertIs(self.fitness(-3600, fra=unheard), Fitness.SILENT)

    def test_returns_step_by_step(self) -> None:
        """A site that is back has a tenth of its share at first, and all of it after a minute; then it is forgotten."""
        self.look(fra=a_state("fra"))
        shares = [self.look(later, fra=a_state("fra", 100))["fra"] for later in (1, 5.9, 0.2, 23, 30.7, 0.2, 1)]
        self.assertEqual([round(each.share, 6) for each in shares], [0.1, 0.1, 0.2, 0.5, 1.0, 1.0, 1.0])
        self.assertIs(shares[0].fitness, Fitness.RETURNING)
        self.assertIs(shares[-1].fitness, Fitness.WELL)

    def test_dies_again(self) -> None:
        """One that goes while it returns begins anew."""
        self.look(fra=a_state("fra"))
        self.look(fra=a_state("fra", 100))
        self.look(30, fra=a_state("fra"))
        self.assertEqual(self.look(fra=a_state("fra", 100))["fra"].share, 0.1)

    def test_overloaded(self) -> None:
        """Below the low mark it is overloaded at once; it is no longer once it was above the high one long enough."""
        self.assertIs(self.fitness(fra=a_state("fra", 15, 10)), Fitness.WELL)
        self.assertIs(self.fitness(fra=a_state("fra", 10, 5)), Fitness.OVERLOADED)
        self.assertIs(self.fitness(600, fra=a_state("fra", 20, 20)), Fitness.OVERLOADED)
        self.assertIs(self.fitness(fra=a_state("fra", 30, 30)), Fitness.OVERLOADED)
        self.assertIs(self.fitness(29), Fitness.OVERLOADED)
        self.assertIs(self.fitness(2), Fitness.WELL)

    def test_room_for_a_moment(self) -> None:
        """Room that is gone again does not count; the time begins anew."""
        self.look(fra=a_state("fra", 5))
        self.look(fra=a_state("fra", 30))
        self.look(20, fra=a_state("fra", 20))
        self.look(5, fra=a_state("fra", 30))
        self.assertIs(self.fitness(20), Fitness.OVERLOADED)
        self.assertIs(self.fitness(11), Fitness.WELL)

    def test_does_not_flap(self) -> None:
        """Load that goes to and fro about a mark changes the order once, not each time."""
        seen = {self.fitness(1, fra=a_state("fra", 5 if second % 7 < 3 else 30)) for second in range(600)}
        self.assertEqual(seen, {Fitness.OVERLOADED})

    def test_weight_is_steady(self) -> None:
        """A weight is told anew only when it has changed by more than a tenth."""
        weights = [self.look(fra=a_state("fra", *each))["fra"].weight
                   for each in ((100, 100), (95, 100), (90, 90), (85, 90), (80, 85), (90, 90))]
        self.assertEqual(weights, [400, 400, 400, 350, 350, 350])

    def test_drained(self) -> None:
        """A site whose nodes all want nobody comes after others at once, and is back in its place at once."""
        standings = self.look(fra=a_state("fra", 0, 0))
        self.assertIs(standings["fra"].fitness, Fitness.CLOSED)
        self.assertEqual([each.site for each in offers(ORDER, standings)], ["ams", "fra", "nyc"])
        self.assertIs(self.fitness(fra=a_state("fra", 0, 100)), Fitness.WELL)

    def test_full(self) -> None:
        """A site whose nodes want nobody because they are full is overloaded, and comes back as such."""
        full = a_state("fra", 0)
        full = evolve(full, nodes=tuple(evolve(node, connections=19_000) for node in full.nodes))
        self.assertIs(self.fitness(fra=full), Fitness.OVERLOADED)
        self.assertIs(self.fitness(fra=a_state("fra", 30)), Fitness.OVERLOADED)
        self.assertIs(self.fitness(30.25), Fitness.WELL)

    def test_capacity_unsaid(self) -> None:
        """A node that does not say what it carries counts as one of ours."""
        self.assertEqual(self.look(fra=a_state("fra", 50, capacity=0))["fra"].weight, 100)

    def test_clock_put_back(self) -> None:
        """A clock that goes back stops nothing."""
        self.look(fra=a_state("fra"))
        self.look(fra=a_state("fra", 100))
        self.assertEqual(self.look(-3600)["fra"].share, 0.1)
        self.look(fra=a_state("fra", 5))
        self.look(-3600, fra=a_state("fra", 50))
        self.look()
        self.assertIs(self.fitness(31), Fitness.RETURNING)


class OffersTests(SynchronousTestCase):
    def told(self, preference: Preference = ORDER, **standings: Standing) -> list[tuple[str, int, int]]:
        """Return site, priority and weight of each offer; sites that are not named are well."""
        whole = dict.fromkeys(PLACES, WELL) | standings
        return [(each.site, each.priority, each.weight) for each in offers(preference, whole)]

    def test_in_order(self) -> None:
        """The priority is the place among those that live, the weight what is free."""
        self.assertEqual(self.told(), [("fra", 10, 400), ("ams", 20, 400), ("nyc", 30, 400)])
        self.assertEqual(self.told(fra=EMPTY), [("ams", 10, 400), ("nyc", 20, 400)])

    def test_equals(self) -> None:
        """Sites that are equally near share by weight."""
        told = self.told((("fra", "ams"), ("nyc",)), ams=Standing(Fitness.WELL, 100))
        self.assertEqual(told, [("fra", 10, 400), ("ams", 10, 100), ("nyc", 20, 400)])

    def test_overloaded(self) -> None:
        """One without room comes right after the next that has some, several in their order."""
        full = Standing(Fitness.OVERLOADED, 10)
        self.assertEqual(self.told(fra=full), [("ams", 10, 400), ("fra", 20, 10), ("nyc", 30, 400)])
        self.assertEqual([each[0] for each in self.told(fra=full, ams=full)], ["nyc", "fra", "ams"])
        self.assertEqual([each[0] for each in self.told(fra=full, ams=full, nyc=full)], list(PLACES))
        self.assertEqual([each[:2] for each in self.told((("fra", "ams"), ("nyc",)), ams=full)],
                         [("fra", 10), ("ams", 20), ("nyc", 30)])

    def test_returning(self) -> None:
        """One that is back stands beside its stand-in with a growing share; together they have what it will have."""
        for share, weights in ((0.1, (40, 360)), (0.5, (200, 200)), (0.9, (360, 40))):
            told = self.told(fra=Standing(Fitness.RETURNING, 400, share))
            self.assertEqual(told, [("fra", 10, weights[0]), ("ams", 10, weights[1]), ("nyc", 20, 400)])

    def test_two_return(self) -> None:
        """Two that are back share with the one that stood in for both."""
        back = Standing(Fitness.RETURNING, 400, 0.1)
        self.assertEqual(self.told(fra=back, ams=back), [("fra", 10, 40), ("ams", 10, 40), ("nyc", 10, 720)])

    def test_large_ones_return(self) -> None:
        """What the one that stood in has for them stays a weight (RFC 2782), however much is free there."""
        back = Standing(Fitness.RETURNING, MOST_WEIGHT, 0.1)
        self.assertEqual(self.told(fra=back, ams=back)[-1], ("nyc", 10, MOST_WEIGHT))

    def test_all_return(self) -> None:
        """Where nobody stands in, each is in its own place again at once."""
        back = Standing(Fitness.RETURNING, 400, 0.1)
        told = self.told(fra=back, ams=back, nyc=back)
        self.assertEqual([each[:2] for each in told], [("fra", 10), ("ams", 20), ("nyc", 30)])

    def test_returning_last(self) -> None:
        """One that is back and stands behind all others has nobody to share with, and is told."""
        self.assertEqual([each[:2] for each in self.told(nyc=Standing(Fitness.RETURNING, 400, 0.1))],
                         [("fra", 10), ("ams", 20), ("nyc", 30)])

    def test_returning_equal(self) -> None:
        """Among equals one that is back begins with less weight."""
        told = self.told((("fra", "ams"), ("nyc",)), fra=Standing(Fitness.RETURNING, 400, 0.1))
        self.assertEqual(told, [("fra", 10, 40), ("ams", 10, 400), ("nyc", 20, 400)])

    def test_nobody_lives(self) -> None:
        """When all seem to be gone, all are told: phones may reach what we do not."""
        silent = Standing(Fitness.SILENT, 0)
        self.assertEqual(self.told(fra=EMPTY, ams=silent, nyc=silent),
                         [("fra", 10, 1), ("ams", 20, 1), ("nyc", 30, 1)])

    _standings = dictionaries(sampled_from(PLACES), tuples(
        sampled_from(Fitness), integers(1, MOST_WEIGHT), floats(0.1, 1.0)), max_size=3)

    @given(_standings, booleans())
    def test_always_an_answer(self, given_standings: Mapping[str, tuple[Fitness, int, float]], equal: bool) -> None:
        """However sites stand, each living one is told once, in no other, with weights that fit."""
        standings = dict.fromkeys(PLACES, WELL)
        for place, (fitness, weight, share) in given_standings.items():
            standings[place] = Standing(fitness, weight, share if fitness is Fitness.RETURNING else 1.0)
        told = offers((("fra", "ams"), ("nyc",)) if equal else ORDER, standings)
        living = {place for place, each in standings.items() if each.fitness.is_told} or set(PLACES)
        self.assertEqual(sorted(each.site for each in told), sorted(living))
        self.assertEqual([each.priority for each in told], sorted(each.priority for each in told))
        self.assertTrue(all(1 <= each.weight <= MOST_WEIGHT for each in told), told)
        self.assertIsInstance(told[0], Offer)

    @given(lists(sampled_from((1, 3, 8, 12, 20, 30, 60, 100)), min_size=2, max_size=60))
    def test_bounded_changes(self, loads: list[int]) -> None:
        """Whatever the load does second by second, a site changes its place at most twice in hold_seconds."""
        judging = Judging(a_config(), ("fra",), 20_000, NOW)
        seen = [judging.look({"fra": a_state("fra", load)}, NOW + second)["fra"].fitness
                for second, load in enumerate(loads)]
        changes = sum(one is not other for one, other in pairwise(seen))
        self.assertLessEqual(changes, 2 * (1 + len(loads) // 30))
