"""What the name server knows at one moment: an immutable value, made by who decides, shown by who answers."""

from collections.abc import Callable, Iterable, Mapping

from attrs import frozen
from dns.name import Name
from dns.rdatatype import RdataType
from dns.rrset import RRset

from registrar.distribution.dns.wire import suffixes

Key = tuple[Name, RdataType]
RRsets = Mapping[Key, RRset]


@frozen
class Index:
    """Which names and types there are, without what they have: the same for all views whose sites differ only."""

    names: Mapping[bytes, Mapping[int, Key]]
    """All names, as on the wire, with the types of each: none for a name that exists only above others (RFC 8020)."""

    zones: Mapping[bytes, tuple[Key, ...]]
    """What is in each zone."""


def index_of(keys: Iterable[Key], origins: Iterable[Name]) -> Index:
    """Return the index of records; names are in lower case."""
    names: dict[bytes, dict[int, Key]] = {}
    zones: dict[bytes, list[Key]] = {origin.to_digestable(): [] for origin in origins}
    zone_of: dict[bytes, bytes] = {}
    for key in keys:
        wire = key[0].to_digestable()
        if wire not in zone_of:
            above = list(suffixes(wire))
            zone_of[wire] = zone = next((each for each in above if each in zones), b"")
            for name in above[:above.index(zone)] if zone else above:
                names.setdefault(name, {})
        names.setdefault(wire, {})[key[1]] = key
        if zone_of[wire]:
            zones[zone_of[wire]].append(key)
    return Index(names, {zone: tuple(found) for zone, found in zones.items()})


@frozen
class View:
    """What one kind of client sees: all names of all zones, their SOA and NS included.

    Names are absolute and in lower case; each RRset stands under its own name and type.
    """

    name: str
    rrsets: RRsets
    index: Index | None = None
    """That of `rrsets`, when who made them has it."""

    def indexed(self, origins: Iterable[Name]) -> Index:
        """Return the index of `rrsets`."""
        return self.index if self.index is not None else index_of(self.rrsets, origins)


@frozen
class Snapshot:
    """All views at one moment. Who has one may keep it: it never changes."""

    version: int
    serial: int
    """What the SOA of every view says; it grows whenever an answer changes (RFC 1982)."""

    origins: tuple[Name, ...]
    """The zones, each with SOA and NS in every view."""

    views: Mapping[str, View]
    default: str
    """The view that a zone transfer shows."""

    select: Callable[[bytes], str]
    """The name of the view for a client's packed address (4 or 16 bytes, the host part may be zeros): pure and fast."""

    is_split: bool
    """Whether there is more than one view. Then an answer is for the client's network only (RFC 7871 §7.2.1)."""
