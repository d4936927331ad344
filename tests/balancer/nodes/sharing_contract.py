"""What balancers tell each other of nodes, whichever Redis is between them: the same tests in memory and for real."""

from collections.abc import Awaitable
from typing import Any

from balancer.nodes.sharing import Sharing
from rollcall.cluster.redis import Redis

KEEP_SECONDS = 60.0


class Balancer:
    """One balancer's side: what it has heard."""

    def __init__(self, reactor: Any, redis: Redis | None, keep_seconds: float = KEEP_SECONDS) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.moments: dict[str, float] = {}
        self.is_deaf_to: set[str] = set()
        self.sharing = Sharing(reactor, redis, keep_seconds, self._hear)
        self.sharing.startService()

    def _hear(self, field: str, value: bytes, said_at: float) -> bool:
        if field in self.is_deaf_to:
            return False
        self.heard.append((field, value))
        self.moments[field] = said_at
        return True

    def take(self) -> dict[str, bytes]:
        """Return what was heard since the last time, the last word in each field."""
        heard = dict(self.heard)
        self.heard.clear()
        return heard


class SharingContract:
    """Mixed into a case that gives `one` and `other`, two balancers, and `later`, which lets time pass."""

    one: Balancer
    other: Balancer

    def later(self, seconds: float = 0.6) -> Awaitable[object]:
        """Let both balancers read at least once."""
        raise NotImplementedError

    async def lose_all(self) -> None:
        """Empty Redis."""
        raise NotImplementedError

    assertEqual: Any
    assertAlmostEqual: Any

    async def test_word_of_mouth(self) -> None:
        """What is said to one balancer it hears at once, and the other soon, with when it was said."""
        self.one.sharing.say("drain:m1", True)
        self.assertEqual(self.one.take(), {"drain:m1": b"true"})
        await self.later()
        self.assertEqual(self.other.take(), {"drain:m1": b"true"})
        self.assertAlmostEqual(self.other.moments["drain:m1"], self.one.moments["drain:m1"], places=0)

    async def test_last_word(self) -> None:
        """Of two words the later counts, whoever says it to whom, and it is not undone by the first."""
        self.one.sharing.say("drain:m1", True)
        await self.later()
        self.other.sharing.say("drain:m1", False)
        await self.later()
        self.assertEqual(self.one.take(), {"drain:m1": b"false"})
        await self.later(2.0)
        self.assertEqual(self.one.take(), {})
        self.assertEqual(self.other.take()["drain:m1"], b"false")

    async def test_words_do_not_disturb_each_other(self) -> None:
        """Words in other fields are other words."""
        self.one.sharing.say("node:m9", {"id": "m9"})
        self.other.sharing.say("load:m9", {"sessions": 3})
        await self.later()
        for balancer in (self.one, self.other):
            self.assertEqual(balancer.take(), {"node:m9": b'{"id":"m9"}', "load:m9": b'{"sessions":3}'})

    async def test_lost_words(self) -> None:
        """A Redis that was emptied gets the words again from those to whom they were said."""
        self.one.sharing.say("drain:m1", True)
        await self.later()
        await self.lose_all()
        await self.later(1.2)
        self.other.take()
        self.other.sharing._known.clear()
        await self.later()
        self.assertEqual(self.other.take(), {"drain:m1": b"true"})

    async def test_not_yet(self) -> None:
        """A word that cannot be taken yet is heard again until it can."""
        self.other.is_deaf_to.add("drain:m9")
        self.one.sharing.say("drain:m9", True)
        await self.later()
        self.assertEqual(self.other.take(), {})
        self.other.is_deaf_to.clear()
        await self.later()
        self.assertEqual(self.other.take(), {"drain:m9": b"true"})
