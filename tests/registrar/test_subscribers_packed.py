"""Tests of packed hashes."""

import sys

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import Subscriber
from registrar.subscribers.contract import subscriber_with
from registrar.subscribers.packed import pack, unpack
from rollcall.sip.digest import ALGORITHMS, HEX_DIGITS


def hashes() -> st.SearchStrategy[dict[str, str]]:
    """Give the hashes of any algorithms, in one form."""
    return st.fixed_dictionaries(
        {},
        optional={
            algorithm: st.binary(min_size=digits // 2, max_size=digits // 2).map(bytes.hex)
            for algorithm, digits in HEX_DIGITS.items()
        },
    )


class PackedTests(SynchronousTestCase):
    @given(hashes(), hashes())
    def test_unpacked_is_what_was_packed(self, ha1: dict[str, str], ha1b: dict[str, str]) -> None:
        """Whichever hashes there are, the same come out, and no others."""
        subscriber = unpack("alice", "example.org", pack(Subscriber("alice", "example.org", ha1, ha1b)))
        self.assertEqual((subscriber.username, subscriber.domain), ("alice", "example.org"))
        for packed, plain in ((subscriber.ha1, ha1), (subscriber.ha1b, ha1b)):
            self.assertEqual(dict(packed), plain)
            self.assertEqual(len(packed), len(plain))
            for algorithm in ALGORITHMS:
                self.assertEqual(packed.get(algorithm), plain.get(algorithm))

    def test_unknown_algorithm(self) -> None:
        """An algorithm that nobody knows has no hash."""
        subscriber = unpack("alice", "example.org", pack(subscriber_with("alice", "example.org", "secret")))
        self.assertIsNone(subscriber.ha1.get("MD4"))

    def test_small(self) -> None:
        """All hashes of a subscriber take less than 150 bytes."""
        self.assertLess(sys.getsizeof(pack(subscriber_with("alice", "example.org", "secret"))), 150)
