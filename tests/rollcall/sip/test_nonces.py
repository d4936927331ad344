"""Tests of the nonces and their counts (RFC 7616 §3.3, §3.4, §5.5)."""

import string

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.nonces import CLOCK_SKEW_SECONDS, MAX_COUNT, WINDOW, Nonce, NonceCounts, NonceKeys

NOW = 1_700_000_000.0
SECRET = b"the first secret of these tests."
OTHER = b"the other secret of these tests."
BASE64URL = string.ascii_uppercase + string.ascii_lowercase + string.digits + "-_"  # by value


def a_ring(*secrets: bytes, **settings: float) -> NonceKeys:
    """Return a key ring whose chance is an increasing number."""
    chances = iter(range(1 << 16))
    return NonceKeys(
        secrets or (SECRET,),
        lifetime_seconds=settings.get("lifetime_seconds", 600),
        key_seconds=int(settings.get("key_seconds", 3600)),
        entropy=lambda size: next(chances).to_bytes(size),
    )


class NonceKeysTests(SynchronousTestCase):
    def test_own_nonce_is_valid(self) -> None:
        """A nonce is valid from its birth to the end of its lifetime, and stale afterwards."""
        ring = a_ring(lifetime_seconds=600)
        nonce = ring.mint(NOW)
        self.assertEqual(ring.check(nonce, NOW), Nonce.VALID)
        self.assertEqual(ring.check(nonce, NOW + 600), Nonce.VALID)
        self.assertEqual(ring.check(nonce, NOW + 601), Nonce.STALE)

    def test_lifetime_may_be_given(self) -> None:
        """A caller may ask for younger nonces than the ring allows."""
        ring = a_ring(lifetime_seconds=600)
        nonce = ring.mint(NOW)
        self.assertEqual(ring.check(nonce, NOW + 60, lifetime_seconds=30), Nonce.STALE)

    def test_given_to_somebody(self) -> None:
        """A nonce that was given to somebody is good for him alone, whatever else he may have been given."""
        ring = a_ring()
        nonce = ring.mint(NOW, b"\xc0\x00\x02\x07")
        for receivers, found in (((b"\xc0\x00\x02\x07",), Nonce.VALID), ((b"", b"\xc0\x00\x02\x07"), Nonce.VALID),
                                 ((b"",), Nonce.FORGED), ((b"\xc0\x00\x02\x08",), Nonce.FORGED)):
            self.assertEqual(ring.check(nonce, NOW, None, receivers), found)
        self.assertEqual(ring.check(ring.mint(NOW), NOW, None, (b"\xc0\x00\x02\x07",)), Nonce.FORGED)

    def test_compact_and_plain(self) -> None:
        """A nonce is 32 characters that need no escape in a quoted string."""
        nonce = a_ring().mint(NOW)
        self.assertEqual(len(nonce), 32)
        self.assertLessEqual(set(nonce), set(BASE64URL))

    def test_never_twice_the_same(self) -> None:
        """Two nonces of one second differ."""
        ring = NonceKeys([SECRET])
        self.assertNotEqual(ring.mint(NOW), ring.mint(NOW))

    def test_survives_restart(self) -> None:
        """Another process with the same secret accepts the nonce."""
        self.assertEqual(a_ring(SECRET).check(a_ring(SECRET).mint(NOW), NOW), Nonce.VALID)

    def test_keys_rotate(self) -> None:
        """A nonce made just before the keys rotate is still accepted after it, by this process and by others."""
        ring = a_ring(key_seconds=3600)
        before_rotation = NOW - NOW % 3600 + 3599
        nonce = ring.mint(before_rotation)
        ring.mint(before_rotation + 2)
        self.assertEqual(ring.check(nonce, before_rotation + 2), Nonce.VALID)
        self.assertEqual(a_ring(key_seconds=3600).check(nonce, before_rotation + 2), Nonce.VALID)

    def test_rotation_changes_the_key(self) -> None:
        """The HMAC of the next period is made with another key: the same head carries another code."""
        short, long = a_ring(key_seconds=100), a_ring(key_seconds=1000)
        self.assertNotEqual(short.mint(NOW)[16:], long.mint(NOW)[16:])
        self.assertEqual(short.mint(NOW)[:15], long.mint(NOW)[:15])

    def test_many_periods(self) -> None:
        """Keys of periods long gone are forgotten, and nonces go on being valid."""
        ring = a_ring(key_seconds=60)
        for period in range(100):
            at = NOW + 60 * period
            self.assertEqual(ring.check(ring.mint(at), at), Nonce.VALID)

    def test_old_secret_still_checks(self) -> None:
        """A new secret before the old one makes the nonces, and those of the old one stay valid."""
        old, both = a_ring(OTHER), a_ring(SECRET, OTHER)
        self.assertEqual(both.check(old.mint(NOW), NOW), Nonce.VALID)
        self.assertEqual(old.check(both.mint(NOW), NOW), Nonce.STALE)

    def test_secret_gone(self) -> None:
        """A nonce whose secret has rotated away is stale, not forged: its phone may retry with the same password."""
        self.assertEqual(a_ring(SECRET).check(a_ring(OTHER).mint(NOW), NOW), Nonce.STALE)

    def test_clocks_of_nodes(self) -> None:
        """A nonce of a node whose clock is a little ahead is valid; one from the far future is not."""
        ring = a_ring()
        self.assertEqual(ring.check(ring.mint(NOW + CLOCK_SKEW_SECONDS), NOW), Nonce.VALID)
        self.assertEqual(ring.check(ring.mint(NOW + CLOCK_SKEW_SECONDS + 1), NOW), Nonce.STALE)

    def test_strange_texts(self) -> None:
        """What has not the form of our nonces is forged, whatever it is."""
        nonce = a_ring().mint(NOW)
        for text in ("", nonce[:-1], nonce + "A", nonce + "=", nonce + "\n", " " + nonce[1:], "é" * 32, "\udcff" * 32):
            self.assertEqual(a_ring().check(text, NOW), Nonce.FORGED, text)

    @given(st.integers(0, 24 * 8 - 1))
    def test_one_bit_flipped(self, bit: int) -> None:
        """No nonce with one other bit is valid."""
        nonce = a_ring().mint(NOW)
        place, bit_in_character = divmod(bit, 6)
        other = BASE64URL[BASE64URL.index(nonce[place]) ^ 1 << bit_in_character]
        changed = nonce[:place] + other + nonce[place + 1 :]
        self.assertNotEqual(a_ring().check(changed, NOW), Nonce.VALID)

    @given(st.text(max_size=40) | st.text(BASE64URL, min_size=32, max_size=32))
    def test_any_text(self, text: str) -> None:
        """No text that we did not make is valid, and none raises."""
        self.assertNotEqual(a_ring().check(text, NOW), Nonce.VALID)

    def test_forged_code_is_told_from_a_stale_one(self) -> None:
        """A young nonce in our secret's name with a wrong code is forged."""
        nonce = a_ring().mint(NOW)
        changed = nonce[:-1] + ("A" if nonce[-1] != "A" else "B")
        self.assertEqual(a_ring().check(changed, NOW), Nonce.FORGED)

    def test_poor_secrets(self) -> None:
        """A ring without a secret, or with a short one, is refused."""
        for secrets in ((), (b"short",), (SECRET, b"short")):
            with self.assertRaises(ValueError):
                NonceKeys(secrets)


class NonceCountsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.ring = a_ring(lifetime_seconds=600)
        self.counts = NonceCounts(max_nonces=100, lifetime_seconds=600)
        self.nonce = self.ring.mint(NOW)

    def accept(self, *counts: int) -> list[bool]:
        return [self.counts.accept(self.nonce, nc, NOW) for nc in counts]

    def test_in_order(self) -> None:
        """Each count is accepted once."""
        self.assertEqual(self.accept(1, 2, 3), [True, True, True])
        self.assertEqual(self.accept(1, 2, 3), [False, False, False])

    def test_out_of_order(self) -> None:
        """A request that was overtaken is accepted, once."""
        self.assertEqual(self.accept(1, 4, 2, 3, 2, 4), [True, True, True, True, False, False])

    def test_below_the_window(self) -> None:
        """A count too far behind is refused, though it was never used."""
        self.assertEqual(self.accept(WINDOW + 10, 11, 10), [True, True, False])

    def test_leap(self) -> None:
        """A count may leap to the largest there is; what it leaves behind is refused."""
        self.assertEqual(self.accept(1, MAX_COUNT, 1, MAX_COUNT, MAX_COUNT - 1), [True, True, False, False, True])

    def test_first_seen_in_the_middle(self) -> None:
        """A count that began at another node goes on here."""
        self.assertEqual(self.accept(57, 58, 57), [True, True, False])

    def test_birth_is_known_after_use(self) -> None:
        """The birth of a nonce is known once it was used, and the counts do not change it."""
        self.assertIsNone(self.counts.born_at(self.nonce))
        self.accept(1, 7, MAX_COUNT)
        self.assertEqual(self.counts.born_at(self.nonce), NOW)

    def test_without_count(self) -> None:
        """A nonce used without a count is used up, and a counted one cannot be used without."""
        self.assertTrue(self.counts.accept_once(self.nonce, NOW))
        self.assertFalse(self.counts.accept_once(self.nonce, NOW))
        self.assertEqual(self.accept(1, 2, MAX_COUNT), [False, False, False])
        counted = self.ring.mint(NOW)
        self.assertTrue(self.counts.accept(counted, 1, NOW))
        self.assertFalse(self.counts.accept_once(counted, NOW))

    def test_bounded(self) -> None:
        """Never more than `max_nonces` are held."""
        for age in range(1000):
            self.counts.accept(self.ring.mint(NOW + age // 10), 1, NOW + age // 10)
            self.assertLessEqual(len(self.counts), 100)

    def test_forgotten_nonces_are_not_replayed(self) -> None:
        """When the table was full, a nonce it may have forgotten is refused, and a younger one accepted."""
        self.accept(1)
        for age in range(1, 120):
            self.counts.accept(self.ring.mint(NOW + age), 1, NOW + age)
        self.assertIsNone(self.counts.born_at(self.nonce))
        self.assertEqual(self.accept(1, 2), [False, False])
        self.assertTrue(self.counts.accept(self.ring.mint(NOW + 200), 1, NOW + 200))

    def test_nonces_in_use_are_kept(self) -> None:
        """A nonce that is used now and then outlasts any number of others."""
        for age in range(1, 300):
            self.counts.accept(self.ring.mint(NOW + age), 1, NOW + age)
            self.assertTrue(self.counts.accept(self.nonce, age, NOW + age), age)
        self.assertFalse(self.counts.accept(self.nonce, 299, NOW))

    def test_forgets_in_time(self) -> None:
        """Two lifetimes after its last use a nonce takes no room any more."""
        for _ in range(40):
            self.counts.accept(self.ring.mint(NOW), 1, NOW)
        for later in (601, 1202):
            self.counts.accept(self.ring.mint(NOW + later), 1, NOW + later)
        self.assertEqual(len(self.counts), 2)

    @given(st.lists(st.integers(1, 200) | st.just(MAX_COUNT), max_size=60))
    def test_no_count_twice(self, sequence: list[int]) -> None:
        """Whatever the order, no count is accepted twice, and one above all others always is."""
        counts, nonce = NonceCounts(max_nonces=4), a_ring().mint(NOW)
        accepted: list[int] = []
        for nc in sequence:
            if counts.accept(nonce, nc, NOW):
                accepted.append(nc)
            else:
                self.assertTrue(nc in accepted or max(accepted) - nc >= WINDOW)
        self.assertEqual(len(accepted), len(set(accepted)))

    @given(st.lists(st.integers(1, 200) | st.just(MAX_COUNT), max_size=40))
    def test_given_back(self, sequence: list[int]) -> None:
        """A count that was given back is accepted once more, and what else was used stays so."""
        counts, plain, nonce = NonceCounts(max_nonces=4), NonceCounts(max_nonces=4), a_ring().mint(NOW)
        for nc in sequence:
            accepted = counts.accept(nonce, nc, NOW)
            self.assertEqual(accepted, plain.accept(nonce, nc, NOW))
            if accepted:
                counts.give_back(nonce, nc)
                self.assertTrue(counts.accept(nonce, nc, NOW))
            self.assertFalse(counts.accept(nonce, nc, NOW))

    def test_giving_back_what_was_not_used(self) -> None:
        """A nonce that is not known, or a count that is too far behind, changes nothing."""
        self.counts.give_back(self.nonce, 1)
        self.assertEqual(self.accept(1, WINDOW + 10), [True, True])
        self.counts.give_back(self.nonce, 1)
        self.assertEqual(self.accept(1), [False])

    @given(st.lists(st.integers(1, 12), max_size=40))
    def test_quick_acceptance(self, sequence: list[int]) -> None:
        """Asked first whether a count is simply the next one, the counts accept the same as when never asked."""
        asked, plain, nonce = NonceCounts(max_nonces=4), NonceCounts(max_nonces=4), a_ring().mint(NOW)
        for nc in sequence:
            accepted = asked.accept_known(nonce, nc, NOW, 600) or asked.accept(nonce, nc, NOW)
            self.assertEqual(accepted, plain.accept(nonce, nc, NOW))
        self.assertEqual(asked.born_at(nonce), plain.born_at(nonce))

    def test_careful_acceptance_of_the_next_count(self) -> None:
        """A nonce whose next count took the careful way is quick to accept again, as long as none was left out."""
        self.assertEqual(self.accept(1, 2), [True, True])
        self.assertTrue(self.counts.accept_known(self.nonce, 3, NOW, 600))
        self.assertEqual(self.accept(3, 5), [False, True])
        self.assertFalse(self.counts.accept_known(self.nonce, 6, NOW, 600))

    def test_quick_acceptance_is_for_the_next_count(self) -> None:
        """An unknown nonce, a gap, a repetition and an old nonce take the careful way, and nothing is noted."""
        self.assertFalse(self.counts.accept_known(self.nonce, 1, NOW, 600))
        self.accept(1)
        self.assertTrue(self.counts.accept_known(self.nonce, 2, NOW, 600))
        for nc, now in ((2, NOW), (4, NOW), (3, NOW + 601)):
            self.assertFalse(self.counts.accept_known(self.nonce, nc, now, 600), (nc, now))
        self.assertEqual(self.accept(4, 3, 2), [True, True, False])
