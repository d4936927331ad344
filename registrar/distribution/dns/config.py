"""What an operator can set about the name server."""

from attrs import field, frozen

from rollcall.ops.allowed import each, host_and_port


@frozen(kw_only=True)
class DnsConfig:
    """[dns]: the name server for the domains that phones register in."""

    listen: tuple[str, ...] = field(default=(), validator=each(host_and_port()))
    """Where it listens, over UDP and TCP; empty: there is none."""
