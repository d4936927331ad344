"""Tests of registrar.bindings: Path, outbound, GRUU and sips (RFCs 3327, 5626, 5627, 5630)."""

from typing import Any

import attrs

from registrar.bindings import Binding, NewContact, Stored
from tests.registrar.examples import (
    NOW,
    PHONE,
    TABLET,
    A,
    B,
    RegistrationCase,
    a_binding,
    a_contact,
    a_register,
)


class PathTests(RegistrationCase):
    PATH = ("<sip:p3.example.com;lr>", "<sip:p1.example.org;lr>")

    def test_path_is_kept(self) -> None:
        """A phone that supports it has its Path stored in order (RFC 3327 §5.3)."""
        (binding,) = self.stored(a_register(a_contact(), path=self.PATH, direct=False)).bindings
        self.assertEqual(binding.path, self.PATH)

    def test_path_without_support(self) -> None:
        """A Path that the phone does not know of is refused with 420 naming it, if that is the policy."""
        request = a_register(a_contact(), path=self.PATH, supported=frozenset())
        refused = self.refused(request)
        self.assertEqual((refused.status, refused.headers), (420, (("Unsupported", "path"),)))
        (binding,) = self.stored(request, require_path_support=False).bindings
        self.assertEqual(binding.path, self.PATH)


class OutboundTests(RegistrationCase):
    def flow(self, reg_id: int, uri: str = A, **changes: Any) -> NewContact:
        """Return a contact that asks for outbound."""
        return a_contact(uri, instance=PHONE, reg_id=reg_id, **changes)

    def bound(self, reg_id: int, uri: str = A, **changes: Any) -> Binding:
        """Return an outbound binding."""
        return a_binding(uri, instance=PHONE, reg_id=reg_id, generation=5, **changes)

    def test_instance_and_reg_id_are_the_name(self) -> None:
        """The same instance and reg-id replace a binding although the contact is another."""
        old = self.bound(1, A)
        stored = self.stored(a_register(self.flow(1, B), call_id="two@phone"), old)
        self.assertEqual((self.contacts(stored), stored.replaced, stored.outbound), ({B}, (old,), True))

    def test_flows_side_by_side(self) -> None:
        """Another reg-id is another binding although the contact is the same."""
        stored = self.stored(a_register(self.flow(2, A), call_id="two@phone"), self.bound(1, A))
        self.assertEqual([binding.reg_id for binding in stored.bindings], [1, 2])

    def test_another_instance_is_not_touched(self) -> None:
        """The same reg-id of another instance, or of none, is another binding."""
        others = attrs.evolve(self.bound(1, B), instance=TABLET), a_binding(A)
        stored = self.stored(a_register(self.flow(1, A)), *others)
        self.assertEqual(len(stored.bindings), 3)

    def test_plain_contacts_do_not_touch_flows(self) -> None:
        """A contact without outbound is compared with such contacts only, by its URI."""
        stored = self.stored(a_register(a_contact(A)), self.bound(1, A))
        self.assertEqual(len(stored.bindings), 2)
        self.assertFalse(stored.outbound)

    def test_order_within_a_flow(self) -> None:
        """CSeq counts for the flow that is named, also under another contact."""
        self.assertEqual(self.refused(a_register(self.flow(1, B), cseq=1), self.bound(1, A, cseq=1)).status, 500)

    def test_require_is_for_those_who_support_it(self) -> None:
        """Without `outbound` in Supported the rules hold, but nothing is required of the phone (RFC 5626 §6)."""
        stored = self.stored(a_register(self.flow(1), supported=frozenset()))
        self.assertEqual((stored.outbound, stored.bindings[0].reg_id), (False, 1))

    def test_two_contacts_with_a_reg_id(self) -> None:
        """Of several contacts that are bound none may have a reg-id: 400; those that are removed may."""
        self.assertEqual(self.refused(a_register(self.flow(1), a_contact(B))).status, 400)
        stored = self.stored(a_register(self.flow(2, B), self.flow(1, expires=0), cseq=2), self.bound(1))
        self.assertEqual([binding.reg_id for binding in stored.bindings], [2])

    def test_reg_id_without_instance(self) -> None:
        """A reg-id without an instance is ignored, and not reported."""
        request = a_register(a_contact(A, reg_id=1), a_contact(B, reg_id=2))
        stored = self.stored(request)
        self.assertEqual([(binding.reg_id, binding.params) for binding in stored.bindings], [(None, ()), (None, ())])
        self.assertFalse(stored.outbound)

    def test_first_hop_without_outbound(self) -> None:
        """Behind a proxy whose Path lacks `ob` a phone that supports outbound gets 439; others' reg-id is ignored."""
        for path in ((), ("<sip:edge.example.com;lr>",)):
            request = a_register(self.flow(1), direct=False, path=path)
            self.assertEqual(self.refused(request).status, 439)
            plain = attrs.evolve(request, supported=frozenset({"path"}))
            (binding,) = self.stored(plain).bindings
            self.assertEqual((binding.reg_id, binding.instance), (None, PHONE))
            self.assertNotIn("reg-id", dict(binding.params))

    def test_439_is_for_reg_ids(self) -> None:
        """Who supports outbound but sends no reg-id is registered behind any proxy."""
        stored = self.stored(a_register(a_contact(A, instance=PHONE), direct=False))
        self.assertFalse(stored.outbound)

    def test_first_hop_with_outbound(self) -> None:
        """Behind a proxy with `ob` in its Path value outbound applies."""
        request = a_register(self.flow(1), direct=False, path=("<sip:edge.example.com;lr;ob>",), outbound_path=True)
        self.assertTrue(self.stored(request).outbound)

    def test_outbound_as_policy(self) -> None:
        """If outbound is required, a phone without it gets 421, and one that leaves the reg-id out 403."""
        refused = self.refused(a_register(a_contact(A), supported=frozenset()), require_outbound=True)
        self.assertEqual((refused.status, refused.headers), (421, (("Require", "outbound"),)))
        self.assertEqual(self.refused(a_register(a_contact(A)), require_outbound=True).status, 403)
        self.stored(a_register(self.flow(1)), require_outbound=True)
        self.stored(a_register(a_contact(A, expires=0), cseq=2), a_binding(A), require_outbound=True)


class InstanceTests(RegistrationCase):
    def test_a_phone_that_comes_back(self) -> None:
        """An instance without reg-id replaces what it had registered under another contact."""
        old = a_binding(A, instance=PHONE, generation=5)
        stored = self.stored(a_register(a_contact(B, instance=PHONE), call_id="two@phone"), old)
        self.assertEqual((self.contacts(stored), stored.replaced), ({B}, (old,)))
        self.assertEqual(stored.bindings[0].registered_at, NOW)

    def test_leftovers_as_policy(self) -> None:
        """With another policy the old contact stays until it lapses."""
        old = a_binding(A, instance=PHONE, generation=5)
        stored = self.stored(a_register(a_contact(B, instance=PHONE)), old, one_contact_per_instance=False)
        self.assertEqual(self.contacts(stored), {A, B})

    def test_several_contacts_of_one_instance(self) -> None:
        """Contacts that one request names together stay together, now and at the next refresh."""
        named = a_contact(A, instance=PHONE), a_contact(B, instance=PHONE)
        first = self.stored(a_register(*named))
        self.assertEqual(self.contacts(first), {A, B})
        second = self.stored(a_register(*named, cseq=2), *first.bindings)
        self.assertEqual((self.contacts(second), second.replaced), ({A, B}, first.bindings))

    def test_removing_takes_only_what_is_named(self) -> None:
        """To remove one contact of an instance leaves its others."""
        current = a_binding(A, instance=PHONE), a_binding(B, instance=PHONE)
        stored = self.stored(a_register(a_contact(A, instance=PHONE, expires=0), cseq=2), *current)
        self.assertEqual(self.contacts(stored), {B})

    def test_a_late_request_does_not_replace(self) -> None:
        """A request of the same series that was overtaken cannot take the place of the later contact."""
        current = a_binding(B, instance=PHONE, cseq=6)
        self.assertEqual(self.refused(a_register(a_contact(A, instance=PHONE), cseq=5), current).status, 500)

    def test_contacts_that_lead_back(self) -> None:
        """A contact with an instance that is its own address-of-record, or no SIP URI, is refused with 403."""
        self.assertEqual(self.refused(a_register(a_contact(A, instance=PHONE, loops=True))).status, 403)
        self.assertEqual(self.refused(a_register(a_contact("tel:+1555", instance=PHONE))).status, 403)


class GenerationTests(RegistrationCase):
    def generations(self, stored: Stored) -> set[int]:
        """Return the generations of all bindings."""
        return {binding.generation for binding in stored.bindings}

    def test_no_instance(self) -> None:
        """A binding without an instance has no GRUUs."""
        self.assertEqual(self.generations(self.stored(a_register(a_contact(A)))), {0})

    def test_the_same_call_id(self) -> None:
        """Refreshes keep the temporary GRUUs valid."""
        first = self.stored(a_register(a_contact(A, instance=PHONE)))
        again = self.stored(a_register(a_contact(A, instance=PHONE), cseq=2), *first.bindings, now=NOW + 60)
        self.assertEqual(self.generations(first), self.generations(again))

    def test_another_call_id(self) -> None:
        """A new Call-ID ends them, even within the same millisecond."""
        first = self.stored(a_register(a_contact(A, instance=PHONE)))
        again = self.stored(a_register(a_contact(A, instance=PHONE), call_id="two@phone"), *first.bindings)
        self.assertGreater(min(self.generations(again)), max(self.generations(first)))

    def test_another_flow(self) -> None:
        """A second flow has a Call-ID of its own and ends nothing; a new Call-ID on one flow ends those of both."""
        first = self.stored(a_register(a_contact(A, instance=PHONE, reg_id=1)))
        second = a_register(a_contact(A, instance=PHONE, reg_id=2), call_id="two@phone")
        both = self.stored(second, *first.bindings, now=NOW + 1)
        self.assertEqual(self.generations(both), self.generations(first))
        third = a_register(a_contact(A, instance=PHONE, reg_id=1), call_id="three@phone")
        after = self.stored(third, *both.bindings, now=NOW + 2)
        self.assertEqual(len(after.bindings), 2)
        self.assertEqual(self.generations(after), {int(NOW + 2) * 1000})

    def test_other_instances_go_on(self) -> None:
        """What one phone does leaves the temporary GRUUs of another."""
        tablet = a_binding(B, instance=TABLET, generation=7)
        current = a_binding(A, instance=PHONE, generation=5), tablet
        stored = self.stored(a_register(a_contact(A, instance=PHONE), call_id="two@phone"), *current)
        self.assertIn(tablet, stored.bindings)


class SecureTests(RegistrationCase):
    def test_sips_needs_sips_everywhere(self) -> None:
        """A sips contact needs a sips Request-URI and Path, and no sip contact beside it (RFC 5630 §5.2)."""
        sips = a_contact("sips:alice@192.0.2.4")
        self.stored(a_register(sips, secure=True))
        self.assertEqual(self.refused(a_register(sips)).status, 400)
        self.assertEqual(self.refused(a_register(sips, a_contact(B), secure=True)).status, 400)

    def test_sip_under_sips(self) -> None:
        """A sip contact may be registered with a sips Request-URI: the address-of-record is the same."""
        self.stored(a_register(a_contact(A), secure=True))

    def test_the_second_replaces_the_first(self) -> None:
        """The sip and the sips spelling of a contact are one binding (RFC 5630 §5.1.1.1)."""
        sips = a_contact("sips:alice@192.0.2.4")
        stored = self.stored(a_register(sips, cseq=2, secure=True), a_binding("sip:alice@192.0.2.4"))
        self.assertEqual(self.contacts(stored), {"sips:alice@192.0.2.4"})
