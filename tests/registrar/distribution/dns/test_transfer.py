"""Zones in transfer, taken in by dnspython as a secondary would."""

import dns.message
import dns.xfr
import dns.zone
from dns.name import Name, from_text
from dns.rdatatype import RdataType
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.snapshot import Snapshot, View
from registrar.distribution.dns.transfer import MESSAGE_BYTES, Secondaries, messages
from registrar.distribution.dns.wire import parse_query
from rollcall.net.flow import pack_address
from tests.registrar.distribution.dns.zones import ORIGIN, ZONE, a_query, a_snapshot, rrsets


def transferred(snapshot: Snapshot, origin: Name = ORIGIN) -> tuple[dns.zone.Zone, list[bytes]]:
    """Return what a secondary has after a transfer, and the messages of it."""
    zone = dns.zone.Zone(origin, relativize=False)
    query = a_query(origin.to_text(), "AXFR", edns=True)
    data = query.to_wire()
    sent = list(messages(data, parse_query(data), origin, snapshot, 1232))
    with dns.xfr.Inbound(zone, RdataType.AXFR) as inbound:
        ended = [inbound.process_message(dns.message.from_wire(message, xfr=True, one_rr_per_rrset=True))
                 for message in sent]
    assert ended == [False] * (len(sent) - 1) + [True]
    return zone, sent


class TransferTests(SynchronousTestCase):
    def test_whole(self) -> None:
        """A secondary has exactly what we have."""
        zone, sent = transferred(a_snapshot(version=3))
        ours = rrsets(ZONE, serial=9)
        self.assertEqual({(name, rdataset.rdtype): set(rdataset) for name, rdataset in zone.iterate_rdatasets()},
                         {key: set(rrset) for key, rrset in ours.items()})
        self.assertEqual(len(sent), 1)
        answer = dns.message.from_wire(sent[0])
        self.assertEqual((answer.edns, answer.flags), (0, 0x8500))

    def test_large(self) -> None:
        """A large zone comes in several messages, none of which is much longer than it may be."""
        text = ZONE + "".join(f"host-{number} 60 A 10.0.{number // 250}.{number % 250}\n" for number in range(3000))
        zone, sent = transferred(a_snapshot(views={"all": text}))
        self.assertGreater(len(sent), 3)
        self.assertLessEqual(max(map(len, sent)), MESSAGE_BYTES + 300)
        self.assertEqual(len(list(zone.iterate_rdatasets())), len(rrsets(text)))

    def test_inner_zone(self) -> None:
        """What is in a zone of its own is not sent with the one above."""
        inner = from_text("inner", ORIGIN)
        both = {**rrsets(ZONE), **rrsets("@ 60 SOA ns1 hostmaster 7 60 10 60 5\n@ 60 NS ns1\nx 60 A 10.0.0.1", inner)}
        snapshot = Snapshot(1, 7, (ORIGIN, inner), {"all": View("all", both)}, "all", lambda address: "all", False)
        self.assertEqual(len(list(transferred(snapshot)[0].iterate_rdatasets())), len(rrsets(ZONE)))
        self.assertEqual(len(list(transferred(snapshot, inner)[0].iterate_rdatasets())), 3)

    def test_nothing_newer(self) -> None:
        """A secondary that has the serial or a newer one is sent the SOA only, one with an older one the whole zone."""
        whole = len(list(transferred(a_snapshot())[0].iterate_rdatas())) + 1
        for serial, records in ((7, 1), (8, 1), (2**31 + 6, 1), (6, whole), (2**32 - 1, whole)):
            query = a_query(kind="IXFR")
            query.authority.append(rrsets(ZONE, serial=serial)[ORIGIN, RdataType.SOA])
            data = query.to_wire()
            message, = messages(data, parse_query(data), ORIGIN, a_snapshot(), 1232)
            answer = dns.message.from_wire(message, one_rr_per_rrset=True)
            self.assertEqual(len(answer.answer), records)

    def test_who_may(self) -> None:
        """Secondaries that are told, and hosts of the networks named, may have the zones; others may not."""
        who = Secondaries(DnsConfig(secondaries=("192.0.2.53:53", "[2001:db8::53]:53"),
                                    transfer_networks=("198.51.100.0/28",)))
        for host, may in (("192.0.2.53", True), ("192.0.2.54", False), ("2001:db8::53", True), ("2001:db8::54", False),
                          ("198.51.100.15", True), ("198.51.100.16", False)):
            self.assertEqual(who.may_transfer(pack_address(host, 1)[2:]), may, host)
        self.assertFalse(Secondaries(DnsConfig()).may_transfer(bytes(4)))
