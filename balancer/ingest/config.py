"""What an operator can set about the reports that come in."""

from attrs import field, frozen

from rollcall.ops.allowed import at_least


@frozen(kw_only=True)
class IngestConfig:
    """[ingest]: where reports are taken, and how many."""

    max_reports_per_second: int = field(default=20_000, validator=at_least(1))
    """Reports beyond that are dropped and counted."""
