"""Tests of who is let in and what the others are asked (RFC 3261 §22, RFC 8760, RFC 7616)."""

import hmac
from collections.abc import Coroutine
from typing import Any

import attrs
from attrs.exceptions import FrozenInstanceError
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import Accepted, AuthConfig, Authentication, Challenge, StoreUnavailable, Subscriber
from rollcall.ops.allowed import NotAllowed
from rollcall.sip.digest import ALGORITHMS, Credentials, expected_response, ha1
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Request

NOW = 1_700_000_000.0
SECRET = b"the secret behind these nonces.."
REALM = "example.org"
PASSWORD = "Circle of Life"
ALICE = Accepted("alice", REALM)


def a_subscriber(username: str, algorithms: tuple[str, ...] = ALGORITHMS) -> Subscriber:
    """Return a subscriber of REALM with PASSWORD, as a store gives it."""
    return Subscriber(
        username,
        REALM,
        {algorithm: ha1(algorithm, username, REALM, PASSWORD) for algorithm in algorithms},
        {"MD5": ha1("MD5", f"{username}@{REALM}", REALM, PASSWORD)},
    )


def a_register(*values: str, agent: str = "", proxy: bool = False, uri: str = f"sip:{REALM}") -> Request:
    """Return a REGISTER with these credentials."""
    name = "Proxy-Authorization" if proxy else "Authorization"
    headers = [(name, value) for value in values]
    if agent:
        headers.append(("User-Agent", agent))
    return Request.new("REGISTER", uri, headers, b"")


def written(credentials: Credentials) -> str:
    """Return credentials as a phone writes them."""
    own = credentials
    text = (
        f'Digest username="{own.username}", realm="{own.realm}", nonce="{own.nonce}", uri="{own.uri}", '
        f'response="{own.response}", algorithm={own.algorithm}'
    )
    return text if own.qop is None else f'{text}, qop={own.qop}, nc={own.nc}, cnonce="{own.cnonce}"'


class Phone:
    """Answers challenges as a phone does that knows one algorithm; anything it says can be made otherwise."""

    def __init__(self, username: str = "alice", password: str = PASSWORD, algorithm: str = "MD5") -> None:
        self.username = username
        self.password = password
        self.algorithm = algorithm

    def answer(self, nonce: str, nc: int = 1, method: str = "REGISTER", body: bytes = b"", **other: Any) -> str:
        """Return the credentials for a nonce. `other` is said and counted in, except a wrong `response`."""
        own = Credentials(
            self.username, REALM, nonce, f"sip:{REALM}", "", self.algorithm, "auth", f"{nc:08x}", "0a4f113b"
        )
        wrong_response = other.pop("response", None)
        own = attrs.evolve(own, **other)
        if own.algorithm not in ALGORITHMS:
            return written(attrs.evolve(own, response="0" * 32))
        secret = ha1(own.algorithm, own.username, own.realm, self.password)
        response = expected_response(own, method, secret, body) if wrong_response is None else wrong_response
        return written(attrs.evolve(own, response=response))


def now_or_never(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return what a coroutine returns that must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


class AuthenticationCase(SynchronousTestCase):
    """Alice has all hashes of her password, bob that by MD5."""

    def setUp(self) -> None:
        self.subscribers = {"alice": a_subscriber("alice"), "bob": a_subscriber("bob", ("MD5",))}
        self.looked_up: list[tuple[str, str]] = []
        self.now = NOW
        self.authentication = self.with_config()

    def with_config(self, secrets: tuple[bytes, ...] = (SECRET,), **settings: Any) -> Authentication:
        return Authentication.with_secrets(self.find, secrets, AuthConfig(**settings))

    async def find(self, username: str, domain: str) -> Subscriber | None:
        self.looked_up.append((username, domain))
        return self.subscribers.get(username)

    def send(self, *values: str, proxy: bool = False, **settings: str) -> Accepted | Challenge:
        request = a_register(*values, proxy=proxy, **settings)
        outcome: Accepted | Challenge = now_or_never(
            self.authentication.authenticate(request, REALM, self.now, proxy)
        )
        return outcome

    def challenged(self, *values: str, **settings: Any) -> Challenge:
        outcome = self.send(*values, **settings)
        assert isinstance(outcome, Challenge), outcome
        return outcome

    def nonce(self, **settings: Any) -> str:
        return self.params(self.challenged(**settings))["nonce"]

    def params(self, challenge: Challenge, place: int = 0) -> dict[str, str]:
        return parse_authorization(challenge.headers[place][1]).params

    def offered(self, challenge: Challenge) -> list[str]:
        return [parse_authorization(value).params["algorithm"] for _, value in challenge.headers]


class AuthenticationTests(AuthenticationCase):
    # --- the way of a phone

    def test_first_request(self) -> None:
        """Who proves nothing is asked to, without a look at the subscribers."""
        challenge = self.challenged()
        self.assertEqual((challenge.status, challenge.cause), (401, "missing"))
        self.assertEqual([name for name, _ in challenge.headers], ["WWW-Authenticate"])
        params = self.params(challenge)
        self.assertEqual(params, {"realm": REALM, "nonce": params["nonce"], "algorithm": "MD5", "qop": "auth"})
        self.assertEqual(self.looked_up, [])

    def test_right_password(self) -> None:
        """Whoever answers the challenge with the right password is accepted, with every algorithm."""
        for algorithm in ALGORITHMS:
            self.assertEqual(self.send(Phone(algorithm=algorithm).answer(self.nonce())), ALICE, algorithm)
        self.assertEqual(self.looked_up, [("alice", REALM)] * len(ALGORITHMS))

    def test_wrong_password(self) -> None:
        """A wrong password gets a new challenge that is not stale: the phone must ask its user."""
        nonce = self.nonce()
        challenge = self.challenged(Phone(password="circle of life").answer(nonce))
        self.assertEqual((challenge.status, challenge.cause), (401, "bad_password"))
        self.assertNotIn("stale", self.params(challenge))
        self.assertNotEqual(self.params(challenge)["nonce"], nonce)

    def test_caller(self) -> None:
        """A proxy asks with 407 in Proxy-Authenticate, and listens to Proxy-Authorization only."""
        challenge = self.challenged(proxy=True)
        self.assertEqual((challenge.status, challenge.headers[0][0]), (407, "Proxy-Authenticate"))
        answer = Phone().answer(self.params(challenge)["nonce"])
        self.assertEqual(self.send(answer, proxy=True), ALICE)
        to_a_registrar = Request.new("REGISTER", f"sip:{REALM}", [("Proxy-Authorization", answer)], b"")
        outcome = now_or_never(self.authentication.authenticate(to_a_registrar, REALM, NOW))
        self.assertEqual((outcome.status, outcome.cause), (401, "missing"))

    def test_another_method(self) -> None:
        """Credentials for one method do not serve for another."""
        self.assertEqual(self.challenged(Phone().answer(self.nonce(), method="INVITE")).cause, "bad_password")

    def test_body(self) -> None:
        """With auth-int the body is protected; it must have been offered."""
        self.authentication = self.with_config(qop=("auth", "auth-int"))
        challenge = self.challenged()
        self.assertEqual(self.params(challenge)["qop"], "auth,auth-int")
        answer = Phone().answer(self.params(challenge)["nonce"], body=b"1", qop="auth-int")
        for body, accepted in ((b"2", False), (b"1", True)):
            request = Request.new("REGISTER", f"sip:{REALM}", [("Authorization", answer)], body)
            outcome = now_or_never(self.authentication.authenticate(request, REALM, NOW))
            self.assertEqual(outcome == ALICE, accepted)
        self.authentication = self.with_config()
        self.assertEqual(self.challenged(Phone().answer(self.nonce(), qop="auth-int")).cause, "unsupported")

    def test_completes_at_once(self) -> None:
        """Nothing waits when the subscriber is at hand, and the answer comes later when it is not."""
        subscriber: Deferred[Subscriber | None] = Deferred()
        authentication = Authentication.with_secrets(lambda *_: subscriber, [SECRET], AuthConfig())
        request = a_register(Phone().answer(self.nonce()))
        outcome = Deferred.fromCoroutine(authentication.authenticate(request, REALM, NOW))
        self.assertNoResult(outcome)
        subscriber.callback(self.subscribers["alice"])
        self.assertEqual(self.successResultOf(outcome), ALICE)

    # --- nonces

    def test_refreshes(self) -> None:
        """A nonce serves for many requests, each with the next count."""
        nonce = self.nonce()
        for nc in range(1, 20):
            self.assertEqual(self.send(Phone().answer(nonce, nc)), ALICE)

    def test_replay(self) -> None:
        """The same count twice is a replay; who knows the password may go on with a new nonce."""
        answer = Phone().answer(self.nonce())
        self.assertEqual(self.send(answer), ALICE)
        challenge = self.challenged(answer)
        self.assertEqual((challenge.cause, self.params(challenge)["stale"]), ("replayed", "true"))
        self.assertEqual(self.send(Phone().answer(self.params(challenge)["nonce"])), ALICE)

    def test_overtaken_request(self) -> None:
        """A request that was overtaken by later ones is accepted, unless by very many."""
        nonce = self.nonce()
        for nc, accepted in ((2, True), (1, True), (100, True), (99, True), (3, False)):
            self.assertEqual(self.send(Phone().answer(nonce, nc)) == ALICE, accepted, nc)

    def test_wrong_password_uses_no_count(self) -> None:
        """Nobody can use up the counts of a nonce without the password."""
        nonce = self.nonce()
        self.challenged(Phone(password="guess").answer(nonce, 1))
        self.assertEqual(self.send(Phone().answer(nonce, 1)), ALICE)

    def test_nonce_grows_old(self) -> None:
        """After its lifetime a nonce is stale, whether it was used or not, without a look at the subscribers."""
        self.authentication = self.with_config(nonce_lifetime_seconds=600)
        used, unused = self.nonce(), self.nonce()
        self.assertEqual(self.send(Phone().answer(used)), ALICE)
        self.now += 601
        for nonce, nc in ((used, 2), (unused, 1)):
            challenge = self.challenged(Phone().answer(nonce, nc))
            self.assertEqual((challenge.cause, self.params(challenge)["stale"]), ("stale", "true"))
        self.assertEqual(len(self.looked_up), 1)

    def test_callers_use_nonces_for_less_long(self) -> None:
        """A nonce that a registration may still use is too old for a call."""
        self.authentication = self.with_config(nonce_lifetime_seconds=600, call_nonce_lifetime_seconds=60)
        nonce = self.nonce()
        self.now += 61
        self.assertEqual(self.challenged(Phone().answer(nonce), proxy=True).cause, "stale")
        self.assertEqual(self.send(Phone().answer(nonce)), ALICE)
        self.assertEqual(self.challenged(Phone().answer(nonce, 2), proxy=True).cause, "stale")

    def test_restart(self) -> None:
        """After a restart with the same secret phones go on with their nonces; with another one they are told stale."""
        nonce = self.nonce()
        self.assertEqual(self.send(Phone().answer(nonce, 7)), ALICE)
        self.authentication = self.with_config()
        self.assertEqual(self.send(Phone().answer(nonce, 8)), ALICE)
        self.authentication = self.with_config(secrets=(b"the secret of another cluster...",))
        challenge = self.challenged(Phone().answer(nonce, 9))
        self.assertEqual((challenge.cause, self.params(challenge)["stale"]), ("stale", "true"))

    def test_foreign_nonce(self) -> None:
        """A phone that comes with another server's nonce is told stale, so that it tries again without its user."""
        challenge = self.challenged(Phone().answer("dcd98b7102dd2f0e8b11d0f600bfb0c093"))
        self.assertEqual((challenge.cause, self.params(challenge)["stale"]), ("stale", "true"))

    # --- who it is

    def test_unknown_user(self) -> None:
        """An unknown user gets the very answer of a wrong password, after the same computation and comparison."""
        compared: list[int] = []
        causes: list[str] = []
        real = hmac.compare_digest

        def compare_digest(ours: Any, theirs: Any) -> bool:
            compared.append(len(ours))
            return real(ours, theirs)

        nonce = self.nonce()
        self.patch(hmac, "compare_digest", compare_digest)
        answers = []
        for phone in (Phone(password="guess"), Phone("mallory")):
            compared.clear()
            challenge = self.challenged(phone.answer(nonce))
            [(name, value)] = challenge.headers
            same = name, value.replace(self.params(challenge)["nonce"], "")
            answers.append((challenge.status, same, list(compared)))
            causes.append(challenge.cause)
        self.assertEqual(causes, ["bad_password", "unknown_user"])
        self.assertEqual(answers[0], answers[1])
        self.assertIn(32, compared)

    def test_unknown_user_has_no_password(self) -> None:
        """No response opens the door of an unknown user: the hash compared with is made anew in each process."""
        self.assertNotEqual(self.authentication._nobody, self.with_config()._nobody)
        for response in ("", "0" * 32):
            outcome = self.challenged(Phone("mallory").answer(self.nonce(), response=response))
            self.assertEqual(outcome.status, 401)

    def test_no_hash_for_the_algorithm(self) -> None:
        """A subscriber of whom only the MD5 hash is kept cannot use another algorithm."""
        self.assertEqual(self.challenged(Phone("bob", algorithm="SHA-256").answer(self.nonce())).cause, "unsupported")
        self.assertEqual(self.send(Phone("bob").answer(self.nonce())), Accepted("bob", REALM))

    def test_name_with_domain(self) -> None:
        """A username may come with our domain, where the hash of that form is kept."""
        phone = Phone("alice@example.org")
        self.assertEqual(self.send(phone.answer(self.nonce())), ALICE)
        phone.password = "guess"
        self.assertEqual(self.challenged(phone.answer(self.nonce())).cause, "bad_password")
        self.assertEqual(self.challenged(Phone("alice@example.net").answer(self.nonce())).cause, "unknown_user")
        self.assertEqual(
            self.challenged(Phone("alice@example.org", algorithm="SHA-256").answer(self.nonce())).cause, "unsupported"
        )
        self.assertEqual({username for username, _ in self.looked_up}, {"alice"})

    def test_store_is_unavailable(self) -> None:
        """When subscribers cannot be looked up nobody is refused: that is for the caller to answer with 503."""

        async def find(username: str, domain: str) -> Subscriber | None:
            raise StoreUnavailable("the disk is gone")

        authentication = Authentication.with_secrets(find, [SECRET], AuthConfig())
        request = a_register(Phone().answer(self.nonce()))
        with self.assertRaises(StoreUnavailable):
            now_or_never(authentication.authenticate(request, REALM, NOW))

    # --- what is offered

    def test_choosing_phones_are_offered_everything(self) -> None:
        """Phones known to choose get a header for each algorithm in order of preference, all with the same nonce."""
        challenge = self.challenged(agent="Linphonec/5.1.65 (belle-sip/5.2.0)")
        self.assertEqual(self.offered(challenge), ["SHA-256", "SHA-512-256", "MD5"])
        self.assertEqual(len({self.params(challenge, place)["nonce"] for place in range(3)}), 1)

    def test_other_phones_are_offered_one_algorithm(self) -> None:
        """Phones not known to choose get the last algorithm alone."""
        for agent in ("", "baresip v1.0.0 (x86_64/linux)", "JsSIP 3.13.8", "not Linphone"):
            self.assertEqual(self.offered(self.challenged(agent=agent)), ["MD5"], agent)

    def test_everybody_may_choose(self) -> None:
        """An operator may offer all algorithms to every phone."""
        self.authentication = self.with_config(choosing_agents=("*",), algorithms=("SHA-512-256", "MD5"))
        self.assertEqual(self.offered(self.challenged(agent="any")), ["SHA-512-256", "MD5"])

    def test_algorithm_that_is_not_wanted(self) -> None:
        """What the operator does not list is not accepted, and neither is what nobody knows."""
        self.authentication = self.with_config(algorithms=("SHA-256",))
        self.assertEqual(self.offered(self.challenged()), ["SHA-256"])
        self.assertEqual(self.send(Phone(algorithm="SHA-256").answer(self.nonce())), ALICE)
        for algorithm in ("MD5", "MD5-sess", "SHA-256-sess", "AKAv1-MD5"):
            challenge = self.challenged(Phone().answer(self.nonce(), algorithm=algorithm))
            self.assertEqual((challenge.status, challenge.cause), (401, "unsupported"), algorithm)

    def test_without_qop(self) -> None:
        """A phone that ignores qop is accepted, once with each nonce; an operator may refuse it."""
        answer = Phone().answer(self.nonce(), qop=None)
        self.assertEqual(self.send(answer), ALICE)
        challenge = self.challenged(answer)
        self.assertEqual((challenge.cause, self.params(challenge)["stale"]), ("replayed", "true"))
        self.authentication = self.with_config(allow_without_qop=False)
        self.assertEqual(self.challenged(Phone().answer(self.nonce(), qop=None)).cause, "unsupported")

    def test_qop_cannot_be_dropped(self) -> None:
        """Who used a nonce with counts cannot be replayed by leaving the count out."""
        nonce = self.nonce()
        self.assertEqual(self.send(Phone().answer(nonce)), ALICE)
        self.assertEqual(self.challenged(Phone().answer(nonce, qop=None)).cause, "replayed")

    # --- which credentials

    def test_other_realms(self) -> None:
        """Credentials for other realms and schemes are left alone, even malformed ones."""
        for others in (
            ['Digest username="x", realm="other", nonce="n", uri="sip:other", response="0"'],
            ['Digest username="x", realm="other"'],
            ['Digest username="x", realm="other", qop=strange', "Basic dTpw"],
        ):
            self.assertEqual(self.challenged(*others).cause, "missing")
            self.assertEqual(self.send(*others, Phone().answer(self.nonce())), ALICE)

    def test_several_for_our_realm(self) -> None:
        """Of several credentials for our realm the first counts."""
        nonce = self.nonce()
        good, bad = Phone().answer(nonce), Phone(password="guess").answer(nonce)
        self.assertEqual(self.challenged(bad, good).cause, "bad_password")
        self.assertEqual(self.send(good, bad), ALICE)

    def test_empty_credentials(self) -> None:
        """A first request that only names its user is asked for proof (RFC 8760 §2.7)."""
        empty = f'Digest username="alice", realm="{REALM}", nonce="", uri="sip:{REALM}", response=""'
        self.assertEqual(self.challenged(empty).cause, "missing")

    def test_malformed(self) -> None:
        """Malformed credentials for our realm, or for none, are told 400 and why; no challenge repeats the mistake."""
        for text, reason in (
            (f'Digest realm="{REALM}", username="alice"', "credentials without nonce, uri, response"),
            ("Digest no, sense", "malformed credentials"),
            (
                f"Digest username*=UTF-8''alice, realm=\"{REALM}\"",
                "credentials with username*, which is not understood here: send username in UTF-8",
            ),
        ):
            challenge = self.challenged(text)
            self.assertEqual(challenge, Challenge(400, [], "malformed", reason))

    def test_uri(self) -> None:
        """Credentials for another resource are refused with 400 (RFC 7616 §3.4.6), unless the operator allows them."""
        answer = Phone().answer(self.nonce(), uri="sip:example.net")
        self.assertEqual(self.challenged(answer), Challenge(400, [], "malformed", "credentials for another URI"))
        self.assertEqual(self.send(Phone().answer(self.nonce(), uri=f"sip:{REALM};transport=tcp")), ALICE)
        self.authentication = self.with_config(check_uri=False)
        self.assertEqual(self.send(answer), ALICE)


class AuthConfigTests(SynchronousTestCase):
    def test_values(self) -> None:
        """Algorithms and qop must be known and not repeated, and nothing may be empty."""
        wrong: tuple[dict[str, Any], ...] = (
            {"algorithms": ()},
            {"algorithms": ("MD4",)},
            {"algorithms": ("MD5", "MD5")},
            {"qop": ()},
            {"qop": ("auth-conf",)},
            {"nonce_lifetime_seconds": 0},
            {"max_nonces": 10},
        )
        for settings in wrong:
            with self.assertRaises(NotAllowed):
                AuthConfig(**settings)

    def test_frozen(self) -> None:
        """A configuration does not change under those who read it."""
        with self.assertRaises(FrozenInstanceError):
            AuthConfig().qop = ("auth-int",)  # type: ignore[misc]  # wrong on purpose
