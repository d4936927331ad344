"""What an operator can set about tickles."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class TickleConfig:
    """[tickle]: waking the idle phones of a dead host whose address this one has taken over."""

    enabled: bool = False
    """Whether connections are noted in Redis, and those of dead nodes woken."""

    flows_per_second: float = field(default=1000.0, validator=above(0))
    """So many connections are woken in a second at most, by all processes of a node."""
