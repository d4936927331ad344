"""What an operator can set about what reports are worth."""

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least, between, unique


@frozen(kw_only=True)
class PriorConfig:
    """[[quality.prior]]: what is assumed of a way while nobody reports on it."""

    region: str = ""
    """Of the phones; empty: of all that have no prior of their own."""
    site: str = ""
    """Of the node: its region; empty, with an empty region: all that no other prior is about."""
    delay_ms: float = field(validator=at_least(0))
    """One way."""
    loss: float = field(default=0.0, validator=between(0.0, 0.5))


@frozen(kw_only=True)
class QualityConfig:
    """[quality]: how reports become what is believed of ways."""

    half_life_seconds: float = field(default=15.0, validator=above(0))
    """After so long a report counts half."""
    silence_half_life_seconds: float = field(default=20.0, validator=above(0))
    """When nobody reports on a way, what was believed of it goes half-way back to its prior in so long."""
    stale_seconds: float = field(default=15.0, validator=above(0))
    """A report that is older when it comes does not count."""
    ahead_seconds: float = field(default=2.0, validator=at_least(0))
    """So far a node's clock may be ahead of ours; reports from later than that do not count."""
    distrusted: int = field(default=2, validator=at_least(0))
    """Of each way so many of the phones that report the most are not believed, for they may lie; of few phones one."""
    max_calls: int = field(default=50_000, validator=at_least(1))
    """Of so many calls it is kept what was reported last; of more, those unheard for longest are forgotten."""
    max_voices: int = field(default=100_000, validator=at_least(1))
    """So many phones are kept with what they reported on each way; others wait until some are forgotten."""
    priors: tuple[PriorConfig, ...] = field(
        default=(), alias="prior", validator=unique(lambda each: (each.region, each.site), "regions and sites"))
