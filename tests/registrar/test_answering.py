"""Tests of registrar.answering: the 200 (OK) to a REGISTER."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from registrar.answering import answer_headers
from registrar.bindings import Binding, Stored
from registrar.gruu import GruuMaker
from rollcall.sip.headers import NameAddr, parse_name_addr, unquote
from rollcall.sip.uri import parse_sip_uri
from tests.registrar.examples import ALICE, EXACT, NOW, PHONE, A, B, a_binding, a_register, over_tcp

GRUUS = GruuMaker([b"k" * 32])


def headers_of(*bindings: Binding, outbound: bool = False, now: float = NOW, policy: Any = None,
               **request: Any) -> dict[str, str]:
    """Return the header fields of an answer without those that are repeated."""
    stored = Stored(bindings, changed=True, outbound=outbound)
    config = attrs.evolve(EXACT, **(policy or {}))
    return dict(answer_headers(stored, a_register(**request), config, now, GRUUS))


def contacts_of(*bindings: Binding, now: float = NOW, **request: Any) -> list[NameAddr]:
    """Return the Contacts of an answer."""
    stored = Stored(bindings, changed=True)
    headers = answer_headers(stored, a_register(**request), EXACT, now, GRUUS)
    return [parse_name_addr(value) for name, value in headers if name == "Contact"]


class ContactTests(SynchronousTestCase):
    def test_every_binding(self) -> None:
        """Every binding is reported with the time that is left of it (§10.3 step 8)."""
        contacts = contacts_of(a_binding(A), a_binding(B, expires_at=NOW + 90.5), now=NOW + 10)
        self.assertEqual([(contact.uri, contact.params) for contact in contacts],
                         [(A, {"expires": "3590"}), (B, {"expires": "80"})])

    def test_nothing_bound(self) -> None:
        """Without bindings there is no Contact."""
        self.assertEqual(contacts_of(), [])

    def test_the_last_second(self) -> None:
        """A binding in its last second is not reported with 0, which would say that it is gone."""
        (contact,) = contacts_of(a_binding(A), now=NOW + 3599.5)
        self.assertEqual(contact.params["expires"], "1")

    def test_what_was_granted_is_what_is_reported(self) -> None:
        """A time is reported as it was granted in the same moment, in spite of the rounding of floats."""
        for now in (NOW + 0.1, NOW + 1 / 3, 1_712_345_678.901):
            (contact,) = contacts_of(a_binding(A, expires_at=now + 3600), now=now)
            self.assertEqual(contact.params["expires"], "3600")

    def test_parameters(self) -> None:
        """What the phone said of its contact comes back as it was (RFC 3840 §6)."""
        params = (("+sip.instance", f'"<{PHONE}>"'), ("audio", None), ("methods", '"INVITE,BYE"'))
        (contact,) = contacts_of(a_binding(A, params=params, instance=PHONE), supported=frozenset())
        self.assertEqual(contact.params, {"expires": "3600", **dict(params)})

    def test_q(self) -> None:
        """A q of 1 is left out, any other is reported without trailing zeros."""
        for q, text in ((1000, None), (700, "0.7"), (750, "0.75"), (5, "0.005"), (0, "0")):
            (contact,) = contacts_of(a_binding(A, q=q))
            self.assertEqual(contact.params.get("q"), text)


class GruuTests(SynchronousTestCase):
    def test_for_each_instance(self) -> None:
        """A phone that supports GRUUs is given those of every instance, as URIs that resolve to it (RFC 5627 §5.2)."""
        phone = a_binding(A, instance=PHONE, generation=5)
        first, second = contacts_of(phone, a_binding(B))
        self.assertNotIn("pub-gruu", second.params)
        for name in ("pub-gruu", "temp-gruu"):
            uri = parse_sip_uri(unquote(first.params[name] or ""))
            gruu = GRUUS.resolve(uri, "example.com")
            self.assertEqual((gruu.aor, gruu.contacts((phone,), NOW)), (ALICE, (phone,)))

    def test_scheme_of_the_contact(self) -> None:
        """A sips contact is given sips GRUUs (RFC 5630 §5.2.1)."""
        (contact,) = contacts_of(a_binding("sips:alice@192.0.2.4", instance=PHONE))
        self.assertEqual({(contact.params[name] or "")[:6] for name in ("pub-gruu", "temp-gruu")}, {'"sips:'})

    def test_only_where_supported(self) -> None:
        """A phone that does not support GRUUs is given none."""
        (contact,) = contacts_of(a_binding(A, instance=PHONE), supported=frozenset({"path"}))
        self.assertNotIn("pub-gruu", contact.params)


class OtherFieldsTests(SynchronousTestCase):
    def test_always(self) -> None:
        """An answer bears the date and what we support, which does not name GRUUs (RFC 5627 §5.2)."""
        headers = headers_of(now=1289690940.7)
        self.assertEqual(headers, {"Supported": "path, outbound", "Date": "Sat, 13 Nov 2010 23:29:00 GMT"})

    def test_path(self) -> None:
        """The Path of the request is copied in its order (RFC 3327 §5.3)."""
        path = ("<sip:p3.example.com;lr>", "<sip:p1.example.org;lr>")
        self.assertEqual(headers_of(path=path)["Path"], ", ".join(path))

    def test_service_route(self) -> None:
        """The configured Service-Route is given in its order (RFC 3608 §6.3)."""
        policy = {"service_route": ("<sip:a.example.com;lr>", "<sip:b.example.com;lr>")}
        self.assertEqual(headers_of(policy=policy)["Service-Route"], "<sip:a.example.com;lr>, <sip:b.example.com;lr>")

    def test_outbound(self) -> None:
        """Outbound is required when it was used, with Flow-Timer on a connection of our own (RFC 5626 §6)."""
        over: dict[str, Any] = {"source": over_tcp(7)}
        headers = headers_of(outbound=True, **over)
        self.assertEqual((headers["Require"], headers["Flow-Timer"]), ("outbound", "120"))
        for without in (headers_of(outbound=True), headers_of(outbound=True, direct=False, **over),
                        headers_of(outbound=True, policy={"flow_timer_seconds": 0}, **over)):
            self.assertEqual((without["Require"], without.get("Flow-Timer")), ("outbound", None))
        self.assertFalse({"Require", "Flow-Timer"} & headers_of(**over).keys())
