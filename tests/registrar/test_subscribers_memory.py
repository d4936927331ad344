"""Tests of the subscribers in memory."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import StoreUnavailable
from registrar.subscribers.contract import SubscriberStore
from registrar.subscribers.memory import MemorySubscribers
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
