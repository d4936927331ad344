"""Documents about registrations: which contacts changed and how, and XML that is valid whatever phones send."""

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.gruu import GruuMaker
from registrar.records import Binding
from registrar.reginfo import Contact, Document, Event, all_contacts, changed_contacts, to_xml
from tests.registrar.examples import ALICE, NOW, a_binding, a_bound
from tests.registrar.reginfo import Reginfo, Table, gruu_of, params_of, uri_of

DESK, MOBILE = "sip:alice@192.0.2.4", "sip:alice@192.0.2.5"
URN = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"


def changes(told: list[Binding], bound: list[Binding], now: float = NOW + 10, lost: bool = False) -> dict[str, Event]:
    """Return the event of each contact that changed."""
    contacts = changed_contacts(told, bound, now, lambda binding: lost)
    return {contact.binding.contact: contact.event for contact in contacts}


def refreshed(binding: Binding, seconds: float = 5) -> Binding:
    """Return what a REGISTER makes of a binding so much later."""
    return attrs.evolve(binding, cseq=binding.cseq + 1, expires_at=binding.expires_at + seconds,
                        refreshed_at=binding.refreshed_at + seconds)


class ChangesTests(SynchronousTestCase):
    def test_nothing(self) -> None:
        """What is as it was told is no news."""
        self.assertEqual(changes([a_binding()], [a_binding()]), {})

    def test_registered(self) -> None:
        """A contact that was not there is registered, whatever else stays."""
        self.assertEqual(changes([a_binding(DESK)], [a_binding(DESK), a_binding(MOBILE)]), {MOBILE: Event.REGISTERED})

    def test_refreshed(self) -> None:
        """A REGISTER for a contact refreshes it, one that asks for less time too."""
        for seconds in (5, -60):
            with self.subTest(seconds):
                self.assertEqual(changes([a_binding(DESK)], [refreshed(a_binding(DESK), seconds)]),
                                 {DESK: Event.REFRESHED})

    def test_news(self) -> None:
        """That a contact lives longer is no news; that anything else of it is another is, and any end."""
        old = a_binding(DESK)
        longer = refreshed(old)
        for news, new in ((False, longer), (True, refreshed(old, -60)), (True, attrs.evolve(longer, call_id="two")),
                          (True, attrs.evolve(longer, q=500)), (True, attrs.evolve(longer, params=(("audio", None),)))):
            (contact,) = changed_contacts([old], [new], NOW, lambda binding: False)
            self.assertEqual(contact.is_news, news, contact)
        self.assertTrue(all(each.is_news for each in changed_contacts([old], [], NOW, lambda binding: False)))

    def test_shortened(self) -> None:
        """A binding that ends earlier without a REGISTER is shortened."""
        self.assertEqual(changes([a_binding(DESK)], [a_binding(DESK, expires_at=NOW + 60)]), {DESK: Event.SHORTENED})

    def test_ends(self) -> None:
        """A contact that is gone lapsed, or was lost with its connection, or its phone took it away."""
        self.assertEqual(changes([a_binding(DESK)], [], NOW + 3600), {DESK: Event.EXPIRED})
        self.assertEqual(changes([a_binding(DESK)], [], NOW + 3599.5), {DESK: Event.EXPIRED})
        self.assertEqual(changes([a_bound(DESK, 7)], [], lost=True), {DESK: Event.DEACTIVATED})
        self.assertEqual(changes([a_binding(DESK)], []), {DESK: Event.UNREGISTERED})

    def test_another_uri_on_the_same_flow(self) -> None:
        """With outbound a flow may get another contact: the old one has ended, and comes first."""
        old, new = (a_bound(uri, 7, instance=URN, reg_id=1) for uri in (DESK, MOBILE))
        contacts = changed_contacts([old], [new], NOW, lambda binding: False)
        self.assertEqual([(each.binding.contact, each.is_active) for each in contacts], [(DESK, False), (MOBILE, True)])

    def test_same_uri_on_two_flows(self) -> None:
        """With outbound one URI on two flows makes two contacts."""
        one, other = (a_bound(DESK, flow, instance=URN, reg_id=flow) for flow in (1, 2))
        document = Reginfo(to_xml(Document(ALICE, 0, True, all_contacts([one, other]), True), NOW))
        self.assertEqual(len({each.attrib["id"] for each in document.contacts}), 2)
        self.assertEqual(changes([one, other], [one]), {DESK: Event.UNREGISTERED})


class DocumentTests(SynchronousTestCase):
    def read(self, *contacts: Contact, is_full: bool = True, is_bound: bool = True, now: float = NOW) -> Reginfo:
        """Return the document as a subscriber reads it."""
        return Reginfo(to_xml(Document(ALICE, 3, is_full, contacts, is_bound), now, GruuMaker([b"a secret of gruus"])))

    def test_states(self) -> None:
        """A registration is active while anything is bound; its end is told once, then it is as if it never was."""
        end = Contact(a_binding(DESK), Event.EXPIRED)
        self.assertEqual(self.read(*all_contacts([a_binding(DESK)])).state, "active")
        self.assertEqual(self.read(end, is_full=False).state, "active")
        self.assertEqual(self.read(end, is_full=False, is_bound=False).state, "terminated")
        self.assertEqual(self.read(is_bound=False).state, "init")

    def test_whole_contact(self) -> None:
        """A contact is told with its times, its preference, its REGISTER, its parameters and its public GRUU."""
        params = (("+sip.instance", f'"<{URN}>"'), ("audio", None))
        binding = a_binding(DESK, params=params, instance=URN, q=700, cseq=9, registered_at=NOW - 50)
        document = self.read(*all_contacts([binding]), now=NOW + 0.5)
        (contact,) = document.contacts
        self.assertEqual(uri_of(contact), DESK)
        self.assertEqual(params_of(contact), {"+sip.instance": f'"<{URN}>"', "audio": ""})
        self.assertEqual(gruu_of(contact), f"{ALICE};gr={URN}")
        told = {name: contact.attrib[name] for name in ("duration-registered", "expires", "q", "callid", "cseq")}
        self.assertEqual(told, {"duration-registered": "50", "expires": "3599", "q": "0.7", "callid": "one@phone",
                                "cseq": "9"})
        self.assertEqual((document.version, document.is_full, contact.attrib["event"]), (3, True, "refreshed"))

    def test_ended_contact(self) -> None:
        """One that has ended has no time left, and keeps the id by which it was known."""
        (was,) = self.read(*all_contacts([a_binding(DESK)])).contacts
        (contact,) = self.read(Contact(a_binding(DESK), Event.UNREGISTERED), is_full=False).contacts
        self.assertNotIn("expires", contact.attrib)
        self.assertEqual(contact.attrib["id"], was.attrib["id"])

    def test_without_instance(self) -> None:
        """A phone without an instance has no GRUU."""
        (contact,) = self.read(*all_contacts([a_binding(DESK)])).contacts
        self.assertIsNone(gruu_of(contact))

    def test_markup(self) -> None:
        """What would be markup in XML stays text."""
        binding = a_binding('sip:alice@192.0.2.4;x=<&">', call_id="]]>&'", params=(("a<b", '"<c>&"'),))
        (contact,) = self.read(*all_contacts([binding])).contacts
        self.assertEqual((uri_of(contact), contact.attrib["callid"]), ('sip:alice@192.0.2.4;x=<&">', "]]>&'"))
        self.assertEqual(params_of(contact), {"a<b": '"<c>&"'})

    @given(st.binary(max_size=30))
    def test_any_bytes(self, noise: bytes) -> None:
        """Whatever bytes a phone writes into its fields, the document is valid."""
        text = noise.decode("utf-8", "surrogateescape")
        binding = a_binding(f"sip:{text}@192.0.2.4", call_id=text, params=((text, text),), instance=text)
        self.assertEqual(len(self.read(*all_contacts([binding])).contacts), 1)


class SubscribersTableTests(SynchronousTestCase):
    @given(st.lists(st.dictionaries(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=8))
    def test_partial_documents_add_up(self, states: list[dict[int, int]]) -> None:
        """Who applies one partial document after the other knows what is bound, whatever changed between them."""
        table, told = Table(), list[Binding]()
        for version, state in enumerate(states):
            bound = [a_binding(f"sip:alice@192.0.2.{name}", cseq=cseq) for name, cseq in state.items()]
            contacts = all_contacts(bound) if not version else changed_contacts(told, bound, NOW, lambda each: False)
            table.apply(Reginfo(to_xml(Document(ALICE, version, not version, contacts, bool(bound)), NOW)))
            told = bound
            self.assertEqual(sorted(table.active.values()), sorted(binding.contact for binding in bound))
            self.assertEqual(table.state == "active", bool(bound))
