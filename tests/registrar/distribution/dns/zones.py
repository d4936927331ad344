"""Snapshots written as zone files, and queries put together by dnspython."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dns.edns
import dns.message
import dns.zone
from dns.message import Message
from dns.name import Name, from_text
from dns.rdatatype import RdataType
from dns.rrset import RRset
from dns.rrset import from_rdata_list as an_rrset

from registrar.distribution.dns.snapshot import Snapshot, View

ORIGIN = from_text("sip.example.com.")

# A zone as the registrar makes it, with something that exists only below (RFC 8020), and an answer that is too long.
ZONE = """
@ 3600 SOA ns1 hostmaster 7 60 10 604800 30
@ 3600 NS ns1
@ 3600 NS ns2.example.net.
ns1 3600 A 192.0.2.53
@ 3600 NAPTR 10 50 "s" "SIP+D2U" "" _sip._udp
@ 3600 NAPTR 20 50 "s" "SIP+D2T" "" _sip._tcp
_sip._udp 30 SRV 10 60 5060 fra
_sip._udp 30 SRV 20 40 5060 ams
_sip._tcp 30 SRV 10 60 5060 fra
@ 30 A 192.0.2.10
@ 30 AAAA 2001:db8::10
fra 3600 A 192.0.2.10
fra 3600 AAAA 2001:db8::10
ams 3600 A 198.51.100.10
""" + "".join(f"many 30 SRV 10 {number} 5060 host-number-{number}\n" for number in range(60))

NEAR = ZONE.replace("fra", "ams")
"""What another network sees: one site less."""


def rrsets(text: str, origin: Name = ORIGIN, serial: int = 7) -> dict[tuple[Name, RdataType], RRset]:
    """Return the records of a zone file."""
    zone = dns.zone.from_text(text.replace(" 7 60 10 ", f" {serial} 60 10 "), origin, relativize=False)
    return {(name, rdataset.rdtype): an_rrset(name, rdataset.ttl, list(rdataset))
            for name, rdataset in zone.iterate_rdatasets()}


def a_snapshot(version: int = 1, views: Mapping[str, str] | None = None,
               select: Callable[[bytes], str] = lambda address: "all") -> Snapshot:
    """Return a snapshot of one zone; `views` are zone files."""
    texts = views or {"all": ZONE}
    return Snapshot(version, 6 + version, (ORIGIN,),
                    {name: View(name, rrsets(text, serial=6 + version)) for name, text in texts.items()},
                    next(iter(texts)), select, len(texts) > 1)


def a_query(name: str = "sip.example.com.", kind: str = "A", *, subnet: str = "", edns: bool = False,
            options: Sequence[dns.edns.Option] = (), **more: Any) -> Message:
    """Return a query without EDNS unless `subnet`, `edns` or something of it is given."""
    all_options = [*options, *([dns.edns.ECSOption.from_text(subnet)] if subnet else ())]
    return dns.message.make_query(name, kind, use_edns=0 if edns or subnet else None, options=all_options or None,
                                  **more)


def subnet_of(answer: Message) -> tuple[str, int, int] | None:
    """Return address, source and scope of the client's subnet in an answer."""
    for option in answer.options:
        if isinstance(option, dns.edns.ECSOption):
            return option.address, option.srclen, option.scopelen
    return None
