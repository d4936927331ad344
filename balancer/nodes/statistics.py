"""What a node says of its load: rtpengine in its statistics, others in a report over HTTP."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from attrs import frozen

# What a call with audio takes of an rtpengine's ports: RTP and RTCP towards both sides.
PORTS_OF_CALL = 4


@frozen(kw_only=True)
class Load:
    """A node's load at one moment."""

    sessions: int
    packets_per_second: float | None = None
    """None where it does not say."""
    bytes_per_second: float | None = None
    errors_per_second: float | None = None
    room: int | None = None
    """For so many more calls it has ports; None: it does not say."""
    uptime_seconds: float | None = None
    counted: tuple[float, ...] = ()
    """What only ever goes up while its process lives."""

    @property
    def is_idle(self) -> bool:
        """Whether it has neither calls nor packets."""
        return self.sessions == 0 and not self.packets_per_second

    def is_before(self, other: "Load") -> bool:
        """Tell whether `other`, which was told later, is of another life of the process."""
        ours, theirs = self._lived, other._lived
        return len(ours) == len(theirs) and any(one > another for one, another in zip(ours, theirs, strict=True))

    @property
    def _lived(self) -> tuple[float, ...]:
        return self.counted if self.uptime_seconds is None else (*self.counted, self.uptime_seconds)


class LoadReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/nodes/{id}/load."""

    sessions: int
    packets_per_second: float | None = None
    uptime_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1e12:
                raise ValueError(f"{name}: from 0 to 1e12 is allowed")

    def as_load(self) -> Load:
        """Return what it says."""
        return Load(sessions=self.sessions, packets_per_second=self.packets_per_second,
                    uptime_seconds=self.uptime_seconds)


def read_statistics(reply: Mapping[str, Any]) -> Load:
    """Return what rtpengine's answer to `statistics` says. Raises ValueError."""
    try:
        statistics = reply["statistics"]
        current, totals = statistics["currentstatistics"], statistics["totalstatistics"]
        return Load(
            sessions=int(current["sessionsown"]),
            packets_per_second=float(current["packetrate"]),
            bytes_per_second=float(current["byterate"]),
            errors_per_second=float(current["errorrate"]),
            room=_room(statistics.get("interfaces", ())),
            uptime_seconds=float(totals["uptime"]),
            counted=(float(totals["managedsessions"]), float(totals["relayedpackets"])),
        )
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"no statistics of rtpengine: {problem!r}") from problem


def _room(interfaces: Iterable[Mapping[str, Any]]) -> int | None:
    """Return how many more calls the ports are enough for: those of the interface that has the fewest."""
    free = [int(each["ports"]["free"]) for each in interfaces]
    return min(free) // PORTS_OF_CALL if free else None
