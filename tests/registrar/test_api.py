"""GET /v1/contacts, asked over a connection to the admin site."""

import json
from collections.abc import AsyncIterator, Callable, Iterable
from itertools import chain
from typing import Any
from urllib.parse import urlencode

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.trial.unittest import SynchronousTestCase

from registrar.api import DEFAULT_PAGE, MAX_LISTINGS, MAX_PAGE, SLICE, Contacts
from registrar.bindings import Binding
from registrar.location.contract import LocationUnavailable, Snapshot
from registrar.location.memory import MemoryLocation
from rollcall.net.wheel import TimerWheel
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.api import Call
from rollcall.ops.metrics import Metrics
from tests.registrar.examples import ALICE, NOW, PHONE, A, B, C, a_binding, a_bound, over_tcp
from tests.rollcall.ops.asking import Answered, ask


async def _failing(fail: Callable[[], Any]) -> AsyncIterator[Any]:
    yield fail()


class ContactsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.location = MemoryLocation(TimerWheel(Clock()), lambda: NOW)
        self.pauses = 0
        self.ended: set[str] = set()
        self.admin = self.site(None)

    def site(self, token: str | None) -> AdminSite:
        """Return a site that answers with what is bound."""
        admin = AdminSite(MemoryReactorClock(), AdminConfig(token=token), Metrics(process=False))
        Contacts(self.location, lambda: NOW, self.pause, self.there, self.named).mount(admin.routes)
        return admin

    def there(self, bindings: Iterable[Binding]) -> list[Binding]:
        """Leave out what has ended with its node."""
        return [binding for binding in bindings if binding.source.node not in self.ended]

    def named(self, name: str) -> frozenset[str]:
        """Return the nodes of a name."""
        return frozenset({"n1-1", "n1-2"} if name == "n1" else {name})

    async def pause(self) -> None:
        """Count a pause, and go on at once."""
        self.pauses += 1

    def bind(self, aor: str, *contacts: str, **changes: Any) -> None:
        """Have these contacts in the place of those there were."""
        old = self.location.peek(aor)
        self.location.put(aor, old.followed_by(tuple(a_binding(contact, **changes) for contact in contacts)))

    def ask(self, **query: object) -> Answered:
        """Return the answer to a query."""
        return ask(self.admin.site, "GET", f"/v1/contacts?{urlencode(query)}")

    def listing(self, size: int, between: Callable[[int], None] = lambda page: None) -> list[list[str]]:
        """Return the addresses on each page of a listing; `between` is told of each page that has been read."""
        answer = self.ask(size=size).json
        pages = [[contact["aor"] for contact in answer["contacts"]]]
        while answer["next"] is not None:
            between(len(pages))
            answer = self.ask(after=answer["next"]).json
            pages.append([contact["aor"] for contact in answer["contacts"]])
        return pages

    def test_one_address(self) -> None:
        """All that is known of a binding is told, under the names that scripts rely on."""
        binding = a_bound("sip:alice@192.0.2.4", 7, instance=PHONE, reg_id=1, path=("<sip:edge;lr>",), q=700)
        self.location.put(ALICE, Snapshot(1, (binding,)))
        self.assertEqual(self.ask(aor=ALICE).json, {"contacts": [{
            "aor": ALICE, "contact": "sip:alice@192.0.2.4", "q": 0.7, "expires_seconds": 3600, "transport": "TCP",
            "host": "192.0.2.4", "port": 49159, "listener": "tcp", "node": "n1", "flow": 7, "path": ["<sip:edge;lr>"],
            "instance": PHONE, "reg_id": 1, "user_agent": "Phone/1", "call_id": "one@phone", "cseq": 1,
            "registered_at": NOW, "refreshed_at": NOW,
        }], "next": None})

    def test_over_datagrams(self) -> None:
        """What lives on no connection has no flow."""
        self.bind(ALICE, "sip:alice@192.0.2.4")
        (contact,) = self.ask(aor=ALICE).json["contacts"]
        self.assertEqual((contact["transport"], contact["flow"]), ("UDP", None))

    def test_spellings(self) -> None:
        """Any spelling of the address finds it."""
        self.bind(ALICE, "sip:alice@192.0.2.4")
        spellings = "sip:alice@EXAMPLE.com", "sip:%61lice@example.com:5060;user=phone", "sips:alice@example.com"
        for aor in (ALICE, *spellings):
            self.assertEqual([contact["aor"] for contact in self.ask(aor=aor).json["contacts"]], [ALICE])

    def test_nobody(self) -> None:
        """An address without bindings has none, whether or not it is somebody's."""
        self.bind("sip:bob@example.com", "sip:bob@192.0.2.4")
        self.bind("sip:bob@example.com")
        for aor in (ALICE, "sip:bob@example.com"):
            self.assertEqual(self.ask(aor=aor).json, {"contacts": [], "next": None})
        self.assertEqual(self.listing(10), [[], []])

    def test_lapsed(self) -> None:
        """What has lapsed is not shown, even when the store still has it."""
        self.bind(ALICE, "sip:alice@192.0.2.4", expires_at=NOW)
        self.assertEqual((self.ask(aor=ALICE).json["contacts"], self.listing(10)), ([], [[], []]))

    def test_pages(self) -> None:
        """A listing shows every address once, in pages of the size that was asked for."""
        aors = [f"sip:user{number}@example.com" for number in range(7)]
        for aor in aors:
            self.bind(aor, "sip:a@192.0.2.4", "sip:b@192.0.2.4")
        pages = self.listing(3)
        self.assertEqual([len(page) for page in pages], [6, 6, 2, 0])
        self.assertEqual(list(chain(*pages)), [aor for aor in aors for _ in range(2)])
        self.assertEqual([len(page) for page in self.listing(MAX_PAGE)], [14, 0])

    def test_default_size(self) -> None:
        """A page has a hundred addresses unless it is asked for otherwise."""
        for number in range(DEFAULT_PAGE + 1):
            self.bind(f"sip:user{number}@example.com", "sip:a@192.0.2.4")
        self.assertEqual(len(self.ask().json["contacts"]), DEFAULT_PAGE)

    def test_long_pages(self) -> None:
        """A long page is made slice by slice, with a pause between two, and a listing of such pages is whole."""
        for number in range(7 * SLICE):
            self.bind(f"sip:user{number}@example.com", "sip:a@192.0.2.4")
        self.ask(size=SLICE)
        self.assertEqual(self.pauses, 0)
        self.assertEqual(len(self.ask(size=2 * SLICE + 1).json["contacts"]), 2 * SLICE + 1)
        self.assertEqual(self.pauses, 2)
        self.assertEqual([len(page) for page in self.listing(3 * SLICE)], [3 * SLICE, 3 * SLICE, SLICE, 0])

    def test_others_have_their_turn(self) -> None:
        """In the pauses of a long page whatever else there is to do is done."""
        for number in range(3 * SLICE):
            self.bind(f"sip:user{number}@example.com", "sip:a@192.0.2.4")
        clock = Clock()
        contacts = Contacts(self.location, lambda: NOW, lambda: deferLater(clock, 0))
        answering = Deferred.fromCoroutine(contacts.contacts(Call({}, {"size": str(MAX_PAGE)})))
        self.assertNoResult(answering)
        clock.advance(0)
        page = json.loads(self.successResultOf(answering).encode())
        self.assertEqual(len(page["contacts"]), 3 * SLICE)

    def test_empty_page_is_no_end(self) -> None:
        """Addresses that have lost their bindings make a page shorter, not the listing."""
        for name in "abcdef":
            self.bind(f"sip:{name}@example.com", "sip:a@192.0.2.4")
        for name in "abd":
            self.bind(f"sip:{name}@example.com")
        pages = self.listing(2)
        self.assertEqual([len(page) for page in pages], [0, 1, 2, 0])

    def test_changes_meanwhile(self) -> None:
        """Whoever stays bound while others come and go is seen once."""
        stays = [f"sip:stays{number}@example.com" for number in range(6)]
        for number, aor in enumerate(stays):
            self.bind(f"sip:goes{number}@example.com", "sip:a@192.0.2.4")
            self.bind(aor, "sip:a@192.0.2.4")

        def change(page: int) -> None:
            self.bind(f"sip:goes{page - 1}@example.com")
            self.bind(f"sip:comes{page}@example.com", "sip:a@192.0.2.4")
            self.bind(stays[-1], "sip:a@192.0.2.4")

        found = list(chain(*self.listing(2, change)))
        self.assertEqual([aor for aor in found if aor in stays], stays)
        self.assertEqual(len(found), len(set(found)))

    def bind_nodes(self) -> None:
        """Have Alice bound at three nodes, two of them workers of one registrar."""
        nodes = ("n1-1", A), ("n1-2", B), ("n2", C)
        self.location.put(ALICE, Snapshot(1, tuple(
            evolve(a_bound(contact, 7), source=over_tcp(7, node)) for node, contact in nodes)))

    def test_of_a_node(self) -> None:
        """Of a node, or of a registrar's workers, only that is shown which came over its sockets."""
        self.bind_nodes()
        for node, contacts in (("n1-1", [A]), ("n1", [A, B]), ("n2", [C]), ("n3", [])):
            for query in ({"aor": ALICE}, {}):
                shown = self.ask(node=node, **query).json["contacts"]
                self.assertEqual([contact["contact"] for contact in shown], contacts)
        self.bind("sip:bob@example.com", "sip:bob@192.0.2.4")
        after = self.ask(node="n2", size=1).json["next"]
        self.assertEqual(self.ask(after=after).json["contacts"], [])

    def test_ended(self) -> None:
        """What has ended with its node is not shown, though nobody has removed it yet."""
        self.bind_nodes()
        self.ended.add("n2")
        for query in ({"aor": ALICE}, {}, {"node": "n2"}):
            shown = self.ask(**query).json["contacts"]
            self.assertEqual([contact["contact"] for contact in shown], [] if "node" in query else [A, B])

    def test_store_away(self) -> None:
        """A store that cannot be read is 503, with its reason."""
        def away(*_: object) -> Any:
            raise LocationUnavailable("Redis is away")

        self.bind_nodes()
        self.patch(self.location, "load", away)
        self.patch(self.location, "pages", lambda size: _failing(away))
        for query in ({"aor": ALICE}, {}):
            answered = self.ask(**query)
            self.assertEqual(answered.status, 503)
            self.assertIn("Redis is away", answered.json["error"])

    def test_a_page_once_only(self) -> None:
        """The same place asked for twice is no second page: nobody is left out without a word."""
        for name in "abc":
            self.bind(f"sip:{name}@example.com", "sip:a@192.0.2.4")
        place = self.ask(size=1).json["next"]
        self.assertEqual(self.ask(after=place).status, 200)
        again = self.ask(after=place)
        self.assertEqual((again.status, again.json), (410, {
            "error": "after: this listing is over; begin again without it"}))

    def test_many_listings(self) -> None:
        """Listings that nobody reads to their end are forgotten, the oldest first."""
        for name in "abc":
            self.bind(f"sip:{name}@example.com", "sip:a@192.0.2.4")
        places = [self.ask(size=1).json["next"] for _ in range(MAX_LISTINGS + 1)]
        self.assertEqual([self.ask(after=place).status for place in places], [410] + [200] * MAX_LISTINGS)

    def test_bad_parameters(self) -> None:
        """Whatever is wrong with a query is 400, and named."""
        for name, values in (
            ("aor", ("", "alice", "alice@example.com", "tel:+15551234", "sip:example.com", "sip:alice@")),
            ("size", ("0", "-1", "x", "1.5", str(MAX_PAGE + 1), "9" * 30, "¹")),
            ("page", ("0",)),
        ):
            for value in values:
                answered = self.ask(**{name: value})
                self.assertEqual(answered.status, 400, (name, value))
                self.assertTrue(answered.json["error"].startswith(f"{name}: "), answered.json)

    def test_token(self) -> None:
        """With a token configured, nobody learns anything without it."""
        self.bind(ALICE, "sip:alice@192.0.2.4")
        site = self.site("t0p").site
        for authorization, status in (("", 401), ("Bearer x", 401), ("Bearer t0p", 200)):
            answered = ask(site, "GET", f"/v1/contacts?aor={ALICE}", authorization=authorization)
            self.assertEqual(answered.status, status)
            self.assertEqual(b"192.0.2.4" in answered.content, status == 200)
