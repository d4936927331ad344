"""Losses between phones and media nodes, made by the kernel in a network namespace of our own (nftables).

They happen where packets come in, so no sender is told of them; RTCP is lost like RTP.
"""

import subprocess
from collections.abc import Mapping
from itertools import pairwise

from tests.interop.process import InteropError
from tools.laboratory.rtpengine_process import FIRST_RTP_PORT, LAST_RTP_PORT

TABLE = "rollcall_lab"
PARTS = 1000
"""Losses are so fine."""
_RTP_PORTS = f"{FIRST_RTP_PORT}-{LAST_RTP_PORT}"


class Losses:
    """Which part of the packets between a phones' network and a node's host is lost, each way.

    Make it only in a namespace of its own: there it has a table of nftables, where there is none of anybody else's.
    """

    def __init__(self) -> None:
        self.set({})

    def set(self, losses: Mapping[tuple[str, str], float]) -> None:
        """Have just these from now on, by (network, host), from 0 to 1; all others lose nothing."""
        rules = [rule for (network, host), loss in losses.items() if loss > 0
                 for rule in _rules(network, host, round(loss * PARTS))]
        _nft("\n".join([
            f"table inet {TABLE}", f"delete table inet {TABLE}",
            f"table inet {TABLE} {{", "chain input { type filter hook input priority 0;", *rules, "}", "}", ""]))

    def dropped(self) -> int:
        """Return how many packets these losses have cost since they were set."""
        words = _nft("", "list", "table", "inet", TABLE).split()
        return sum(int(after) for word, after in pairwise(words) if word == "packets")


def _rules(network: str, host: str, parts: int) -> list[str]:
    chance = f"numgen random mod {PARTS} < {parts} counter drop"
    return [f"ip saddr {network} ip daddr {host} udp dport {_RTP_PORTS} {chance}",
            f"ip saddr {host} ip daddr {network} udp sport {_RTP_PORTS} {chance}"]


def _nft(script: str, *words: str) -> str:
    done = subprocess.run(["nft", *words] if words else ["nft", "-f", "-"], input=script, capture_output=True,
                          text=True, check=False)
    if done.returncode:
        raise InteropError(f"nft: {done.stderr.strip()}")
    return done.stdout
