"""What the name server knows at one moment: an immutable value, made by who decides, shown by who answers."""

from collections.abc import Callable, Mapping

from attrs import frozen
from dns.name import Name
from dns.rdatatype import RdataType
from dns.rrset import RRset

RRsets = Mapping[tuple[Name, RdataType], RRset]


@frozen
class View:
    """What one kind of client sees: all names of all zones, their SOA and NS included.

    Names are absolute and in lower case; each RRset stands under its own name and type.
    """

    name: str
    rrsets: RRsets


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
