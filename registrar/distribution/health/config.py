"""What an operator can set about health and weight."""

from attrs import field, frozen

from rollcall.ops.allowed import each, host_and_port


@frozen(kw_only=True)
class HealthConfig:
    """[health]: what directors are told of this node."""

    agent: tuple[str, ...] = field(default=(), validator=each(host_and_port()))
    """Where the agent listens (TCP) that says one line to whoever connects, as HAProxy's agent-check expects."""
