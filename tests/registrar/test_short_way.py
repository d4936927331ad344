"""The short way of a REGISTER answers as the whole way does, leaves the same bindings, and knows what it cannot do."""

import re
from itertools import count
from typing import Any
from unittest import SkipTest

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.admission import AdmissionConfig
from registrar.records import BindingConfig
from registrar.short_way import ShortWay
from rollcall.sip.compiled import compiled_module
from rollcall.sip.message import Response, parse_message
from rollcall.sip.scanner import scan_register
from tests.registrar.examples import EXACT, PHONE
from tests.registrar.joined import DOMAIN, PASSWORDS, Client, Registrar

CONTACT = "sip:alice@192.0.2.20:49152"
OTHER = "sip:alice@192.0.2.21"

# What differs between two answers to the same request by chance alone.
BY_CHANCE = re.compile(rb';tag=[0-9a-z]+(?=\r\n)|nonce="[^"]+"|temp-gruu="[^"]+"')


class ShortWayCase(SynchronousTestCase):
    """A registrar whose REGISTERs take the short way where they can."""

    config = EXACT
    with_passwords = False

    def setUp(self) -> None:
        self.registrar = Registrar(bindings=self.config, with_passwords=self.with_passwords)
        self.alice = self.registrar.client("alice")

    def short_answer(self, client: Client, *contacts: str, **changes: Any) -> Response | None:
        """Return what the short way alone makes of the next REGISTER of a phone."""
        data = client.a_register(*contacts, **changes).serialise()
        answer = client.offer(data)
        return None if answer is None else _response(answer)

    def version(self) -> int:
        """Return how often the bindings of alice were written."""
        return self.registrar.location.peek(self.alice.aor).version


class WhatItTakesTests(ShortWayCase):
    """First bindings and refreshes of one contact are answered at once; all else is left to the whole way."""

    def test_first_binding(self) -> None:
        """The first contact of an address-of-record is bound."""
        answer = self.short_answer(self.alice, CONTACT)
        assert answer is not None
        self.assertEqual((answer.status, answer.get("Contact")), (200, f"<{CONTACT}>;expires=3600"))
        self.assertEqual(self.registrar.bound("alice"), [CONTACT])

    def test_refresh(self) -> None:
        """The same contact over the same connection gets more time."""
        self.alice.register(CONTACT)
        self.registrar.clock.advance(1000)
        answer = self.short_answer(self.alice, CONTACT)
        assert answer is not None
        self.assertEqual((answer.get("Contact"), self.version()), (f"<{CONTACT}>;expires=3600", 2))

    def test_refresh_of_an_instance(self) -> None:
        """A phone with an instance is bound by the whole way and refreshed by the short one."""
        self.assertIsNone(self.short_answer(self.alice, CONTACT, instance=PHONE))
        self.alice.register(CONTACT, instance=PHONE)
        self.assertIsNotNone(self.short_answer(self.alice, CONTACT, instance=PHONE))

    def test_other_domains(self) -> None:
        """A domain that is served from now on is known at once, and one that is not any more is forgotten as soon."""
        there = {"uri": "sip:example.net", "to": "sip:alice@example.net"}
        self.assertIsNone(self.short_answer(self.alice, CONTACT, **there))
        self.registrar.domains.serve_also(["example.net"])
        for _ in range(2):
            answer = self.short_answer(self.alice, CONTACT, **there)
            assert answer is not None
            self.assertEqual(answer.status, 200)
        self.registrar.domains.serve_also([])
        self.assertIsNone(self.short_answer(self.alice, CONTACT, **there))

    def test_left_to_the_whole_way(self) -> None:
        """What needs a rule more, or has something to refuse, changes nothing."""
        self.alice.register(CONTACT)
        again = self.alice.cseq
        for changes in ({"expires": 0}, {"expires": 30}, {"call_id": "another"}, {"headers": (("Require", "path"),)},
                        {"headers": (("Path", "<sip:edge.example.net;lr>"),)}, {"to": "sip:alice@example.net"},
                        {"uri": "sip:example.net"}, {"headers": (("User-Agent", "Newer"),)}):
            self.assertIsNone(self.short_answer(self.alice, CONTACT, **changes), changes)
        self.assertIsNone(self.short_answer(self.alice, OTHER))
        self.assertIsNone(self.short_answer(self.alice, CONTACT, OTHER))
        self.assertIsNone(self.short_answer(self.alice))
        self.alice.cseq = again - 1
        self.assertIsNone(self.short_answer(self.alice, CONTACT), "out of order")
        self.assertEqual(self.version(), 1)

    def test_another_connection(self) -> None:
        """Over another connection the whole way has to let go of the old one."""
        self.alice.register(CONTACT)
        self.alice.move()
        self.assertIsNone(self.short_answer(self.alice, CONTACT))

    def test_lapsed(self) -> None:
        """A binding whose time is over is not refreshed but made anew."""
        self.alice.register(CONTACT)
        self.registrar.clock.advance(3600.5)
        self.assertIsNone(self.short_answer(self.alice, CONTACT))

    def test_the_end_of_the_connection_unbinds(self) -> None:
        """What was bound at once ends with its connection as any binding."""
        self.assertIsNotNone(self.short_answer(self.alice, CONTACT))
        self.registrar.lose(self.alice.flow)
        self.assertEqual(self.registrar.bound("alice"), [])

    def test_it_is_counted(self) -> None:
        """Metrics do not tell the ways apart."""
        self.alice.register(CONTACT)
        self.alice.register(CONTACT)
        counted = self.registrar.counts("rollcall_registrations_total")
        self.assertEqual(counted, {("new", "TCP"): 1, ("refreshed", "TCP"): 1})
        self.assertEqual(self.registrar.counted("rollcall_answers_total", method="REGISTER", status="200"), 2)
        self.assertEqual(self.registrar.counted("rollcall_answer_seconds_count", method="REGISTER"), 2)


class RequiredOutboundTests(ShortWayCase):
    """Where phones must register with outbound, the whole way says so."""

    config = BindingConfig(expiry_jitter=0.0, require_outbound=True)

    def test_all_take_the_whole_way(self) -> None:
        """A phone without outbound is refused."""
        self.assertIsNone(self.short_answer(self.alice, CONTACT))
        self.assertEqual(self.alice.register(CONTACT).status, 421)


class DatagramTests(ShortWayCase):
    """Datagrams are answered where they came from; a repeated one gets the same answer."""

    def setUp(self) -> None:
        """Have a phone that speaks UDP."""
        super().setUp()
        self.alice = self.registrar.client("alice", "UDP")

    def test_repeated_refresh(self) -> None:
        """A request that comes twice changes the binding once and is answered alike."""
        self.alice.register(CONTACT)
        data = self.alice.a_register(CONTACT).serialise()
        first, second = self.alice.offer(data), self.alice.offer(data)
        self.assertIsNotNone(first)
        self.assertEqual((first, self.version()), (second, 2))

    def test_repeated_after_its_time(self) -> None:
        """After 32 seconds nobody repeats; then it is out of order (RFC 3261 §10.3 step 7)."""
        data = self.alice.a_register(CONTACT).serialise()
        self.assertIsNotNone(self.alice.offer(data))
        self.registrar.clock.advance(33)
        self.assertIsNone(self.alice.offer(data))

    def test_repeated_from_elsewhere(self) -> None:
        """The same request from another place is another one."""
        data = self.alice.a_register(CONTACT).serialise()
        self.assertIsNotNone(self.alice.offer(data))
        other = self.registrar.client("alice", "UDP", host="192.0.2.66")
        self.assertIsNone(other.offer(data))

    def test_answer_to_the_port_in_via(self) -> None:
        """Who asked for no rport and names another port than he speaks from is answered there, by the whole way."""
        self.assertIsNone(self.short_answer(self.alice, CONTACT, sent_by="192.0.2.20:5070"))
        self.assertIsNotNone(self.short_answer(self.alice, CONTACT, sent_by="192.0.2.20:49152"))

    def test_a_request_in_progress(self) -> None:
        """What the whole way is busy with is not answered twice."""
        self.registrar.location.holds = True
        data = self.alice.a_register(CONTACT).serialise()
        self.alice.receive(data)
        self.registrar.location.holds = False
        self.assertIsNone(self.alice.offer(data))


class PasswordTests(ShortWayCase):
    """The short way asks for the same proofs."""

    with_passwords = True

    def test_challenge(self) -> None:
        """Without credentials the answer is a 401 with a nonce."""
        answer = self.short_answer(self.alice, CONTACT)
        assert answer is not None
        self.assertEqual((answer.status, self.registrar.bound("alice")), (401, []))
        self.alice.take_challenge(answer)
        proven = self.short_answer(self.alice, CONTACT)
        assert proven is not None
        self.assertEqual(proven.status, 200)

    def test_a_challenge_waits_for_no_store(self) -> None:
        """Whoever has to prove something first is told so, also while bindings cannot be reached."""
        for transport in ("TCP", "UDP"):
            phone = self.registrar.client("alice", transport)
            self.registrar.location.holds = True
            answer = self.short_answer(phone, CONTACT)
            assert answer is not None
            phone.take_challenge(answer)
            self.assertEqual((answer.status, self.short_answer(phone, CONTACT)), (401, None))

    def test_refusals_are_left_to_the_whole_way(self) -> None:
        """A wrong password, another's password, a used count and a made-up nonce prove nothing."""
        self.alice.register(CONTACT)
        bob = self.registrar.client("bob")
        bob.register("sip:bob@192.0.2.30")
        self.alice.password = "wrong"
        self.assertIsNone(self.short_answer(self.alice, CONTACT))
        self.assertIsNone(self.short_answer(bob, CONTACT, to=self.alice.aor))
        bob.nc -= 2
        self.assertIsNone(self.short_answer(bob, "sip:bob@192.0.2.30"))
        bob.challenge["nonce"] = "A" * 32
        self.assertIsNone(self.short_answer(bob, "sip:bob@192.0.2.30"))

    def test_strangers_name_no_user_agents(self) -> None:
        """A User-Agent is given a number, for good, only when a phone has proved its password."""
        self.alice.register(CONTACT)
        self.alice.password = "wrong"
        agents = self.registrar.location.packing.agents
        self.alice.register(CONTACT, headers=(("User-Agent", "Made up"),))
        self.assertIsNone(agents.known(b"Made up"))
        self.alice.password = PASSWORDS["alice"]
        self.alice.register(CONTACT, headers=(("User-Agent", "Made up"),))
        self.assertIsNotNone(agents.known(b"Made up"))

    def test_a_count_is_used_once(self) -> None:
        """What was proven to the short way is a replay for the whole way, too."""
        self.alice.register(CONTACT)
        data = self.alice.a_register(CONTACT).serialise()
        self.assertIsNotNone(self.alice.offer(data))
        self.alice.receive_whole(data)
        self.assertEqual(self.alice.statuses(), [401])

    def test_left_to_the_whole_way_uses_no_count(self) -> None:
        """A proof that the short way saw but could not use is still good."""
        self.alice.register(CONTACT)
        self.assertEqual(self.alice.register(OTHER).status, 200)


class ShortestWayTests(SynchronousTestCase):
    """The compiled part takes the refreshes of a plain contact, and leaves all else as it found it."""

    TAKEN: tuple[dict[str, Any], ...] = (
        {}, {"expires": 120}, {"expires": None}, {"headers": (("Supported", "path, outbound"),)},
        {"headers": (("Max-Breadth", "60"),)},
    )
    LEFT: tuple[dict[str, Any], ...] = (
        {"expires": 0}, {"call_id": "another"}, {"instance": PHONE}, {"headers": (("User-Agent", "Newer"),)},
        {"headers": (("Path", "<sip:edge.example.net;lr>"), ("Supported", "path"))},
    )

    def setUp(self) -> None:
        """See that nothing but the compiled part answers at once."""
        if compiled_module("registrar._short_way") is None:
            raise SkipTest("not compiled")
        self.numbers = count(1)
        self.patch(ShortWay, "plainly_over_connection", lambda *_: None)
        self.patch(ShortWay, "plainly_in_datagram", lambda *_: None)

    def phones(self, **options: Any) -> "list[tuple[Registrar, Client]]":
        """Return a registered phone for each transport, with a password and without one."""
        phones = []
        for transport in ("TCP", "UDP"):
            for with_passwords in (False, True):
                registrar = Registrar(with_passwords=with_passwords, **options)
                alice = registrar.client("alice", transport)
                self.assertEqual(alice.register(CONTACT).status, 200)
                phones.append((registrar, alice))
        return phones

    def next_register(self, client: Client, *contacts: str, asks: str = ";rport", **changes: Any) -> bytes:
        """Return the next REGISTER of a phone, as most write it."""
        (host, port), number = client.flow.peer, next(self.numbers)
        via = f"SIP/2.0/{client.flow.transport} {host}:{port};branch=z9hG4bK-n{number}{asks}"
        return client.a_register(*(contacts or (CONTACT,)), via=via, **changes).serialise()

    def assert_taken(self, client: Client, data: bytes, message: object = None) -> None:
        """Check that the compiled part answers with a 200."""
        answer = client.offer(data)
        assert answer is not None, message
        self.assertEqual(_response(answer).status, 200, message)

    def assert_left(self, registrar: Registrar, client: Client, data: bytes, status: int = 200) -> None:
        """Check that it answers nothing and changes nothing, so that the whole way finds all as it was."""
        before = _all_that_is_noted(registrar)
        self.assertIsNone(client.offer(data), data)
        self.assertEqual(_all_that_is_noted(registrar), before)
        client.receive_whole(data)
        self.assertEqual(client.statuses(), [status], data)

    def test_what_it_takes(self) -> None:
        """Refreshes are taken, one after the other."""
        for registrar, alice in self.phones():
            for changes in self.TAKEN:
                registrar.clock.advance(10)
                self.assert_taken(alice, self.next_register(alice, **changes), changes)
            self.assertEqual(registrar.location.peek(alice.aor).version, 1 + len(self.TAKEN))

    def test_what_it_leaves(self) -> None:
        """What needs a rule more is left, and its password is still good."""
        for changes in self.LEFT:
            for registrar, alice in self.phones():
                self.assert_left(registrar, alice, self.next_register(alice, **changes))
        for contacts in ((OTHER,), (CONTACT, OTHER), (f"<{CONTACT}>;+sip.instance=\"<{PHONE}>\"",)):
            for registrar, alice in self.phones():
                self.assert_left(registrar, alice, self.next_register(alice, *contacts))

    def test_other_places_and_times(self) -> None:
        """A phone that moved, an old request and a binding whose time is over are left."""
        for registrar, alice in self.phones():
            alice.move()
            self.assert_left(registrar, alice, self.next_register(alice))
            alice.cseq -= 1
            self.assert_left(registrar, alice, self.next_register(alice), 500)
            registrar.clock.advance(3600.5)
            alice.challenge = {}
            self.assertEqual(alice.register(CONTACT).status, 200)
            registrar.clock.advance(3600.5)
            data = self.next_register(alice)
            self.assert_left(registrar, alice, data, 401 if alice.challenge else 200)

    def test_first_binding(self) -> None:
        """Who is not bound yet is left."""
        for transport in ("TCP", "UDP"):
            registrar = Registrar(with_passwords=False)
            alice = registrar.client("alice", transport)
            self.assert_left(registrar, alice, self.next_register(alice))

    def test_datagrams(self) -> None:
        """A datagram that asks for no rport is left, and so is a repeated one."""
        for registrar, alice in self.phones()[2:]:
            self.assert_left(registrar, alice, self.next_register(alice, asks=""))
            data = self.next_register(alice)
            self.assert_taken(alice, data)
            self.assertIsNone(alice.offer(data))
            data = self.next_register(alice)
            alice.receive_whole(data)
            self.assertIsNone(alice.offer(data))

    def test_passwords(self) -> None:
        """It leaves who proves nothing, and who does not count on from a nonce's last use."""
        for registrar, alice in self.phones()[1::2]:
            challenge, alice.challenge = alice.challenge, {}
            self.assert_left(registrar, alice, self.next_register(alice), 401)
            alice.challenge = challenge
            alice.nc += 1
            self.assert_left(registrar, alice, self.next_register(alice))
            self.assert_left(registrar, alice, self.next_register(alice))  # its counts have a gap
            alice.nc -= 1
            self.assert_left(registrar, alice, self.next_register(alice), 401)
            alice.challenge = {}
            self.assertEqual(alice.register(CONTACT).status, 200)
            alice.password = "wrong"
            self.assert_left(registrar, alice, self.next_register(alice), 401)
            alice.nc, alice.password = alice.nc - 1, PASSWORDS["alice"]
            self.assert_taken(alice, self.next_register(alice))
            registrar.clock.advance(3601)
            self.assert_left(registrar, alice, self.next_register(alice), 401)

    def test_one_too_many(self) -> None:
        """Who sends too much is turned away at once, and nothing is changed."""
        for registrar, alice in self.phones(admission=AdmissionConfig(requests_per_source=2)):
            registrar.clock.advance(1)
            self.assert_taken(alice, self.next_register(alice))
            self.assert_taken(alice, self.next_register(alice))
            records = dict(registrar.location.records)
            answer = alice.offer(self.next_register(alice))
            assert answer is not None
            self.assertEqual(_response(answer).status, 503)
            self.assertEqual(registrar.location.records, records)

    def test_it_is_counted(self) -> None:
        """Metrics do not tell the ways apart, whenever they are read."""
        for registrar, alice in self.phones():
            transport, with_password = alice.flow.transport, bool(alice.challenge)
            for number in (1, 2):
                self.assert_taken(alice, self.next_register(alice))
                self.assertEqual(registrar.counts("rollcall_registrations_total"),
                                 {("new", transport): 1, ("refreshed", transport): number})
                counted = registrar.counted
                self.assertEqual(counted("rollcall_answers_total", method="REGISTER", status="200"), 1 + number)
                self.assertEqual(
                    counted("rollcall_answer_seconds_count", method="REGISTER"), 1 + number + with_password)
                self.assertEqual(counted("rollcall_authentications_total", outcome="accepted"),
                                 (1 + number) * with_password)


def _all_that_is_noted(registrar: Registrar) -> object:
    """Return what a request may leave behind."""
    names = "rollcall_registrations_total", "rollcall_answers_total", "rollcall_authentications_total"
    return (dict(registrar.location.records), registrar.location.saves, repr(vars(registrar.admission.beginning)),
            [registrar.counts(name) for name in names])


def _response(data: bytes) -> Response:
    message = parse_message(data)
    assert isinstance(message, Response)
    return message


def _contacts(text: str) -> st.SearchStrategy[str]:
    suffixes = ("", ";expires=120", f';+sip.instance="<{PHONE}>"', f';reg-id=1;+sip.instance="<{PHONE}>"', ";q=0.5",
                ";methods=\"INVITE,BYE\"", ";expires=0", ";expires=5")
    return st.sampled_from([f"<{text}>{suffix}" for suffix in suffixes])


STEPS = st.fixed_dictionaries({
    "transport": st.sampled_from(["TCP", "UDP"]),
    "contact": st.one_of(_contacts(CONTACT), _contacts(OTHER), st.just(CONTACT), st.just("*")),
    "expires": st.sampled_from([None, 3600, 3600, 60, 0, 10_000]),
    "call_id": st.sampled_from(["one", "one", "one", "two"]),
    "cseq": st.sampled_from([1, 1, 1, 1, 0, -1]),
    "pause": st.sampled_from([0.0, 0.4, 40.0, 130.0, 4000.0]),
    "headers": st.sampled_from([(), (), (("Supported", "path, outbound, gruu"),), (("Supported", "outbound"),),
                                (("User-Agent", "Phone 2"),), (("Require", "path"),),
                                (("Path", "<sip:edge.example.net;lr>"), ("Supported", "path"))]),
    "repeats": st.booleans(),
    "rport": st.booleans(),
})


class BothWaysTests(SynchronousTestCase):
    """Whatever phones send in whatever order: with the short way and without it everything comes out the same."""

    @settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(STEPS, min_size=1, max_size=12), st.booleans())
    def test_same_answers_and_bindings(self, steps: list[dict[str, Any]], with_passwords: bool) -> None:
        """The answers are equal in bytes but for tags and nonces, and so is every binding after each step."""
        seen = []
        for takes_short_way in (True, False):
            registrar = Registrar(with_passwords=with_passwords, takes_short_way=takes_short_way)
            clients = {transport: registrar.client("alice", transport) for transport in ("TCP", "UDP")}
            seen.append([_take(registrar, clients[step["transport"]], number, step)
                         for number, step in enumerate(steps)])
        self.assertEqual(*seen)


def _take(registrar: Registrar, client: Client, number: int, step: dict[str, Any]) -> Any:
    """Send what the step of this number says; return the answers, the bindings and the counts afterwards."""
    registrar.clock.advance(step["pause"])
    if not client.flow.is_open:
        registrar.requests.flow_closed(client.move(), "replaced")
    client.cseq = max(10, client.cseq) + step["cseq"] - 1
    host, port = client.flow.peer
    asked = ";rport" if step["rport"] else ""
    request = client.a_register(step["contact"], expires=step["expires"], call_id=step["call_id"],
                                headers=step["headers"], uri=f"sip:{DOMAIN}",
                                via=f"SIP/2.0/{client.flow.transport} {host}:{port};branch=z9hG4bK-{number}{asked}")
    for _ in range(2 if step["repeats"] and client.flow.transport == "UDP" else 1):
        client.send(request)
    written = [BY_CHANCE.sub(b"", data) for data in client.flow.written]
    for answer in client.flow.take():
        if isinstance(answer, Response) and answer.status == 401:
            client.take_challenge(answer)
    bindings = [_without_flow_id(binding) for binding in registrar.location.peek(client.aor).bindings]
    return written, bindings, registrar.counts("rollcall_registrations_total")


def _without_flow_id(binding: Any) -> Any:
    return (binding.contact, binding.params, binding.q, binding.expires_at, binding.call_id, binding.cseq, binding.path,
            binding.instance, binding.reg_id, binding.source.transport, binding.source.host, binding.source.port,
            binding.direct, binding.connection_bound, binding.user_agent, binding.registered_at, binding.refreshed_at)


class ScanTests(SynchronousTestCase):
    """What these tests send is what the scanner calls usual, or they would show nothing."""

    def test_usual(self) -> None:
        """The phone of the tests is a usual one."""
        client = Registrar().client("alice")
        self.assertIsNotNone(scan_register(client.a_register(CONTACT).serialise()))
