"""Tests of what a phone is offered by the hashes that are held, and of hashes that have changed meanwhile."""

from registrar.auth import Accepted, AuthConfig, Authentication, StoreUnavailable, Subscriber
from rollcall.sip.message import Request
from tests.registrar.test_auth import (
    ALICE,
    PASSWORD,
    REALM,
    SECRET,
    AuthenticationCase,
    Phone,
    a_subscriber,
    now_or_never,
)


class OfferedTests(AuthenticationCase):
    def claimed(self, username: str, agent: str = "Linphone-Desktop/5.1", method: str = "REGISTER") -> list[str]:
        """Return what is offered to a phone that has proved nothing, and says who uses it."""
        name = "To" if method == "REGISTER" else "From"
        fields = [("User-Agent", agent), (name, f"<sip:{username}@{REALM}>;tag=1")]
        request = Request.new(method, f"sip:{REALM}", fields, b"")
        challenge = now_or_never(self.authentication.authenticate(request, REALM, self.now, method != "REGISTER"))
        return self.offered(challenge)

    def test_choosing_phone(self) -> None:
        """A phone that chooses is offered what there are hashes for of the user that it names, known or not."""
        self.assertEqual(self.claimed("alice"), list(AuthConfig().algorithms))
        self.assertEqual(self.claimed("nobody"), list(AuthConfig().algorithms))
        self.assertEqual(self.claimed("bob"), ["MD5"])
        self.assertEqual(self.claimed("alice", method="INVITE"), list(AuthConfig().algorithms))
        self.assertEqual(self.looked_up[-1], ("alice", REALM))

    def test_nobody_is_told_from_somebody(self) -> None:
        """An unknown user is offered the same each time, whoever was asked about in between."""
        names = [f"nobody{number}" for number in range(20)]
        self.claimed("alice"), self.claimed("bob")
        offered = [self.claimed(name) for name in names]
        self.assertIn(["MD5"], offered)
        self.assertIn(list(AuthConfig().algorithms), offered)
        for known in ("alice", "bob"):
            self.claimed(known)
            self.assertEqual([self.claimed(name) for name in names], offered)

    def test_guesses_at_nobody(self) -> None:
        """A guess by an algorithm that no known user has a hash for counts for an unknown one no more than for them."""
        self.subscribers.pop("alice")
        for name in ("bob", "nobody", f"bob@{REALM}", f"nobody@{REALM}"):
            for algorithm in ("SHA-256", "MD5"):
                challenge = self.challenged(Phone(name, "wrong", algorithm=algorithm).answer(self.nonce()))
                wrong = "bad_password" if name.startswith("bob") else "unknown_user"
                self.assertEqual(challenge.cause, wrong if algorithm == "MD5" else "unsupported", (name, algorithm))

    def test_choosing_phone_of_nobody(self) -> None:
        """One that names no user of ours is offered something all the same."""
        for value in ("", "<tel:+4930123>", "<sip:example.org>", "<sip:a b>"):
            request = Request.new("REGISTER", f"sip:{REALM}", [("User-Agent", "Linphone"), ("To", value)], b"")
            challenge = now_or_never(self.authentication.authenticate(request, REALM, self.now))
            self.assertEqual((challenge.status, challenge.cause), (401, "missing"), value)
            self.assertEqual(self.offered(challenge), list(AuthConfig().algorithms), value)
        self.assertEqual(self.looked_up, [])

    def test_other_phone(self) -> None:
        """Any other phone is offered the same for every user, and nobody is looked up for that."""
        self.assertEqual([self.claimed(name, "Yealink") for name in ("alice", "bob", "nobody")], [["MD5"]] * 3)
        self.assertEqual(self.looked_up, [])

    def test_after_a_try(self) -> None:
        """Whoever tried an algorithm that there is no hash for is offered one that there is."""
        self.subscribers["carol"] = a_subscriber("carol", ("SHA-256",))
        challenge = self.challenged(Phone("carol").answer(self.nonce()))
        self.assertEqual((challenge.cause, self.offered(challenge)), ("unsupported", ["SHA-256"]))
        nonce = self.params(challenge)["nonce"]
        accepted = self.send(Phone("carol", algorithm="SHA-256").answer(nonce))
        self.assertEqual(accepted, Accepted("carol", REALM))
        challenge = self.challenged(Phone("bob", algorithm="SHA-256").answer(self.nonce()), agent="Linphone")
        self.assertEqual((challenge.cause, self.offered(challenge)), ("unsupported", ["MD5"]))

    def test_stale_for_choosing_phone(self) -> None:
        """A phone that chooses and comes with an old nonce is offered what there are hashes for, too."""
        answer = Phone("bob").answer(self.nonce())
        self.now += 1e6
        challenge = self.challenged(answer, agent="Linphone")
        self.assertEqual((challenge.cause, self.offered(challenge)), ("stale", ["MD5"]))


class SubscriberTests(AuthenticationCase):
    def test_hashes_are_not_shown(self) -> None:
        """What stands in a log or a test about a subscriber has no hashes, which are as good as the password."""
        alice = self.subscribers["alice"]
        for each in (*alice.ha1.values(), *alice.ha1b.values()):
            self.assertNotIn(each, repr(alice))


class ChangedTests(AuthenticationCase):
    def test_changed_password(self) -> None:
        """Before a proof is taken for wrong the newest hashes are looked at, for unknown users as well."""
        newest = {"alice": self.subscribers.pop("alice"), "bob": self.subscribers["bob"]}
        asked: list[str] = []

        async def look_again(username: str, domain: str) -> Subscriber | None:
            asked.append(username)
            return newest.get(username)

        self.authentication = Authentication.with_secrets(self.find, [SECRET], AuthConfig(), look_again=look_again)
        self.assertEqual(self.send(Phone("alice").answer(self.nonce())), ALICE)
        self.assertEqual(self.send(Phone("bob").answer(self.nonce())), Accepted("bob", REALM))
        self.assertEqual(asked, ["alice"])
        for name, password, cause in (("alice", "x", "bad_password"), ("bob", "x", "bad_password"),
                                      ("carol", PASSWORD, "unknown_user")):
            self.assertEqual(self.challenged(Phone(name, password).answer(self.nonce())).cause, cause)
        self.assertEqual(asked, ["alice", "alice", "bob", "carol"])

    def test_newest_unknown(self) -> None:
        """When the store is away that would know, the answer is not that the password is wrong."""
        async def look_again(username: str, domain: str) -> Subscriber | None:
            raise StoreUnavailable("no server answers")

        self.authentication = Authentication.with_secrets(self.find, [SECRET], AuthConfig(), look_again=look_again)
        with self.assertRaises(StoreUnavailable):
            self.send(Phone("bob", "x").answer(self.nonce()))
