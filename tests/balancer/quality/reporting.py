"""Phones that report, for tests: what they say adds up as RFC 3550 has it."""

from collections.abc import Iterator

from rollcall.media.reports import Block, RtcpReport, Sender
from rollcall.media.snapshot import MediaNode

NODES = {
    "m1": MediaNode(id="m1", address="192.0.2.1:22222", site="north"),
    "m2": MediaNode(id="m2", address="192.0.2.2:22222", site="south"),
    "b2b": MediaNode(id="b2b", address="192.0.2.3:5060", kind="freeswitch"),
}
PACKETS = 250
"""Of 5 s."""


def group_of(host: str) -> str:
    """Return the access group of 10.<carrier>.0.0/16."""
    return f"c{host.split('.')[1]}/north" if host.startswith("10.") else ""


def a_block(**values: int) -> Block:
    given = {"ssrc": 2, "fraction": 0, "lost": 0, "highest": 1000, "jitter": 0, "lsr": 0, "dlsr": 0} | values
    return Block(**given)


def a_report(*blocks: Block, at: float = 1000.0, source: str = "10.1.0.1", node: str = "m1", call_id: str = "call",
             ssrc: int = 1, ntp: int | None = None) -> RtcpReport:
    sender = None if ntp is None else Sender(ntp_middle=ntp, rtp=0, packets=0, octets=0)
    return RtcpReport(at=at, node=node, source=source, call_id=call_id, ssrc=ssrc, sender=sender, blocks=blocks)


def a_call(call_id: str, source: str, other: str, loss: float, node: str = "m1", jitter: int = 0,
           said: float | None = None) -> Iterator[list[RtcpReport]]:
    """Yield, every 5 s from second 1000 on, what both phones of a call report that loses as much both ways.

    With `said`, the phone at `source` says that it has lost so much.
    """
    at, highest, lost = 1000.0, 7000, [0.0, 0.0]
    while True:
        yield [
            a_report(a_block(ssrc=3 - ssrc, highest=highest, lost=int(lost[ssrc - 1]), jitter=jitter),
                     at=at, source=who, node=node, call_id=call_id, ssrc=ssrc)
            for ssrc, who in ((1, source), (2, other))]
        at += 5.0
        highest += PACKETS
        lost[0] += PACKETS * (loss if said is None else said)
        lost[1] += PACKETS * loss
