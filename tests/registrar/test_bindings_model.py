"""registrar.bindings beside a model: whatever phones send in whatever order, the rules hold."""

from typing import Any

from attrs import frozen
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from registrar.bindings import Binding, BindingConfig, NewContact, Refused, Stored, register, unbind
from tests.registrar.examples import NOW, OVER_UDP, PHONE, TABLET, a_contact, a_register, over_tcp

# Each row is one contact in two spellings.
SPELLINGS = (
    ("sip:alice@a.example", "sip:%61lice@A.example;x=1"),
    ("sip:alice@a.example:5060", "sip:alice@A.example:5060"),
    ("tel:+1555", "TEL:+1555"),
)
CLASS = {uri: row[0] for row in SPELLINGS for uri in row}

# Mostly times that are accepted, so that bindings meet one another.
SECONDS = st.sampled_from((600, 3600, 10_000, None, 0, 0, 60, 59, 1))
HEADER_SECONDS = st.sampled_from((None, 600, 0, 59))
CALL_IDS = st.sampled_from(("one", "two"))
CSEQS = st.integers(1, 4)

contacts = st.builds(
    lambda uri, instance, reg_id, expires: a_contact(uri, instance=instance, reg_id=reg_id, expires=expires),
    st.sampled_from(sorted(CLASS)), st.sampled_from((None, PHONE, TABLET)), st.sampled_from((None, None, 1, 2)),
    SECONDS,
)

Key = tuple[str | None, int | None] | str


def key_of(contact: NewContact | Binding) -> Key:
    """Return what names a binding: instance and reg-id, or the contact."""
    if contact.reg_id is not None and contact.instance is not None:
        return contact.instance, contact.reg_id
    return CLASS[contact.uri if isinstance(contact, NewContact) else contact.contact]


@frozen
class Entry:
    """What the model knows of one binding."""

    instance: str | None
    call_id: str
    cseq: int
    expires_at: float


class Registrations(RuleBasedStateMachine):
    """Phones register and go; `model` holds what must be bound, by name, as a plain dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.bindings: tuple[Binding, ...] = ()
        self.model: dict[Key, Entry] = {}
        self.config = BindingConfig()

    @initialize(replace=st.booleans(), max_contacts=st.integers(2, 4))
    def choose_policy(self, replace: bool, max_contacts: int) -> None:
        self.config = BindingConfig(one_contact_per_instance=replace, max_contacts=max_contacts)

    @rule(seconds=st.sampled_from((0.5, 30.0, 600.0, 4000.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.model = {key: entry for key, entry in self.model.items() if entry.expires_at > self.now}

    @rule(wanted=st.one_of(contacts.map(lambda contact: [contact]), st.lists(contacts, min_size=1, max_size=3)),
          call_id=CALL_IDS, cseq=CSEQS, expires=HEADER_SECONDS, flow=st.integers(0, 2),
          jitter=st.sampled_from((0.0, 0.5, 0.999)))
    def send(self, wanted: list[NewContact], call_id: str, cseq: int, expires: int | None, flow: int,
             jitter: float) -> None:
        source = over_tcp(flow) if flow else OVER_UDP
        request = a_register(*wanted, call_id=call_id, cseq=cseq, expires=expires, source=source)
        outcome = register(request, self.bindings, self.config, self.now, lambda: jitter)
        asked = [(contact, self._seconds(contact, expires)) for contact in wanted]
        touched = self._touched(asked)
        status = self._expected_status(asked, touched, call_id, cseq)
        if isinstance(outcome, Refused):
            assert outcome.status == status
            return
        assert status == 200
        last = {key_of(contact): (contact, seconds) for contact, seconds in asked}
        self.model = {key: entry for key, entry in self.model.items() if key not in touched}
        self._compare_new(outcome, last, call_id, cseq)
        taken = {key_of(binding) for binding in (*outcome.removed, *outcome.replaced)}
        assert taken == touched
        self.bindings = outcome.bindings

    def _seconds(self, contact: NewContact, expires: int | None) -> int:
        own = expires if contact.expires is None else contact.expires
        return self.config.default_expires_seconds if own is None else own

    def _touched(self, asked: list[tuple[NewContact, int]]) -> set[Key]:
        """Return what the contacts name, and what their instances leave behind."""
        named = {key_of(contact) for contact, _ in asked}
        touched = named & self.model.keys()
        if self.config.one_contact_per_instance:
            back = {contact.instance for contact, seconds in asked if seconds and isinstance(key_of(contact), str)}
            touched |= {key for key, entry in self.model.items()
                        if isinstance(key, str) and entry.instance in back - {None} and key not in named}
        return touched

    def _expected_status(self, asked: list[tuple[NewContact, int]], touched: set[Key], call_id: str,
                         cseq: int) -> int:
        added = [(contact, seconds) for contact, seconds in asked if seconds]
        if len(added) > 1 and any(not isinstance(key_of(contact), str) for contact, _ in added):
            return 400
        for contact, seconds in added:
            if contact.instance and not contact.routable:
                return 403
            if seconds < 60:
                return 423
        if any(self.model[key].call_id == call_id and cseq <= self.model[key].cseq for key in touched):
            return 500
        last = {key_of(contact): seconds for contact, seconds in asked}
        left = (self.model.keys() - touched) | {key for key, seconds in last.items() if seconds}
        return 403 if len(left) > max(self.config.max_contacts, len(self.model)) else 200

    def _compare_new(self, stored: Stored, asked: dict[Key, tuple[NewContact, int]], call_id: str, cseq: int) -> None:
        """Every contact has taken effect, for the time that it may be granted."""
        after = {key_of(binding): binding for binding in stored.bindings}
        for key, (contact, seconds) in asked.items():
            if seconds:
                binding = after[key]
                assert (binding.call_id, binding.cseq, binding.refreshed_at) == (call_id, cseq, self.now)
                assert min(seconds, 60) - 0.01 < binding.expires_at - self.now < min(seconds, 7200) + 0.01
                self.model[key] = Entry(contact.instance, call_id, cseq, binding.expires_at)
        assert after.keys() == self.model.keys()

    @rule()
    def fetch(self) -> None:
        outcome = register(a_register(cseq=1), self.bindings, self.config, self.now, lambda: 0.5)
        assert isinstance(outcome, Stored)
        assert (list(outcome.bindings), outcome.changed) == (self._live(), False)

    def _live(self) -> list[Binding]:
        return [binding for binding in self.bindings if binding.expires_at > self.now]

    @rule(call_id=CALL_IDS, cseq=CSEQS)
    def remove_all(self, call_id: str, cseq: int) -> None:
        request = a_register(star=True, expires=0, call_id=call_id, cseq=cseq)
        outcome = register(request, self.bindings, self.config, self.now, lambda: 0.5)
        late = any(entry.call_id == call_id and cseq <= entry.cseq for entry in self.model.values())
        assert isinstance(outcome, Refused) == late
        if isinstance(outcome, Stored):
            assert list(outcome.removed) == self._live()
            self.bindings, self.model = outcome.bindings, {}

    @rule(flow=st.integers(1, 2))
    def lose_connection(self, flow: int) -> None:
        self.bindings = unbind(self.bindings, "n1", 1, flow)
        left = {key_of(binding) for binding in self.bindings}
        self.model = {key: entry for key, entry in self.model.items() if key in left}

    @invariant()
    def names_are_unique(self) -> None:
        keys = [key_of(binding) for binding in self.bindings]
        assert len(set(keys)) == len(keys)

    @invariant()
    def not_too_many(self) -> None:
        assert len(self.bindings) <= self.config.max_contacts

    @invariant()
    def an_instance_has_one_generation(self) -> None:
        generations: dict[Any, set[int]] = {}
        for binding in self._live():
            generations.setdefault(binding.instance, set()).add(binding.generation)
        assert all(len(each) == 1 for each in generations.values())
        assert generations.get(None, {0}) == {0}

    @invariant()
    def connections_are_live(self) -> None:
        assert all(binding.connection_bound == (binding.source.flow_id > 0 and binding.contact[:3] == "sip")
                   for binding in self.bindings)


RegistrationsTest = Registrations.TestCase
RegistrationsTest.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
