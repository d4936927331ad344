"""What an operator can set about calls through media nodes."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class MediaConfig:
    """[media]: whether calls go through media nodes, and how."""

    enabled: bool = False
    """Whether calls go through the nodes that balancers publish in Redis."""
    offer_seconds: float = field(default=0.5, validator=above(0))
    """How long a media node may take to answer, before the call goes to another."""
