"""What an operator can set about what is remembered of subscribers."""

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least


@frozen(kw_only=True)
class CacheConfig:
    """How much is remembered, and for how long."""

    max_cached: int = field(default=200_000, validator=at_least(2))
    """Users remembered in memory, about 210 bytes each."""
    cache_seconds: float = field(default=14_400.0, validator=above(0))
    """How long a user is remembered at most. It should be above the expiry of registrations."""
    negative_cache_seconds: float = field(default=60.0, validator=above(0))
    """How long it is remembered at most that there is no such user."""
    max_cached_negative: int = field(default=20_000, validator=at_least(2))
    """Names remembered that are no users; a scanner that tries more drives out nobody's entry but its own."""
    stale_seconds: float = field(default=86_400.0, validator=at_least(0))
    """How long a user is remembered at most while no database can be asked; see cache_seconds."""
    recheck_seconds: float = field(default=10.0, validator=above(0))
    """A wrong password is only refused by what was read at most so long ago; else the database is asked again first."""
    max_refreshing: int = field(default=16, validator=at_least(0))
    """Busy users read again at a time before cache_seconds are over; 0: they are not."""
    changes_seen_within_seconds: float = field(default=1.0, validator=above(0))
    """How long a change made by another process may go unseen, where the store can tell that there was one."""
    max_waiting: int = field(default=1000, validator=at_least(1))
    """Users looked up at a time; beyond that requests are answered 503."""
