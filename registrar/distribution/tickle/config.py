"""What an operator can set about tickles."""

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least, between, matching


@frozen(kw_only=True)
class TickleConfig:
    """[tickle]: waking the idle phones of a dead host whose address this one has taken over."""

    enabled: bool = False
    """Whether connections are noted in Redis, and those of dead nodes woken."""

    socket: str = field(default="/run/rollcall/tickle.sock",
                        validator=matching(r"/.{1,106}", "an absolute path of at most 107 letters"))
    """Where the process listens that sends the packets, see etc/systemd/rollcall-tickle.service."""

    flows_per_second: float = field(default=1000.0, validator=above(0))
    """So many connections are woken in a second at most, by all processes of a node."""

    repeats: int = field(default=2, validator=between(1, 5))
    """How often each connection is tickled, a second apart: packets get lost."""

    wait_seconds: float = field(default=0.0, validator=at_least(0))
    """So long after the end of a node its phones are let alone: behind LVS until the director has noticed, too."""

    remembered_seconds: float = field(default=120.0, validator=at_least(1))
    """So long after that this host may still take over its address, and wakes its phones then."""
