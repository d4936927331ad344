"""What an operator can set about the records of calls."""

from pathlib import Path

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least


@frozen(kw_only=True)
class CallsConfig:
    """[calls]: what is kept of calls."""

    records: bool = False
    """Whether a row is written for each call, into rollcall_call of the database."""
    retention_days: float = field(default=90.0, validator=at_least(0))
    """How long a row is kept; 0: for ever."""
    write_seconds: float = field(default=1.0, validator=above(0))
    """How often what has happened is written to the database."""
    batch: int = field(default=500, validator=at_least(1))
    """So many rows are written at a time."""
    spool_dir: Path | None = None
    """Where records wait until the database has them. Default: calls in data_dir."""
    max_spool_bytes: int = field(default=1_073_741_824, validator=at_least(1_048_576))
    """What may wait on disk; what comes beyond that is lost, counted and logged."""
    max_waiting: int = field(default=100_000, validator=at_least(1000))
    """Records that may wait in memory for the disk."""
