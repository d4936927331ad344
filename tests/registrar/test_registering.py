"""REGISTER from the first byte to the answer: who may bind what, and what becomes of stores that fail or race."""

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.registering import MAX_CONFLICTS
from rollcall.sip.message import Response
from tests.registrar.examples import ALICE, TABLET, a_binding
from tests.registrar.joined import RETRY_AFTER, Client, Registrar, done

A, B = "sip:alice@192.0.2.20:49152;transport=tcp", "sip:alice@192.0.2.21"


class RegisteringCase(SynchronousTestCase):
    takes_short_way = True

    """A registrar, and alice's phone on a connection to it."""

    def setUp(self) -> None:
        self.registrar = Registrar(takes_short_way=self.takes_short_way)
        self.alice = self.registrar.client("alice")

    def tearDown(self) -> None:
        """See that every request was answered and nothing is waited for any more."""
        self.assertEqual(self.registrar.end_transactions(), 0)

    def outcomes(self) -> dict[tuple[str, ...], float]:
        """Return how often credentials had which outcome."""
        return self.registrar.counts("rollcall_authentications_total")

    def kinds(self) -> dict[str, float]:
        """Return how many registrations of which kind were counted."""
        counts: dict[str, float] = {}
        for labels, number in self.registrar.counts("rollcall_registrations_total").items():
            kind = next(label for label in labels if label.islower())
            counts[kind] = counts.get(kind, 0) + number
        return counts

    def refusal(self, status: int, *contacts: str, **changes: Any) -> Response:
        """Register, see that it is refused with `status` and that nothing was bound; return the answer."""
        before = self.registrar.bound("alice")
        answer = self.alice.register(*contacts, **changes)
        self.assertEqual((answer.status, self.registrar.bound("alice")), (status, before))
        self.assertEqual(self.registrar.bound("bob"), [])
        return answer


class PermissionTests(RegisteringCase):
    def test_challenge_then_binding(self) -> None:
        """Whoever is asked for a password and gives it has registered; each step is counted."""
        self.alice.send(self.alice.a_register(A))
        challenge = self.alice.flow.take_response()
        self.assertEqual((challenge.status, self.registrar.bound("alice")), (401, []))
        self.alice.take_challenge(challenge)
        self.assertEqual(self.alice.challenge["realm"], "example.com")
        answer = self.alice.register(A)
        self.assertEqual((answer.status, answer.get_all("Contact")), (200, [f"<{A}>;expires=3600"]))
        self.assertEqual(self.registrar.bound("alice"), [A])
        self.assertEqual(self.outcomes(), {("missing",): 1, ("accepted",): 1})
        self.assertEqual(self.registrar.counted("rollcall_answers_total", method="REGISTER", status="401"), 1)
        self.assertEqual(self.registrar.counted("rollcall_answers_total", method="REGISTER", status="200"), 1)

    def test_credentials_are_used_again(self) -> None:
        """A refresh with the next count of the same nonce is not challenged."""
        self.alice.register(A)
        for _ in range(3):
            self.assertEqual(self.alice.register(A).status, 200)
        self.assertEqual(self.outcomes(), {("missing",): 1, ("accepted",): 4})

    def test_wrong_password(self) -> None:
        """A wrong password is asked for again, and an unknown user cannot tell that he is unknown."""
        self.alice.password = "guess"
        self.refusal(401, A)
        carol = self.registrar.client("carol", port=49160)
        self.assertEqual(carol.register("sip:carol@192.0.2.22").status, 401)
        self.assertEqual(self.outcomes(), {("missing",): 2, ("bad_password",): 1, ("unknown_user",): 1})

    def test_guesses_are_logged(self) -> None:
        """Who tries a wrong password is named with his address, and nothing of what he sent as proof."""
        self.alice.register(A)
        self.alice.challenge["nonce"] = "old"
        self.alice.password = "guess"
        with capturedLogs() as events:
            self.alice.send(self.alice.a_register(A))
            self.alice.take_challenge(self.alice.flow.take_response())
            self.alice.send(self.alice.a_register(A))
        self.assertEqual(_lines(events), [f"{ALICE} from 192.0.2.20:49152 over TCP: bad_password"])

    def test_address_of_another(self) -> None:
        """A subscriber may bind nothing to the address of another one: 403 (§10.3 step 4)."""
        answer = self.refusal(403, A, to="sip:bob@example.com")
        self.assertEqual(answer.reason, "Not Your Address")
        self.refusal(403, "*", to="sip:bob@example.com", expires=0)
        self.refusal(403, to="sip:bob@example.com")

    def test_no_password_needed(self) -> None:
        """Without authentication everybody is believed."""
        registrar = Registrar(with_passwords=False)
        self.assertEqual(registrar.client("carol").register("sip:carol@192.0.2.22").status, 200)
        self.assertEqual(registrar.bound("carol"), ["sip:carol@192.0.2.22"])

    def test_malformed_credentials(self) -> None:
        """Credentials that cannot be read are 400, which is no reason to ask the user."""
        self.alice.send(self.alice.a_register(A, headers=(("Authorization", "Digest username=\"alice"),)))
        self.assertEqual(self.alice.statuses(), [400])
        self.assertEqual(self.outcomes(), {("malformed",): 1})


class DomainTests(RegisteringCase):
    def test_alias(self) -> None:
        """An alias of the domain registers under the domain's own name, with the same password."""
        alias = "sip.example.com"
        answer = self.alice.register(A, uri=f"sip:{alias}", to=f"sip:alice@{alias}")
        self.assertEqual((answer.status, self.registrar.bound("alice")), (200, [A]))
        self.assertEqual(self.alice.register(B, to=f"sip:alice@{alias}").status, 200)
        self.assertEqual(self.alice.register(B, uri="sip:SIP.Example.COM.:5060;transport=tcp").status, 200)
        self.assertEqual(self.registrar.bound("alice"), [A, B])

    def test_canonical_address(self) -> None:
        """Escapes, port, parameters and the case of the domain make no other address-of-record (§10.3 step 5)."""
        for to in ("sip:%61lice@EXAMPLE.com", "sip:alice@example.com:5060;user=phone", "sips:alice@example.com"):
            self.assertEqual(self.alice.register(A, to=to).status, 200)
        self.assertEqual(self.registrar.bound("alice"), [A])

    def test_address_of_another_domain(self) -> None:
        """An address that is not of the domain in the Request-URI is 404, before anybody is asked who he is."""
        for to in ("sip:alice@elsewhere.example", "sip:alice@example.org", "sip:example.com"):
            self.refusal(404, A, to=to)
        self.assertEqual(self.outcomes(), {})

    def test_address_of_another_scheme(self) -> None:
        """What is no SIP URI is no address-of-record at all, and 400 (RFC 4475 §3.3.4)."""
        self.refusal(400, A, to="tel:+15551234")
        self.assertEqual(self.outcomes(), {})

    def test_our_address_is_no_domain(self) -> None:
        """A REGISTER for our bare address, when that is not among the domains and aliases, is 403."""
        answer = self.refusal(403, A, uri="sip:192.0.2.1")
        self.assertEqual(answer.reason, "Domain Not Served")

    def test_domain_of_others(self) -> None:
        """A REGISTER for a domain that others serve is for them: a caller who proves nothing is not relayed there."""
        self.alice.send(self.alice.a_register(A, uri="sip:elsewhere.example"))
        self.assertEqual(self.alice.statuses(), [407])
        self.assertEqual((self.registrar.bound("alice"), self.registrar.network.resolver.asked), ([], []))

    def test_unknown_extension(self) -> None:
        """What a REGISTER requires and we do not know is named in the 420; what we know is not (§8.2.2.3)."""
        answer = self.refusal(420, A, headers=(("Require", "path, x-teleport"), ("Require", "X-Other")))
        self.assertEqual(answer.get_all("Unsupported"), ["x-other, x-teleport"])
        self.assertEqual(self.alice.register(A, headers=(("Require", "gruu, outbound, path"),)).status, 200)


class AnswerTests(RegisteringCase):
    def test_kinds(self) -> None:
        """Each REGISTER is counted by what it did, and only what changes who can be called is logged."""
        with capturedLogs() as events:
            for contacts, expires, kind in (
                ((), None, "fetched"), ((A,), 3600, "new"), ((A,), 3600, "refreshed"), ((), None, "fetched"),
                ((B,), 3600, "new"), ((A,), 0, "removed"), (("*",), 0, "removed"), (("*",), 0, "fetched"),
                ((A,), 0, "fetched"),
            ):
                before = self.kinds().get(kind, 0)
                self.assertEqual(self.alice.register(*contacts, expires=expires).status, 200)
                self.assertEqual(self.kinds().get(kind), before + 1, (contacts, expires, kind))
                self.registrar.clock.advance(0.05)  # lines about what was done at once come at the end of the turn
        self.assertEqual(self.registrar.counted("rollcall_registrations_total", transport="TCP", kind="new"), 2)
        self.assertEqual(_lines(events), [
            f"{ALICE} {kind} over TCP from 192.0.2.20:49152, {count} bound"
            for kind, count in (("new", 1), ("new", 2), ("removed", 1), ("removed", 0))
        ])

    def test_exchange_in_one_request(self) -> None:
        """A phone that takes one contact away and adds another in one REGISTER has registered, not left."""
        self.alice.register(A)
        self.assertEqual(self.alice.register(f"<{A}>;expires=0", f"<{B}>").status, 200)
        self.assertEqual(self.registrar.bound("alice"), [B])
        self.assertEqual(self.kinds(), {"new": 2})

    def test_fetch_saves_nothing(self) -> None:
        """A REGISTER without contacts reports what is bound, in the order of arrival, and writes nothing."""
        self.alice.register(A)
        self.alice.register(B)
        saves = self.registrar.location.saves
        self.registrar.clock.advance(600)
        answer = self.alice.register(expires=None)
        self.assertEqual(answer.get_all("Contact"), [f"<{A}>;expires=3000", f"<{B}>;expires=3000"])
        self.assertEqual(self.registrar.location.saves, saves)

    def test_refusals_by_the_rules(self) -> None:
        """What the rules of registration refuse is answered with their status and headers."""
        self.alice.register(A)
        self.refusal(400, "*", expires=60)
        self.assertEqual(self.refusal(423, A, expires=10).get("Min-Expires"), "60")
        self.refusal(500, A, cseq=1)

    def test_malformed_contact(self) -> None:
        """A Contact, Path or Require that cannot be read is 400, and counted among the answers."""
        for headers in ((("Contact", "<sip:alice@"),), (("Path", "<sip:edge;lr"),), (("Require", "a b"),),
                        (("Contact", "*"), ("Contact", f"<{A}>"))):
            self.refusal(400, headers=headers)
        self.assertEqual(self.registrar.counted("rollcall_answers_total", method="REGISTER", status="400"), 4)

    def test_repeated_request(self) -> None:
        """A REGISTER that comes again gets the same answer again, byte for byte, and is not saved again (§17.2.2)."""
        phone = self.registrar.client("alice", "UDP", host="192.0.2.30")
        phone.register(A)
        request = phone.a_register(B).serialise()
        phone.receive(request)
        (first,) = phone.flow.written
        self.registrar.clock.advance(2)
        phone.receive(request)
        phone.receive(request)
        self.assertEqual(phone.flow.written, [first] * 3)
        self.assertEqual((phone.statuses(), self.registrar.location.saves), ([200] * 3, 2))

    def test_repeated_while_saving(self) -> None:
        """A REGISTER that comes again while the store still writes waits for the one answer."""
        phone = self.registrar.client("alice", "UDP", host="192.0.2.30")
        phone.register(A)
        self.registrar.location.holds = True
        request = phone.a_register(B).serialise()
        for _ in range(3):
            phone.receive(request)
        self.assertEqual((phone.statuses(), self.registrar.location.let_pass()), ([], ["load"]))
        self.assertEqual((phone.statuses(), self.registrar.location.let_pass()), ([], ["save"]))
        self.assertEqual(phone.statuses(), [200])


class StoreTests(RegisteringCase):
    def refused_for_now(self, client: Client, *contacts: str) -> None:
        """See that a REGISTER shall come again later."""
        answer = client.register(*contacts)
        self.assertEqual((answer.status, answer.get("Retry-After")), (503, str(RETRY_AFTER)))

    def test_subscribers_down(self) -> None:
        """When nobody can tell who is a subscriber, everybody shall come again, right password or not: never 401."""
        self.alice.register(A)
        guesser = self.registrar.client("alice", port=49170)
        guesser.password = "guess"
        carol = self.registrar.client("carol", port=49171)
        self.registrar.subscribers.unavailable = "no route to the database"
        for client in (self.alice, guesser, carol):
            self.refused_for_now(client, B)
        self.assertEqual(self.registrar.bound("alice"), [A])
        self.registrar.subscribers.unavailable = None
        self.assertEqual(self.alice.register(B).status, 200)

    def test_location_down(self) -> None:
        """When bindings cannot be read or kept, the phone shall come again, and nothing has changed."""
        self.alice.register(A)
        self.registrar.location.down = True
        for contacts in ((B,), ("*",), ()):
            self.refused_for_now(self.alice, *contacts)
        self.assertEqual(self.registrar.bound("alice"), [A])

    def test_save_fails(self) -> None:
        """A store that fails between reading and writing has bound nothing, nor counted anything."""
        self.alice.register(expires=None)
        self.registrar.location.holds = True
        self.alice.send(self.alice.a_register(A))
        self.registrar.location.let_pass()
        self.registrar.location.down = True
        self.registrar.location.let_pass()
        self.assertEqual((self.alice.statuses(), self.registrar.bound("alice")), ([503], []))
        self.assertEqual((self.alice.flow.bound, self.kinds()), (None, {"fetched": 1}))

    def test_broken_store(self) -> None:
        """A store with a mistake of ours in it is 500 to the phone and a traceback in the log."""
        self.alice.register(A)
        self.patch(self.registrar.location, "load", _broken)
        self.assertEqual(self.alice.register(B).status, 500)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_two_at_once(self) -> None:
        """Two phones of one user that register at the same moment are both bound: the loser decides again."""
        first, second = self.alice, self.registrar.client("alice", port=49153)
        first.register(expires=None)
        second.register(expires=None)
        self.registrar.location.holds = True
        first.send(first.a_register(A))
        second.send(second.a_register(B, call_id="second"))
        self.assertEqual(self.registrar.location.let_pass(), ["load", "load"])
        self.assertEqual(self.registrar.location.let_pass(), ["save", "save"])
        self.assertEqual((first.statuses(), second.statuses()), ([200], []))
        self.assertEqual(self.registrar.location.let_pass(), ["load"])
        self.assertEqual(self.registrar.location.let_pass(), ["save"])
        answer = second.flow.take_response()
        self.assertEqual(answer.get_all("Contact"), [f"<{A}>;expires=3600", f"<{B}>;expires=3600"])
        self.assertEqual(self.registrar.bound("alice"), [A, B])

    def test_loser_may_be_refused(self) -> None:
        """The loser of a race is judged by what the winner wrote: an older request of the same phone is refused."""
        self.alice.register(expires=None)
        older, newer = self.alice.a_register(A), self.alice.a_register(A)
        self.registrar.location.holds = True
        self.alice.send(newer)
        self.alice.send(older)
        for _ in range(3):
            self.registrar.location.let_pass()
        self.assertEqual([answer.status for answer in self.alice.flow.take() if isinstance(answer, Response)],
                         [200, 500])

    def test_always_too_late(self) -> None:
        """A REGISTER that loses every race shall come again later."""
        location = self.registrar.location
        self.alice.register(expires=None)
        location.holds = True
        self.alice.send(self.alice.a_register(A))
        for _ in range(MAX_CONFLICTS):
            self.assertEqual((self.alice.statuses(), location.let_pass()), ([], ["load"]))
            location.put(ALICE, Snapshot(location.peek(ALICE).version + 1, (a_binding(B),)))
            location.let_pass()
        self.assertEqual((self.alice.statuses(), self.registrar.bound("alice")), ([503], [B]))

    def test_time_of_the_store(self) -> None:
        """How long the store took to save is told to the metrics."""
        self.alice.register(expires=None)
        self.registrar.location.holds = True
        self.alice.send(self.alice.a_register(A))
        self.registrar.location.let_pass()
        self.registrar.clock.advance(0.25)
        self.registrar.location.let_pass()
        labels = {"store": "location", "operation": "save"}
        self.assertEqual(self.registrar.counted("rollcall_store_seconds_sum", **labels), 0.25)
        self.assertEqual(self.registrar.counted("rollcall_store_seconds_count", **labels), 1)


class ExtensionTests(RegisteringCase):
    def test_gruus(self) -> None:
        """A phone that supports GRUUs gets those of its instance."""
        answer = self.alice.register(A, instance=TABLET, headers=(("Supported", "gruu"),))
        (contact,) = answer.get_all("Contact")
        self.assertIn(f'pub-gruu="{ALICE};gr={TABLET}"', contact)
        self.assertIn('temp-gruu="sip:', contact)

    def test_outbound(self) -> None:
        """Outbound is required in the answer to a phone that uses it, with the time between its keepalives."""
        contact = f'<{A}>;reg-id=1;+sip.instance="<{TABLET}>"'
        answer = self.alice.register(contact, headers=(("Supported", "outbound, path"),))
        self.assertEqual((answer.get("Require"), answer.get("Flow-Timer")), ("outbound", "120"))

    def test_path(self) -> None:
        """A Path is kept and comes back; then the binding does not live on the connection it came over."""
        path = "<sip:edge.example.net;lr>"
        via = "SIP/2.0/TCP edge.example.net;branch=z9hG4bK-edge, SIP/2.0/TCP 10.0.0.9;branch=z9hG4bK-phone"
        headers = (("Path", path), ("Supported", "path"))
        self.alice.register(expires=None)
        answer = self.alice.register(A, via=via, headers=headers)
        self.assertEqual((answer.status, answer.get("Path")), (200, path))
        (binding,) = done(self.registrar.location.load(ALICE)).bindings
        self.assertEqual((binding.path, binding.connection_bound, self.alice.flow.bound), ((path,), False, None))


def _broken(aor: str) -> "Deferred[Snapshot]":
    raise ZeroDivisionError


def _lines(events: Sequence[LogEvent]) -> list[str]:
    return [formatEvent(event) for event in events if event["log_level"].name != "debug"]
