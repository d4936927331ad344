"""What reginfo documents are read by in tests: the schemas of RFC 3680 and RFC 5628, and the subscriber's table."""

from functools import cached_property
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from xmlschema import XMLSchema
from xmlschema.validators.xsdbase import XsdValidator

from registrar.reginfo import GRUU_NAMESPACE, NAMESPACE

VECTORS = Path(__file__).parents[1] / "vectors"


def _cached_properties(cls: Any) -> tuple[str, ...]:
    """Do what xmlschema does, where zope.interface has marked the collections of the standard library, too.

    What it puts there, `__provides__`, raises AttributeError when it is read at a class that inherits it.
    """
    return tuple(name for name in dir(cls) if isinstance(getattr(cls, name, None), cached_property))


setattr(XsdValidator, "_cached_properties", classmethod(_cached_properties))  # noqa: B010 - mypy takes no other way
SCHEMA = XMLSchema(str(VECTORS / "reginfo.xsd"))
GRUU_SCHEMA = XMLSchema(str(VECTORS / "gruuinfo.xsd"))


class Reginfo:
    """One document, found to be valid."""

    def __init__(self, body: bytes) -> None:
        SCHEMA.validate(body.decode())
        self.root = fromstring(body)
        for element in self.root.iter():
            if element.tag.startswith(f"{{{GRUU_NAMESPACE}}}"):
                GRUU_SCHEMA.validate(element)
        (self.registration,) = self.root.findall(_named("registration"))
        self.version = int(self.root.attrib["version"])
        self.is_full = self.root.attrib["state"] == "full"
        self.state = self.registration.attrib["state"]
        self.contacts = self.registration.findall(_named("contact"))

    @property
    def events(self) -> list[tuple[str, str, str]]:
        """The URI, the state and the event of each contact."""
        return [(uri_of(each), each.attrib["state"], each.attrib["event"]) for each in self.contacts]


class Table:
    """What a subscriber knows, by RFC 3680 §5.2: documents applied one after the other."""

    def __init__(self) -> None:
        self.version = -1
        self.state = ""
        self.active: dict[str, str] = {}

    def apply(self, document: Reginfo) -> None:
        """Take one more document, which must be the next one."""
        assert document.version == self.version + 1, (document.version, self.version)
        assert document.is_full or self.version >= 0, "the first document is partial"
        if document.is_full:
            self.active.clear()
        self.version, self.state = document.version, document.state
        for contact in document.contacts:
            if contact.attrib["state"] == "active":
                self.active[contact.attrib["id"]] = uri_of(contact)
            else:
                self.active.pop(contact.attrib["id"], None)


def uri_of(contact: Element) -> str:
    """Return the URI of a contact element."""
    return contact.findtext(_named("uri")) or ""


def params_of(contact: Element) -> dict[str, str]:
    """Return its unknown parameters."""
    return {each.attrib["name"]: each.text or "" for each in contact.findall(_named("unknown-param"))}


def gruu_of(contact: Element) -> str | None:
    """Return its public GRUU."""
    found = contact.find(f"{{{GRUU_NAMESPACE}}}pub-gruu")
    return None if found is None else found.attrib["uri"]


def _named(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"
