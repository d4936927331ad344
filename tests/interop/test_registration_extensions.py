"""Path (RFC 3327), Service-Route (RFC 3608), required outbound (RFC 5626 §6), with sipp as phone and as edge proxy."""

from tests.interop.script import has, lacks, literal, says
from tests.interop.sipp_case import EVERYBODY, EXACT, SippCase

PHONE = "sip:phone@192.0.2.7:5062"
CONTACT = f"Contact: <{PHONE}>"
FAR, NEAR = "<sip:far.example;lr>", "<sip:near@192.0.2.8;lr;ob>"
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"'


class PathTests(SippCase):
    """A registrar as it comes."""

    def test_needs_support(self) -> None:
        """A Path that the phone has not said to understand is refused with 420, and nothing is bound."""
        bob = self.script("bob")
        bob.register(CONTACT, f"Path: {NEAR}")
        bob.expect(420, has("Unsupported", "path"))
        self.play(bob)
        self.assertEqual(self.registrar.contacts(bob.user), [])

    def test_echoed(self) -> None:
        """The phone is told the Path that is kept, in its order, whether on one line or on several."""
        bob = self.script("bob")
        for lines in ((f"Path: {FAR}, {NEAR}",), (f"Path: {FAR}", f"Path: {NEAR}")):
            bob.register(CONTACT, *lines, "Supported: path")
            bob.expect(200, has("Path", literal(f"{FAR}, {NEAR}")), says("\nContact: "))
        self.play(bob)

    def test_followed(self) -> None:
        """A call takes the Path: to the edge proxy, with the Path as Route and the contact as Request-URI."""
        edge = self.script("bob")
        edge.register(CONTACT, "Path: <sip:edge@[local_ip]:[local_port];lr>", "Supported: path")
        edge.expect(200)
        edge.ready()
        route = has("Route", "<sip:edge@127[.]0[.]0[.]1:[0-9]+;lr>")
        edge.receive("INVITE", says(f"^INVITE {literal(PHONE)} SIP/2.0\r"), route)
        edge.accept()
        edge.hung_up()
        called = self.serve(edge)
        alice = self.script("alice")
        alice.invite(edge.user)
        alice.expect(200)
        alice.acknowledge()
        alice.hang_up()
        self.play(alice, "tcp")
        called.check()


class PolicyTests(SippCase):
    """A registrar that demands outbound, does not insist on support for Path, and hands out a Service-Route."""

    sections = EVERYBODY + EXACT + (
        'require_outbound = true\nrequire_path_support = false\n'
        'service_route = ["<sip:first.example;lr>", "<sip:second.example;lr>"]\n'
    )

    def test_service_route(self) -> None:
        """Every 200 says which way calls have to take."""
        bob = self.script("bob")
        routes = has("Service-Route", literal("<sip:first.example;lr>, <sip:second.example;lr>"))
        bob.register(f"{CONTACT};reg-id=1;{INSTANCE}", "Supported: outbound")
        bob.expect(200, routes)
        bob.register()
        bob.expect(200, routes)
        self.play(bob)

    def test_outbound_is_required(self) -> None:
        """A phone that does not support outbound is told to by 421; one that does has to use it."""
        bob = self.script("bob")
        bob.register(CONTACT)
        bob.expect(421, has("Require", "outbound"))
        bob.register(CONTACT, "Supported: outbound")
        bob.expect(403, lacks("Require"))
        bob.register(f"{CONTACT};expires=0")
        bob.expect(200)
        self.play(bob)

    def test_path_without_support(self) -> None:
        """A Path is kept although the phone does not know what it is."""
        bob = self.script("bob")
        bob.register(f"{CONTACT};reg-id=1;{INSTANCE}", "Supported: outbound", f"Path: {NEAR}")
        bob.expect(200, has("Path", literal(NEAR)))
        self.play(bob)
