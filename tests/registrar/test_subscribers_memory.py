"""Tests of the subscribers in memory."""

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable
from registrar.subscribers.cache import CacheConfig
from registrar.subscribers.contract import SubscriberStore
from registrar.subscribers.memory import MemorySource, MemorySubscribers
from registrar.subscribers.store import CachedSubscribers
from tests.registrar.subscriber_contract import DOMAIN, SubscriberContract


class MemorySubscribersTests(SubscriberContract, SynchronousTestCase):
    def make_store(self) -> SubscriberStore:
        self.memory = MemorySubscribers()
        return self.memory

    def test_outage(self) -> None:
        """A test may make it unavailable, and see who was looked up."""
        self.result(self.store.find("alice", DOMAIN))
        self.memory.unavailable = "the disk is gone"
        self.assertEqual(self.error(StoreUnavailable, self.store.find("bob", DOMAIN)), "the disk is gone")
        self.assertEqual(self.memory.found, [("alice", DOMAIN)])


class MemorySourceTests(SubscriberContract, SynchronousTestCase):
    """The same below the caches."""

    def make_store(self) -> SubscriberStore:
        return CachedSubscribers(Clock(), MemorySource(), CacheConfig())
