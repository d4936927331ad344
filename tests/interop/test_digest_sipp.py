"""Digest authentication as sipp answers it: MD5, for registrations (401) and for calls (407).

Debian's sipp 3.6.1 is built without OpenSSL and knows MD5 alone; it always counts up. The other algorithms, and
replays, are in test_digest_phone. RFC 3261 §22, RFC 7616, RFC 8760.
"""

from tests.interop.script import ANY, DOMAIN, HERE, Script, has, lacks, never_says, says
from tests.interop.sipp_case import EXACT, TRANSPORTS, SippCase

CHALLENGE = f'Digest {ANY}realm="sip.example", {ANY}nonce="[^"]+"{ANY}'
MD5 = f"{CHALLENGE}algorithm=MD5{ANY}"
PASSWORD = "open sesame"
PROOF = "[authentication]"


def here(script: Script) -> str:
    """Return the Contact line of a phone."""
    return f"Contact: {HERE.format(user=script.user)}"


class DigestTests(SippCase):
    """A phone proves to the registrar who it is, and to the proxy who is calling."""

    sections = EXACT

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.subscriber("alice", PASSWORD), self.subscriber("bob", PASSWORD)

    # --- registrations

    def ask(self, *more: str) -> None:
        """Send a REGISTER that proves nothing, and be challenged."""
        self.alice.register(here(self.alice), *more)
        self.alice.expect(401, has("WWW-Authenticate", MD5), lacks("Proxy-Authenticate"), never_says("stale"))

    def prove(self) -> None:
        self.alice.register(here(self.alice), PROOF)

    def finish(self, password: str = PASSWORD, transport: str = "udp", auth_uri: str = DOMAIN) -> None:
        self.play(self.alice, transport, password=password, auth_uri=auth_uri)

    def test_accepted(self) -> None:
        """Who answers the challenge is registered."""
        self.ask()
        self.prove()
        self.alice.expect(200, says("\nContact: "))
        for transport in TRANSPORTS:
            self.finish(transport=transport)

    def test_wrong_password(self) -> None:
        """A wrong password is challenged again, not as stale, and binds nothing."""
        self.ask()
        self.prove()
        self.alice.expect(401, has("WWW-Authenticate", MD5), never_says("stale"), lacks("Contact"))
        self.finish("open barley")
        self.assertEqual(self.registrar.contacts(self.alice.user), [])

    def test_unknown_user(self) -> None:
        """Who is unknown is told the same as who has a wrong password."""
        self.alice = self.script("nobody")
        self.ask()
        self.prove()
        self.alice.expect(401, has("WWW-Authenticate", MD5), never_says("stale"), lacks("Contact"))
        self.finish()

    def test_nonce_again(self) -> None:
        """A nonce serves for more than one request, each with the next count: a refresh need not be challenged."""
        self.ask()
        for _ in range(3):
            self.prove()
            self.alice.expect(200)
        self.finish()

    def test_address_of_another(self) -> None:
        """Alice may not register Bob's address, though she proves who she is."""
        for proof in ((), (PROOF,)):
            self.alice.register(here(self.alice), *proof, to=self.bob.address, sender=self.bob.address)
            self.alice.expect(403 if proof else 401)
        self.finish()
        self.assertEqual(self.registrar.contacts(self.bob.user), [])

    def test_other_uri(self) -> None:
        """Credentials that were made for another URI are a 400 (RFC 7616 §3.4.6)."""
        self.ask()
        self.prove()
        self.alice.expect(400)
        self.finish(auth_uri="elsewhere.example")

    def test_several_challenges(self) -> None:
        """A phone that can choose is offered every algorithm, best first, each with one nonce."""
        self.alice.register(here(self.alice), "User-Agent: Linphone/5.1")
        each = [f"\nWWW-Authenticate: {CHALLENGE}algorithm={name}{ANY}\r" for name in ("SHA-256", "SHA-512-256", "MD5")]
        self.alice.expect(401, says("".join(each)))
        self.finish()

    def test_removal(self) -> None:
        """Nobody is unregistered by a stranger."""
        self.ask()
        self.prove()
        self.alice.expect(200)
        self.alice.register("Contact: *", "Expires: 0", call_id="stranger///[call_id]")
        self.alice.expect(401)
        self.finish()
        self.assertEqual(len(self.registrar.contacts(self.alice.user)), 1)

    # --- calls

    def finish_call(self, password: str = PASSWORD) -> None:
        self.finish(password, auth_uri=f"{self.bob.user}@{DOMAIN}")

    def test_call(self) -> None:
        """Who answers a 407 may call; the callee is not shown the proof, and nothing within the dialog needs one."""
        self.bob.register(here(self.bob))
        self.bob.expect(401)
        self.bob.register(here(self.bob), PROOF)
        self.bob.expect(200)
        self.bob.ready()
        self.bob.receive("INVITE", lacks("Proxy-Authorization"), never_says("response="))
        self.bob.answer(180)
        self.bob.accept()
        self.bob.hung_up()
        called = self.serve(self.bob, "tcp", password=PASSWORD)
        self.alice.invite(self.bob.user)
        self.alice.refused(407, has("Proxy-Authenticate", MD5), lacks("WWW-Authenticate"))
        self.alice.invite(self.bob.user, PROOF)
        self.alice.expect(180)
        self.alice.expect(200)
        self.alice.acknowledge()
        self.alice.hang_up()
        self.finish_call()
        called.check()

    def test_call_with_wrong_password(self) -> None:
        """A caller with a wrong password learns nothing, not even whether the callee exists."""
        self.alice.invite(self.bob.user)
        self.alice.refused(407)
        self.alice.invite(self.bob.user, PROOF)
        self.alice.refused(407, never_says("stale"))
        self.finish_call("open barley")

    def test_other_requests(self) -> None:
        """Every request outside of dialogs needs a proof."""
        for method in ("MESSAGE", "OPTIONS", "SUBSCRIBE", "PUBLISH", "REFER", "NOTIFY"):
            self.alice.request(method, self.bob.address)
            self.alice.expect(407, has("Proxy-Authenticate", MD5))
        self.alice.request("MESSAGE", self.bob.address, PROOF)
        self.alice.expect(480)
        self.finish_call()

    def test_other_name(self) -> None:
        """Alice may not call as Bob, nor as somebody of the domain who does not exist."""
        for sender in (self.bob.address, f"sip:nobody@{DOMAIN}"):
            self.alice.invite(self.bob.user, sender=sender)
            self.alice.refused(407)
            self.alice.invite(self.bob.user, PROOF, sender=sender)
            self.alice.refused(403)
        self.finish_call()

    def test_anonymous(self) -> None:
        """She may hide her name in From, for the proof says who she is (RFC 3323 §4.1)."""
        self.alice.invite(self.bob.user, sender="sip:anonymous@anonymous.invalid")
        self.alice.refused(407)
        self.alice.invite(self.bob.user, PROOF, sender="sip:anonymous@anonymous.invalid")
        self.alice.refused(480)
        self.finish_call()


class StaleTests(SippCase):
    """A registrar whose nonces live for two seconds."""

    sections = EXACT + "[auth]\nnonce_lifetime_seconds = 2.0\ncall_nonce_lifetime_seconds = 2.0\n"

    def test_register_and_call(self) -> None:
        """An old nonce is stale: the phone is given another, and need not ask its user. The same for callers."""
        phone, caller = self.subscriber("phone", PASSWORD), self.subscriber("caller", PASSWORD)
        phone.register(here(phone))
        phone.expect(401, never_says("stale"))
        phone.pause(2500)
        phone.register(here(phone), PROOF)
        phone.expect(401, has("WWW-Authenticate", f"{CHALLENGE}stale=true{ANY}"))
        phone.register(here(phone), PROOF)
        phone.expect(200)
        caller.invite("nobody")
        caller.refused(407, never_says("stale"))
        caller.pause(2500)
        caller.invite("nobody", PROOF)
        caller.refused(407, has("Proxy-Authenticate", f"{CHALLENGE}stale=true{ANY}"))
        caller.invite("nobody", PROOF)
        caller.refused(404)
        registering = self.start(phone, password=PASSWORD)
        self.play(caller, password=PASSWORD, auth_uri=f"nobody@{DOMAIN}")
        registering.check()


class BodyTests(SippCase):
    """A registrar that wants bodies protected too."""

    sections = EXACT + '[auth]\nqop = ["auth-int"]\n'

    def test_register(self) -> None:
        """A request without a body is accepted with qop=auth-int."""
        alice = self.subscriber("alice", PASSWORD)
        alice.register(here(alice))
        alice.expect(401, has("WWW-Authenticate", f'{CHALLENGE}qop="auth-int"{ANY}'))
        alice.register(here(alice), PROOF)
        alice.expect(200)
        self.play(alice, password=PASSWORD)

    def test_call(self) -> None:
        """So is one with a body, whose hash is in the answer."""
        alice = self.subscriber("alice", PASSWORD)
        alice.invite("nobody")
        alice.refused(407, has("Proxy-Authenticate", f'{CHALLENGE}qop="auth-int"{ANY}'))
        alice.invite("nobody", PROOF)
        alice.refused(404)
        self.play(alice, password=PASSWORD, auth_uri=f"nobody@{DOMAIN}")
