"""The directory as the registrar asks it: which domains there are, whose other name an address is, where calls go.

Calls never depend on it: while the tables cannot be asked, what is remembered counts, however old, and who is not
remembered has neither alias nor forwarding. Without any row in the tables nothing is asked for a call.
"""

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.database.config import DatabaseConfig
from registrar.directory.entries import NOTHING, Entry, InvalidEntry, checked_domain
from registrar.directory.known import Known
from registrar.directory.reaching import DirectoryUnavailable, NoRight, NoTables, Tables
from registrar.directory.statements import Survey
from registrar.routing import Domains
from rollcall.ops.coroutines import start

PATIENCE_SECONDS = 1.0
"""How long a call waits for the directory: its caller hears nothing meanwhile."""

START_SECONDS = 2.0
"""How long the start waits for the first look at the tables."""

RETRY_SECONDS = 1.0
"""How long nobody asks after the tables could not be asked: else each call would wait for the same silence."""

RETRY_SURVEY_SECONDS = 5.0
"""How soon the tables as a whole are looked at again when they could not be, if domains_seconds is not less."""


class Directory:
    """Looks the tables over now and then, and looks up who is called."""

    _log = Logger()

    def __init__(self, reactor: Any, tables: Tables, config: DatabaseConfig, domains: Domains,
                 remembered: Path | None = None) -> None:
        """`reactor` provides IReactorTime. `remembered` keeps the names of domains for a start without the tables."""
        self._reactor = reactor
        self._tables = tables
        self._domains_seconds = config.domains_seconds
        self._domains = domains
        self._remembered = remembered
        self._known: Known[Entry] = Known(config.max_cached, config.cache_seconds)
        self._waiting: dict[str, list[Deferred[Entry]]] = {}
        self._ask_again_at = 0.0
        self._served: tuple[str, ...] = ()
        self._is_missing = False
        self._is_away = False
        self._timer: IDelayedCall | None = None
        self._is_running = False
        self.is_used = False
        """Whether there is any alias or forwarding, as far as is known."""
        self.lookups: Counter[str] = Counter({"memory": 0, "database": 0, "stale": 0, "unknown": 0})
        """Who was called, by where the answer came from. "unknown": nobody could be asked, and calls go on without."""

    def __len__(self) -> int:
        """How many addresses-of-record are remembered."""
        return len(self._known)

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the table."""
        return self._served

    async def start(self) -> None:
        """Look the tables over; return when that is done, or soon."""
        self._is_running = True
        self._serve(self._recall())
        await self._tables.start()
        begun: Deferred[None] = Deferred()

        def go_on() -> None:
            if not begun.called:
                begun.callback(None)

        limit = self._reactor.callLater(START_SECONDS, go_on)
        start(self._survey_and(go_on), self._broke)
        await begun
        if limit.active():
            limit.cancel()

    async def stop(self) -> None:
        """Ask nothing any more."""
        self._is_running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        await self._tables.stop()

    async def find(self, aor: str) -> Entry:
        """Return what there is to say of an address-of-record; mostly without waiting, and never for long."""
        now = self._reactor.seconds()
        known = self._known.fresh(aor, now)
        if known is not None:
            self.lookups["memory"] += 1
            return known
        if now < self._ask_again_at or not self._is_running:
            return self._at_hand(aor)
        waiting: Deferred[Entry] = Deferred()
        others = self._waiting.setdefault(aor, [])
        others.append(waiting)
        if len(others) == 1:
            start(self._look_up(aor, others), self._broke)
        patience = self._reactor.callLater(PATIENCE_SECONDS, self._give_up, aor, waiting)
        try:
            return await waiting
        finally:
            if patience.active():
                patience.cancel()

    def _at_hand(self, aor: str) -> Entry:
        stale = self._known.stale(aor)
        self.lookups["unknown" if stale is None else "stale"] += 1
        return NOTHING if stale is None else stale

    def _give_up(self, aor: str, waiting: "Deferred[Entry]") -> None:
        if not waiting.called:
            self._log.warn("a call goes on without the directory, which does not answer", log_rationed=True)
            waiting.callback(self._at_hand(aor))

    async def _look_up(self, aor: str, others: "Sequence[Deferred[Entry]]") -> None:
        found: Entry | None = None
        try:
            read = await self._tables.ask(lambda statements, on: statements.entry(on, aor))
        except (DirectoryUnavailable, NoTables) as problem:
            self._log.warn("aliases and forwardings cannot be looked up, calls go on without: {problem}",
                           problem=str(problem), log_rationed=True)
            self._ask_again_at = self._reactor.seconds() + RETRY_SECONDS
        else:
            found = read
            self._known.put(aor, read, self._reactor.seconds())
        finally:
            del self._waiting[aor]
        for waiting in others:
            if not waiting.called:
                if found is not None:
                    self.lookups["database"] += 1
                waiting.callback(self._at_hand(aor) if found is None else found)

    # --- the tables as a whole

    async def _survey_and(self, done: Any) -> None:
        try:
            await self._survey()
        finally:
            done()

    async def _survey(self) -> None:
        pause = min(self._domains_seconds, RETRY_SURVEY_SECONDS)
        survey: Survey | None = None
        try:
            survey = await self._tables.ask(lambda statements, on: statements.survey(on))
            pause, self._is_missing, self._ask_again_at = self._domains_seconds, False, 0.0
            self._came_back()
        except NoTables as missing:
            self._came_back()
            survey, pause = self._survey_without(missing), self._domains_seconds
            if not self._is_missing:
                self._log.info("no aliases, forwardings and further domains: {problem}; `rollcall db upgrade` makes "
                               "the tables", problem=str(missing))
            self._is_missing = True
        except DirectoryUnavailable as problem:
            if not self._is_away:
                self._log.warn("the tables of domains, aliases and forwardings cannot be read: {problem}",
                               problem=str(problem))
            self._is_away = True
        finally:
            if self._is_running:
                self._timer = self._reactor.callLater(pause, self._survey_again)
        if survey is not None and self._is_running:
            self.is_used = survey.is_used
            if survey.domains != self._served:
                self._serve(survey.domains)
                self._keep()

    def _survey_without(self, missing: NoTables) -> Survey | None:
        """Return what there is; None, as before: a right that is missing at one server does not remove domains."""
        return None if isinstance(missing, NoRight) and (self.is_used or self._served) else Survey()

    def _came_back(self) -> None:
        if self._is_away:
            self._log.info("the tables of domains, aliases and forwardings can be asked again")
        self._is_away = False

    def _survey_again(self) -> None:
        start(self._survey(), self._broke)

    def _serve(self, names: Sequence[str]) -> None:
        """Serve these domains, but one that cannot be."""
        fit = [name for name in names if _is_host(name)]
        for name in set(names) - set(fit):
            self._log.error("{name} in rollcall_domain is no domain", name=name)
        self._domains.serve_also(fit)
        if tuple(names) != self._served:
            self._log.info("domains of the table: {names}", names=", ".join(fit) or "none")
        self._served = tuple(names)

    def _recall(self) -> tuple[str, ...]:
        """Return the domains that there were last, as long as nobody says that there are others."""
        try:
            text = "[]" if self._remembered is None else self._remembered.read_text("utf-8")
            names = json.loads(text)
            if not isinstance(names, list):
                raise ValueError("a list of names is expected")
            return tuple(str(name) for name in names)
        except FileNotFoundError:
            return ()
        except (OSError, ValueError) as problem:
            self._log.warn("{file} is of no use: {problem}", file=str(self._remembered), problem=str(problem))
            return ()

    def _keep(self) -> None:
        if self._remembered is None:
            return
        new = self._remembered.with_suffix(f".{os.getpid()}")
        try:
            new.write_text(json.dumps(self._served), "utf-8")
            new.replace(self._remembered)
        except OSError as problem:
            self._log.warn("the domains are not kept for a start without their table: {problem}", problem=str(problem))

    def _broke(self, failure: Failure) -> None:
        self._log.failure("while the directory was asked", failure=failure)


def _is_host(name: str) -> bool:
    try:
        checked_domain(name)
    except InvalidEntry:
        return False
    return True
