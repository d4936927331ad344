"""What a registrar has for calls through media nodes: whom it follows, which calls it knows, how it speaks to nodes.

Joined here, and started and stopped in order. It needs Redis, that of its bindings or, where these are kept elsewhere,
a connection of its own; no Redis that is away keeps a registrar from starting or from living.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from registrar.auth import Authentication
from registrar.clustering import Clustering
from registrar.config import RegistrarConfig
from registrar.dialogs import Dialogs
from registrar.media.adopting import Adopting
from registrar.media.anchoring import Anchoring, watch_anchoring
from registrar.media.calls import Calls
from registrar.media.choosing import Choosing
from registrar.media.counting import Counting, watch_sessions
from registrar.media.freshness import Freshness
from registrar.media.moving import Moving
from registrar.media.publishing import Publishing, PublishingParts
from registrar.media.relaying import Relaying
from registrar.media.sessions import Sessions
from registrar.media.speaking import Speaking
from registrar.media.timers import Timers
from registrar.media_api import MediaListed
from registrar.observing_media import watch_following, watch_media
from registrar.routing import Domains
from registrar.sending import Attempt, Sender
from registrar.workers.messages import Member
from rollcall.cluster.access import make_redis
from rollcall.media.access import AccessGroups
from rollcall.media.following import SNAPSHOTS, Following
from rollcall.media.ng import NgClient
from rollcall.media.snapshot import Snapshot
from rollcall.media.telling import Telling
from rollcall.net.transactions import Transactions
from rollcall.net.wheel import TimerWheel
from rollcall.ops.api import Routes
from rollcall.ops.metrics import Metrics
from rollcall.sip.message import Request

Follow = Callable[[bytes, Request], Awaitable[Attempt | None]]


class MediaParts:
    """All of it, for one process. It is a listener of Clustering, or the Watcher of a Redis of its own."""

    def __init__(self, config: RegistrarConfig, reactor: Any, me: Member, wheel: TimerWheel, domains: Domains,
                 clustering: Clustering | None, retry_after: Callable[[], int]) -> None:
        """Raises ValueError when a file of [access] cannot be used."""
        self._config = config
        self._now = reactor.seconds
        self._clustering = clustering
        self._wheel = wheel
        self._domains = domains
        self._retry_after = retry_after
        name = f"{me.node}:{me.epoch}"
        self.redis = make_redis(reactor, config.redis, self) if clustering is None else clustering.redis
        self.access = AccessGroups(config.access)
        self.choosing = Choosing(reactor.seconds, config.media.left_out_seconds)
        self.following = Following(reactor, self.redis, self._followed)
        self._freshness = Freshness(reactor, self.following)
        self.telling = Telling(reactor, self.redis, name)
        self.sessions = Sessions(self.redis, name, reactor.seconds)
        self._ng = NgClient(reactor)
        self._relaying = Relaying(self._ng, self.choosing, config.media.offer_seconds)
        self._counting = Counting(self.sessions, self.telling.tell, reactor, reactor.seconds)
        self._timers = Timers(self.sessions, wheel, self._ng, config.media, reactor.seconds)
        # Without leases nobody is known to have ended but earlier lives of our own.
        is_living = clustering.leases.is_living if clustering is not None else (
            lambda node, epoch: node != me.node or epoch == me.epoch)
        self._adopting = Adopting(reactor, self.redis, self.sessions, is_living)
        if clustering is not None:
            clustering.listeners.append(self)
            clustering.leases.on_change.append(self._adopting.ended)
        self.calls = Calls(config.media, self._relaying, self.choosing, self.sessions, domains, self.access.group,
                           self._stranded, reactor.seconds, retry_after, wheel)
        self._anchoring: Anchoring
        self._publishing: Publishing

    def speak(self, dialogs: Dialogs, sender: Sender, transactions: Transactions, follow: Follow) -> None:
        """Join what carries requests, for calls whose node dies; `follow` finds a phone that has moved."""
        media = self._config.media
        speaking = Speaking(dialogs, sender, transactions, self._config.proxy, follow)
        moving = Moving(self.sessions, self._ng, self.choosing, speaking, media, self._now)
        self._anchoring = Anchoring(self.sessions, moving, self._wheel, media, self._now)

    def publishing(self, authentication: Authentication | None, observe: Callable[[str], None]) -> Publishing:
        """Return what takes the reports of phones."""
        self._publishing = Publishing(PublishingParts(
            domains=self._domains, authentication=authentication, default_realm=self._domains.names[0],
            tell=self.telling.tell, node_of_call=self.node_of_call, retry_after=self._retry_after, now=self._now,
            observe=observe))
        return self._publishing

    def node_of_call(self, call_id: str) -> str:
        """Return the media node of a call; empty when it is not known here, or has none."""
        session = self.sessions.known(call_id)
        return session.node if session is not None else ""

    def watch(self, metrics: Metrics, routes: Routes) -> None:
        """Let operators see all of it."""
        watch_sessions(metrics, self.sessions, self._counting, self._timers)
        watch_anchoring(metrics, self._anchoring)
        watch_following(metrics, self.following, self.telling, self._now)
        watch_media(metrics, self._relaying.outcomes, self._publishing.outcomes)
        MediaListed(self.following, self.choosing, self.sessions, self._now).mount(routes)

    def start(self) -> None:
        """Begin to follow and to tell, before any phone is let in."""
        if self._clustering is None:
            self.redis.start()
        self.following.start()
        self._freshness.start()
        self.telling.start()
        self._counting.start()
        self._adopting.start()

    def reload(self) -> None:
        """Read the files of [access] again. Raises ValueError, and all stays as it was then."""
        self.access.reload()

    async def stop(self) -> None:
        """Let go of everything, before Redis: calls that run stay with their nodes."""
        self._anchoring.stop()
        self._adopting.stop()
        self._timers.stop()
        self._counting.stop()
        self._freshness.stop()
        await self.following.stop()
        await self.telling.stop()
        if self._clustering is None:
            await self.redis.stop()
        self._ng.close()

    # --- what Redis says: see Clustering's Listener, and Watcher

    def connected(self, server: str = "", run_id: str = "", may_have_lost: bool = False) -> None:
        """See both."""
        self.sessions.connected()
        self.following.hurry()

    def changed(self, keys: Sequence[bytes] | None) -> None:
        """See Listener."""
        self.sessions.changed(keys)
        if keys is None or SNAPSHOTS in keys:
            self.following.hurry()

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """See Watcher."""
        self.changed(keys)

    def disconnected(self, server: str, why: str) -> None:
        """See Watcher."""

    def leases_changed(self) -> None:
        """See Watcher."""

    # --- details

    def _followed(self, snapshot: Snapshot) -> None:
        self.choosing.followed(snapshot)
        self._anchoring.followed(snapshot)

    def _stranded(self, call_id: str) -> None:
        session = self.sessions.known(call_id)
        if session is not None:
            self._anchoring.stranded(session)
