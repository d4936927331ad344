"""The newest snapshot of the balancer's master, as a registrar or another balancer has it."""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from rollcall.cluster.redis import Redis
from rollcall.cluster.snapshots import POLL_SECONDS, Follower
from rollcall.media.snapshot import Snapshot, apply, decode_change, decode_snapshot

SNAPSHOTS = b"media:snapshots"
"""The stream."""


class Following:
    """Has the newest snapshot, from `start` to `stop`; while nobody publishes it keeps the last one."""

    def __init__(self, reactor: IReactorTime, redis: Redis, apply: Callable[[Snapshot], None],
                 poll_seconds: float = POLL_SECONDS) -> None:
        """`apply` gets each new snapshot; those that were overtaken before they could be read are left out."""
        self.snapshot = Snapshot()
        """The newest; without nodes before there is any."""
        self._apply = apply
        self._follower = Follower(reactor, redis, SNAPSHOTS, _Told(self._followed), poll_seconds)

    def start(self) -> None:
        """Begin to follow."""
        self._follower.start()

    async def stop(self) -> None:
        """Follow no more; the snapshot stays."""
        await self._follower.stop()

    def hurry(self) -> None:
        """Look now: the stream has changed, or Redis is back."""
        self._follower.hurry()

    @property
    def is_fresh(self) -> bool:
        """Whether a master seems to live: he has published within the last seconds, and Redis was there."""
        return self._follower.is_fresh

    def age(self, now: float) -> float | None:
        """Return for how many seconds, by the reactor's clock, nothing came; None: nothing ever did."""
        return self._follower.age(now)

    @property
    def version(self) -> str:
        """The id of the snapshot, "<fence>-<number>"; empty before there is any."""
        return self._follower.version

    @property
    def gaps(self) -> int:
        """How often something was missing."""
        return self._follower.gaps

    @property
    def problem(self) -> str | None:
        """Why Redis could not be asked last."""
        return self._follower.problem

    def _followed(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._apply(snapshot)


class _Told:
    def __init__(self, tell: Callable[[Snapshot], None]) -> None:
        self._tell = tell
        self._snapshot = Snapshot()

    def whole(self, data: bytes) -> None:
        self._snapshot = decode_snapshot(data)

    def change(self, data: bytes) -> None:
        self._snapshot = apply(self._snapshot, decode_change(data))

    def followed(self) -> None:
        self._tell(self._snapshot)
