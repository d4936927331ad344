"""What a report costs, from the bytes of a HEP packet on: `python -m tools.measure_ingest`.

The packets are those that a real rtpengine sent (tests/vectors), again and again. It is process time, the best of
some rounds.
"""

from collections.abc import Callable, Sequence
from time import process_time

import click

from balancer.ingest.config import IngestConfig
from balancer.ingest.hep import HepFramer, parse_hep
from balancer.ingest.intake import Intake
from balancer.ingest.reading import read_hep
from tests.balancer.ingest.packets import Nodes, a_block, a_packet, an_sr
from tests.vectors.hep import recorded

NOW = 1_800_000_000.0
UNBOUNDED = IngestConfig(max_reports_per_second=1_000_000_000, max_reports_per_sender=1_000_000_000)
HOST = "127.0.0.1"
SEGMENT_BYTES = 65_536


def measure(step: Callable[[bytes], object], pieces: Sequence[bytes], packets: int, rounds: int) -> float:
    """Return the microseconds that a packet takes when `pieces`, of so many packets in all, go through `step`."""
    best = float("inf")
    for _ in range(rounds):
        began = process_time()
        for piece in pieces:
            step(piece)
        best = min(best, process_time() - began)
    return best / packets * 1e6


def ways(packets: int, rounds: int) -> list[tuple[str, float]]:
    """Return what each part takes for about so many packets a round."""
    single = [data for _, data in recorded()]
    several = single * max(1, packets // len(single))
    raw = [a_packet(an_sr(a_block()))] * len(several)
    stream = b"".join(several)
    segments = [stream[at:at + SEGMENT_BYTES] for at in range(0, len(stream), SEGMENT_BYTES)]
    nodes = Nodes()
    intake = Intake(UNBOUNDED, nodes, lambda report: None, lambda: NOW)

    framer = HepFramer()

    def over_tcp(segment: bytes) -> None:
        for packet in framer.feed(segment):
            intake.hep(packet, HOST, "hep_tcp")

    def took(step: Callable[[bytes], object], pieces: Sequence[bytes]) -> float:
        return measure(step, pieces, len(several), rounds)

    return [
        ("chunks of the packet", took(parse_hep, several)),
        ("packet to report, RTCP as JSON", took(lambda data: read_hep(parse_hep(data), HOST, nodes, NOW), several)),
        ("packet to report, RTCP as it is", took(lambda data: read_hep(parse_hep(data), HOST, nodes, NOW), raw)),
        ("all of it: sender, bounds, counts, JSON", took(lambda data: intake.hep(data, HOST, "hep_udp"), several)),
        ("the same out of a TCP stream", took(over_tcp, segments)),
    ]


@click.command()
@click.option("--packets", default=20_000, show_default=True, help="So many a round.")
@click.option("--rounds", default=5, show_default=True)
def main(packets: int, rounds: int) -> None:
    """Measure and print."""
    for name, microseconds in ways(packets, rounds):
        click.echo(f"{microseconds:6.2f} µs  {name}")


if __name__ == "__main__":
    main()
