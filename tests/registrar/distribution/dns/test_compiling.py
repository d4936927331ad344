"""Answers of one view: what is there, what comes with it, and how it is said that nothing is."""

from unittest.mock import patch

from dns.name import from_text
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns import compiling
from registrar.distribution.dns.compiling import Compiled, CompiledView
from registrar.distribution.dns.snapshot import View
from registrar.distribution.dns.wire import Rcode, Type
from tests.registrar.distribution.dns.zones import ORIGIN, ZONE, a_snapshot, rrsets


class CompiledViewTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.view = CompiledView(a_snapshot().views["all"], [ORIGIN])

    def find(self, name: str, kind: int) -> Compiled:
        """Return an answer that has to be there."""
        found = self.view.find(from_text(name, ORIGIN).to_digestable(), kind)
        assert found is not None
        return found

    def test_data(self) -> None:
        """A set of records is an answer, and is compiled once."""
        found = self.find("fra", Type.A)
        self.assertEqual((found.rcode, found.answers, found.authorities, found.additionals), (Rcode.NOERROR, 1, 0, ()))
        self.assertIs(self.find("fra", Type.A), found)

    def test_additional(self) -> None:
        """Who asks for NAPTR gets the SRV and their addresses, who asks for SRV or NS gets addresses; each set once."""
        self.assertEqual([count for _, count in self.find("@", Type.NAPTR).additionals], [2, 3, 4, 5, 6])
        self.assertEqual([count for _, count in self.find("_sip._udp", Type.SRV).additionals][-1], 3)
        self.assertEqual([count for _, count in self.find("@", Type.NS).additionals], [1])

    def test_missing(self) -> None:
        """A name without the type, one that exists only below, and one that does not exist at all have the SOA."""
        for name, kind, rcode in (("fra", Type.SRV, Rcode.NOERROR), ("_udp", Type.SRV, Rcode.NOERROR),
                                  ("nowhere", Type.A, Rcode.NXDOMAIN), ("below.fra", Type.A, Rcode.NXDOMAIN),
                                  ("_udp", Type.ANY, Rcode.NOERROR)):
            found = self.find(name, kind)
            self.assertEqual((found.rcode, found.answers, found.authorities), (rcode, 0, 1), name)
            # owner, type, class, and the lesser of the SOA's TTL and its minimum (RFC 2308 §3)
            self.assertEqual(found.body[2:10], bytes.fromhex("000600010000001e"))

    def test_missing_is_bounded(self) -> None:
        """Who asks for names of every length in many zones has only so much remembered."""
        with patch.object(compiling, "MOST_MISSED", 10):
            for length in range(1, 30):
                self.find("x" * length, Type.A)
        self.assertLessEqual(len(self.view._missed), 10)

    def test_elsewhere(self) -> None:
        """Names in no zone of ours have no answer, nor has the root."""
        for name in ("example.com.", "sip.example.com.evil.", "."):
            self.assertIsNone(self.view.find(from_text(name).to_digestable(), Type.A), name)

    def test_any(self) -> None:
        """Who asks for everything gets one set of records (RFC 8482)."""
        found = self.find("@", Type.ANY)
        self.assertEqual((found.answers, found.additionals), (1, ()))

    def test_fitting(self) -> None:
        """Additional records are left out from the end, by the set; nothing fits when the answer itself does not."""
        found = self.find("_sip._udp", Type.SRV)
        whole = len(found.body)
        self.assertEqual(found.fitting(whole), (found.body, 3))
        self.assertEqual(found.fitting(whole - 1), (found.body[:found.additionals[1][0]], 2))
        self.assertEqual(found.fitting(found.needed), (found.body[:found.needed], 0))
        self.assertIsNone(found.fitting(found.needed - 1))

    def test_inner_zone(self) -> None:
        """A name belongs to the innermost zone."""
        inner = from_text("inner", ORIGIN)
        inner_zone = rrsets("@ 60 SOA ns1 hostmaster 7 60 10 60 5\n@ 60 NS ns1", inner)
        view = CompiledView(View("all", {**rrsets(ZONE), **inner_zone}), [ORIGIN, inner])
        self.assertEqual(view.origin(from_text("a.b", inner).to_digestable()), inner.to_digestable())
        missing = view.find(from_text("a.b", inner).to_digestable(), Type.A)
        assert missing is not None
        self.assertEqual(missing.body[6:10], (5).to_bytes(4))
