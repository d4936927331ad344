"""What an operator can set about workers. Times in seconds."""

from attrs import field, frozen

from registrar.location.held import HoldingConfig
from rollcall.ops.allowed import NotAllowed, at_least


@frozen(kw_only=True)
class WorkersConfig(HoldingConfig):
    """[workers]: how workers are kept alive, how they end, and how records move between them."""

    restart_seconds: float = field(default=0.5, validator=at_least(0.0))
    """How long after the end of a worker the next one is started; twice as long each time."""
    restart_max_seconds: float = field(default=30.0, validator=at_least(0.0))
    """The longest such pause."""
    healthy_seconds: float = field(default=60.0, validator=at_least(1.0))
    """A worker that lived this long ended by accident: the next one is started after the shortest pause."""
    start_seconds: float = field(default=60.0, validator=at_least(1.0))
    """How long a worker may take to become ready, when workers are restarted one after the other."""
    drain_seconds: float = field(default=60.0, validator=at_least(0.0))
    """How long a worker that is restarted finishes what it has begun; what rings longer ends with it."""
    stop_seconds: float = field(default=20.0, validator=at_least(0.1))
    """How long a worker may take to end, with what it has to write; then it is killed."""
    answer_seconds: float = field(default=5.0, validator=at_least(0.1))
    """How long the admin site waits for a worker."""
    unresponsive_seconds: float = field(default=30.0, validator=at_least(1.0))
    """A worker that answers nothing for so long is killed, and started again."""
    max_waiting_bytes: int = field(default=67_108_864, validator=at_least(1_048_576))
    """How far a worker or the supervisor may be behind with what the other has said; a worker that is further behind
    is killed."""

    def __attrs_post_init__(self) -> None:
        if self.restart_seconds > self.restart_max_seconds:
            raise NotAllowed(f"at most restart_max_seconds ({self.restart_max_seconds})", "restart_seconds",
                             self.restart_seconds)
