"""Tests of registrar.bindings: RFC 3261 §10.3 step by step, and what lives on a connection."""

import attrs
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import BindingConfig, superseded, unbind
from tests.registrar.examples import (
    NOW,
    OVER_UDP,
    A,
    B,
    C,
    RegistrationCase,
    a_binding,
    a_bound,
    a_contact,
    a_register,
    over_tcp,
)


class AddingTests(RegistrationCase):
    def test_records_what_the_phone_said(self) -> None:
        """A new binding holds contact, parameters, q, Call-ID, CSeq, source and agent, and lasts as long as granted."""
        contact = a_contact(A, q=700, params=(("methods", '"INVITE"'),), expires=600)
        (binding,) = self.stored(a_register(contact, cseq=7)).bindings
        expected = a_binding(A, q=700, params=(("methods", '"INVITE"'),), expires_at=NOW + 600, cseq=7)
        self.assertEqual(binding, expected)

    def test_several_contacts(self) -> None:
        """Each contact of one request becomes a binding, beside those that exist."""
        stored = self.stored(a_register(a_contact(A), a_contact(B)), a_binding(C))
        self.assertEqual(self.contacts(stored), {A, B, C})
        self.assertTrue(stored.changed)

    def test_any_scheme(self) -> None:
        """A contact may be of any scheme (§10.2.1)."""
        stored = self.stored(a_register(a_contact("tel:+358-555-1234567"), a_contact("mailto:alice@example.com")))
        self.assertEqual(self.contacts(stored), {"tel:+358-555-1234567", "mailto:alice@example.com"})

    def test_the_same_contact_twice(self) -> None:
        """Of one contact that a request names twice the last mention counts."""
        stored = self.stored(a_register(a_contact(A, expires=100), a_contact(A, expires=200)))
        self.assertEqual([binding.expires_at for binding in stored.bindings], [NOW + 200])
        stored = self.stored(a_register(a_contact(A, expires=100), a_contact(A, expires=0)))
        self.assertEqual(stored.bindings, ())

    def test_too_many_contacts(self) -> None:
        """One contact more than the policy allows is refused with 403 and nothing is bound."""
        current = [a_binding(A), a_binding(B)]
        self.assertEqual(self.refused(a_register(a_contact(C)), *current, max_contacts=2).status, 403)

    def test_more_contacts_than_can_be_meant(self) -> None:
        """A request that names twice what the policy allows beside what is bound is refused before it is compared."""
        named = [a_contact(A, expires=0)] * 6
        self.assertEqual(self.refused(a_register(*named), a_binding(B), max_contacts=2).status, 403)
        self.assertEqual(self.stored(a_register(*named[1:]), a_binding(B), max_contacts=2).removed, ())

    def test_a_refresh_among_too_many(self) -> None:
        """When the policy was tightened, phones that are bound already stay."""
        current = [a_binding(A), a_binding(B), a_binding(C)]
        stored = self.stored(a_register(a_contact(A), cseq=2), *current, max_contacts=2)
        self.assertEqual(len(stored.bindings), 3)

    def test_lapsed_bindings_make_room(self) -> None:
        """A lapsed binding is neither counted nor kept nor in the way of an older CSeq."""
        old = a_binding(A, expires_at=NOW, cseq=9)
        stored = self.stored(a_register(a_contact(A)), old, max_contacts=1)
        self.assertEqual([binding.cseq for binding in stored.bindings], [1])
        self.assertEqual(stored.lapsed, (old,))


class RefreshingTests(RegistrationCase):
    def test_a_higher_cseq_updates(self) -> None:
        """The same Call-ID with a higher CSeq prolongs the binding, which remembers when it was first made."""
        old = a_binding(A, registered_at=NOW - 5000, expires_at=NOW + 10)
        stored = self.stored(a_register(a_contact(A), cseq=2), old)
        (binding,) = stored.bindings
        self.assertEqual((binding.cseq, binding.expires_at), (2, NOW + 3600))
        self.assertEqual((binding.registered_at, binding.refreshed_at), (NOW - 5000, NOW))
        self.assertEqual((stored.replaced, stored.removed), ((old,), ()))

    def test_another_call_id_updates(self) -> None:
        """Another Call-ID updates whatever its CSeq is: the phone has been restarted."""
        stored = self.stored(a_register(a_contact(A), call_id="two@phone", cseq=1), a_binding(A, cseq=50))
        self.assertEqual([(binding.call_id, binding.cseq) for binding in stored.bindings], [("two@phone", 1)])

    def test_a_cseq_that_is_not_higher_aborts(self) -> None:
        """The same Call-ID with an equal or lower CSeq fails with 500 and takes every other contact with it."""
        for cseq in (3, 2):
            for other in (a_contact(B), a_contact(B, expires=0)):
                request = a_register(other, a_contact(A), cseq=cseq)
                current = a_binding(A, cseq=3), a_binding(B, call_id="two@phone")
                self.assertEqual(self.refused(request, *current).status, 500)

    def test_another_phone_is_in_no_order(self) -> None:
        """A binding that the request does not name has no say about its CSeq."""
        stored = self.stored(a_register(a_contact(A), cseq=1), a_binding(B, cseq=5))
        self.assertEqual(self.contacts(stored), {A, B})

    def test_equivalent_uris(self) -> None:
        """Contacts are the same by §19.1.4, whatever their spelling, and the latest spelling is kept."""
        for old, new in (
            ("sip:%61lice@host.example.com;transport=TCP", "sip:alice@HOST.example.com;Transport=tcp"),
            ("sip:alice@host.example.com", "sip:alice@host.example.com;newparam=5"),
            ("tel:+1-555", "TEL:+1-555"),
        ):
            stored = self.stored(a_register(a_contact(new), cseq=2), a_binding(old))
            self.assertEqual(self.contacts(stored), {new})

    def test_different_uris(self) -> None:
        """Contacts that differ by §19.1.4 are bound beside each other."""
        for old, new in (
            ("sip:alice@host.example.com", "sip:alice@host.example.com:5060"),
            ("sip:alice@host.example.com", "sip:alice@host.example.com;transport=udp"),
            ("sip:alice@host.example.com", "sip:Alice@host.example.com"),
            ("sip:%00@host.example.com", "sip:%00%00@host.example.com"),
        ):
            stored = self.stored(a_register(a_contact(new), cseq=2), a_binding(old))
            self.assertEqual(self.contacts(stored), {old, new})

    def test_a_uri_between_two(self) -> None:
        """Equality is not transitive: a contact that equals two bindings takes the place of both."""
        on, off = a_binding("sip:carol@a.example;security=on"), a_binding("sip:carol@a.example;security=off")
        stored = self.stored(a_register(a_contact("sip:carol@a.example"), cseq=2), on, off)
        self.assertEqual(self.contacts(stored), {"sip:carol@a.example"})
        self.assertEqual(stored.replaced, (on, off))


class TimeTests(RegistrationCase):
    def test_which_time_is_asked_for(self) -> None:
        """The parameter counts before the header, and the default when there is neither."""
        self.assertEqual(self.seconds(a_register(a_contact(expires=600), expires=700)), 600)
        self.assertEqual(self.seconds(a_register(a_contact(), expires=700)), 700)
        self.assertEqual(self.seconds(a_register(a_contact()), default_expires_seconds=1800), 1800)

    def test_a_long_time_is_cut(self) -> None:
        """More than the maximum is cut to it."""
        self.assertEqual(self.seconds(a_register(a_contact(expires=2**32 - 1))), 7200)

    def test_a_brief_time_is_refused(self) -> None:
        """Less than the minimum is answered 423 with Min-Expires."""
        refused = self.refused(a_register(a_contact(expires=59)))
        self.assertEqual((refused.status, refused.headers), (423, (("Min-Expires", "60"),)))
        self.assertEqual(self.seconds(a_register(a_contact(expires=60))), 60)

    def test_one_brief_time_refuses_all(self) -> None:
        """One brief contact stops the others of the request."""
        self.assertEqual(self.refused(a_register(a_contact(A), a_contact(B, expires=1))).status, 423)

    def test_an_hour_is_never_too_brief(self) -> None:
        """"If and only if the requested interval is […] smaller than one hour" may it be refused."""
        policy = {"min_expires_seconds": 4000, "default_expires_seconds": 5000}
        self.assertEqual(self.seconds(a_register(a_contact(expires=3600)), **policy), 3600)
        self.assertEqual(self.refused(a_register(a_contact(expires=3599)), **policy).status, 423)

    def test_jitter_shortens(self) -> None:
        """Up to the configured fraction is taken off at random."""
        request = a_register(a_contact(expires=1000))
        self.assertEqual(self.seconds(request, expiry_jitter=0.2, jitter=0.5), 900)
        self.assertEqual(self.seconds(request, expiry_jitter=0.2, jitter=0.0), 1000)

    def test_jitter_keeps_the_minimum(self) -> None:
        """Jitter takes nothing below the minimum, nor off what is below it already."""
        self.assertEqual(self.seconds(a_register(a_contact(expires=61)), expiry_jitter=0.5, jitter=0.99), 60)
        policy = {"min_expires_seconds": 4000, "default_expires_seconds": 5000, "expiry_jitter": 0.5, "jitter": 0.9}
        self.assertEqual(self.seconds(a_register(a_contact(expires=3600)), **policy), 3600)


class RemovingTests(RegistrationCase):
    def test_zero_removes(self) -> None:
        """A time of zero, by parameter or header, removes that contact and no other."""
        for request in (a_register(a_contact(A, expires=0), cseq=2), a_register(a_contact(A), expires=0, cseq=2)):
            stored = self.stored(request, a_binding(A), a_binding(B))
            self.assertEqual(self.contacts(stored), {B})
            self.assertEqual((stored.removed, stored.replaced), ((a_binding(A),), ()))

    def test_removing_what_is_not_there(self) -> None:
        """To remove an unknown contact succeeds and changes nothing."""
        stored = self.stored(a_register(a_contact(A, expires=0)), a_binding(B))
        self.assertEqual((self.contacts(stored), stored.changed), ({B}, False))

    def test_removing_late(self) -> None:
        """A removal that was overtaken by a later request is refused."""
        self.assertEqual(self.refused(a_register(a_contact(A, expires=0), cseq=1), a_binding(A, cseq=2)).status, 500)

    def test_star_removes_all(self) -> None:
        """`*` with Expires 0 removes every binding, those with other Call-IDs too."""
        current = a_binding(A), a_binding(B, call_id="two@phone", cseq=9)
        stored = self.stored(a_register(star=True, expires=0, cseq=2), *current)
        self.assertEqual((stored.bindings, stored.removed, stored.changed), ((), current, True))

    def test_star_needs_expires_zero(self) -> None:
        """`*` with any other time, or with none, is refused with 400."""
        for expires in (None, 1, 3600):
            self.assertEqual(self.refused(a_register(star=True, expires=expires), a_binding(A)).status, 400)

    def test_star_stands_alone(self) -> None:
        """`*` beside another contact is refused with 400."""
        self.assertEqual(self.refused(a_register(a_contact(A), star=True, expires=0)).status, 400)

    def test_star_in_order(self) -> None:
        """`*` fails with 500 when one binding of its Call-ID has a CSeq that is not lower."""
        current = a_binding(A, call_id="two@phone"), a_binding(B, cseq=2)
        self.assertEqual(self.refused(a_register(star=True, expires=0, cseq=2), *current).status, 500)


class FetchingTests(RegistrationCase):
    def test_fetch(self) -> None:
        """Without a Contact nothing changes, whatever the CSeq, and live bindings are reported."""
        stored = self.stored(a_register(expires=0), a_binding(A, cseq=9), a_binding(B, expires_at=NOW - 1))
        self.assertEqual((self.contacts(stored), stored.changed), ({A}, False))


class FlowTests(RegistrationCase):
    def test_which_bindings_live_on_a_connection(self) -> None:
        """A SIP contact that the phone itself registers over a connection lives on it; no other does."""
        for bound, contact, changes in (
            (True, A, {"source": over_tcp(7)}),
            (False, A, {"source": OVER_UDP}),
            (False, A, {"source": over_tcp(7), "direct": False}),
            (False, "tel:+1555", {"source": over_tcp(7)}),
        ):
            (binding,) = self.stored(a_register(a_contact(contact), **changes)).bindings
            self.assertEqual(binding.connection_bound, bound)

    def test_a_phone_moves_to_another_connection(self) -> None:
        """The same contact over a new connection replaces the binding, and the old connection is reported."""
        stored = self.stored(a_register(a_contact(A), source=over_tcp(8), cseq=2), a_bound(A, 7))
        self.assertEqual([binding.source.flow_id for binding in stored.bindings], [8])
        self.assertEqual(superseded(stored, over_tcp(8)), (over_tcp(7),))

    def test_a_refresh_supersedes_nothing(self) -> None:
        """The connection that a refresh comes over is not left."""
        stored = self.stored(a_register(a_contact(A), source=over_tcp(7), cseq=2), a_bound(A, 7))
        self.assertEqual(superseded(stored, over_tcp(7)), ())

    def test_a_connection_still_in_use(self) -> None:
        """A connection that carries another binding of the address-of-record is not left, nor is it without one
        when the request itself came over it."""
        request = a_register(a_contact(A), source=over_tcp(8), cseq=2)
        self.assertEqual(superseded(self.stored(request, a_bound(A, 7), a_bound(B, 7)), over_tcp(8)), ())
        gone = self.stored(a_register(a_contact(A, expires=0), source=over_tcp(7), cseq=2), a_bound(A, 7))
        self.assertEqual(superseded(gone, over_tcp(7)), ())

    def test_removed_elsewhere(self) -> None:
        """A binding that is removed over another connection leaves its own, once, however many it carried."""
        request = a_register(star=True, expires=0, source=over_tcp(8), cseq=2)
        self.assertEqual(superseded(self.stored(request, a_bound(A, 7), a_bound(B, 7)), over_tcp(8)), (over_tcp(7),))

    def test_datagrams_are_never_left(self) -> None:
        """What came over UDP has no connection to close."""
        stored = self.stored(a_register(a_contact(A), source=over_tcp(8), cseq=2), a_binding(A))
        self.assertEqual(superseded(stored, over_tcp(8)), ())

    def test_unbind(self) -> None:
        """The end of a connection takes its bindings, and no others: not those of an earlier life of the node."""
        gone = a_bound(A, 7)
        others = (a_bound(B, 8), a_binding(C), attrs.evolve(a_bound(A, 7), source=over_tcp(7, epoch=2)),
                  attrs.evolve(a_bound(A, 7), source=over_tcp(7, node="n2")))
        self.assertEqual(unbind((gone, *others), "n1", 1, 7), others)


class PolicyTests(SynchronousTestCase):
    def test_contradictions(self) -> None:
        """A policy whose times contradict each other is refused, and says which."""
        for changes in ({"min_expires_seconds": 7201}, {"default_expires_seconds": 7201}):
            with self.assertRaisesRegex(ValueError, "max_expires_seconds"):
                BindingConfig(**changes)  # type: ignore[arg-type]

    def test_service_route(self) -> None:
        """A Service-Route without `lr` would be refused by phones, so that it is refused here (RFC 3608 §5)."""
        BindingConfig(service_route=("<sip:p2.example.com;lr>", "<sips:orig@s.example.com:5061;lr=on;x=1>"))
        with self.assertRaisesRegex(ValueError, "lr"):
            BindingConfig(service_route=("<sip:p2.example.com>",))

    def test_default_below_minimum(self) -> None:
        """A default that would be refused as too brief is refused at once."""
        with self.assertRaisesRegex(ValueError, "min_expires_seconds"):
            BindingConfig(min_expires_seconds=600, default_expires_seconds=300)
