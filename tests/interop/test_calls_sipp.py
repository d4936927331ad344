"""Calls and other requests between two sipp phones through the registrar, over UDP and TCP: RFC 3261 §16 and its kin.

Each sipp that is called registers first, in the same scenario, so that it is called where it has registered: over its
own TCP connection, or at its UDP port.
"""

from itertools import product

from tests.interop.script import ANY, DOMAIN, KEEP_ROUTE, Script, has, lacks, says
from tests.interop.sipp_case import EVERYBODY, EXACT, TRANSPORTS, SippCase

TEXT = "Content-Type: text/plain"


class CallCase(SippCase):
    """Somebody who is called, and a caller."""

    def setUp(self) -> None:
        super().setUp()
        self.alice, self.bob = self.script("alice"), self.script("bob")

    def finish(self, caller: str = "udp", callee: str = "udp") -> None:
        """Let Bob register, then Alice begin; both have to come to the end of their scripts."""
        called = self.serve(self.bob, callee)
        self.play(self.alice, caller)
        called.check()

    def ring(self) -> None:
        """Bob registers, is called, and rings."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.answer(180)
        self.alice.invite(self.bob.user)
        self.alice.expect(180)

    def talk(self) -> None:
        """A call is made, and answered."""
        self.ring()
        self.bob.accept()
        self.alice.expect(200)
        self.alice.acknowledge()


class CallTests(CallCase):
    """What a call is made of."""

    def test_call(self) -> None:
        """Invite, ring, answer, acknowledge and hang up, in each pairing of transports, by either side."""
        for number, (caller, callee) in enumerate(product(TRANSPORTS, TRANSPORTS)):
            self.begin_anew(number)
            self.talk()
            leaving, left = (self.alice, self.bob) if number % 2 else (self.bob, self.alice)
            leaving.hang_up()
            left.hung_up()
            self.finish(caller, callee)

    def begin_anew(self, number: int) -> None:
        self.setUp()
        self.alice, self.bob = self.script(f"alice{number}"), self.script(f"bob{number}")

    def test_what_the_callee_sees(self) -> None:
        """The INVITE has one hop less, our Via above the caller's, and two routes of ours; the ACK has no new ones."""
        self.bob.registered()
        ours = "<sip:[^@>]+@127[.]0[.]0[.]1:[0-9]+;transport=tcp;lr>", "<sip:[^@>]+@127[.]0[.]0[.]1:[0-9]+;lr>"
        self.bob.receive("INVITE", says(f"^INVITE sip:{self.bob.user}@127[.]0[.]0[.]1:[0-9]+;transport=TCP SIP/2.0\r"),
                         has("Max-Forwards", "69"), says(f"\nVia: SIP/2.0/TCP {ANY}\r\nVia: SIP/2.0/UDP {ANY}\r"),
                         says("".join(f"\nRecord-Route: {route}\r" for route in ours)), lacks("Route"))
        self.bob.accept()
        self.bob.hung_up()
        self.alice.invite(self.bob.user)
        self.alice.expect(200, lacks("Proxy-Authenticate"))
        self.alice.acknowledge()
        self.alice.hang_up()
        self.finish("udp", "tcp")

    def test_other_names_of_the_callee(self) -> None:
        """Escapes, case of the domain, parameters and a port of ours make no difference to who is called."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.refuse(486)
        escaped = f"%62{self.bob.user[1:]}"
        self.alice.invite(f"sip:{escaped}@SIP.Example:[remote_port];transport=tcp;user=phone")
        self.alice.refused(486)
        self.finish()

    def test_within(self) -> None:
        """Within a dialog either side may send what it likes, over the flows that the dialog was made over."""
        for number, (caller, callee) in enumerate(product(TRANSPORTS, TRANSPORTS)):
            self.begin_anew(number)
            self.talk()
            for asking, asked in ((self.alice, self.bob), (self.bob, self.alice)):
                for method in ("UPDATE", "INFO", "MESSAGE", "OPTIONS", "REFER", "SUBSCRIBE", "NOTIFY", "PUBLISH"):
                    asking.within(method)
                    asked.receive(method, lacks("Route"))
                    asked.answer(200)
                    asking.expect(200)
            self.alice.hang_up()
            self.bob.hung_up()
            self.finish(caller, callee)

    def test_invite_again(self) -> None:
        """A call may be changed by either side."""
        self.talk()
        for asking, asked in ((self.alice, self.bob), (self.bob, self.alice)):
            asking.within("INVITE")
            asking.expect(100, optional=True)
            asking.expect(200)
            asking.acknowledge()
            asked.receive("INVITE")
            asked.accept()
        self.alice.hang_up()
        self.bob.hung_up()
        self.finish("tcp", "udp")

    def test_refused_change(self) -> None:
        """A change that is refused leaves the call as it was."""
        self.talk()
        self.alice.within("INVITE")
        self.alice.expect(100, optional=True)
        self.alice.refused(488)
        self.bob.receive("INVITE")
        self.bob.refuse(488)
        self.alice.hang_up()
        self.bob.hung_up()
        self.finish()

    def test_prack(self) -> None:
        """A provisional answer is acknowledged by a PRACK, before the call is answered (RFC 3262)."""
        self.bob.registered()
        self.bob.receive("INVITE", has("Supported", "100rel"))
        self.bob.answer(183, "Require: 100rel", "RSeq: 1")
        self.bob.receive("PRACK", has("RAck", "1 1 INVITE"))
        self.bob.answer(200)
        self.bob.accept(to="INVITE")
        self.bob.hung_up()
        self.alice.invite(self.bob.user, "Supported: 100rel")
        self.alice.expect(183, has("RSeq", "1"), options=KEEP_ROUTE)
        self.alice.within("PRACK", "RAck: 1 1 INVITE")
        self.alice.expect(200)
        self.alice.expect(200)
        self.alice.acknowledge()
        self.alice.hang_up()
        self.finish("udp", "tcp")

    def test_subscription(self) -> None:
        """A subscription is a dialog too: its NOTIFY comes back over the subscriber's own connection."""
        self.bob.registered()
        self.bob.receive("SUBSCRIBE", has("Event", "presence"))
        self.bob.answer(200, "Expires: 600")
        self.bob.in_dialog()
        self.bob.within("NOTIFY", "Event: presence", "Subscription-State: active;expires=600")
        self.bob.expect(200)
        contact = f"Contact: <sip:{self.alice.user}@[local_ip]:[local_port];transport=[transport]>"
        self.alice.request("SUBSCRIBE", self.bob.address, contact, "Event: presence", "Expires: 600")
        self.alice.expect(200, has("Expires", "600"))
        self.alice.in_dialog()
        self.alice.receive("NOTIFY", has("Event", "presence"))
        self.alice.answer(200)
        self.finish("tcp", "udp")

    def test_alone(self) -> None:
        """Requests that make no dialog pass, with their bodies; so do methods that nobody has heard of."""
        for number, (caller, callee) in enumerate((("udp", "udp"), ("tcp", "udp"), ("udp", "tcp"))):
            self.begin_anew(number)
            self.bob.registered()
            for method in ("MESSAGE", "OPTIONS", "PUBLISH", "REFER", "NOTIFY", "NEWFANGLED"):
                self.bob.receive(method, says("\r\n\r\nlunch, at noon[?]"), has("Content-Type", "text/plain"))
                self.bob.answer(202, "X-Seen: yes")
                self.alice.request(method, self.bob.address, TEXT, body="lunch, at noon?")
                self.alice.expect(202, has("X-Seen", "yes"))
            self.finish(caller, callee)


class RefusalTests(CallCase):
    """Requests that reach nobody."""

    # A second domain whose name is the server's address: there a contact can lead back to the server.
    sections = EVERYBODY + EXACT + '[[domain]]\nname = "127.0.0.1"\n'

    def check_refused(self, status: int, uri: str, *fields: str, method: str = "INVITE", **words: object) -> None:
        """Ask for `uri`, over both transports, and be refused."""
        self.alice = self.script("alice")
        self.alice.request(method, uri, *fields, **words)
        if method == "INVITE":
            self.alice.expect(100, optional=True)
            self.alice.refused(status)
        else:
            self.alice.expect(status)
        for transport in TRANSPORTS:
            self.play(self.alice, transport)

    def test_unknown_user(self) -> None:
        """404 for somebody whom nobody knows (RFC 3261 §21.4.5)."""
        self.check_refused(404, f"sip:nobody@{DOMAIN}")
        self.check_refused(404, f"sip:nobody@{DOMAIN}", method="MESSAGE")

    def test_not_registered(self) -> None:
        """480 for a subscriber without a phone (RFC 3261 §21.4.18)."""
        bob = self.subscriber("bob", "x")
        self.check_refused(480, bob.address)
        self.check_refused(480, bob.address, method="MESSAGE")

    def test_without_user(self) -> None:
        """485 for a domain without a user: it does not say who is meant."""
        self.check_refused(485, f"sip:{DOMAIN}")

    def test_other_scheme(self) -> None:
        """416 for what is no SIP URI (RFC 3261 §16.3 step 2)."""
        self.check_refused(416, "tel:+4930123456")

    def test_no_hops_left(self) -> None:
        """483 when Max-Forwards is spent (RFC 3261 §16.3 step 3)."""
        self.check_refused(483, f"sip:nobody@{DOMAIN}", hops=0)
        self.check_refused(483, f"sip:nobody@{DOMAIN}", hops=0, method="OPTIONS")

    def test_unknown_extension(self) -> None:
        """420 for what a proxy is required to do and we cannot (RFC 3261 §16.3 step 5)."""
        self.check_refused(420, f"sip:nobody@{DOMAIN}", "Proxy-Require: magic")

    def test_dialog_of_nobody(self) -> None:
        """481 for a BYE that names the server, as if the server had a call."""
        self.check_refused(481, "sip:[remote_ip]:[remote_port]", method="BYE")

    def test_other_domain(self) -> None:
        """403 for a domain that is not ours, when nobody has to prove who he is: we are no open relay."""
        self.check_refused(403, "sip:third@elsewhere.example")

    def test_options(self) -> None:
        """The server says for itself what it can do."""
        self.alice.request("OPTIONS", "sip:[remote_ip]:[remote_port]")
        self.alice.expect(200, has("Allow", f"{ANY}REGISTER{ANY}"), has("Supported", f"{ANY}path{ANY}"))
        self.play(self.alice)

    def test_loop(self) -> None:
        """482 when a contact leads back to the address it is bound to (RFC 5393 §4.2)."""
        bob = Script("bob", "127.0.0.1")
        bob.register("Contact: <sip:bob@[remote_ip]:[remote_port]>")
        bob.expect(200)
        self.play(bob)
        self.check_refused(482, "sip:bob@127.0.0.1")

    def test_busy(self) -> None:
        """A callee's own refusal comes through as it is, with what it says, and its tag."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.refuse(486, "Retry-After: 60")
        self.alice.invite(self.bob.user)
        self.alice.refused(486, has("Retry-After", "60"), has("To", f"{ANY};tag={ANY}"))
        self.finish("tcp", "udp")

    def test_redirected(self) -> None:
        """We do not follow a redirection; the caller decides."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.refuse(302)
        self.alice.invite(self.bob.user)
        self.alice.refused(302, says("\nContact: "))
        self.finish()

    def test_overloaded(self) -> None:
        """503 of the only phone is not ours: the caller gets 500 (RFC 3261 §16.7 step 6)."""
        self.bob.registered()
        self.bob.receive("INVITE")
        self.bob.refuse(503, "Retry-After: 3600")
        self.alice.invite(self.bob.user)
        self.alice.refused(500, lacks("Retry-After"))
        self.finish()
