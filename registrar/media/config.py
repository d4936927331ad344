"""What an operator can set about calls through media nodes."""

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least, one_of


@frozen(kw_only=True)
class MediaConfig:
    """[media]: whether calls go through media nodes, and how."""

    enabled: bool = False
    """Whether calls go through the nodes that balancers publish in Redis."""
    offer_seconds: float = field(default=0.5, validator=above(0))
    """How long a media node may take to answer, before the call goes to another."""
    left_out_seconds: float = field(default=5.0, validator=at_least(0))
    """For so long a node that did not answer gets calls only when nobody else can have them, whatever is published."""
    when_none: str = field(default="direct", validator=one_of("direct", "refuse"))
    """What becomes of calls when no media node can have them: "direct", so that phones send to each other what they
    can, or "refuse", with 503."""
    max_call_seconds: float = field(default=14400.0, validator=above(0))
    """After so long a call without session timers (RFC 4028) counts as over, even if its media node still has it."""
    check_seconds: float = field(default=60.0, validator=above(0))
    """How often the media node of a call is asked whether it still has it: nobody says so when both phones are gone."""
    reanchor_per_second: float = field(default=50.0, validator=above(0))
    """When a media node has died, so many of its calls are led through others per second: each costs two re-INVITEs."""
    reanchor_seconds: float = field(default=60.0, validator=above(0))
    """For so long it is tried to lead a call through another node before it is left as it is."""
