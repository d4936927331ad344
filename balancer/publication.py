"""What the master publishes: a whole snapshot now and then, and between them the changes in order."""

from attrs import field, frozen

from rollcall.ops.allowed import above


@frozen(kw_only=True)
class PublicationConfig:
    """[publication]: how registrars are told."""

    enabled: bool = False
    """Whether there is a [redis], for registrars that follow and for a standby; without it who wants a node asks us."""
    publish_seconds: float = field(default=0.5, validator=above(0))
    """How often what has changed is published; a node's death is at once."""
