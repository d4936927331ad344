"""What an operator can set about avalanches."""

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least, between


@frozen(kw_only=True)
class AvalancheConfig:
    """[avalanche]: registrations are turned away when answers take too long."""

    enabled: bool = True
    """Whether they are."""

    target_seconds: float = field(default=0.3, validator=above(0))
    """How long an answer to a REGISTER may take; beyond that some are turned away, first those of unknown devices."""

    start_rate: float = field(default=500.0, validator=above(0))
    """REGISTERs per second that this process is believed to manage before it was measured."""

    appointments: float = field(default=0.8, validator=between(0.1, 1.0))
    """This part of what can be done may be promised to those who were turned away; the rest is for what cannot wait."""

    max_retry_seconds: int = field(default=120, validator=between(2, 3600))
    """The longest Retry-After of who is turned away for an avalanche's sake."""

    late_seconds: int = field(default=30, validator=at_least(1))
    """So long after its time who was turned away is let in whatever else comes."""

    max_appointments: int = field(default=100_000, validator=at_least(100))
    """How many who were turned away are remembered, about 250 bytes each."""

    expiry_jitter: float = field(default=0.5, validator=between(0.0, 0.9))
    """In an avalanche of new registrations a granted time is shortened by a random part up to this fraction, so that
    the herd does not come again together; [bindings] expiry_jitter counts otherwise, and always where that is more, or
    0."""
