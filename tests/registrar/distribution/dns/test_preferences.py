"""Which list of sites a client gets."""

from collections import Counter
from socket import AF_INET6, inet_aton, inet_pton

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns import preferences as under_test
from registrar.distribution.dns.config import RouteConfig
from registrar.distribution.dns.preferences import Preferences, Selecting
from tests.registrar.distribution.dns.sites import ROUTES

PLACES = ("fra", "ams", "nyc")
USUAL = "fra,ams,nyc"


class PreferencesTests(SynchronousTestCase):
    def test_views(self) -> None:
        """There is one view for each different list, named by it; sites that a route does not name come after."""
        preferences = Preferences(ROUTES, PLACES)
        self.assertEqual(dict(preferences.lists), {
            USUAL: (("fra",), ("ams",), ("nyc",)), "nyc,fra,ams": (("nyc",), ("fra",), ("ams",)),
            "ams|fra,nyc": (("ams", "fra"), ("nyc",))})
        self.assertEqual(preferences.default, USUAL)
        self.assertEqual(preferences.groups(USUAL), ["telekom/DE", "*/*"])

    def test_most_specific(self) -> None:
        """Carrier and region count before the carrier, that before the region, and any before none."""
        routes = [RouteConfig(group=group, sites=sites) for group, sites in (
            ("*/DE", ("ams",)), ("dtag/*", ("nyc",)), ("dtag/DE", ("fra", "nyc")), ("/FR", ("ams", "nyc")))]
        preferences = Preferences(routes, PLACES)
        for group, view in (("dtag/DE", "fra,nyc,ams"), ("dtag/FR", "nyc,fra,ams"), ("vf/DE", "ams,fra,nyc"),
                            ("vf/FR", USUAL), ("", USUAL), ("/FR", "ams,nyc,fra"), ("dtag/", "nyc,fra,ams")):
            self.assertEqual(preferences.view(group), view, group)

    def test_everybody_else(self) -> None:
        """A route for "*/*" replaces the order of the sites, and no view is left that nobody would see."""
        preferences = Preferences([RouteConfig(group="*/*", sites=("nyc",))], PLACES)
        self.assertEqual((preferences.view("a/b"), preferences.default), ("nyc,fra,ams",) * 2)
        self.assertEqual(list(preferences.lists), ["nyc,fra,ams"])


class SelectingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.asked: Counter[str] = Counter()
        self.groups = {"198.51.100.0": "att/US", "2001:db8::": "telekom/DE"}
        self.selecting = Selecting(Preferences(ROUTES, PLACES), self.group)

    def group(self, host: str) -> str:
        """Return the group of a host."""
        self.asked[host] += 1
        return self.groups.get(host, "")

    def test_addresses(self) -> None:
        """An address of either version leads to its view, and is looked up once."""
        for _ in range(3):
            self.assertEqual(self.selecting(inet_aton("198.51.100.0")), "nyc,fra,ams")
            self.assertEqual(self.selecting(inet_pton(AF_INET6, "2001:db8::")), USUAL)
            self.assertEqual(self.selecting(inet_aton("203.0.113.0")), USUAL)
        self.assertEqual(set(self.asked.values()), {1})

    def test_forgotten(self) -> None:
        """After a reload everybody is looked up again."""
        self.selecting(inet_aton("198.51.100.0"))
        self.groups["198.51.100.0"] = "kpn/NL"
        self.selecting.forget()
        self.assertEqual(self.selecting(inet_aton("198.51.100.0")), "ams|fra,nyc")

    def test_bounded(self) -> None:
        """However many networks ask, so many are remembered."""
        self.patch(under_test, "REMEMBERED", 50)
        for number in range(1000):
            self.selecting(number.to_bytes(4, "big"))
        self.assertLessEqual(len(self.selecting._remembered), 50)
