"""Keeps the answers true: looks how the sites are, and publishes a new snapshot whenever that changes what is told."""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.fitness import Fitness, Judging, Standing, are_all_well, is_any_told, offers
from registrar.distribution.dns.layout import Layout
from registrar.distribution.dns.preferences import Preferences, Selecting
from registrar.distribution.dns.records import Records, Told
from registrar.distribution.dns.serials import Serials
from registrar.distribution.dns.snapshot import Snapshot
from rollcall.cluster.sites import Sites

WHY = {
    Fitness.EMPTY: "no node lives there", Fitness.SILENT: "nothing is heard of it",
    Fitness.OVERLOADED: "hardly anything is free there", Fitness.CLOSED: "its nodes are drained or not ready",
}


class Keeping:
    """Makes snapshots, each whole or not at all."""

    _log = Logger()

    def __init__(self, reactor: Any, config: DnsConfig, layout: Layout, sites: Sites, group: Callable[[str], str],
                 serials: Serials, publish: Callable[[Snapshot], None], capacity: int) -> None:
        """`group` returns the access group of an address; `capacity` is that of a node that does not say its own."""
        self._reactor = reactor
        self._config = config
        self._sites = sites
        self._serials = serials
        self._publish = publish
        places = [place.name for place in layout.places]
        self._judging = Judging(config, places, capacity, reactor.seconds())
        self._records = Records(config, layout)
        self._looking = LoopingCall(self.look)
        self._looking.clock = reactor
        self._problem = ""
        self.layout = layout
        self.preferences = Preferences(config.routes, places)
        self._selecting = Selecting(self.preferences, group)
        self.standings: Mapping[str, Standing] = {}
        """How each site is told to be."""
        self.told: Mapping[str, Told] = {}
        """What is told of sites, by view."""
        self.serial = self.version = self.failures = 0

    def start(self) -> None:
        """Publish what is known, and go on looking."""
        self._looking.start(self._config.look_seconds)

    def stop(self) -> None:
        """Look no more; what was published stays."""
        if self._looking.running:
            self._looking.stop()

    def reload(self) -> None:
        """Ask again which access group each network belongs to."""
        self._selecting.forget()
        self._attempt(lambda: self._renew(self.told))

    def view_of(self, address: bytes) -> str:
        """Return the name of the view for a packed address."""
        return self._selecting(address)

    def look(self) -> None:
        """Publish a new snapshot when something has changed. Whatever goes wrong, the last one stays."""
        self._attempt(self._look)

    def _attempt(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as problem:  # without a next look the answers would be wrong from now on
            self.failures += 1
            if repr(problem) != self._problem:
                self._problem = repr(problem)
                self._log.failure("the answers of the name server stay as they were, for no new ones can be made")
        else:
            self._problem = ""

    def _look(self) -> None:
        standings = self._judging.look(self._sites.states(), self._reactor.seconds())
        told, before = self._tell(standings), self.standings
        if told != self.told or self._serials.is_behind():
            self._renew(told)
        self.standings = standings
        self._say_changes(before, standings)

    def _tell(self, standings: Mapping[str, Standing]) -> dict[str, Told]:
        config = self._config
        ttl = config.ttl_seconds if are_all_well(standings.values()) else config.ttl_changing_seconds
        return {view: Told(offers(preference, standings), ttl) for view, preference in self.preferences.lists.items()}

    def _renew(self, told: Mapping[str, Told]) -> None:
        default = self.preferences.default
        # Secondaries have the default view only; for another one alone they need not come.
        serial = self._serials.number(repr((self._config, self.layout, told[default])), self._reactor.seconds())
        views = {view: self._records.view(view, each, serial) for view, each in told.items()}
        self._publish(Snapshot(self.version + 1, serial, self.layout.origins, views, default, self._selecting,
                               len(views) > 1))
        self.version += 1
        self.serial, self.told = serial, told
        self._log.debug("answers {version} with serial number {serial}", version=self.version, serial=serial)

    def _say_changes(self, before: Mapping[str, Standing], after: Mapping[str, Standing]) -> None:
        for site, standing in after.items():
            was, now = before.get(site, standing).fitness, standing.fitness
            if now is not was or (not before and not now.is_told):
                self._say(site, was, now)
        if not is_any_told(after.values()) and (not before or is_any_told(before.values())):
            self._log.warn("no site seems to live: all of them are answered, for phones may reach what we do not")

    def _say(self, site: str, was: Fitness, now: Fitness) -> None:
        if not now.is_told:
            self._log.warn("site {site} leaves the answers: {why}", site=site, why=WHY[now])
        elif not was.is_told:
            self._log.info("site {site} is back in the answers", site=site)
        elif now.is_behind:
            self._log.warn("site {site} comes after others: {why}", site=site, why=WHY[now])
        elif was.is_behind:
            self._log.info("site {site} has its place again", site=site)
        else:
            self._log.info("site {site} has its whole share of phones again", site=site)
