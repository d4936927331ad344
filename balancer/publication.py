"""What the master publishes: a whole snapshot now and then, and between them the changes in order."""

from collections.abc import Callable
from typing import Any

from attrs import field, frozen
from twisted.logger import Logger

from balancer.standby import Mastership
from rollcall.cluster.polling import Polling
from rollcall.cluster.redis import Redis
from rollcall.cluster.snapshots import Outcome, Publisher
from rollcall.media.following import SNAPSHOTS
from rollcall.media.snapshot import Snapshot, difference, encode_change, encode_snapshot
from rollcall.ops.allowed import above, between


@frozen(kw_only=True)
class PublicationConfig:
    """[publication]: how registrars are told."""

    enabled: bool = False
    """Whether there is a [redis], for registrars that follow and for a standby; without it who wants a node asks us."""
    publish_seconds: float = field(default=0.5, validator=between(0.05, 2.0))
    """How often what has changed is published; a node's death is at once."""
    whole_seconds: float = field(default=5.0, validator=above(0))
    """How often all is published, for those who have missed something."""


class Publication:
    """Publishes from `start` to `stop` what it is offered, while we are the master. Nobody waits for it.

    While one is on its way to Redis only the newest of what is offered is kept.
    """

    _log = Logger()

    def __init__(self, reactor: Any, redis: Redis, mastership: Mastership, config: PublicationConfig,
                 is_ready: Callable[[], bool] = lambda: True) -> None:
        """Nothing is published before `is_ready` says that we know enough to speak for others."""
        self.wholes = 0
        """Whole snapshots that were published."""
        self.changes = 0
        """Changes that were published."""
        self.bytes = 0
        """How long all of them were."""
        self.version = ""
        """The id of what was published last."""
        self._reactor = reactor
        self._redis = redis
        self._mastership = mastership
        self._config = config
        self._is_ready = is_ready
        self._offered: Snapshot | None = None
        self._published: Snapshot | None = None
        self._publisher: Publisher | None = None
        self._fence = 0
        self._whole_at = 0.0
        self._polling = Polling(reactor, config.publish_seconds, self.publish, "publishing the media nodes")
        mastership.on_change.append(self.hurry)

    def start(self) -> None:
        """Begin to publish."""
        self._polling.start()

    async def stop(self) -> None:
        """Publish no more; to be called before the lease is given back."""
        await self._polling.stop()

    @property
    def problem(self) -> str | None:
        """Why it could not be published last."""
        return self._polling.problem

    def offer(self, snapshot: Snapshot) -> None:
        """Publish this as soon as the one before is through."""
        self._offered = snapshot
        self._polling.hurry()

    def hurry(self) -> None:
        """Look now whether there is something to publish."""
        self._polling.hurry()

    async def publish(self) -> None:
        """Publish what was offered last. Raises RedisUnavailable and RedisRefused."""
        offered = self._offered
        if offered is None or not self._mastership.is_master or not self._is_ready():
            # Who has nothing to publish has no trouble with it, and is not to say that it works again.
            self._polling.problem = None
            return
        if self._publisher is None or self._fence != self._mastership.fence:
            self._fence = self._mastership.fence
            self._publisher, self._published = Publisher(self._redis, SNAPSHOTS, self._fence), None
        if offered is not self._published:
            await self._publish(self._publisher, offered)

    async def _publish(self, publisher: Publisher, new: Snapshot) -> None:
        outcome, is_due = Outcome.GAP, self._reactor.seconds() >= self._whole_at
        if self._published is not None:
            data = encode_change(difference(self._published, new))
            outcome = await publisher.change(data)
            self._was_published(outcome, publisher, new, data, is_whole=False)
        if outcome is Outcome.GAP or (outcome is Outcome.TAKEN and is_due):
            data = encode_snapshot(new)
            publish = publisher.again if outcome is Outcome.TAKEN else publisher.whole
            outcome = await publish(data)
            self._was_published(outcome, publisher, new, data, is_whole=True)
        if outcome is Outcome.FENCED:
            self._publisher = None
            self._log.warn("fence {fence} was refused: a master with fence {other} has published", fence=self._fence,
                           other=publisher.overtaken_by)
            self._mastership.overtaken(publisher.overtaken_by)

    def _was_published(self, outcome: Outcome, publisher: Publisher, new: Snapshot, data: bytes,
                       is_whole: bool) -> None:
        if outcome is not Outcome.TAKEN:
            return
        self._published, self.version = new, publisher.version
        self.bytes += len(data)
        if is_whole:
            self.wholes += 1
            self._whole_at = self._reactor.seconds() + self._config.whole_seconds
        else:
            self.changes += 1
