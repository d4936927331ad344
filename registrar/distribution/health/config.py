"""What an operator can set about health and weight."""

from attrs import field, frozen

from rollcall.ops.allowed import at_least, between, each, host_and_port, network

NEAR = ("127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fe80::/10")
"""This machine and private networks (RFC 1918, RFC 4193, RFC 4291 §2.5.6), where directors stand."""


@frozen(kw_only=True)
class HealthConfig:
    """[health]: what directors are told of this node."""

    agent: tuple[str, ...] = field(default=(), validator=each(host_and_port()))
    """Where the agent listens (TCP) that says one line to whoever connects, as HAProxy's agent-check expects."""

    agent_networks: tuple[str, ...] = field(default=NEAR, validator=each(network()))
    """Whoever connects from elsewhere gets no answer."""

    agent_max_connections: int = field(default=64, validator=at_least(1))
    """Connections to the agent at a time; they last for one line, and a further one gets no answer."""

    weight_step: int = field(default=5, validator=between(1, 50))
    """In which steps the weight changes, of 100: a finer one follows the load closer and tells of it more often."""
