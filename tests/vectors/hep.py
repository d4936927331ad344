"""HEP packets as a real rtpengine sent them, with what was sent to it."""

from functools import cache
from pathlib import Path

RECORDED = ("hep_rtpengine.hex", "hep_rtpengine_tcp.hex")


@cache
def recorded() -> tuple[tuple[str, bytes], ...]:
    """Return (what it is, the packet) for each."""
    packets = []
    about = ""
    for name in RECORDED:
        for line in (Path(__file__).parent / name).read_text().splitlines():
            if line.startswith("#"):
                about = line.lstrip("# ").rpartition(":")[0].rpartition(":")[0] or line
            elif line:
                packets.append((about, bytes.fromhex(line)))
    return tuple(packets)


def packet(about: str) -> bytes:
    """Return the first packet whose description begins so."""
    return next(data for said, data in recorded() if said.startswith(about))
