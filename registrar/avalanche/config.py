"""What an operator can set about avalanches."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class AvalancheConfig:
    """[avalanche]: registrations are turned away when answers take too long."""

    enabled: bool = True
    """Whether they are."""

    target_seconds: float = field(default=0.3, validator=above(0))
    """How long an answer to a REGISTER may take; beyond that some are turned away, first those of unknown devices."""
