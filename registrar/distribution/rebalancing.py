"""Has long-lived connections move to a node that has joined."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class RebalanceConfig:
    """[rebalance]: moving connections from nodes that have too many to those that have too few."""

    enabled: bool = False
    """Whether surplus connections are closed: only where phones come back by DNS or a director, not to one node."""

    flows_per_second: float = field(default=10.0, validator=above(0))
    """How many a node, each worker of it, closes in a second."""
