"""Who of several balancers is the master: whoever has the lease in Redis, with its fencing number."""

from attrs import field, frozen

from rollcall.ops.allowed import at_least


@frozen(kw_only=True)
class StandbyConfig:
    """[standby]: master and standby."""

    lease_seconds: float = field(default=1.5, validator=at_least(0.3))
    """A master that has not renewed its lease for so long is none any more."""
