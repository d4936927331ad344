"""What is asked of each server: the ways in which phones register."""

from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, le


@frozen(kw_only=True)
class Case:
    """One way of registering. Every connection (for UDP: every socket) has one request in flight.

    `fresh` phones have never registered before; `rate` is requests per second, planned evenly, or 0 for a closed
    loop that saturates the server; `opening_rate` is the same for the connections with which the phones come.
    """

    name: str
    transport: Literal["tcp", "udp"]
    digest: bool = False
    fresh: bool = False
    connections: int = field(default=100, validator=[ge(1), le(19_900)])
    phones: int = field(default=100, validator=[ge(1), le(1_000_000)])
    rate: float = field(default=0.0, validator=ge(0))
    opening_rate: int = field(default=0, validator=ge(0))


SATURATED_CASES = (
    Case(name="tcp-refresh", transport="tcp"),
    Case(name="tcp-digest", transport="tcp", digest=True),
    Case(name="tcp-new", transport="tcp", fresh=True),
    Case(name="udp-refresh", transport="udp", phones=10_000),
    Case(name="udp-digest", transport="udp", phones=10_000, digest=True),
    Case(name="udp-new", transport="udp", fresh=True),
)
"""The six REGISTERs that every table holds: a server that has all it can do."""

UNHURRIED_CASES = (
    Case(name="tcp-refresh-10000", transport="tcp", connections=10_000, phones=10_000),
    Case(name="tcp-paced-1200", transport="tcp", connections=500, phones=500, rate=1_200),
    Case(name="tcp-paced-5000", transport="tcp", connections=500, phones=500, rate=5_000),
    Case(name="tcp-paced-20000", transport="tcp", connections=500, phones=500, rate=20_000),
    Case(name="tcp-sparse", transport="tcp", connections=8_000, phones=8_000, rate=1_200),
)
"""More connections, and rates below what the server can do."""

FURTHER_CASES = (
    Case(name="tcp-trunked", transport="tcp", phones=10_000),
    Case(name="tcp-trunked-digest", transport="tcp", phones=10_000, digest=True),
    Case(name="udp-paced-5000", transport="udp", phones=10_000, rate=5_000),
)
"""Measured when named only: several phones on each connection, datagrams at a rate."""

CASES = {case.name: case for case in (*SATURATED_CASES, *UNHURRIED_CASES, *FURTHER_CASES)}

IDLE = Case(name="tcp-idle", transport="tcp", connections=10_000, phones=10_000)
"""Phones that hold a connection and say nothing: what memory costs."""

MILLION = Case(name="udp-million", transport="udp", connections=100, phones=1_000_000)
"""Contacts without a connection."""

RETURN = Case(name="tcp-return", transport="tcp", digest=True, connections=5_000, phones=5_000, opening_rate=5_000)
"""Phones whose server died, and that come to another one within a second, without a nonce."""

WORKERS = "tcp-workers"
"""One worker and two, for clients in one process and in two."""
