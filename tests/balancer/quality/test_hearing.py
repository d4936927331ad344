"""Hearing: from reports to what is published of each way, and back to the prior in silence."""

from collections.abc import Iterable
from itertools import islice
from random import Random
from typing import Any

from attrs import evolve
from msgspec import structs
from twisted.trial.unittest import SynchronousTestCase

from balancer.quality.config import PriorConfig, QualityConfig
from balancer.quality.hearing import GRACE_SECONDS, OVER_SECONDS, UNHEARD_SECONDS, Hearing
from rollcall.media.reports import CallFacts, CallOver, Counts, PhoneReport, Report, RtcpReport
from rollcall.media.selection import FAR, NEAR, Board, Chosen, Placements, Wanted
from rollcall.media.snapshot import MediaNode, Quality, Snapshot
from tests.balancer.quality.reporting import NODES, a_block, a_call, a_report, group_of

A, B = "c1/north", "c2/north"


class HearingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.nodes = dict(NODES)
        self.hearing = self.a_hearing()
        self.now = 1000.0

    def a_hearing(self, **values: Any) -> Hearing:
        return Hearing(evolve(QualityConfig(), **values), group_of, self.nodes.get)

    def hear(self, calls: Iterable[Iterable[list[RtcpReport]]], rounds: int = 4) -> None:
        """Let all reports of some calls come, those of 5 s after those of the 5 s before."""
        for reports in zip(*(islice(call, rounds) for call in calls), strict=True):
            for each in (report for both in reports for report in both):
                self.now = max(self.now, each.at)
                self.hearing.heard(each, self.now)

    def calls(self, first: int, second: int, loss: float, count: int = 8, **values: Any) -> list[Any]:
        """Return calls between two carriers, each phone with an address of its own."""
        return [a_call(f"{first}-{second}-{number}-{values}", f"10.{first}.{second}.{number}",
                       f"10.{second}.{first}.{100 + number}", loss, **values) for number in range(count)]

    def loss(self, group: str, node: str = "m1", after: float = 0.0) -> float | None:
        quality = self.hearing.paths(self.now + after).get((group, node))
        return None if quality is None else quality.loss

    def test_a_bad_way(self) -> None:
        """The carrier that loses wherever it talks to has a bad way to that node; others do not, nor other nodes."""
        self.hear([*self.calls(1, 2, 0.08), *self.calls(1, 3, 0.08), *self.calls(2, 3, 0.0),
                   *self.calls(1, 2, 0.0, node="m2")])
        ours, theirs, other = self.loss(A), self.loss(B), self.loss(A, "m2")
        assert ours is not None and theirs is not None and other is not None
        self.assertGreater(ours, 0.04)
        self.assertLess(theirs, 0.005)
        self.assertLess(other, 0.005)

    def test_within_15_seconds(self) -> None:
        """New calls leave a way that has begun to lose 8 % within 15 s of the first reports, after a good time, too."""
        groups = [(1, 2), (1, 3), (2, 3)]
        good = [call for pair in groups for node in ("m1", "m2") for call in self.calls(*pair, 0.0, node=node)]
        self.hear(good, rounds=24)
        self.assertEqual(self.chosen(A), {"m1", "m2"})
        began_at, old = self.now, [*self.calls(1, 2, 0.08), *self.calls(1, 3, 0.08), *self.calls(2, 3, 0.0)]
        for number, reports in enumerate(zip(*(islice(call, 4) for call in old), strict=True)):
            for report in (report for both in reports for report in both):
                self.now = began_at + 5.0 * number
                self.hearing.heard(at_another_time(report, self.now), self.now)
        self.assertEqual(self.now - began_at, 15.0)
        self.assertEqual((self.chosen(A), self.chosen(B)), ({"m2"}, {"m1", "m2"}))

    def chosen(self, group: str) -> set[str]:
        nodes = {name: evolve(self.nodes[name], site="") for name in ("m1", "m2")}
        board = Board(Snapshot(nodes=nodes, paths=self.hearing.paths(self.now), priors=self.hearing.priors))
        random, found = Random(1), set()
        for _ in range(100):
            outcome = board.choose(Wanted(sides=(group,)), Placements(), random.random)
            assert isinstance(outcome, Chosen)
            found.add(outcome.node.id)
        return found

    def test_silence(self) -> None:
        """When nobody reports any more, belief goes back to the prior by half-lives, and calls come back."""
        self.hear([*self.calls(1, 2, 0.08), *self.calls(1, 2, 0.0, node="m2")], rounds=6)
        half = QualityConfig().silence_half_life_seconds
        self.assertEqual(self.chosen(A), {"m2"})
        at_first, later = self.loss(A, after=GRACE_SECONDS), self.loss(A, after=GRACE_SECONDS + half)
        assert at_first is not None and later is not None
        self.assertTrue(0.4 * at_first <= later <= 0.51 * at_first)
        self.now += GRACE_SECONDS + 4 * half
        self.assertEqual(self.chosen(A), {"m1", "m2"})
        self.assertIsNone(self.loss(A, after=3 * half))

    def test_priors(self) -> None:
        """What is assumed of a way comes from the configuration, else from whether it leaves the region."""
        priors = (PriorConfig(region="north", site="south", delay_ms=90, loss=0.01), PriorConfig(delay_ms=6.0))
        for configured, north, south in [
            ((), NEAR, FAR), (priors, Quality(0.0, 6.0), Quality(0.01, 90.0)),
        ]:
            self.hearing, self.now = self.a_hearing(prior=configured), 1000.0
            self.hear([*self.calls(1, 2, 0.0), *self.calls(1, 2, 0.0, node="m2")])
            paths = self.hearing.paths(self.now)
            self.assertEqual(paths[A, "m1"], north)
            self.assertEqual(paths[A, "m2"].delay_ms, south.delay_ms)
        self.assertEqual(self.hearing.priors["north", "south"], Quality(0.01, 90.0))

    def test_old_and_early(self) -> None:
        """Reports that are old by the node's clock, or from the future, do not count, nor those of unknown nodes."""
        for at, node in [(984.0, "m1"), (1003.0, "m1"), (1000.0, "nobody")]:
            self.hearing.heard(a_report(a_block(), at=at, node=node), 1000.0)
            self.hearing.heard(PhoneReport(at=at, source="10.1.0.1", call_id="c", node=node, loss=0.1), 1000.0)
        self.assertEqual((self.hearing.refused, self.hearing.counted), ({"time": 4, "node": 2}, 0))

    def test_lying_phones(self) -> None:
        """Two phones that claim to lose half of everything move no calls of the few dozen phones of their carrier."""
        honest = self.calls(1, 2, 0.0, count=10)
        liars = [a_call(f"lie{number}", f"10.1.9.{number % 2}", f"10.2.8.{number}", 0.0, said=0.5)
                 for number in range(10)]
        self.hear([*honest, *liars, *self.calls(1, 2, 0.0, node="m2")], rounds=8)
        self.assertEqual(self.chosen(A), {"m1", "m2"})
        self.assertEqual(self.loss(A), 0.0)

    def test_forged_addresses(self) -> None:
        """Who sends RTCP for one call from any number of addresses has two voices, as every call has."""
        self.hear([*self.calls(1, 2, 0.0, count=10), *self.calls(1, 2, 0.0, node="m2")], rounds=4)
        for number in range(200):
            self.hearing.heard(a_report(
                a_block(fraction=254, highest=1000 + number), at=self.now, source=f"10.1.77.{number}",
                call_id="evil", ssrc=1), self.now)
        self.assertEqual(self.hearing.refused["sources"], 198)
        self.assertEqual(self.chosen(A), {"m1", "m2"})

    def test_strangers(self) -> None:
        """Where the phones of a call are known, nobody else may PUBLISH about it, nor speak for other carriers."""
        facts = CallFacts(at=1000.0, call_id="call", node="m1", hosts=("10.1.0.1", "10.2.0.1"))
        reports: list[Report] = [
            facts,
            PhoneReport(at=1000.0, source="10.1.0.9", call_id="call", node="m1", loss=0.5),
            PhoneReport(at=1000.0, source="10.2.0.1", call_id="call", node="m1", loss=0.0),
            a_report(a_block(), source="10.3.0.1"),
        ]
        for report in reports:
            self.hearing.heard(report, 1000.0)
        self.assertEqual((self.hearing.counted, self.hearing.refused), (1, {"stranger": 2}))

    def test_sound_from_elsewhere(self) -> None:
        """When both phones signal from one group, it does not matter where their sound comes from."""
        facts = CallFacts(at=1000.0, call_id="call", node="m1", hosts=("10.1.0.1", "10.1.0.2"))
        self.hearing.heard(facts, 1000.0)
        self.hearing.heard(a_report(a_block(), source="10.3.0.1"), 1000.0)
        self.assertEqual([row.group for row in self.hearing.shown(1003.0)], [A])

    def test_far_end_by_signalling(self) -> None:
        """Where the other phone sends no RTCP its carrier comes from what the registrar knows of the call."""
        self.hearing.heard(CallFacts(at=1000.0, call_id="call", node="m1", hosts=("10.2.0.1", "10.1.7.7")), 1000.0)
        self.hearing.heard(a_report(a_block()), 1000.0)
        self.hearing.heard(a_report(a_block(), call_id="unknown"), 1000.0)
        self.assertEqual({row.group for row in self.hearing.shown(1000.0)}, {A, B})
        self.hearing.heard(a_report(a_block(highest=1250), at=1005.0, call_id="unknown"), 1005.0)
        self.assertEqual({row.group for row in self.hearing.shown(1005.0)}, {A, B, ""})

    def test_a_node_that_does_not_relay(self) -> None:
        """What phones report of a B2BUA is of their own way alone."""
        self.hear(self.calls(1, 2, 0.08, node="b2b"))
        losses = [self.loss(group, "b2b") for group in (A, B)]
        self.assertTrue(all(loss is not None and loss > 0.05 for loss in losses))

    def test_clock_rate(self) -> None:
        """Jitter is measured in the clock that the registrar has told; calls without one have 8000 Hz."""
        for number in range(12):
            call, source = f"call{number}", f"10.1.0.{number}"
            self.hearing.heard(CallFacts(at=1000.0, call_id=call, node="b2b", clock_rate=48_000), 1000.0)
            for step in range(4):
                self.hearing.heard(a_report(a_block(jitter=960, highest=1000 + 250 * step), node="b2b", call_id=call,
                                            source=source, at=1000.0 + 5 * step), 1000.0 + 5 * step)
        (row,) = self.hearing.shown(1020.0)
        self.assertTrue(12.0 < row.jitter_ms < 20.0)

    def test_phone_reports(self) -> None:
        """What phones tell in figures counts, discarded packets as lost ones; also soon after the call is over."""
        for number in range(8):
            call = f"call{number}"
            self.hearing.heard(CallFacts(at=1000.0, call_id=call, node="m1", hosts=(f"10.1.0.{number}",)), 1000.0)
            self.hearing.heard(CallOver(call_id=call), 1001.0)
            self.hearing.heard(
                PhoneReport(at=1002.0, source=f"10.1.0.{number}", call_id=call, loss=0.05, discarded=0.05), 1002.0)
        self.now = 1004.0
        self.assertGreater(self.loss(A) or 0.0, 0.02)
        self.hearing.heard(CallOver(call_id="call1"), 1004.0)
        self.hearing.paths(1004.0 + OVER_SECONDS)
        self.hearing.heard(PhoneReport(at=1034.0, source="10.1.0.1", call_id="call1", loss=0.0), 1034.0)
        self.assertEqual(self.hearing.refused, {"node": 1})

    def test_impossible_phone_reports(self) -> None:
        """A phone that tells no loss, or one that cannot be, says nothing; a silly jitter does not spoil the rest."""
        report = PhoneReport(at=1000.0, source="10.1.0.1", call_id="c", node="m1")
        for values in ({}, {"loss": -0.1}, {"loss": 0.7, "discarded": 0.7}, {"loss": 0.1, "packets": 0}):
            self.hearing.heard(structs.replace(report, **values), 1000.0)
        self.assertEqual((self.hearing.refused, self.hearing.counted), ({"phone": 3}, 0))
        self.hearing.heard(structs.replace(report, loss=0.1, jitter_ms=9e9), 1000.0)
        self.assertEqual(self.hearing.counted, 1)

    def test_ipv6(self) -> None:
        """All addresses of an IPv6 network of 64 bits are one phone."""
        for number in range(10):
            source = f"2001:db8::{number}"
            for step in range(2):
                self.hearing.heard(a_report(a_block(highest=1000 + 100 * step), source=source, at=1000.0 + step,
                                            call_id=f"call{number}"), 1000.0 + step)
        self.assertEqual([row.phones for row in self.hearing.shown(1003.0)], [1])

    def test_bounds(self) -> None:
        """No more calls and voices are kept than configured, and what is forgotten makes room."""
        self.hearing = self.a_hearing(max_calls=5, max_voices=5)
        for number in range(20):
            for step in range(2):
                self.hearing.heard(a_report(
                    a_block(highest=1000 + 100 * step), source=f"10.1.0.{number}", call_id=f"call{number}",
                    at=1000.0 + step), 1000.0 + step)
        self.assertEqual((self.hearing.counted, self.hearing.refused), (5, {"voices": 15}))
        self.assertEqual(len(self.hearing._calls), 5)
        self.hearing.paths(1001.0 + UNHEARD_SECONDS)
        self.assertEqual((len(self.hearing._calls), len(self.hearing._nodes)), (0, 0))
        self.hearing.heard(PhoneReport(at=2000.0, source="10.1.1.1", call_id="call", node="m1", loss=0.0), 2000.0)
        self.assertEqual(self.hearing.counted, 6)

    def test_a_node_that_goes(self) -> None:
        """What was believed of a node goes with it."""
        self.hear(self.calls(1, 2, 0.08))
        del self.nodes["m1"]
        self.assertEqual(self.hearing.paths(self.now), {})
        self.assertEqual(self.hearing._voices, 0)

    def test_a_call_that_moves(self) -> None:
        """A call that goes on at another node begins anew there."""
        self.hearing.heard(CallFacts(at=1000.0, call_id="call", node="m1", hosts=("10.1.0.1", "10.2.0.1")), 1000.0)
        self.hearing.heard(a_report(a_block(highest=1000)), 1000.0)
        self.hearing.heard(a_report(a_block(highest=9000), node="m2", at=1005.0), 1005.0)
        self.assertEqual((self.hearing.refused, self.hearing.counted), ({}, 2))

    def test_counts_are_for_others(self) -> None:
        """Counts of calls say nothing about ways."""
        self.hearing.heard(Counts(at=1000.0, registrar="r1", calls={"m1": 3}), 1000.0)
        self.assertEqual((self.hearing.paths(1000.0), self.hearing.refused), ({}, {}))

    def test_shown(self) -> None:
        """Operators see each way with what was measured, how many phones say so, and how fresh it is."""
        self.hear(self.calls(1, 2, 0.08, jitter=80), rounds=6)
        ours, theirs = self.hearing.shown(self.now)
        self.assertEqual([(row.group, row.node, row.phones) for row in (ours, theirs)], [(A, "m1", 16), (B, "m1", 16)])
        self.assertTrue(ours.r < 85.0 and ours.trust == 1.0 and ours.jitter_ms > 3.0 and ours.weight > 5.0)

    def test_published_in_steps(self) -> None:
        """Figures are rounded, so that what has hardly changed is not published again."""
        self.hear(self.calls(1, 2, 0.0123, jitter=77))
        for quality in self.hearing.paths(self.now).values():
            self.assertEqual(quality.loss, round(quality.loss * 2000) / 2000)
            self.assertEqual(quality.delay_ms % 2.0, 0.0)


def at_another_time(report: RtcpReport, at: float) -> RtcpReport:
    """Return the same report from another moment and another call."""
    return structs.replace(report, at=at, call_id=f"later {report.call_id}")


class NodesTests(SynchronousTestCase):
    def test_nodes_are_asked_for(self) -> None:
        """Sites and kinds are those of the moment: nodes come and go while reports are heard."""
        nodes: dict[str, MediaNode] = {}
        hearing = Hearing(QualityConfig(), group_of, nodes.get)
        hearing.heard(a_report(a_block()), 1000.0)
        nodes["m1"] = NODES["m1"]
        hearing.heard(a_report(a_block(highest=1250), at=1005.0), 1005.0)
        hearing.heard(a_report(a_block(highest=1500), at=1010.0), 1010.0)
        self.assertEqual((hearing.refused, hearing.counted), ({"node": 1}, 1))
