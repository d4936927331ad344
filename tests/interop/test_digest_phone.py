"""Digest authentication beyond what sipp can do: SHA-256, SHA-512-256, replays, and answers that nobody should send.

sipp 3.6.1 as Debian builds it knows no algorithm but MD5 and cannot send a credential twice, so the phone is ours; it
computes its answers with hashlib alone. RFC 7616, RFC 8760.
"""

from rollcall.sip.message import Request, Response
from tests.interop.phone import Phone
from tests.interop.script import DOMAIN
from tests.interop.sipp_case import EXACT, SippCase

PASSWORD = "open sesame"
ALGORITHMS = ("SHA-256", "SHA-512-256", "MD5")


class DigestCase(SippCase):
    """One subscriber for each test, and a phone that knows her password."""

    sections = EXACT + '[auth]\nchoosing_agents = ["*"]\nqop = ["auth", "auth-int"]\n'

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.phone(self.subscriber("alice", PASSWORD).user, "UDP", PASSWORD)

    def registration(self, phone: Phone, credentials: str | None = None) -> Request:
        fields = [("Contact", f"<{phone.contact}>")]
        fields += [("Authorization", credentials)] if credentials else []
        return phone.make("REGISTER", f"sip:{DOMAIN}", fields, to=f"<sip:{phone.user}@{DOMAIN}>")

    def ask(self, phone: Phone, credentials: str | None = None) -> Response:
        """Return the answer to a REGISTER with, or without, these credentials."""
        phone.send(self.registration(phone, credentials))
        return phone.final()

    def challenges(self, phone: Phone) -> dict[str, str]:
        """Return what the registrar asks for, by algorithm."""
        refused = self.ask(phone)
        self.assertEqual(refused.status, 401)
        return {_algorithm(value): value for value in refused.get_all("WWW-Authenticate")}


def _algorithm(challenge: str) -> str:
    return challenge.split("algorithm=")[1].split(",")[0]


class DigestTests(DigestCase):
    """A registrar that offers everything there is."""

    def test_each_algorithm(self) -> None:
        """Whichever challenge of a 401 a phone answers, it is accepted, over UDP and TCP."""
        for phone in (self.alice, self.phone(self.alice.user, "TCP", PASSWORD)):
            offered = self.challenges(phone)
            self.assertEqual(tuple(offered), ALGORITHMS)
            for challenge in offered.values():
                answer = self.ask(phone, phone.credentials(challenge, "REGISTER", f"sip:{DOMAIN}"))
                self.assertEqual(answer.status, 200, challenge)

    def test_wrong_password(self) -> None:
        """A wrong password is refused in each algorithm, and not called stale."""
        guesser = self.phone(self.alice.user, "UDP", "open barley")
        for challenge in self.challenges(guesser).values():
            answer = self.ask(guesser, guesser.credentials(challenge, "REGISTER", f"sip:{DOMAIN}"))
            self.assertEqual(answer.status, 401, challenge)
            self.assertNotIn("stale", str(answer.fields))

    def test_caller(self) -> None:
        """A caller may choose as well, from a 407."""
        uri = f"sip:{self.alice.user}@{DOMAIN}"
        for challenge in self.proxy_challenges(uri, b"hello"):
            proof = self.alice.credentials(challenge, "MESSAGE", uri)
            self.assertEqual(self.message(uri, b"hello", proof).status, 480, challenge)

    def test_protected_body(self) -> None:
        """qop=auth-int: in each algorithm the body that was hashed is accepted, and another one is not."""
        uri = f"sip:{self.alice.user}@{DOMAIN}"
        for challenge in self.proxy_challenges(uri, b"buy"):
            for body, status in ((b"buy", 480), (b"sell", 407)):
                proof = self.alice.credentials(challenge.replace("auth,", ""), "MESSAGE", uri, b"buy")
                self.assertIn("qop=auth-int", proof)
                self.assertEqual(self.message(uri, body, proof).status, status, challenge)

    def proxy_challenges(self, uri: str, body: bytes) -> list[str]:
        refused = self.message(uri, body)
        self.assertEqual(refused.status, 407)
        offered = refused.get_all("Proxy-Authenticate")
        self.assertEqual(tuple(map(_algorithm, offered)), ALGORITHMS)
        return offered

    def message(self, uri: str, body: bytes, proof: str | None = None) -> Response:
        fields = [("Content-Type", "text/plain")] + ([("Proxy-Authorization", proof)] if proof else [])
        self.alice.send(self.alice.make("MESSAGE", uri, fields, body))
        return self.alice.final()

    # --- what an eavesdropper could try, and what a phone does that lost count

    def challenge(self) -> str:
        return self.challenges(self.alice)["SHA-256"]

    def prove(self, challenge: str) -> str:
        return self.alice.credentials(challenge, "REGISTER", f"sip:{DOMAIN}")

    def test_replayed(self) -> None:
        """The same credentials serve once, over whichever connection; the nonce is called stale, and may go on."""
        challenge = self.challenge()
        proof = self.prove(challenge)
        self.assertEqual(self.ask(self.alice, proof).status, 200)
        eavesdropper = self.phone(self.alice.user, "TCP")
        for phone in (self.alice, eavesdropper):
            again = self.ask(phone, proof)
            self.assertEqual(again.status, 401)
            self.assertIn("stale=true", again.get("WWW-Authenticate") or "")
        self.assertEqual(self.ask(self.alice, self.prove(challenge)).status, 200)

    def test_out_of_order(self) -> None:
        """Counts may overtake one another in the network; each is taken once."""
        challenge = self.challenge()
        first, second, third = (self.prove(challenge) for _ in range(3))
        for proof, status in ((third, 200), (first, 200), (second, 200), (first, 401)):
            self.assertEqual(self.ask(self.alice, proof).status, status)

    def test_order_received(self) -> None:
        """Registrations that come while their user is still looked up count in the order in which they came."""
        challenge = self.challenge()
        for number in range(1, 10):
            request = self.registration(self.alice, self.prove(challenge))
            request.set("Contact", f"<{self.alice.contact}>;q=0.{number}")
            request.set("Call-ID", "one phone")
            self.alice.send(request)
        self.assertEqual({self.alice.final().status for _ in range(9)}, {200})
        (contact,) = self.registrar.contacts(self.alice.user)
        self.assertEqual(contact["q"], 0.9)

    def test_other_method(self) -> None:
        """A proof for a REGISTER is none for another method."""
        proof = self.alice.credentials(self.challenge(), "MESSAGE", f"sip:{DOMAIN}")
        self.assertEqual(self.ask(self.alice, proof).status, 401)

    def test_forged_nonce(self) -> None:
        """A nonce that we did not make is worth nothing."""
        challenge = self.challenge()
        nonce = challenge.split('nonce="')[1].split('"')[0]
        forged = challenge.replace(nonce, ("B" if nonce[0] == "A" else "A") + nonce[1:])
        self.assertEqual(self.ask(self.alice, self.prove(forged)).status, 401)

    def test_without_qop(self) -> None:
        """A phone that has never heard of qop is accepted, with each nonce once (RFC 8760 §2.6)."""
        proof = self.prove(self.challenge().replace("qop=", "x="))
        self.assertNotIn("qop=", proof)
        self.assertEqual([self.ask(self.alice, proof).status for _ in range(2)], [200, 401])

    def test_malformed(self) -> None:
        """Credentials without their parts are a 400 that says what is missing."""
        answer = self.ask(self.alice, f'Digest username="{self.alice.user}", realm="{DOMAIN}"')
        self.assertEqual(answer.status, 400)
        self.assertIn("nonce", answer.reason)

    def test_other_realm(self) -> None:
        """Credentials for another realm are not ours to judge: the phone is asked for its own."""
        proof = self.prove(self.challenge()).replace(f'realm="{DOMAIN}"', 'realm="elsewhere.example"')
        self.assertEqual(self.ask(self.alice, proof).status, 401)

    def test_unknown_user(self) -> None:
        """Nobody can find out who has an account: the answers differ in nothing but nonce, tag and branch."""
        stranger = self.phone("mallory", "UDP", PASSWORD)
        guesser = self.phone(self.alice.user, "UDP", "open barley")
        answers = [self.ask(phone, phone.credentials(self.challenges(phone)["MD5"], "REGISTER", f"sip:{DOMAIN}"))
                   for phone in (stranger, guesser)]
        shapes = [(answer.status, answer.reason, [name for _, name, _ in answer.fields],
                   [_without_nonce(value) for value in answer.get_all("WWW-Authenticate")]) for answer in answers]
        self.assertEqual(shapes[0], shapes[1])
        self.assertEqual(shapes[0][0], 401)


class OnlyStrongTests(DigestCase):
    """A registrar that has done with MD5."""

    sections = EXACT + '[auth]\nalgorithms = ["SHA-512-256", "SHA-256"]\nchoosing_agents = ["*"]\n'

    def test_md5(self) -> None:
        """A right answer in an algorithm that was not asked for is refused."""
        offered = self.challenges(self.alice)
        self.assertEqual(tuple(offered), ("SHA-512-256", "SHA-256"))
        weak = offered["SHA-256"].replace("SHA-256", "MD5")
        self.assertEqual(self.ask(self.alice, self.alice.credentials(weak, "REGISTER", f"sip:{DOMAIN}")).status, 401)


def _without_nonce(challenge: str) -> str:
    before, nonce = challenge.split('nonce="')
    return f"{before}{len(nonce.split(chr(34))[0])}{nonce.split(chr(34), 1)[1]}"
