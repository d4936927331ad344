"""What the choice of a media node costs, and what a report costs once it is read: `python -m tools.measure_choice`.

It is process time. A choice is measured with the rankings that a registrar keeps from one snapshot to the next, and
without; reports are those of two phones per call, every 5 s, with all that is worked out from them.
"""

from collections.abc import Iterator
from random import Random
from time import process_time

import click

from balancer.quality.config import QualityConfig
from balancer.quality.hearing import Hearing
from rollcall.media.reports import Block, RtcpReport, Sender
from rollcall.media.selection import Board, Placements, Wanted
from rollcall.media.snapshot import MediaNode, Quality, Snapshot

CARRIERS, SITES = 20, 4
PAIRS = CARRIERS * CARRIERS
CHOICES = 20_000
REPORT_SECONDS, PUBLISH_SECONDS, ROUNDS = 5.0, 0.5, 8


def a_snapshot(nodes: int, load: float, random: Random) -> Snapshot:
    """Return nodes at about this load, and ways to each from every carrier, some of which lose."""
    named = {f"m{number}": MediaNode(
        id=f"m{number}", address="192.0.2.1:22222", site=f"s{number % SITES}",
        sessions=int(1000 * load * random.uniform(0.8, 1.2))) for number in range(nodes)}
    groups = [f"c{carrier}/s{carrier % SITES}" for carrier in range(CARRIERS)]
    paths = {(group, name): Quality(random.choice((0.0, 0.0, 0.001, 0.02)), random.uniform(10, 60))
             for group in groups for name in named}
    return Snapshot(published_at=1.0, nodes=named, paths=paths)


def choices(nodes: int, load: float) -> tuple[float, float]:
    """Return the microseconds of a choice for which nothing was worked out before, and of one later."""
    random = Random(1)
    board, placements = Board(a_snapshot(nodes, load, random)), Placements()
    pairs = [(first, second) for first in range(CARRIERS) for second in range(CARRIERS)]
    wanted = [Wanted(sides=tuple(f"c{carrier}/s{carrier % SITES}" for carrier in pair)) for pair in pairs]

    def took(times: int) -> float:
        began = process_time()
        for _ in range(times):
            for each in wanted:
                board.choose(each, placements, random.random)
        return (process_time() - began) / times / PAIRS * 1e6

    return took(1), took(CHOICES // PAIRS)


def reports(calls: int, nodes: int, random: Random) -> Iterator[list[RtcpReport]]:
    """Yield what the phones of so many calls report in each 5 s, in the order of time."""
    sources = [[f"10.{random.randrange(CARRIERS)}.{number >> 8 & 255}.{number & 255}" for _ in range(2)]
               for number in range(calls)]
    for step in range(ROUNDS):
        at = 1000.0 + step * REPORT_SECONDS
        block = {"fraction": 0, "lost": step * 2, "highest": 1000 + 250 * step, "jitter": 9, "lsr": step - 1, "dlsr": 0}
        yield sorted((RtcpReport(
            at=at + random.random() * REPORT_SECONDS, node=f"m{number % nodes}", source=sources[number][side],
            call_id=f"call{number}", ssrc=side + 1, blocks=(Block(ssrc=2 - side, **block),),
            sender=Sender(ntp_middle=step, rtp=0, packets=0, octets=0)) for number in range(calls) for side in (0, 1)),
            key=lambda report: report.at)


def heard(calls: int, nodes: int) -> tuple[float, float]:
    """Return the microseconds of a report, and the share of a core that all of them take."""
    named = a_snapshot(nodes, 0.5, Random(1)).nodes
    hearing = Hearing(QualityConfig(), lambda host: f"c{host.split('.')[1]}/s0", named.get)
    spent, count, published_at = 0.0, 0, 0.0
    for step in reports(calls, nodes, Random(2)):
        began = process_time()
        for report in step:
            hearing.heard(report, report.at)
            if report.at >= published_at + PUBLISH_SECONDS:
                published_at = report.at
                hearing.paths(report.at)
        spent, count = spent + process_time() - began, count + len(step)
    return spent / count * 1e6, spent / (ROUNDS * REPORT_SECONDS)


@click.command()
@click.option("--calls", default=10_000, show_default=True, help="So many report at a time.")
def main(calls: int) -> None:
    """Measure and print."""
    for nodes in (12, 200):
        for load in (0.4, 0.75, 0.95):
            first, later = choices(nodes, load)
            click.echo(f"{later:6.1f} µs  a choice among {nodes} nodes at {load:.0%} load; {first:.0f} µs at first")
    each, share = heard(calls, 12)
    click.echo(f"{each:6.1f} µs  a report, {calls} calls on 12 nodes: {share:.1%} of a core")


if __name__ == "__main__":
    main()
