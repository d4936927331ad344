"""What is said of media nodes, with a real Redis between two balancers."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from balancer.nodes.sharing import KEY
from tests.balancer.nodes.sharing_contract import Balancer, SharingContract
from tests.cluster.access_case import AccessCase, spread


class MediaWordsTests(SharingContract, AccessCase):
    """The contract of the words, on one server."""

    async def opened_both(self) -> None:
        await self.opened()
        await self.redis.ask(KEY, "DEL", KEY)
        self.one, self.other = Balancer(reactor, self.redis), Balancer(reactor, self.redis)
        for balancer in (self.one, self.other):
            self.addCleanup(balancer.sharing.stopService)

    def later(self, seconds: float = 0.6) -> Any:
        return spread(seconds + 0.5)

    async def lose_all(self) -> None:
        await self.redis.ask(KEY, "FLUSHDB")

    def setUp(self) -> "Deferred[None]":  # type: ignore[override]
        super().setUp()
        return Deferred.fromCoroutine(self.opened_both())

    async def test_old_words_are_dropped(self) -> None:
        """The server drops words that are old, but for those that say that a node drains, or does not."""
        brief = Balancer(reactor, self.redis, keep_seconds=1.0)
        self.addCleanup(brief.sharing.stopService)
        for field, value in (("load:m1", {"sessions": 1}), ("drain:m1", True), ("drain:m2", False),
                             ("drain:m3", None)):
            brief.sharing.say(field, value)
        await self.later(2.0)
        fields = await self.redis.ask(KEY, "HKEYS", KEY)
        self.assertEqual(sorted(fields), [b"drain:m1", b"drain:m2"])
