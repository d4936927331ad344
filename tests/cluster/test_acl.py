"""Registrars that are nobody but the ACL user of docs/cluster.md: nothing that they ask of Redis is refused."""

import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.case import ClusterCase
from tests.cluster.fleet_call import CallState
from tests.cluster.test_media_publication import Told
from tests.interop.process import wait_until
from tools.laboratory.lab import Lab, RedisKind
from tools.laboratory.redis_servers import RedisServers, RedisUser

DOCUMENT = Path(__file__).parents[2] / "docs" / "cluster.md"
LINE = "user rollcall on >PASSWORD "
SERVERS = RedisUser(name="servers", password="among-themselves")
PHONES = 20
CALLS_PER_SECOND = 40.0
CLEAN_SECONDS = 10.0
# What could harm others' data in the same Redis, or its service, is not for registrars.
FORBIDDEN = (
    ("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("SHUTDOWN",), ("DEBUG", "SLEEP", 1), ("GET", "others"))


class DocumentedRedis(RedisServers):
    """Redis with the users of docs/cluster.md beside that of the servers themselves."""

    def __init__(self, folder: Path, kind: RedisKind) -> None:
        assert kind != "none"
        super().__init__(folder, kind, users=(SERVERS,))
        self._theirs = documented()

    def users_of(self, role: str) -> tuple[RedisUser, ...]:
        """See RedisServers: theirs is the user that the document names for such a process."""
        server, sentinel = self._theirs
        return (*self.users, sentinel if role == "sentinel" else server)

    @property
    def settings(self) -> dict[str, Any]:
        """See RedisServers."""
        server, sentinel = self._theirs
        found = super().settings | {"username": server.name, "password": server.password}
        if self.kind == "sentinel":
            found |= {"sentinel_username": sentinel.name, "sentinel_password": sentinel.password}
        return found


class DocumentedLab(Lab):
    """A lab with such a Redis."""

    def __init__(self, folder: Path, kind: RedisKind, registrars: int, users: int, sections: str) -> None:
        super().__init__(folder, registrars, "none", users, sections)
        self._redis = DocumentedRedis(self.folder / "redis", kind)


class SingleTests(ClusterCase):
    """Two registrars, and one server."""

    registrars = 2
    users = PHONES
    sections = ("[cluster]\nlease_seconds = 1.5\nrenew_seconds = 0.5\njanitor_seconds = 1.0\nreconnect_wait = 1.0\n"
                "[tickle]\nenabled = true\n")
    redis: ClassVar[RedisKind] = "single"

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = DocumentedLab(Path(cls._folder.name), cls.redis, cls.registrars, cls.users, cls.sections)
        cls.lab.start()

    def test_allowed(self) -> None:
        """Phones register and call, a node is drained, another dies and is cleaned up after: nothing is refused."""
        here, dying = self.lab.registrars
        fleet = self.fleet()
        fleet.register_all()
        calls = fleet.call_at_random(PHONES, CALLS_PER_SECOND)
        fleet.wait_calls(calls)
        self.assertEqual([str(call) for call in calls if call.state is not CallState.ENDED], [])
        here.post(f"/v1/nodes/{dying.name}/drain")
        here.post(f"/v1/nodes/{dying.name}/drain", {"undo": True})
        fleet.is_moving = False
        dying.kill()
        wait_until(lambda: here.metric("rollcall_cluster_removed_total") or None, "clearance", CLEAN_SECONDS)
        dying.start()
        self.assertEqual(self.refused(), [])

    def test_forbidden(self) -> None:
        """What no registrar needs is refused."""
        for command in FORBIDDEN:
            answer = self.lab.redis.servers[0].ask("ACL", "DRYRUN", "rollcall", *command)
            self.assertIn(b"no permissions", answer, command)

    def refused(self) -> list[Any]:
        """Return what servers and Sentinels have refused."""
        found: list[Any] = []
        for process in (*self.lab.redis.servers, *self.lab.redis.sentinels):
            found += process.ask("ACL", "LOG")
        return found


class SentinelTests(SingleTests):
    """The same with Sentinels."""

    redis = "sentinel"


class RedisClusterTests(SingleTests):
    """The same with a Redis Cluster."""

    redis = "cluster"

    def test_moving(self) -> None:
        """A slot may be on its way from one server to another."""
        self.assertEqual(self.lab.redis.servers[0].ask("ACL", "DRYRUN", "rollcall", "ASKING"), b"OK")


class MediaTests(SynchronousTestCase):
    """Balancers, and those who follow them, are the same user."""

    kind: ClassVar[Literal["single", "sentinel", "cluster"]] = "single"

    def test_allowed(self) -> None:
        """A lease is taken, snapshots are published and followed, reports told and heard: nothing is refused."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        redis = self.enterContext(DocumentedRedis(folder / "redis", self.kind))
        told = [Told(folder, role, name, redis.settings) for role, name in (("balancer", "b1"), ("follower", "f1"))]
        for each in told:
            self.addCleanup(each.process.end)
        wait_until(lambda: (told[1].snapshots() and told[1].told_by("b1")) or None, "snapshots and reports")
        self.assertEqual(told[0].process.end(), 0)
        self.assertEqual([entry for process in (*redis.servers, *redis.sentinels)
                          for entry in process.ask("ACL", "LOG")], [])
        self.assertNotIn("failed", told[0].process.text())


class MediaSentinelTests(MediaTests):
    """The same with Sentinels."""

    kind = "sentinel"


class MediaClusterTests(MediaTests):
    """The same with a Redis Cluster."""

    kind = "cluster"


def documented() -> tuple[RedisUser, RedisUser]:
    """Return the users at the servers and at the Sentinels."""
    lines = [line.removeprefix(LINE) for line in DOCUMENT.read_text().splitlines() if line.startswith(LINE)]
    server, sentinel = lines
    return (RedisUser(name="rollcall", password="at-servers", rules=server),
            RedisUser(name="rollcall", password="at-sentinels", rules=sentinel))
