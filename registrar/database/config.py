"""What an operator can set about our own tables."""

from pathlib import Path

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least


@frozen(kw_only=True)
class DatabaseConfig:
    """[database]: our own tables, all but the subscribers'. They are in MySQL when [subscribers] is."""

    file: Path | None = None
    """The SQLite file when they are not in MySQL. Default: rollcall.sqlite in data_dir."""
    cache_seconds: float = field(default=60.0, validator=above(0))
    """How long an alias or a forwarding, or that there is none, is remembered."""
    max_cached: int = field(default=100_000, validator=at_least(2))
    """Addresses-of-record of which that is remembered."""
    domains_seconds: float = field(default=30.0, validator=above(0))
    """How often the table of domains is read."""
