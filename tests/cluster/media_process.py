"""A balancer that only publishes and tells, or somebody who follows and hears, as a process that speaks in JSON.

python -m tests.cluster.media_process balancer|follower NAME SETTINGS, the settings of [redis] in JSON.
"""

import json
import signal
import sys
from collections.abc import Sequence
from time import time
from typing import Any

from attrs import evolve
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred

from balancer.present import Present
from balancer.publication import Publication, PublicationConfig
from balancer.standby import Mastership, StandbyConfig
from balancer.tenants import Tenants
from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.cluster.redis import Redis
from rollcall.media.following import Following
from rollcall.media.reports import CallOver, Report
from rollcall.media.snapshot import MediaNode, Quality, Rule, Snapshot
from rollcall.media.telling import ReportReader, Telling

reactor: Any = global_reactor

NODES = 7
PUBLISH_SECONDS = 0.1
WHOLE_SECONDS = 1.0


class Silent:
    """A watcher of Redis that does nothing: all of this has to work without it."""

    def connected(self, server: str, run_id: str, may_have_lost: bool) -> None:
        """See Watcher."""

    def disconnected(self, server: str, why: str) -> None:
        """See Watcher."""

    def invalidated(self, keys: Sequence[bytes] | None) -> None:
        """See Watcher."""

    def leases_changed(self) -> None:
        """See Watcher."""


class Figures:
    """What a balancer believes: each time one node has one call more, so that a mix of snapshots has a wrong sum."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._number = 0
        self._nodes = {f"m{place}": MediaNode(id=f"m{place}", address="192.0.2.1:22222") for place in range(NODES)}

    def nodes(self, now: float) -> dict[str, MediaNode]:
        """Return the nodes of now."""
        self._number += 1
        name = f"m{self._number % NODES}"
        self._nodes[name] = evolve(self._nodes[name], sessions=self._nodes[name].sessions + 1)
        return dict(self._nodes)

    def tenants(self) -> dict[str, str]:
        """Return who it is, and how many calls there are in all."""
        return {"who": self._name, "sum": str(self._number)}


def say(**fields: object) -> None:
    """Write a line."""
    sys.stdout.write(json.dumps({"at": time(), **fields}) + "\n")
    sys.stdout.flush()


def balance(name: str, redis: Redis) -> None:
    """Publish until the end."""
    figures = Figures(name)
    mastership = Mastership(reactor, redis, StandbyConfig(), name)
    config = PublicationConfig(publish_seconds=PUBLISH_SECONDS, whole_seconds=WHOLE_SECONDS)
    publication = Publication(reactor, redis, mastership, config)
    paths = {("x/DE", f"m{place}"): Quality(0.01, 20.0) for place in range(NODES)}
    present = Present(reactor, time, PUBLISH_SECONDS, Rule(), figures.nodes, lambda now: paths, dict, figures.tenants)
    present.on_snapshot.append(publication.offer)
    mastership.on_change.append(lambda: say(is_master=mastership.is_master, fence=mastership.fence))
    tenants = Tenants(reactor, {}, redis)
    telling = Telling(reactor, redis, name)
    present.on_snapshot.append(lambda snapshot: telling.tell(CallOver(call_id=f"{name} {snapshot.tenants['sum']}")))
    parts = (tenants, telling, publication, mastership)
    for part in reversed(parts):
        part.start()
    present.startService()
    Deferred.fromCoroutine(tenants.say("x.example", "gold")).addErrback(lambda failure: say(failed=str(failure)))

    async def stop() -> None:
        present.stopService()
        for part in parts:
            await part.stop()
        await redis.stop()

    at_the_end(stop)
    say(started=True)


def follow(name: str, redis: Redis) -> None:
    """Say of each snapshot who has published it, and whether it is one of his; and what was told."""

    def applied(snapshot: Snapshot) -> None:
        total = sum(node.sessions for node in snapshot.nodes.values())
        say(version=following.version, who=snapshot.tenants["who"], number=total,
            is_mixed=str(total) != snapshot.tenants["sum"], took=time() - snapshot.published_at)

    def heard(report: Report) -> None:
        if isinstance(report, CallOver):
            say(told=report.call_id)

    following = Following(reactor, redis, applied)
    reader = ReportReader(reactor, redis, name, heard)
    following.start()
    reader.start()

    async def stop() -> None:
        await reader.stop()
        await following.stop()
        await redis.stop()

    at_the_end(stop)
    say(started=True)


def at_the_end(stop: Any) -> None:
    """Stop in order on SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(
        lambda: Deferred.fromCoroutine(stop()).addBoth(lambda _: reactor.stop())))


def main() -> None:
    """Do what the arguments say."""
    role, name, settings = sys.argv[1:]
    redis = make_redis(reactor, RedisConfig(**json.loads(settings)), Silent())
    redis.start()
    reactor.callWhenRunning(balance if role == "balancer" else follow, name, redis)
    reactor.run()


if __name__ == "__main__":
    main()
