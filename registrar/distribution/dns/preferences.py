"""Which sites are near to whom: a list for each access group, and one for all others."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from socket import AF_INET, AF_INET6, inet_ntop

from registrar.distribution.dns.config import EVERY, RANK, RouteConfig

REMEMBERED = 100_000
"""So many networks are remembered with their views: about 100 bytes each."""

Preference = tuple[tuple[str, ...], ...]
"""All sites: the nearest first, those that are equally near together."""


def view_name(preference: Preference) -> str:
    """Return what the view of this list is called, such as "fra|ams,nyc"; the same wherever the list is the same."""
    return ",".join(RANK.join(rank) for rank in preference)


class Preferences:
    """The lists of the configuration, each under the name of its view."""

    def __init__(self, routes: Sequence[RouteConfig], places: Sequence[str]) -> None:
        """`places` are all there are, in the order for those who are in none of the groups."""
        self._by_group = {route.group: view_name(_whole(route.sites, places)) for route in routes}
        usual = view_name(_whole((), places))
        self.default: str = self._by_group.setdefault(f"{EVERY}/{EVERY}", usual)
        """The view of who is in none of the groups."""
        lists = [_whole(route.sites, places) for route in routes] + [_whole((), places)]
        self.lists: Mapping[str, Preference] = {
            name: each for each in lists if (name := view_name(each)) in self._by_group.values()}
        """By the name of the view."""

    def groups(self, view: str) -> list[str]:
        """Return the groups of the configuration that see this view; "*/*" are all others."""
        return [group for group, name in self._by_group.items() if name == view]

    def view(self, group: str) -> str:
        """Return the name of the view for an access group, which is carrier/region, or empty where nothing is known."""
        carrier, _, region = group.partition("/")
        for pattern in (f"{carrier}/{region}", f"{carrier}/{EVERY}", f"{EVERY}/{region}"):
            if pattern in self._by_group:
                return self._by_group[pattern]
        return self.default


class Selecting:
    """Finds the view for the network of a client. It is what a snapshot selects by."""

    def __init__(self, preferences: Preferences, group: Callable[[str], str]) -> None:
        """`group` returns the access group of a numeric address."""
        self._preferences = preferences
        self._group = group
        self._remembered: dict[bytes, str] = {}

    def __call__(self, packed: bytes) -> str:
        """Return the name of the view for an address of 4 or 16 bytes."""
        view = self._remembered.get(packed)
        if view is None:
            view = self._preferences.view(self._group(inet_ntop(AF_INET if len(packed) == 4 else AF_INET6, packed)))
            if len(self._remembered) >= REMEMBERED:
                # every tenth that came first, as AccessGroups does
                for old in list(islice(self._remembered, REMEMBERED // 10)):
                    del self._remembered[old]
            self._remembered[packed] = view
        return view

    def forget(self) -> None:
        """Ask again for the group of every network: the files of [access] are others than before."""
        self._remembered.clear()


def _whole(ranks: Sequence[str], places: Sequence[str]) -> Preference:
    """Return a list of all sites: those that are not in it come after, in their usual order."""
    preference = [tuple(rank.split(RANK)) for rank in ranks]
    named = {name for rank in preference for name in rank}
    return (*preference, *((place,) for place in places if place not in named))
