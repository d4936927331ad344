"""RFC 3261 §10.3 rule by rule, with sipp as the phone, over UDP and over TCP. The steps are the RFC's.

Nobody needs a password here: who may register is the business of test_digest_sipp.
"""

from tests.interop.script import ANY, DOMAIN, Script, about, bound, has, lacks, literal, never_says, says
from tests.interop.sipp_case import EVERYBODY, EXACT, TRANSPORTS, SippCase

DESK, MOBILE = "sip:desk@192.0.2.1", "sip:mobile@192.0.2.2:5070;transport=tcp"


def contact(uri: str, params: str = "") -> str:
    """Return a Contact line."""
    return f"Contact: <{uri}>{params}"


def listed(uri: str, seconds: int, params: str = "") -> str:
    """Return the pattern for a Contact in a 200: `uri` with a remaining time of about `seconds`."""
    return f"<{literal(uri)}>;expires={about(seconds)}{literal(params)}"


class RuleCase(SippCase):
    """Plays one REGISTER after another."""

    def setUp(self) -> None:
        super().setUp()
        self.bob: Script = self.script("bob")

    def finish(self) -> None:
        """Play the script over each transport; what a run over UDP has bound is taken away before the next."""
        for transport in TRANSPORTS:
            self.play(self.bob, transport)
            self.assertEqual(self.phone(self.bob.user).register(0, "*").status, 200)

    def check_bound(self, *contacts: str) -> None:
        """Fetch, as the next step of the script, and find exactly these contacts."""
        self.bob.register()
        self.bob.expect(200, bound(*contacts))


class RuleTests(RuleCase):
    """Steps 1 to 8, but for those that need another configuration."""

    # --- steps 1, 2 and 5: whose bindings these are, and whether we understand what is required

    def test_domain_not_served(self) -> None:
        """A REGISTER for another domain is not taken for one of ours."""
        self.bob.request("REGISTER", "sip:elsewhere.example", contact(DESK), to=self.bob.address)
        self.bob.expect(403, lacks("Contact"))
        self.check_bound()
        self.finish()

    def test_server_without_domain(self) -> None:
        """A REGISTER for the server's address, which is no domain of ours, is refused."""
        self.bob.request("REGISTER", "sip:[remote_ip]:[remote_port]", contact(DESK), to=self.bob.address)
        self.bob.expect(403)
        self.finish()

    def test_address_of_another_domain(self) -> None:
        """An address-of-record that is not valid for the domain gives 404."""
        self.bob.register(contact(DESK), to=f"sip:{self.bob.user}@elsewhere.example")
        self.bob.expect(404)
        self.finish()

    def test_address_without_user(self) -> None:
        """An address-of-record has a user part."""
        self.bob.register(contact(DESK), to="sip:sip.example")
        self.bob.expect(404)
        self.finish()

    def test_unknown_extension(self) -> None:
        """What a REGISTER requires and we do not know is named in a 420, and nothing is bound."""
        self.bob.register(contact(DESK), "Require: path, foo")
        self.bob.expect(420, has("Unsupported", "foo"))
        self.check_bound()
        self.finish()

    def test_known_extensions(self) -> None:
        """What we know may be required."""
        self.bob.register(contact(DESK), "Require: path, outbound, gruu")
        self.bob.expect(200, bound(listed(DESK, 3600)))
        self.finish()

    def test_canonical_address(self) -> None:
        """Escapes, parameters and the case of the domain are no part of the address-of-record."""
        escaped = "%62" + self.bob.address.removeprefix("sip:b").replace("sip.example", "SIP.Example")
        self.bob.register(contact(DESK), to=f"sip:{escaped};user=phone")
        self.bob.expect(200)
        self.check_bound(listed(DESK, 3600))
        self.finish()

    def test_record_route_is_ignored(self) -> None:
        """A Record-Route in a REGISTER has no effect and is not sent back."""
        self.bob.register(contact(DESK), "Record-Route: <sip:192.0.2.9;lr>")
        self.bob.expect(200, lacks("Record-Route"), lacks("Path"))
        self.finish()

    # --- step 6: Contact: *

    def test_star_removes_all(self) -> None:
        """Alone and with Expires 0 it removes every binding, whatever Call-ID made it."""
        self.bob.register(contact(DESK))
        self.bob.expect(200)
        self.bob.register(contact(MOBILE), call_id="other///[call_id]")
        self.bob.expect(200, bound(listed(DESK, 3600), listed(MOBILE, 3600)))
        self.bob.register("Contact: *", "Expires: 0")
        self.bob.expect(200, bound())
        self.check_bound()
        self.finish()

    def test_star_needs_expires_zero(self) -> None:
        """Another expiry, or none, is a 400, and all bindings stay."""
        self.bob.register(contact(DESK))
        self.bob.expect(200)
        self.bob.register("Contact: *", "Expires: 60")
        self.bob.expect(400)
        self.bob.register("Contact: *")
        self.bob.expect(400)
        self.check_bound(listed(DESK, 3600))
        self.finish()

    def test_star_alone(self) -> None:
        """Beside another contact it is a 400, and all bindings stay."""
        self.bob.register(contact(DESK))
        self.bob.expect(200)
        self.bob.register("Contact: *", contact(MOBILE), "Expires: 0")
        self.bob.expect(400)
        self.check_bound(listed(DESK, 3600))
        self.finish()

    def test_star_out_of_order(self) -> None:
        """With a Call-ID that made a binding it needs a higher CSeq than that had, else nothing is removed."""
        self.bob.register(contact(DESK), cseq=7)
        self.bob.expect(200)
        self.bob.register("Contact: *", "Expires: 0", cseq=7)
        self.bob.expect(500)
        self.check_bound(listed(DESK, 3600))
        self.finish()

    def test_star_other_call_id(self) -> None:
        """With another Call-ID its CSeq says nothing about the order."""
        self.bob.register(contact(DESK), cseq=7)
        self.bob.expect(200)
        self.bob.register("Contact: *", "Expires: 0", cseq=1, call_id="other///[call_id]")
        self.bob.expect(200, bound())
        self.finish()

    # --- step 7: for how long

    def test_expires_parameter(self) -> None:
        """A contact's own parameter comes before the header, which is for the others."""
        self.bob.register(contact(DESK, ";expires=120"), contact(MOBILE), "Expires: 240")
        self.bob.expect(200, bound(listed(DESK, 120), listed(MOBILE, 240)))
        self.finish()

    def test_default_expiry(self) -> None:
        """Who says nothing is given the default."""
        self.bob.register(contact(DESK))
        self.bob.expect(200, bound(listed(DESK, 3600)))
        self.finish()

    def test_malformed_expiry(self) -> None:
        """A time that is no number counts as 3600 (RFC 3261 §10.2.1.1)."""
        self.bob.register(contact(DESK), "Expires: soon")
        self.bob.expect(200, bound(listed(DESK, 3600)))
        self.finish()

    def test_maximum_expiry(self) -> None:
        """A longer wish than we grant is cut, even the longest there is."""
        self.bob.register(contact(DESK, ";expires=4294967295"), contact(MOBILE, ";expires=7201"))
        self.bob.expect(200, bound(listed(DESK, 7200), listed(MOBILE, 7200)))
        self.finish()

    def test_too_brief(self) -> None:
        """A shorter wish than we bear is a 423 that names the minimum, and nothing is bound."""
        self.bob.register(contact(DESK, ";expires=59"))
        self.bob.expect(423, has("Min-Expires", "60"), lacks("Contact"))
        self.bob.register(contact(DESK, ";expires=60"))
        self.bob.expect(200, bound(listed(DESK, 60)))
        self.finish()

    def test_removal(self) -> None:
        """A time of 0 removes that binding and no other; whether it was there does not matter."""
        self.bob.register(contact(DESK), contact(MOBILE))
        self.bob.expect(200)
        self.bob.register(contact(DESK, ";expires=0"))
        self.bob.expect(200, bound(listed(MOBILE, 3600)))
        self.bob.register(contact(DESK), "Expires: 0")
        self.bob.expect(200, bound(listed(MOBILE, 3600)))
        self.bob.register(contact(MOBILE, ";expires=0"), call_id="other///[call_id]", cseq=1)
        self.bob.expect(200, bound())
        self.finish()

    # --- step 7: which binding a contact means, and in which order requests count

    def test_refresh(self) -> None:
        """The same URI by the rules of comparison is the same binding, though it is spelt in another way."""
        self.bob.register(contact("sip:desk@Phones.example:5060;transport=udp;x=1"))
        self.bob.expect(200)
        self.bob.register(contact("sip:d%65sk@phones.EXAMPLE:5060;x=1;transport=UDP", ";expires=120"))
        self.bob.expect(200, bound(listed("sip:d%65sk@phones.EXAMPLE:5060;x=1;transport=UDP", 120)))
        self.finish()

    def test_different(self) -> None:
        """Another user part, port or transport is another binding; the case of a user counts."""
        uris = ("sip:desk@192.0.2.1", "sip:Desk@192.0.2.1", "sip:desk@192.0.2.1:5060",
                "sip:desk@192.0.2.1;transport=tcp")
        for uri in uris:
            self.bob.register(contact(uri))
            self.bob.expect(200)
        self.check_bound(*(listed(uri, 3600) for uri in uris))
        self.finish()

    def test_out_of_order(self) -> None:
        """Within a Call-ID a CSeq that is not higher than the binding's fails, and the binding stays as it was."""
        self.bob.register(contact(DESK, ";expires=300"), cseq=5)
        self.bob.expect(200)
        for cseq in (5, 4):
            self.bob.register(contact(DESK, ";expires=900"), cseq=cseq)
            self.bob.expect(500)
            self.bob.register(contact(DESK, ";expires=0"), cseq=cseq)
            self.bob.expect(500)
        self.check_bound(listed(DESK, 300))
        self.finish()

    def test_new_call_id(self) -> None:
        """A phone that has restarted comes with a new Call-ID and may begin with a low CSeq."""
        self.bob.register(contact(DESK), cseq=100)
        self.bob.expect(200)
        self.bob.register(contact(DESK, ";expires=300"), cseq=1, call_id="restarted///[call_id]")
        self.bob.expect(200, bound(listed(DESK, 300)))
        self.finish()

    def test_per_binding(self) -> None:
        """The order counts for each binding by itself: a low CSeq is no fault of a contact that is new."""
        self.bob.register(contact(DESK), cseq=5)
        self.bob.expect(200)
        self.bob.register(contact(MOBILE), cseq=4)
        self.bob.expect(200, bound(listed(DESK, 3600), listed(MOBILE, 3600)))
        self.finish()

    def test_all_or_nothing_out_of_order(self) -> None:
        """One contact out of order undoes the others of its request."""
        self.bob.register(contact(DESK, ";expires=300"), cseq=5)
        self.bob.expect(200)
        self.bob.register(contact(MOBILE), contact(DESK), cseq=5)
        self.bob.expect(500)
        self.check_bound(listed(DESK, 300))
        self.finish()

    def test_all_or_nothing_too_brief(self) -> None:
        """One wish that is too brief undoes the others of its request, a removal too."""
        self.bob.register(contact(DESK))
        self.bob.expect(200)
        self.bob.register(contact(DESK, ";expires=0"), contact(MOBILE), contact("sip:third@192.0.2.3", ";expires=1"))
        self.bob.expect(423)
        self.check_bound(listed(DESK, 3600))
        self.finish()

    def test_too_many(self) -> None:
        """More contacts than an address-of-record may have are refused, all of the request; the old ones stay."""
        uris = [f"sip:phone{number}@192.0.2.1" for number in range(12)]
        self.bob.register(*(contact(uri) for uri in uris[:9]))
        self.bob.expect(200)
        self.bob.register(contact(uris[9]), contact(uris[10]))
        self.bob.expect(403)
        self.bob.register(contact(uris[9]))
        self.bob.expect(200)
        self.bob.register(contact(uris[0], ";expires=0"), contact(uris[10]))
        self.bob.expect(200, bound(*(listed(uri, 3600) for uri in uris[1:11])))
        self.finish()

    def test_retransmission(self) -> None:
        """The same datagram again is the same transaction: it gets the same answer, and is in order.

        With a phone of ours: sipp takes the repeated answer for a repetition and asks again, without end.
        """
        phone = self.phone(self.bob.user)
        request = phone.make("REGISTER", f"sip:{DOMAIN}", [("Contact", f"<{DESK}>")], to=f"<{self.bob.address}>")
        phone.send(request)
        answer = phone.final()
        self.assertEqual(answer.status, 200)
        phone.send(request)
        self.assertEqual(phone.final(), answer)

    def test_order_received(self) -> None:
        """Requests that come faster than they are written down count in the order in which they came.

        With a phone of ours: sipp waits for one answer before it asks again.
        """
        for transport in ("UDP", "TCP"):
            phone, to = self.phone(self.bob.user, transport), f"<{self.bob.address}>"
            for number in range(1, 10):
                fields = [("Contact", f"<{DESK}>;q=0.{number}")]
                phone.send(phone.make("REGISTER", f"sip:{DOMAIN}", fields, to=to, call_id=transport))
            self.assertEqual({phone.final().status for _ in range(9)}, {200})
            fetched = phone.ask(phone.make("REGISTER", f"sip:{DOMAIN}", to=to))
            self.assertIn(";q=0.9", fetched.get("Contact") or "")

    # --- step 8: what the 200 says

    def test_all_bindings(self) -> None:
        """It lists every binding, whoever made it, each with its own time, and the Date."""
        self.bob.register(contact(DESK, ";expires=300"))
        self.bob.expect(200)
        self.bob.register(contact(MOBILE, ";expires=900"), call_id="other///[call_id]")
        self.bob.expect(200, bound(listed(DESK, 300), listed(MOBILE, 900)), has("Date", f"{ANY} GMT"))
        self.finish()

    def test_fetch(self) -> None:
        """A REGISTER without Contact only asks; its Expires means nothing."""
        self.bob.register(contact(DESK))
        self.bob.expect(200)
        self.bob.register("Expires: 0")
        self.bob.expect(200, bound(listed(DESK, 3600)))
        self.finish()

    def test_nobody(self) -> None:
        """Who has no binding is told so by a 200 without Contact."""
        self.check_bound()
        self.finish()

    def test_remaining_time(self) -> None:
        """The time told is what is left of it."""
        self.bob.register(contact(DESK, ";expires=300"))
        self.bob.expect(200)
        self.bob.pause(1100)
        self.check_bound(listed(DESK, 299))
        self.finish()

    def test_parameters(self) -> None:
        """Priority, capabilities and unknown parameters of a contact are reported as they came."""
        params = ';q=0.7;methods="INVITE,ACK";audio;+x.y="a;b,c"'
        self.bob.register(contact(DESK, f"{params};expires=300"), contact(MOBILE, ";q=0"))
        self.bob.expect(200, bound(listed(DESK, 300, params), listed(MOBILE, 3600, ";q=0")))
        self.finish()

    def test_compact_form(self) -> None:
        """Compact names, one line for two contacts, a display name with a comma, and a URI without brackets."""
        self.bob.register(f'm: "Desk, first" <{DESK}>;expires=300, sip:bare@192.0.2.9;expires=900')
        self.bob.expect(200, bound(listed(DESK, 300), listed("sip:bare@192.0.2.9", 900)))
        self.finish()

    def test_other_schemes(self) -> None:
        """A contact that is no SIP address is kept and reported; it is for callers to use."""
        self.bob.register(contact("tel:+4930123456"), contact("mailto:bob@sip.example"))
        self.bob.expect(200, bound(listed("tel:+4930123456", 3600), listed("mailto:bob@sip.example", 3600)))
        self.finish()


class StrictTests(RuleCase):
    """A registrar whose minimum is above an hour."""

    sections = EVERYBODY + EXACT + "min_expires_seconds = 5000\ndefault_expires_seconds = 6000\n"

    def test_an_hour_is_never_too_brief(self) -> None:
        """Below an hour the minimum refuses; from an hour on nobody may be refused (step 7)."""
        self.bob.register(contact(DESK, ";expires=3599"))
        self.bob.expect(423, has("Min-Expires", "5000"))
        self.bob.register(contact(DESK, ";expires=3600"))
        self.bob.expect(200, bound(listed(DESK, 3600)))
        self.finish()

    def test_default(self) -> None:
        """The default is the configured one."""
        self.bob.register(contact(DESK))
        self.bob.expect(200, bound(listed(DESK, 6000)))
        self.finish()


class LapsingTests(RuleCase):
    """A registrar that takes the shortest times, and shortens those it grants at random."""

    sections = EVERYBODY + "[bindings]\nexpiry_jitter = 0.5\nmin_expires_seconds = 1\n"

    def test_lapses(self) -> None:
        """When its time is over a binding is no longer reported, and can be made again with the old Call-ID."""
        self.bob.register(contact(DESK, ";expires=1"), cseq=5)
        self.bob.expect(200, bound(listed(DESK, 1)))
        self.bob.pause(1500)
        self.check_bound()
        self.bob.register(contact(DESK), cseq=1)
        self.bob.expect(200, says("\nContact: "))
        self.finish()

    def test_jitter(self) -> None:
        """The granted time may be less than the wish, but never more, and the phone is told it."""
        self.bob.register(contact(DESK, ";expires=1000"))
        self.bob.expect(200, says(f"\nContact: <{literal(DESK)}>;expires=([4-9][0-9][0-9]|1000)\r"))
        self.bob.register(contact(MOBILE, ";expires=1000"))
        self.bob.expect(200, never_says("expires=[0-9][0-9][0-9][0-9][0-9]"))
        self.finish()
