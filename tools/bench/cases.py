"""What is asked of each server: the ways in which phones register."""

from typing import Literal

from attrs import field, frozen
from attrs.validators import ge, le


@frozen(kw_only=True)
class Case:
    """One way of registering. Every connection (for UDP: every socket) has one request in flight.

    `fresh` phones have never registered before; `rate` is requests per second, planned evenly, or 0 for a closed
    loop that saturates the server.
    """

    name: str
    transport: Literal["tcp", "udp"]
    digest: bool = False
    fresh: bool = False
    connections: int = field(default=100, validator=[ge(1), le(19_900)])
    phones: int = field(default=100, validator=[ge(1), le(10_000)])
    rate: float = field(default=0.0, validator=ge(0))


REGISTER_CASES = (
    Case(name="udp-refresh", transport="udp", phones=10_000),
    Case(name="tcp-refresh", transport="tcp"),
    Case(name="tcp-digest", transport="tcp", digest=True),
    Case(name="udp-digest", transport="udp", phones=10_000, digest=True),
)
"""What is measured unless somebody asks for another choice."""

FURTHER_CASES = (
    Case(name="udp-new", transport="udp", fresh=True),
    Case(name="tcp-new", transport="tcp", fresh=True),
    Case(name="tcp-refresh-10000", transport="tcp", connections=10_000, phones=10_000),
    Case(name="tcp-trunked", transport="tcp", phones=10_000),
    Case(name="tcp-paced-1200", transport="tcp", connections=500, phones=500, rate=1_200),
    Case(name="tcp-paced-5000", transport="tcp", connections=500, phones=500, rate=5_000),
    Case(name="tcp-paced-20000", transport="tcp", connections=500, phones=500, rate=20_000),
    Case(name="tcp-sparse", transport="tcp", connections=8_000, phones=8_000, rate=1_200),
)
"""Measured when named."""

CASES = {case.name: case for case in (*REGISTER_CASES, *FURTHER_CASES)}
IDLE_CASE = "tcp-idle"
"""The name, in the rows, of phones that hold a connection and say nothing."""
