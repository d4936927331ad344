"""What a stranger gets: never a way to a third party, whatever he puts into Route, Request-URI and flow tokens.

RFC 3261 §§16.4, 22.3, 26.1.5; RFC 5626 §5.3.1 (forged flow tokens).
"""

from rollcall.sip.message import Request, Response
from tests.interop.phone import Phone
from tests.interop.script import DOMAIN, Script, has, lacks
from tests.interop.sipp_case import EXACT, TRANSPORTS, SippCase

PASSWORD = "open sesame"
PROOF = "[authentication]"
METHODS = ("INVITE", "MESSAGE", "OPTIONS", "SUBSCRIBE", "REFER", "BYE", "INFO", "UPDATE", "PRACK", "PUBLISH", "NOTIFY",
           "NEWFANGLED", "REGISTER")
OURS = "<sip:[remote_ip]:[remote_port];lr>"


class StrangerCase(SippCase):
    """Mallory, of whom nobody knows, and a third party that wants to be left alone."""

    sections = EXACT

    def setUp(self) -> None:
        super().setUp()
        self.mallory = Script("mallory", "elsewhere.example")
        self.third = self.phone("third")
        self.target = f"sip:third@127.0.0.1:{self.third.port}"

    def ask(self, status: int, uri: str, *fields: str, method: str = "INVITE", **words: object) -> None:
        """Let Mallory ask for `uri` as the next thing, and be refused."""
        self.mallory.request(method, uri, *fields, **words)
        if method == "INVITE":
            self.mallory.refused(status)
        else:
            self.mallory.expect(status)

    def finish(self) -> None:
        """Play the script over each transport; the third party has to have heard nothing."""
        for transport in TRANSPORTS:
            self.play(self.mallory, transport)
        self.check_silent(self.third)


class StrangerTests(StrangerCase):
    """A server as it comes: everybody proves who he is."""

    def test_third_party(self) -> None:
        """No request of a stranger is relayed to somebody who is none of ours, whatever its method."""
        for method in METHODS:
            self.ask(407, self.target, method=method)
        self.finish()

    def test_third_party_by_name(self) -> None:
        """Nor when he says that he is one of ours."""
        for method in METHODS:
            self.ask(407, self.target, method=method, sender=f"sip:alice@{DOMAIN}")
        self.finish()

    def test_route_of_ours(self) -> None:
        """A Route that names us is no permission."""
        for routes in ((OURS,), (OURS, OURS), (OURS, f"<{self.target};lr>")):
            self.ask(407, self.target, *(f"Route: {route}" for route in routes))
            self.ask(407, self.target, f"Route: {', '.join(routes)}", method="BYE")
        self.finish()

    def test_route_past_us(self) -> None:
        """A request for one of ours does not take a Route to the third party."""
        self.ask(407, f"sip:bob@{DOMAIN}", f"Route: <{self.target};lr>")
        self.ask(407, f"sip:bob@{DOMAIN}", f"Route: {OURS}, <{self.target};lr>")
        self.ask(407, f"sip:bob@{DOMAIN}", f"Route: <{self.target}>", method="MESSAGE")
        self.finish()

    def test_strict_route(self) -> None:
        """Nor does one that looks as if a strict router had sent it (§16.4)."""
        self.ask(407, "sip:[remote_ip]:[remote_port];lr", f"Route: <{self.target}>")
        self.ask(407, f"sip:{DOMAIN};lr", f"Route: <{self.target}>", method="MESSAGE")
        self.finish()

    def test_ack(self) -> None:
        """An ACK out of nowhere is dropped; nothing is said to it."""
        self.mallory.request("ACK", self.target)
        self.mallory.request("ACK", self.target, f"Route: {OURS}, <{self.target};lr>")
        self.ask(407, self.target, method="OPTIONS")
        self.finish()

    def test_calling_ours(self) -> None:
        """A stranger who calls one of ours has to prove something that he cannot."""
        bob = self.subscriber("bob", PASSWORD)
        self.ask(407, bob.address)
        self.mallory.request("INVITE", bob.address, PROOF)
        self.mallory.refused(407)
        self.play(self.mallory, password="guess", auth_uri=f"{bob.user}@{DOMAIN}")

    def test_forged_token(self) -> None:
        """A flow token that we did not make is a 403 (RFC 5626 §5.3.1)."""
        for token in ("A", "AAAAAAAAAAAAAAAAAAAAAAAA", "third", "%00"):
            route = f"Route: <sip:{token}@[remote_ip]:[remote_port];lr>"
            self.ask(403, self.target, route)
            self.ask(403, self.target, route, method="BYE")
        self.finish()


class SubscriberTests(StrangerCase):
    """What subscribers may do that strangers may not."""

    def setUp(self) -> None:
        super().setUp()
        self.alice = self.subscriber("alice", PASSWORD)

    def test_calls_out(self) -> None:
        """A subscriber may call anybody, and both sides may use the dialog, without any proof."""
        third = Script("third", "elsewhere.example")
        third.receive("INVITE", lacks("Proxy-Authorization"), lacks("Route"))
        third.answer(180)
        third.accept()
        third.within("INFO")
        third.expect(200)
        third.hung_up()
        called = self.start(third)
        called.wait_listening()
        uri = f"third@127.0.0.1:{called.port}"
        self.alice.invite(f"sip:{uri}")
        self.alice.refused(407)
        self.alice.invite(f"sip:{uri}", PROOF)
        self.alice.expect(180)
        self.alice.expect(200)
        self.alice.acknowledge()
        self.alice.receive("INFO")
        self.alice.answer(200)
        self.alice.hang_up()
        self.play(self.alice, "tcp", password=PASSWORD, auth_uri=uri)
        called.check()

    def test_with_another_name(self) -> None:
        """But not in the name of another domain's user."""
        for proof in ((), (PROOF,)):
            self.alice.invite(self.target, *proof, sender="sip:president@elsewhere.example")
            self.alice.refused(403 if proof else 407)
        self.play(self.alice, password=PASSWORD, auth_uri=self.target.removeprefix("sip:"))
        self.check_silent(self.third)


class TokenTests(StrangerCase):
    """Flow tokens that were made, but for somebody else. With phones of ours, which see them and use them wrongly."""

    def setUp(self) -> None:
        super().setUp()
        self.bob = self.phone(self.subscriber("bob", PASSWORD).user, "TCP", PASSWORD)
        self.alice = self.phone(self.subscriber("alice", PASSWORD).user, "TCP", PASSWORD)
        self.thief = self.phone("mallory", "UDP")
        self.assertEqual(self.bob.register().status, 200)

    def call(self, caller: Phone) -> tuple[Request, Response]:
        """Return the INVITE of a call of `caller` that Bob has answered, and the answer."""
        invite = caller.make("INVITE", f"sip:{self.bob.user}@{DOMAIN}", [("Contact", f"<{caller.contact}>")])
        caller.send(invite)
        challenge = caller.final()
        caller.acknowledge(invite, challenge)
        again = caller.authorised(invite, challenge)
        caller.send(again)
        self.bob.answer(self.bob.request(), 200)
        answer = caller.final()
        self.assertEqual(answer.status, 200)
        caller.send(caller.within("ACK", again, answer, 1))
        self.assertEqual(self.bob.request().method, "ACK")
        return again, answer

    def check_refused(self, request: Request, status: int = 403) -> None:
        self.thief.send(request)
        self.assertEqual(self.thief.final().status, status)
        self.check_silent(self.bob)
        self.check_silent(self.third)

    def test_of_another_call(self) -> None:
        """A token counts for its own Call-ID alone, wherever the request would go."""
        invite, answer = self.call(self.alice)
        for uri in (self.bob.contact, self.target):
            stolen = self.thief.within("BYE", invite, answer)
            stolen.uri = uri
            stolen.set("Call-ID", "another")
            self.check_refused(stolen)

    def test_with_other_tags(self) -> None:
        """A token counts between its two sides alone: who has not seen the tags cannot speak in the dialog."""
        invite, answer = self.call(self.alice)
        stolen = self.thief.within("BYE", invite, answer)
        stolen.set("From", f"<sip:{self.alice.user}@{DOMAIN}>;tag=guessed")
        stolen.set("To", f"<sip:{self.bob.user}@{DOMAIN}>;tag=guessed")
        self.check_refused(stolen)

    def test_changed(self) -> None:
        """A token that was changed in any place is forged."""
        invite, answer = self.call(self.alice)
        (top, _) = answer.values("Record-Route")
        token = top[top.index(":") + 1 : top.index("@")]
        for place in range(0, len(token), 5):
            changed = token[:place] + ("B" if token[place] == "A" else "A") + token[place + 1 :]
            forged = self.thief.within("BYE", invite, answer)
            forged.set_values("Route", [top.replace(token, changed)])
            self.check_refused(forged)

    def test_new_call(self) -> None:
        """A request that begins a dialog needs a proof, even with a token that is good for its Call-ID."""
        invite, answer = self.call(self.alice)
        for method in ("INVITE", "MESSAGE"):
            for uri in (self.bob.contact, self.target):
                stolen = self.thief.within(method, invite, answer)
                stolen.uri = uri
                stolen.set("To", f"<sip:{self.bob.user}@{DOMAIN}>")
                self.check_refused(stolen, 407)

    def test_own_call(self) -> None:
        """The two sides themselves may."""
        invite, answer = self.call(self.alice)
        self.alice.send(self.alice.within("BYE", invite, answer))
        self.bob.answer(self.bob.request(), 200)
        self.assertEqual(self.alice.final().status, 200)


class WelcomeTests(StrangerCase):
    """A server where strangers may call subscribers, and subscribers may not call strangers."""

    sections = EXACT + '[proxy]\nstrangers = "accept"\nrelay_subscribers = false\n'

    def test_calls_ours(self) -> None:
        """A stranger reaches a subscriber without a password, in a dialog too."""
        bob = self.subscriber("bob", PASSWORD)
        bob.register(f"Contact: <sip:{bob.user}@[local_ip]:[local_port]>")
        bob.expect(401)
        bob.register(f"Contact: <sip:{bob.user}@[local_ip]:[local_port]>", PROOF)
        bob.expect(200)
        bob.ready()
        bob.receive("INVITE", has("From", "<sip:mallory@elsewhere[.]example>;tag=[^\r]*"))
        bob.accept()
        bob.hung_up()
        called = self.serve(bob, password=PASSWORD)
        self.mallory.invite(bob.address)
        self.mallory.expect(200)
        self.mallory.acknowledge()
        self.mallory.hang_up()
        self.play(self.mallory, "tcp")
        called.check()

    def test_in_our_name(self) -> None:
        """Who calls in the name of one of ours is no stranger, and has to prove it."""
        self.ask(407, f"sip:bob@{DOMAIN}", sender=f"sip:alice@{DOMAIN}")
        self.finish()

    def test_third_party(self) -> None:
        """Strangers are not relayed here either."""
        for method in METHODS:
            self.ask(407, self.target, method=method)
        self.ask(407, self.target, f"Route: {OURS}, <{self.target};lr>")
        self.ask(407, f"sip:bob@{DOMAIN}", f"Route: <{self.target};lr>")
        self.finish()

    def test_subscribers_stay_inside(self) -> None:
        """Nor are subscribers, where that is forbidden."""
        alice = self.subscriber("alice", PASSWORD)
        alice.invite(self.target)
        alice.refused(407)
        alice.invite(self.target, PROOF)
        alice.refused(403)
        self.play(alice, password=PASSWORD, auth_uri=self.target.removeprefix("sip:"))
        self.check_silent(self.third)
