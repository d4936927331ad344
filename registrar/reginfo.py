"""What subscribers are told about an address-of-record: which of its contacts changed, and the document that says so.

RFC 3680 §§4.7.1, 5 (reginfo documents, the states and events of contacts), RFC 5628 (GRUUs in them). Bindings go in,
XML comes out; when and to whom is decided elsewhere.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from hashlib import blake2b
from xml.etree.ElementTree import Element, SubElement, tostring

from attrs import evolve

from registrar.gruu import GruuMaker
from registrar.records import Binding
from rollcall.sip.values import frozen

CONTENT_TYPE = "application/reginfo+xml"
NAMESPACE = "urn:ietf:params:xml:ns:reginfo"
GRUU_NAMESPACE = "urn:ietf:params:xml:ns:gruuinfo"

ID_BYTES = 8
"""Of a hash: that two contacts of one address-of-record get the same id is no concern then."""

LAPSE_SECONDS = 1.0
"""A binding that is gone so shortly before its time has lapsed: nodes' clocks differ, and stores count in ticks."""

# XML 1.0 §2.2 has no other characters, escaped or not. Bytes of a message that are no UTF-8 are surrogates here.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Event(Enum):
    """What brought a contact into its state (RFC 3680 §4.7.1)."""

    REGISTERED = "registered"
    REFRESHED = "refreshed"
    SHORTENED = "shortened"
    EXPIRED = "expired"
    DEACTIVATED = "deactivated"
    UNREGISTERED = "unregistered"


ACTIVE = frozenset({Event.REGISTERED, Event.REFRESHED, Event.SHORTENED})


@frozen
class Contact:
    """A contact as it is told: the binding as it is, or as it was when it was last told, and the event."""

    binding: Binding
    event: Event
    is_news: bool = True
    """False when nothing is new but that it lives longer than was told."""

    @property
    def is_active(self) -> bool:
        """Whether it is bound."""
        return self.event in ACTIVE


@frozen
class Document:
    """One reginfo document about one address-of-record."""

    aor: str
    version: int
    """From 0, one more for each document of a subscription."""
    is_full: bool
    contacts: tuple[Contact, ...]
    is_bound: bool
    """Whether any contact is bound, told here or not."""

    @property
    def state(self) -> str:
        """The state of the registration (RFC 3680 §4.7.1): "terminated" only where its last contact is told to end."""
        if self.is_bound:
            return "active"
        return "terminated" if self.contacts else "init"


def all_contacts(bindings: Iterable[Binding]) -> tuple[Contact, ...]:
    """Return every contact with the event that made it what it is."""
    return tuple([
        Contact(binding, Event.REFRESHED if binding.refreshed_at > binding.registered_at else Event.REGISTERED)
        for binding in bindings
    ])


def changed_contacts(told: Sequence[Binding], bound: Sequence[Binding], now: float,
                     is_lost: Callable[[Binding], bool]) -> tuple[Contact, ...]:
    """Return the contacts that are no more what was told of them, those first that have ended.

    `bound` holds live bindings only; `is_lost` says of one that has ended whether it did with its connection.
    """
    before = {_identity(binding): binding for binding in told}
    after = {_identity(binding): binding for binding in bound}
    ended = [Contact(binding, _end_of(binding, now, is_lost)) for name, binding in before.items() if name not in after]
    changed = [Contact(binding, event, not _is_prolonged(before.get(name), binding)) for name, binding in after.items()
               if (event := _change_of(before.get(name), binding)) is not None]
    return (*ended, *changed)


def where_they_are(told: Sequence[Binding], bound: Sequence[Binding]) -> tuple[Binding, ...]:
    """Return what was told, but each over the flow that it is bound over now, of which no document speaks."""
    now = {_identity(binding): binding for binding in bound}
    return tuple([
        evolve(binding, source=now[name].source, connection_bound=now[name].connection_bound)
        if (name := _identity(binding)) in now else binding for binding in told
    ])


def to_xml(document: Document, now: float, gruus: GruuMaker | None = None) -> bytes:
    """Return the document in UTF-8, valid by the schema of RFC 3680 §5.4; with `gruus` it has public GRUUs."""
    root = Element("reginfo", {"xmlns": NAMESPACE, "version": str(document.version),
                               "state": "full" if document.is_full else "partial"})
    registration = SubElement(root, "registration", {"aor": _legal(document.aor), "id": _short(document.aor),
                                                     "state": document.state})
    for contact in document.contacts:
        _add_contact(registration, document.aor, contact, now, gruus)
    text: bytes = tostring(root, encoding="UTF-8")
    return text


def _identity(binding: Binding) -> tuple[str, str | None, int | None]:
    """Return what a contact is known by: its URI, for other URIs must have other ids; and with outbound its flow."""
    if binding.reg_id is None:
        return binding.contact, None, None
    return binding.contact, binding.instance, binding.reg_id


def _end_of(binding: Binding, now: float, is_lost: Callable[[Binding], bool]) -> Event:
    if binding.expires_at <= now + LAPSE_SECONDS:
        return Event.EXPIRED
    # "still wishes the client to attempt to re-register the contact": it knows that its connection is gone.
    return Event.DEACTIVATED if is_lost(binding) else Event.UNREGISTERED


def _change_of(old: Binding | None, new: Binding) -> Event | None:
    if old is None:
        return Event.REGISTERED
    if (old.call_id, old.cseq, old.refreshed_at) != (new.call_id, new.cseq, new.refreshed_at):
        return Event.REFRESHED
    return Event.SHORTENED if new.expires_at < old.expires_at else None


def _is_prolonged(old: Binding | None, new: Binding) -> bool:
    """Say whether all that is told of a contact is as it was, but for its last REGISTER and a time that is longer."""
    return old is not None and new.expires_at >= old.expires_at and _shown(old) == _shown(new)


def _shown(binding: Binding) -> tuple[object, ...]:
    return binding.call_id, binding.q, binding.params, binding.registered_at


def _add_contact(registration: Element, aor: str, contact: Contact, now: float, gruus: GruuMaker | None) -> None:
    """Add one contact. Of display names bindings know nothing, of temporary GRUUs not their first CSeq."""
    binding = contact.binding
    attributes = {"id": _short("\0".join(map(str, _identity(binding)))),
                  "state": "active" if contact.is_active else "terminated", "event": contact.event.value,
                  "duration-registered": str(max(0, int(now - binding.registered_at)))}
    if contact.is_active:
        attributes["expires"] = str(max(0, int(binding.expires_at - now)))
    if binding.q != 1000:
        attributes["q"] = f"{binding.q / 1000:g}"
    element = SubElement(registration, "contact",
                         {**attributes, "callid": _legal(binding.call_id), "cseq": str(binding.cseq)})
    SubElement(element, "uri").text = _legal(binding.contact)
    for name, value in binding.params:
        SubElement(element, "unknown-param", {"name": _legal(name)}).text = _legal(value or "")
    if gruus is not None and binding.instance is not None:
        secure = binding.contact[:5].lower() == "sips:"
        uri = _legal(gruus.public(aor, binding.instance, secure))
        SubElement(element, "gr:pub-gruu", {"xmlns:gr": GRUU_NAMESPACE, "uri": uri})


def _short(text: str) -> str:
    return blake2b(text.encode("utf-8", "surrogateescape"), digest_size=ID_BYTES).hexdigest()


def _legal(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
