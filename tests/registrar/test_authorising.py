"""Tests of who may call whom through us (RFC 3261 §§16.3, 22.3, 26.3)."""

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import AuthConfig, Authentication, Challenge, StoreUnavailable
from registrar.authorising import Callers, Refusal
from registrar.routing import ProxyConfig
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Request
from tests.flows import Headers, a_request
from tests.registrar.joined import DOMAIN, Registrar, done

OTHER_DOMAIN = "example.org"
STRANGER = "<sip:eve@elsewhere.example>;tag=eve"


class Gate:
    """Callers with what they need, of a registrar whose alice and bob have passwords."""

    def __init__(self, config: ProxyConfig | None = None, authenticated: bool = True) -> None:
        self.registrar = Registrar()
        self.subscribers = self.registrar.subscribers
        self.authentication = Authentication.with_secrets(
            self.subscribers.find, [b"the secret of nonces"], AuthConfig())
        self.outcomes: list[str] = []
        self.callers = Callers(
            self.registrar.domains, self.authentication if authenticated else None, config or ProxyConfig(), DOMAIN,
            self.registrar.clock.seconds, self.outcomes.append)

    def prove(self, request: Request, name: str, password: str | None = None) -> Request:
        """Return `request` as the phone of `name` sends it again after a 407."""
        verdict = done(self.authentication.authenticate(request, DOMAIN, self.registrar.clock.seconds(), proxy=True))
        assert isinstance(verdict, Challenge)
        client = self.registrar.client(name)
        client.challenge = parse_authorization(verdict.headers[0][1]).params
        client.password = password or client.password
        proven = request.copy()
        proven.set("Proxy-Authorization", client.credentials(request.method, request.uri))
        return proven


class CallersTests(SynchronousTestCase):
    """Each test asks whether a request may go to a domain; None is one that we do not serve."""

    def setUp(self) -> None:
        self.gate = Gate()

    def refusal(self, request: Request, domain: str | None = DOMAIN) -> tuple[int, str | None, Headers] | None:
        """Return how `request` is refused, None when it may go."""
        asking = Deferred.fromCoroutine(self.gate.callers.authorise(request, domain))
        refused: list[Refusal] = []

        def note(failure: object) -> None:
            error = getattr(failure, "value", None)
            assert isinstance(error, Refusal), failure
            refused.append(error)

        asking.addErrback(note)
        self.successResultOf(asking)
        return (refused[0].status, refused[0].reason, refused[0].headers) if refused else None

    def status(self, request: Request, domain: str | None = DOMAIN) -> int | None:
        refusal = self.refusal(request, domain)
        return refusal[0] if refusal else None

    def a_call(self, caller: str = "<sip:alice@example.com>;tag=alice", headers: Headers = ()) -> Request:
        return a_request(caller=caller, headers=headers)

    def test_challenged(self) -> None:
        """A subscriber who proves nothing is asked for a password of his own domain by 407."""
        refusal = self.refusal(self.a_call())
        assert refusal is not None
        status, _, ((name, challenge), *_) = refusal
        self.assertEqual((status, name), (407, "Proxy-Authenticate"))
        self.assertIn(f'realm="{DOMAIN}"', challenge)
        self.assertEqual(self.gate.outcomes, ["missing"])

    def test_accepted(self) -> None:
        """One who proves to be himself may call our domains, and others."""
        for domain in (DOMAIN, OTHER_DOMAIN, None):
            self.assertIsNone(self.status(self.gate.prove(self.a_call(), "alice"), domain))
        self.assertEqual(self.gate.outcomes, ["accepted"] * 3)

    def test_wrong_password(self) -> None:
        """A wrong password is asked for again, and counted."""
        self.assertEqual(self.status(self.gate.prove(self.a_call(), "alice", password="wrong")), 407)
        self.assertEqual(self.gate.outcomes, ["bad_password"])

    def test_own_credentials_are_taken_off(self) -> None:
        """Our credentials go no further; those for another realm do (§22.3)."""
        others = 'Digest username="a", realm="pstn.example", nonce="1", uri="sip:x", response="0"'
        request = self.gate.prove(self.a_call(), "alice")
        request.add("Proxy-Authorization", others)
        request.add("Proxy-Authorization", "Basic Zm9vOmJhcg==")
        self.assertIsNone(self.status(request))
        self.assertEqual(request.get_all("Proxy-Authorization"), [others, "Basic Zm9vOmJhcg=="])

    def test_as_somebody_else(self) -> None:
        """Nobody calls as another subscriber: the From must be that of the password."""
        refusal = self.refusal(self.gate.prove(self.a_call("<sip:bob@example.com>;tag=b"), "alice"))
        assert refusal is not None
        self.assertEqual(refusal[0], 403)

    def test_other_spelling_of_oneself(self) -> None:
        """Escapes, parameters, an alias of the domain and sips do not make another caller."""
        for caller in ("<sip:%61lice@EXAMPLE.com;x=1>;tag=a", "<sips:alice@sip.example.com>;tag=a",
                       '"Alice" <sip:alice@example.com.>;tag=a', "sip:alice@example.com;tag=a"):
            self.assertIsNone(self.status(self.gate.prove(self.a_call(caller), "alice")), caller)

    def test_realm_is_the_callers(self) -> None:
        """A caller of one of our domains proves it by that domain's password, wherever the call goes."""
        refusal = self.refusal(self.a_call("<sip:carol@example.org>;tag=c"), DOMAIN)
        assert refusal is not None
        self.assertIn(f'realm="{OTHER_DOMAIN}"', refusal[2][0][1])

    def test_stranger_is_challenged(self) -> None:
        """A stranger who calls a subscriber is asked for a password that he does not have."""
        refusal = self.refusal(self.a_call(STRANGER), OTHER_DOMAIN)
        assert refusal is not None
        self.assertEqual(refusal[0], 407)
        self.assertIn(f'realm="{OTHER_DOMAIN}"', refusal[2][0][1])

    def test_subscriber_with_a_strangers_name(self) -> None:
        """A subscriber may not call under a name of a domain that is not ours."""
        self.assertEqual(self.status(self.gate.prove(self.a_call(STRANGER), "alice")), 403)
        self.assertEqual(self.status(self.gate.prove(self.a_call("<tel:+4930123456>;tag=t"), "alice")), 403)

    def test_anonymous_subscriber(self) -> None:
        """A subscriber may hide his name (RFC 3323 §4.1.1.3), not his password."""
        anonymous = '"Anonymous" <sip:anonymous@anonymous.invalid>;tag=x'
        self.assertEqual(self.status(self.a_call(anonymous)), 407)
        self.assertIsNone(self.status(self.gate.prove(self.a_call(anonymous), "alice")))

    def test_stranger_is_never_relayed(self) -> None:
        """A stranger who calls a stranger proves to be a subscriber or goes no further."""
        self.assertEqual(self.status(self.a_call(STRANGER), None), 407)
        self.assertEqual(self.status(self.gate.prove(self.a_call(STRANGER), "alice"), None), 403)

    def test_malformed_credentials(self) -> None:
        """Credentials that cannot be read are a 400."""
        refusal = self.refusal(self.a_call(headers=(("Proxy-Authorization", f'Digest realm="{DOMAIN}", nonce='),)))
        assert refusal is not None
        self.assertEqual((refusal[0], self.gate.outcomes), (400, ["malformed"]))

    def test_store_is_down(self) -> None:
        """When the subscribers cannot be asked nobody is refused as unknown: the caller of this answers 503."""
        request = self.gate.prove(self.a_call(), "alice")
        self.gate.subscribers.unavailable = "no connection"
        asking = Deferred.fromCoroutine(self.gate.callers.authorise(request, DOMAIN))
        self.failureResultOf(asking, StoreUnavailable)


class DiversionTests(SynchronousTestCase):
    def diversions(self, caller: str) -> list[str]:
        """Return what is left of a call that the boss is said to have diverted."""
        gate = Gate()
        said = (("Diversion", "<sip:boss@example.com>;reason=unconditional"),
                ("History-Info", "<sip:boss@example.com>;index=1"))
        call = gate.prove(a_request(caller=caller, headers=said), "alice")
        self.successResultOf(Deferred.fromCoroutine(gate.callers.authorise(call, None)))
        self.assertEqual(call.values("History-Info"), [])
        return call.values("Diversion")

    def test_by_others(self) -> None:
        """Nobody can say that others have diverted his call; who is anonymous stays so."""
        self.assertEqual(self.diversions("<sip:alice@sip.example.com>;tag=a"),
                         ["<sip:alice@example.com>;reason=unknown;counter=1"])
        self.assertEqual(self.diversions("<sip:anonymous@anonymous.invalid>;tag=a"),
                         ["<sip:anonymous@anonymous.invalid>;reason=unknown;counter=1"])


class WelcomedStrangersTests(CallersTests):
    """The same when strangers may call subscribers; what differs stands here."""

    def setUp(self) -> None:
        self.gate = Gate(ProxyConfig(strangers="accept"))

    def test_stranger_is_challenged(self) -> None:
        """A stranger, anonymous or not, may call a subscriber."""
        for caller in (STRANGER, "<sip:anonymous@anonymous.invalid>;tag=x", "<tel:+4930123456>;tag=t"):
            self.assertIsNone(self.status(self.a_call(caller)), caller)
        self.assertEqual(self.gate.outcomes, [])

    def test_subscriber_with_a_strangers_name(self) -> None:
        """A subscriber under a stranger's name is a stranger."""
        self.assertIsNone(self.status(self.gate.prove(self.a_call(STRANGER), "alice")))

    def test_anonymous_subscriber(self) -> None:
        """An anonymous caller is a stranger, unless the call leaves our domains."""
        anonymous = "<sip:anonymous@anonymous.invalid>;tag=x"
        self.assertIsNone(self.status(self.a_call(anonymous)))
        self.assertEqual(self.status(self.a_call(anonymous), None), 407)


class NoRelayTests(SynchronousTestCase):
    def test_subscribers_stay_at_home(self) -> None:
        """Without relay_subscribers a subscriber calls our domains only."""
        gate = Gate(ProxyConfig(relay_subscribers=False))
        request = gate.prove(a_request(), "alice")
        self.failureResultOf(Deferred.fromCoroutine(gate.callers.authorise(request, None)), Refusal)
        request = gate.prove(a_request(), "alice")
        self.successResultOf(Deferred.fromCoroutine(gate.callers.authorise(request, DOMAIN)))


class OpenNodeTests(SynchronousTestCase):
    """A node that asks nobody for a password."""

    def test_everybody_calls_subscribers(self) -> None:
        """Everybody may call our domains."""
        for caller in ("<sip:alice@example.com>;tag=a", STRANGER):
            asking = Gate(authenticated=False).callers.authorise(a_request(caller=caller), DOMAIN)
            self.successResultOf(Deferred.fromCoroutine(asking))

    def test_everybody_is_believed(self) -> None:
        """Where nobody proves anything, what a caller says of himself is as good in one header as in another."""
        request = a_request(headers=(("P-Asserted-Identity", "<sip:alice@example.com>"),))
        Gate(authenticated=False).callers.drop_asserted(request)
        self.assertIsNotNone(request.get("P-Asserted-Identity"))

    def test_nobody_is_relayed(self) -> None:
        """And nobody is relayed to others: it is no open relay."""
        asking = Gate(authenticated=False).callers.authorise(a_request(), None)
        failure = self.failureResultOf(Deferred.fromCoroutine(asking), Refusal)
        self.assertEqual(failure.value.args[0], 403)
