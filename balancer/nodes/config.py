"""What an operator can set about media nodes."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class NodesConfig:
    """[nodes]: how media nodes are looked after."""

    poll_seconds: float = field(default=1.0, validator=above(0))
    """How often each node is asked how it is."""
