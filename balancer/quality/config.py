"""What an operator can set about what reports are worth."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class QualityConfig:
    """[quality]: how reports become what is believed of ways."""

    half_life_seconds: float = field(default=30.0, validator=above(0))
    """After so long a report counts half."""
    stale_seconds: float = field(default=15.0, validator=above(0))
    """A report that is older when it comes does not count."""
