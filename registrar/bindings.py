"""The rules of registration: which bindings an address-of-record has after a REGISTER
(RFC 3261 §10.3 steps 6-8, RFC 3327 §5.3, RFC 5626 §6, RFC 5627 §5.1, RFC 5630 §5.2).

`register` is one pure function over values. What a request says is read in `registrar.reading`, what the answer says
is written in `registrar.answering`, and GRUUs are made and understood in `registrar.gruu`.
"""

from collections.abc import Callable, Iterable, Sequence

import attrs

from registrar.records import Binding, BindingConfig, NewContact, Params, Refused, Register, Source, Stored
from rollcall.sip.uri import SipUri, parse_uri

__all__ = [
    "SUPPORTED_EXTENSIONS",
    "Binding",
    "BindingConfig",
    "NewContact",
    "Params",
    "Refused",
    "Register",
    "Source",
    "Stored",
    "register",
    "same_contact",
    "superseded",
    "unbind",
]

SUPPORTED_EXTENSIONS = frozenset({"gruu", "outbound", "path", "pref"})
"""Option tags that a REGISTER may name in Require (RFC 3261 §8.2.2; RFC 3327, 3840, 5626, 5627)."""

BRIEF_BELOW_SECONDS = 3600
"""An expiry of an hour or more is never refused as too brief (RFC 3261 §10.3 step 7)."""

def register(request: Register, current: Sequence[Binding], config: BindingConfig, now: float,
             jitter: Callable[[], float]) -> Stored | Refused:
    """Return the bindings to store and report, or the refusal to send.

    `current` may hold lapsed bindings; `now` is in seconds since the epoch; `jitter` returns a random number in
    [0, 1). All contacts take effect, or none does (RFC 3261 §10.3 step 7).
    """
    live = [binding for binding in current if binding.expires_at > now]
    lapsed = tuple([binding for binding in current if binding.expires_at <= now])
    if request.path and config.require_path_support and "path" not in request.supported:
        return Refused(420, "Bad Extension", (("Unsupported", "path"),))
    if request.star:
        return _remove_all(request, live, lapsed)
    if not request.contacts:
        return Stored(tuple(live), changed=False, lapsed=lapsed)
    if len(request.contacts) > 2 * config.max_contacts + len(live):
        # More than anybody can mean, some named twice included; to compare thousands with each other takes minutes.
        return _too_many()
    contacts = _under_outbound_rules(request)
    if isinstance(contacts, Refused):
        return contacts
    wishes = [(contact, _requested_seconds(contact, request, config)) for contact in contacts]
    refusal = _forbidden(request, wishes, config)
    if refusal is not None:
        return refusal
    update = _Update(request, live, config, now, jitter)
    for contact, seconds in wishes:
        if not update.apply(contact, seconds, wishes):
            return _out_of_order()
    return update.outcome(lapsed)


def unbind(current: Iterable[Binding], node: str, epoch: int, flow_id: int) -> tuple[Binding, ...]:
    """Return the bindings that are left when a connection has ended (RFC 5626 §7)."""
    return tuple(binding for binding in current if not _lives_on(binding, node, epoch, flow_id))


def same_contact(one: Binding, other: Binding) -> bool:
    """Say whether a registration of one would replace the other (RFC 3261 §10.3 step 7, RFC 5626 §6).

    Raises ParseError when one of them is no URI and no other name is there.
    """
    if one.reg_id is not None or other.reg_id is not None:
        return one.reg_id == other.reg_id and one.instance == other.instance
    return one.contact == other.contact or _are_same(one.contact, other.contact)


def superseded(stored: Stored, source: Source) -> tuple[Source, ...]:
    """Return the connections that lost a binding to this REGISTER and carry none of the AOR's any more.

    The one that the REGISTER itself came over (`source`) is never among them.
    """
    used = {_flow(binding.source) for binding in stored.bindings if binding.connection_bound}
    used.add(_flow(source))
    lost = {_flow(binding.source): binding.source for binding in stored.removed + stored.replaced
            if binding.connection_bound}
    return tuple(flow_source for flow, flow_source in lost.items() if flow not in used)


def _flow(source: Source) -> tuple[str, int, int]:
    return source.node, source.epoch, source.flow_id


def _lives_on(binding: Binding, node: str, epoch: int, flow_id: int) -> bool:
    return binding.connection_bound and _flow(binding.source) == (node, epoch, flow_id)


def _remove_all(request: Register, live: list[Binding], lapsed: tuple[Binding, ...]) -> Stored | Refused:
    """RFC 3261 §10.3 step 6."""
    if request.contacts or request.expires != 0:
        return Refused(400, "Contact * Needs Expires 0 And No Other Contact")
    if any(_is_out_of_order(request, binding) for binding in live):
        return _out_of_order()
    return Stored((), changed=bool(live), removed=tuple(live), lapsed=lapsed)


def _under_outbound_rules(request: Register) -> tuple[NewContact, ...] | Refused:
    """Return the contacts, with reg-id only where it counts (RFC 5626 §6)."""
    contacts = request.contacts
    if not any(contact.reg_id for contact in contacts):
        return contacts
    # "if the Contact header field value has a reg-id but no instance-id, it simply ignores the reg-id"
    contacts = tuple(_without_reg_id(contact) if contact.instance is None else contact for contact in contacts)
    # "If the registrar is not the first hop, it MUST examine the Path header": `ob` is for the first hop alone to set,
    # and its value is the one that all later hops have put theirs above.
    if request.direct or request.outbound_path:
        return contacts
    if "outbound" in request.supported and any(contact.reg_id is not None for contact in contacts):
        return Refused(439, "First Hop Lacks Outbound Support")
    return tuple(_without_reg_id(contact) for contact in contacts)


def _without_reg_id(contact: NewContact) -> NewContact:
    params = tuple(param for param in contact.params if param[0] != "reg-id")
    return attrs.evolve(contact, reg_id=None, params=params)


def _requested_seconds(contact: NewContact, request: Register, config: BindingConfig) -> int:
    """RFC 3261 §10.3 step 7: the parameter, the header, the default."""
    if contact.expires is not None:
        return contact.expires
    return config.default_expires_seconds if request.expires is None else request.expires


Wish = tuple[NewContact, int]
"""A contact and the seconds asked for it; 0 removes it."""


def _forbidden(request: Register, wishes: list[Wish], config: BindingConfig) -> Refused | None:
    """Return why these contacts may not be bound, whatever is bound already."""
    secure = [contact.secure for contact, _ in wishes]
    # RFC 5630 §5.2: "This includes the Request-URI and the Contacts and all the Path header fields"
    if any(secure) and not (all(secure) and request.secure):
        return Refused(400, "SIPS Contact Needs SIPS Everywhere")
    added = [wish for wish in wishes if wish[1] > 0]
    if len(added) > 1 and any(contact.reg_id for contact, _ in added):
        return Refused(400, "Several Contacts With A reg-id")  # RFC 5626 §6
    if config.require_outbound and any(contact.reg_id is None for contact, _ in added):
        if "outbound" not in request.supported:
            return Refused(421, "Extension Required", (("Require", "outbound"),))
        return Refused(403, "Contact Without reg-id")
    for contact, seconds in added:
        if contact.loops or (contact.instance is not None and not contact.routable):
            return Refused(403, "Contact Cannot Have A GRUU")  # RFC 5627 §5.1
        if seconds < config.min_expires_seconds and seconds < BRIEF_BELOW_SECONDS:
            return Refused(423, "Interval Too Brief", (("Min-Expires", str(config.min_expires_seconds)),))
    return None


class _Update:
    """The bindings while the contacts of one REGISTER are applied in turn (RFC 3261 §10.3 step 7)."""

    __slots__ = ("_added", "_config", "_jitter", "_live", "_now", "_removed", "_replaced", "_request", "_untouched")

    def __init__(self, request: Register, live: list[Binding], config: BindingConfig, now: float,
                 jitter: Callable[[], float]) -> None:
        self._request = request
        self._live = live
        self._config = config
        self._now = now
        self._jitter = jitter
        self._untouched = live
        self._added: list[Binding] = []
        self._removed: list[Binding] = []
        self._replaced: list[Binding] = []

    def apply(self, contact: NewContact, seconds: int, wishes: list[Wish]) -> bool:
        """Add, refresh or remove one contact; False when the request came out of order."""
        named = _matching(contact, self._untouched)
        touched = named
        if seconds and contact.instance is not None and self._config.one_contact_per_instance:
            touched = named + _leftovers(contact, self._untouched, wishes)
        for binding in touched:
            if _is_out_of_order(self._request, binding):
                return False
        if touched:
            self._untouched = _apart_from(touched, self._untouched)
            (self._replaced if seconds else self._removed).extend(touched)
        if self._added:  # a contact that is named twice in one request: the last one counts
            self._added = _apart_from(_matching(contact, self._added), self._added)
        if seconds:
            self._added.append(self._bind(contact, seconds, named))
        return True

    def outcome(self, lapsed: tuple[Binding, ...]) -> Stored | Refused:
        """Return what to store when every contact was applied."""
        request = self._request
        bindings = (*_in_generation_of(self._added, self._untouched), *self._added)
        if len(bindings) > self._config.max_contacts and len(bindings) > len(self._live):
            return _too_many()
        outbound = "outbound" in request.supported and any(binding.reg_id for binding in self._added)
        return Stored(bindings, bool(self._added or self._removed), tuple(self._removed), tuple(self._replaced), lapsed,
                      outbound)

    def _bind(self, contact: NewContact, seconds: int, named: list[Binding]) -> Binding:
        request, now = self._request, self._now
        direct, source = request.direct, request.source
        return Binding(
            contact.uri, contact.params, contact.q, now + granted_seconds(seconds, self._config, self._jitter),
            request.call_id, request.cseq, request.path, contact.instance, contact.reg_id, source, direct,
            direct and source.flow_id != 0 and contact.routable, request.user_agent,
            named[0].registered_at if named else now, now,
            0 if contact.instance is None else _generation(contact, request.call_id, self._live, now),
        )


def _too_many() -> Refused:
    return Refused(403, "Too Many Contacts")


def _out_of_order() -> Refused:
    # "CSeq" in a reason phrase is taken for the header by clients that search the text for it, as sipp does.
    return Refused(500, "Out Of Order")


def _is_out_of_order(request: Register, binding: Binding) -> bool:
    """Say whether the binding knows a later request of the same series (RFC 3261 §10.3 step 7)."""
    return binding.call_id == request.call_id and request.cseq <= binding.cseq


def _apart_from(some: list[Binding], bindings: list[Binding]) -> list[Binding]:
    return [binding for binding in bindings if not any(binding is one for one in some)]


def granted_seconds(seconds: int, config: BindingConfig, jitter: Callable[[], float]) -> int:
    """Return the seconds to grant: never more than was asked, and only less than the minimum if that was asked."""
    granted = min(seconds, config.max_expires_seconds)
    if config.expiry_jitter:
        granted -= int(granted * config.expiry_jitter * jitter())
    return max(granted, min(seconds, config.min_expires_seconds))


def _matching(contact: NewContact, bindings: list[Binding]) -> list[Binding]:
    """Return the bindings that `contact` names (RFC 3261 §10.3 step 7, RFC 5626 §6).

    With outbound, instance and reg-id are the name, else the URI. URI equality is not transitive (RFC 3261 §19.1.4), so
    several can match; but never several stored ones one another, so that the same text is the only match.
    """
    reg_id = contact.reg_id
    if reg_id is not None:
        return [binding for binding in bindings if binding.reg_id == reg_id and binding.instance == contact.instance]
    for binding in bindings:
        if binding.contact == contact.uri and binding.reg_id is None:
            return [binding]
    return [binding for binding in bindings if binding.reg_id is None and _are_same(contact.uri, binding.contact)]


def _are_same(first: str, second: str) -> bool:
    """Say whether two contacts are one by RFC 3261 §19.1.4.

    A sips contact and its sip twin are one here: "the second registration replaces the first one" (RFC 5630 §5.1.1.1).
    """
    one, other = parse_uri(first), parse_uri(second)
    if isinstance(one, SipUri) and isinstance(other, SipUri):
        return one.matches(attrs.evolve(other, scheme=one.scheme))
    return one == other


def _leftovers(contact: NewContact, bindings: list[Binding], wishes: list[Wish]) -> list[Binding]:
    """Return what the instance registered under other URIs in an earlier life (RFC 5627 §6.1, second case)."""
    if contact.reg_id is not None:
        return []
    return [
        binding for binding in bindings
        if binding.instance == contact.instance and binding.reg_id is None
        and not any(_matching(named, [binding]) for named, _ in wishes)
    ]


def _generation(contact: NewContact, call_id: str, live: list[Binding], now: float) -> int:
    """Return the generation of the instance's valid temporary GRUUs: a new one when its Call-ID changed.

    RFC 5627 §5.1: "examines the Call-ID value associated with [the most recent contact of the instance and, with
    outbound, of the reg-id]. If it differs […] invalidate all previously generated temporary GRUUs".
    """
    same = [binding for binding in live if binding.instance == contact.instance]
    if not same:
        return int(now * 1000)
    generation = max(binding.generation for binding in same)
    flow = [binding for binding in same if contact.reg_id is None or binding.reg_id == contact.reg_id]
    if not flow or max(flow, key=lambda binding: binding.refreshed_at).call_id == call_id:
        return generation
    return max(int(now * 1000), generation + 1)


def _in_generation_of(added: list[Binding], untouched: list[Binding]) -> list[Binding]:
    """Return the other bindings, those of a just registered instance with its generation."""
    generations: dict[str | None, int] = {
        binding.instance: binding.generation for binding in added if binding.instance is not None
    }
    if not generations:
        return untouched
    return [
        attrs.evolve(binding, generation=generations[binding.instance]) if binding.instance in generations else binding
        for binding in untouched
    ]
