"""Tests of how failed proofs are counted, and of who is banned after how many."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from registrar.bans import MAX_USER_CHARS, Ban, Bans, BansConfig, filed, network_of, source_text
from rollcall.ops.allowed import NotAllowed

NOW = 1_700_000_000.0
HERE = bytes([192, 0, 2, 7])
THERE = bytes([198, 51, 100, 9])
SITE = bytes.fromhex("20010db800000001")
ALICE, BOB = "alice@example.com", "bob@example.com"


class BansTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.now = NOW
        self.made: list[Ban] = []
        self.bans = self.with_limits()

    def with_limits(self, **settings: Any) -> Bans:
        limits = {"per_user_and_source": 3, "per_source": 7, "per_user": 6, "window_seconds": 100, "ban_seconds": 60}
        return Bans(BansConfig(**{**limits, **settings}), self.made.append)

    def fail_proof(self, user: str = ALICE, source: bytes = HERE, times: int = 1) -> int:
        """Let proofs fail; return how many counted."""
        counted = 0
        for _ in range(times):
            if self.bans.suspect(user, source, self.now):
                self.bans.fail(user, source, self.now)
                counted += 1
        return counted

    def kind(self, user: str = ALICE, source: bytes = HERE) -> str | None:
        ban = self.bans.applying(user, source, self.now)
        return None if ban is None else ban.kind

    def test_pair(self) -> None:
        """A user is banned from a source after so many failures there, and from no other source."""
        self.fail_proof(times=2)
        self.assertEqual((self.kind(), len(self.bans)), (None, 0))
        self.fail_proof()
        self.assertEqual([self.kind(), self.kind(BOB), self.kind(ALICE, THERE)], ["pair", None, None])
        self.assertEqual(self.made, [Ban(ALICE, HERE, NOW + 60, 3)])

    def test_banned_pair_counts_no_more(self) -> None:
        """What a banned user goes on to try from there bans neither the source nor the user elsewhere."""
        self.assertEqual(self.fail_proof(times=50), 3)
        self.assertEqual([self.kind(BOB), self.kind(ALICE, THERE)], [None, None])

    def test_one_user_counts_a_few_times(self) -> None:
        """A phone that tries an old password again and again counts for its source five times, a guesser each time."""
        self.bans = self.with_limits(per_user_and_source=100, per_source=7, per_user=0)
        self.fail_proof(times=50)
        self.assertIsNone(self.kind(BOB))
        for user in ("carol@example.com", "dave@example.com"):
            self.fail_proof(user)
        self.assertEqual(self.kind(BOB), "source")

    def test_source(self) -> None:
        """A source is banned for everybody when failures for several users there add up."""
        for user in (ALICE, BOB, "carol@example.com"):
            self.fail_proof(user, times=3)
        self.assertEqual([self.kind("dave@example.com"), self.kind("dave@example.com", THERE)], ["source", None])
        self.assertIn(Ban("", HERE, NOW + 60, 7), self.made)

    def test_user(self) -> None:
        """A user is banned from anywhere when failures from several sources add up."""
        for number in range(3):
            self.fail_proof(source=bytes([203, 0, 113, number]), times=2)
        self.assertEqual([self.kind(ALICE, HERE), self.kind(BOB, HERE)], ["user", None])
        self.assertEqual(self.made, [Ban(ALICE, b"", NOW + 60, 6)])

    def test_end(self) -> None:
        """A ban ends by itself, is not prolonged by what comes meanwhile, and the counting begins anew."""
        self.fail_proof(times=3)
        self.now += 59
        self.fail_proof()
        self.assertEqual(self.kind(), "pair")
        self.now += 1
        self.assertEqual((self.kind(), self.bans.current(self.now)), (None, ()))
        self.assertEqual(self.fail_proof(times=2), 2)
        self.assertIsNone(self.kind())
        self.fail_proof()
        self.assertEqual((self.kind(), self.bans.total), ("pair", {"pair": 2, "source": 0, "user": 1}))

    def test_window(self) -> None:
        """Failures count together only within a window, which begins with the first of them."""
        self.fail_proof(times=2)
        self.now += 100
        self.fail_proof(times=2)
        self.assertIsNone(self.kind())
        self.now += 99
        self.fail_proof()
        self.assertEqual(self.kind(), "pair")

    def test_clock_set_back(self) -> None:
        """A count from the future is forgotten, it does not stay until then."""
        self.fail_proof(times=2)
        self.now -= 5000
        self.fail_proof()
        self.assertIsNone(self.kind())

    def test_suspicion(self) -> None:
        """A proof counts for its pair before it is sure that it is wrong: many at once are no more guesses."""
        self.assertEqual([self.bans.suspect(ALICE, HERE, NOW) for _ in range(5)], [True, True, True, False, False])
        self.assertEqual(self.kind(), "pair")
        self.assertIsNone(self.kind(BOB))

    def test_cleared(self) -> None:
        """A proof that was right after all counts for nobody."""
        for _ in range(20):
            self.assertTrue(self.bans.suspect(ALICE, HERE, NOW))
            self.bans.clear(ALICE, HERE)
        self.assertIsNone(self.kind())
        self.bans.clear(BOB, HERE)
        self.assertEqual(self.made, [])

    def test_no_limit(self) -> None:
        """A limit of 0 is none; the others stay."""
        self.bans = self.with_limits(per_user_and_source=0, per_user=0)
        self.fail_proof(times=6)
        self.assertIsNone(self.kind())
        self.fail_proof()
        self.assertEqual(self.kind(), "source")

    def test_never(self) -> None:
        """From a network that is never banned nothing counts, and no ban of a user applies there."""
        self.bans = self.with_limits(never=("192.0.2.0/24", "2001:db8::/48"))
        self.assertEqual((self.fail_proof(times=9), self.fail_proof(source=SITE, times=9)), (0, 0))
        for number in range(3):
            self.fail_proof(source=bytes([203, 0, 113, number]), times=2)
        self.assertEqual([self.kind(source=HERE), self.kind(source=SITE), self.kind(source=THERE)],
                         [None, None, "user"])

    def test_network(self) -> None:
        """Whoever has an IPv6 address has its /64; an IPv4 address stands for itself."""
        self.assertEqual(network_of(SITE + bytes(7) + b"\x07"), SITE)
        self.assertEqual(network_of(HERE), HERE)
        self.assertEqual([source_text(each) for each in (HERE, SITE, b"")],
                         ["192.0.2.7", "2001:db8:0:1::/64", ""])

    def test_lifted(self) -> None:
        """Bans of a user, or of a source, are forgotten together with what was counted."""
        self.fail_proof(times=3)
        self.fail_proof(source=THERE, times=2)
        self.fail_proof(BOB, times=3)
        self.assertEqual((self.bans.lift(user=ALICE), self.kind(), self.kind(BOB)), (1, None, "pair"))
        self.fail_proof(source=THERE)
        self.assertIsNone(self.kind(source=THERE))
        self.assertEqual((self.bans.lift(source=HERE), self.kind(BOB)), (1, None))
        self.assertEqual((self.bans.lift(user="nobody@example.com"), self.bans.lift()), (0, 0))

    def test_bounded(self) -> None:
        """Beyond so many counts those that are quiet longest are forgotten, and one that goes on is not."""
        self.bans = self.with_limits(max_counted=1000, per_source=0, per_user=0)
        self.fail_proof(BOB, times=2)
        self.fail_proof(times=2)
        for number in range(999):
            self.fail_proof(f"{number}@example.com", THERE)
        self.assertEqual(self.bans.counted, 1000)
        self.fail_proof(BOB)
        self.fail_proof(ALICE)
        self.assertEqual([self.kind(BOB), self.kind(ALICE)], [None, None])
        self.fail_proof(ALICE, times=2)
        self.assertEqual(self.kind(ALICE), "pair")

    def test_bounded_bans(self) -> None:
        """There are not more bans than counts may be; those that would end first give way."""
        self.bans = self.with_limits(max_counted=1000, per_user_and_source=1, per_source=0, per_user=0)
        for number in range(1001):
            self.fail_proof(f"{number}@example.com")
        self.assertEqual((len(self.bans), self.kind("0@example.com"), self.kind("1000@example.com")),
                         (1000, None, "pair"))

    def test_long_names(self) -> None:
        """A name that somebody made up costs no more than a short one, and is still told from others."""
        long = "a" * 60_000
        self.assertEqual((len(filed(long)), filed(ALICE)), (MAX_USER_CHARS, ALICE))
        self.fail_proof(long, times=3)
        self.assertEqual([self.kind(long), self.kind(long + "b")], ["pair", None])
        self.assertEqual((self.bans.lift(user=long), self.kind(long)), (1, None))

    def test_config(self) -> None:
        """Limits that cannot be meant are refused."""
        wrong: list[dict[str, Any]] = [
            {"per_user": -1}, {"per_source": -1}, {"window_seconds": 0}, {"ban_seconds": 0}, {"max_counted": 10},
            {"never": ("192.0.2.1/24",)},
        ]
        for settings in wrong:
            with self.assertRaises(NotAllowed, msg=str(settings)):
                BansConfig(**settings)
