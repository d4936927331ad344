"""Registrations to test with: each function makes a valid value, and takes what shall be different from it."""

from typing import Any

import attrs
from twisted.trial.unittest import SynchronousTestCase

from registrar.bindings import Binding, BindingConfig, NewContact, Refused, Register, Source, Stored, register

ALICE = "sip:alice@example.com"
A, B, C = "sip:alice@192.0.2.4", "sip:alice@192.0.2.5", "sip:alice@192.0.2.6"
NOW = 1_800_000_000.0
PHONE = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
TABLET = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"

OVER_UDP = Source("UDP", "192.0.2.4", 5060, "udp", "n1", 1)


EXACT = BindingConfig(expiry_jitter=0.0)


def over_tcp(flow_id: int, node: str = "n1", epoch: int = 1) -> Source:
    """Return the source of what comes over a TCP connection."""
    return Source("TCP", "192.0.2.4", 49152 + flow_id, "tcp", node, epoch, flow_id)


def a_contact(uri: str = "sip:alice@192.0.2.4", **changes: Any) -> NewContact:
    """Return a contact that names no time, with the parameters that its instance and reg-id stand in."""
    contact = attrs.evolve(NewContact(uri, (), 1000, None, None, None), **changes)
    params: tuple[tuple[str, str | None], ...] = contact.params
    if contact.instance is not None:
        params += (("+sip.instance", f'"<{contact.instance}>"'),)
    if contact.reg_id is not None:
        params += (("reg-id", str(contact.reg_id)),)
    return attrs.evolve(contact, params=params, secure=uri.startswith("sips:"), routable=uri.startswith("sip"))


def a_register(*contacts: NewContact, **changes: Any) -> Register:
    """Return a REGISTER of alice's phone, over UDP and without a time of its own."""
    wish = Register(
        aor=ALICE, contacts=contacts, star=False, expires=None, call_id="one@phone", cseq=1, path=(),
        supported=frozenset({"path", "outbound", "gruu"}), user_agent="Phone/1", source=OVER_UDP, direct=True,
        secure=False,
    )
    return attrs.evolve(wish, **changes)


def a_binding(contact: str = "sip:alice@192.0.2.4", **changes: Any) -> Binding:
    """Return a binding over UDP that lasts an hour from NOW."""
    binding = Binding(
        contact=contact, params=(), q=1000, expires_at=NOW + 3600, call_id="one@phone", cseq=1, path=(), instance=None,
        reg_id=None, source=OVER_UDP, direct=True, connection_bound=False, user_agent="Phone/1", registered_at=NOW,
        refreshed_at=NOW, generation=0,
    )
    return attrs.evolve(binding, **changes)


def a_bound(contact: str, flow_id: int, **changes: Any) -> Binding:
    """Return a binding that lives on a TCP connection."""
    return a_binding(contact, source=over_tcp(flow_id), connection_bound=True, **changes)


def outcome_of(request: Register, *current: Binding, now: float = NOW, jitter: float = 0.0,
               **changes: Any) -> Stored | Refused:
    """Apply a REGISTER under a policy that differs from EXACT in `changes`."""
    return register(request, current, attrs.evolve(EXACT, **changes), now, lambda: jitter)


class RegistrationCase(SynchronousTestCase):
    """A test case that registers and looks at the outcome."""

    def stored(self, request: Register, *current: Binding, **changes: Any) -> Stored:
        """Register and expect success."""
        outcome = outcome_of(request, *current, **changes)
        assert isinstance(outcome, Stored), outcome
        return outcome

    def refused(self, request: Register, *current: Binding, **changes: Any) -> Refused:
        """Register and expect a refusal."""
        outcome = outcome_of(request, *current, **changes)
        assert isinstance(outcome, Refused), outcome
        return outcome

    def seconds(self, request: Register, **changes: Any) -> float:
        """Return the time that the only contact of `request` is granted."""
        (binding,) = self.stored(request, **changes).bindings
        return binding.expires_at - NOW

    def contacts(self, stored: Stored) -> set[str]:
        """Return the contact URIs that are bound."""
        return {binding.contact for binding in stored.bindings}
