"""One subscription to the contacts of an address-of-record: what its subscriber was told, and what it is told next.

RFC 6665 §4.2.2 (NOTIFY, and what its failure means), RFC 3680 §§4.7, 4.10 (what is told, and how often).

Changes are told when the last NOTIFY was answered and the pause after it is over, all together; so a subscriber never
has to put documents into order, and a storm of registrations is a few documents to him. That a binding lives longer is
told when what he was told before would lapse.
"""

from collections.abc import Callable, Coroutine
from enum import Enum, IntEnum
from typing import Any

from attrs import frozen

from registrar.gruu import GruuMaker
from registrar.location.contract import LocationUnavailable, Snapshot
from registrar.records import Binding
from registrar.regevent.asking import RegEventConfig
from registrar.regevent.delivery import Answered, Outcome, Way
from registrar.regevent.dialog import Dialog
from registrar.reginfo import (
    CONTENT_TYPE,
    Contact,
    Document,
    all_contacts,
    changed_contacts,
    to_xml,
    where_they_are,
)
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.sip.message import Request

MAX_FAILURES = 4
"""NOTIFYs in a row that a subscriber, or a proxy before it, could not take; then it is forgotten."""

GRACE_SECONDS = 0.5
"""How long after its end a binding is looked at again: a refresh at the last moment may still be on its way."""


class State(Enum):
    """What a subscription is waiting for."""

    NEW = "new"
    """What it is told first."""
    RESTING = "resting"
    """Nothing, or the end of the pause."""
    LOOKING = "looking"
    """The record."""
    NOTIFYING = "notifying"
    """The answer to a NOTIFY."""
    OVER = "over"


class Due(IntEnum):
    """What is to be told next."""

    NOTHING = 0
    CHANGES = 1
    EVERYTHING = 2


@frozen(eq=False)
class Surroundings:
    """What all subscriptions of a node share."""

    config: RegEventConfig
    wheel: TimerWheel
    load: Callable[[str], Coroutine[Any, Any, Snapshot]]
    """Return the record of an address-of-record. Raises LocationUnavailable."""
    is_living: Callable[[str, int], bool]
    """Say whether the connections of this node and epoch may still be there."""
    gruus: GruuMaker
    send: Callable[[Request, Way, Answered], None]
    look: Callable[["Subscription"], None]
    """See that `Subscription.look` is run soon."""
    over: Callable[["Subscription", str], None]
    """Told once of each subscription that has ended, and why."""
    told: Callable[[Outcome], None]
    """Told what became of each NOTIFY."""


class Subscription:
    """A subscriber, its dialog, and how it stands with him."""

    def __init__(self, around: Surroundings, dialog: Dialog, aor: str, watcher: str, event: str, way: Way) -> None:
        """`watcher` is the subscriber's own address-of-record, `event` the Event header of his NOTIFYs."""
        self.dialog = dialog
        self.aor = aor
        self.watcher = watcher
        self.event = event
        self.way = way
        self.began_at = around.wheel.now()
        self.expires_at = self.began_at
        self.version = -1
        self.state = State.NEW
        self._around = around
        self._told: tuple[Binding, ...] = ()
        self._due = Due.NOTHING
        self._not_before = 0.0
        self._failures = 0
        self._timer: Timer | None = None

    def renew(self, seconds: int, snapshot: Snapshot) -> None:
        """Go on for so long, and tell everything at once (RFC 3680 §4.3); with 0 for the last time."""
        self.expires_at = self._around.wheel.now() + seconds
        bound = self._living(snapshot)
        self._tell(all_contacts(bound), bound, True, "" if seconds else "unsubscribed")

    def changed(self) -> None:
        """Look at the record when it is time."""
        self._due = max(self._due, Due.CHANGES)
        self._go_on()

    def names(self, ended: frozenset[tuple[str, int]]) -> bool:
        """Say whether anything that was told lives on one of these nodes in these epochs."""
        return any((binding.source.node, binding.source.epoch) in ended for binding in self._told)

    def end(self, reason: str, why: str) -> None:
        """Tell the subscriber that this is over, and for which `reason` (RFC 6665 §4.1.3), without any contacts."""
        if self.state is not State.OVER:
            self._notify(f"terminated;reason={reason}", b"", why)

    def forget(self, why: str) -> None:
        """End without a word: nobody is there to hear it."""
        if self.state is not State.OVER:
            self._finish(why)

    async def look(self) -> None:
        """Load the record and tell what has changed."""
        if self.state is not State.LOOKING:
            return
        due, self._due = self._due, Due.NOTHING
        version = self.version
        try:
            snapshot = await self._around.load(self.aor)
        except LocationUnavailable:
            self._due = max(self._due, due)
            self._not_before = self._around.wheel.now() + self._around.config.notify_interval_seconds
        else:
            if self.version != version:
                # Everything was told while the record was on its way here, by what may be older.
                self._due = max(self._due, Due.CHANGES)
            elif self.state is State.LOOKING:
                self._tell_news(snapshot, due)
        if self.state is State.LOOKING:
            self.state = State.RESTING
        self._go_on()

    # --- telling

    def _tell_news(self, snapshot: Snapshot, due: Due) -> None:
        bound = self._living(snapshot)

        def is_lost(binding: Binding) -> bool:
            source = binding.source
            return binding.connection_bound and (
                not self._around.is_living(source.node, source.epoch) or (not bound and snapshot.lost_at > 0))

        now = self._around.wheel.now()
        if due is Due.EVERYTHING:
            self._tell(all_contacts(bound), bound, True)
            return
        contacts = changed_contacts(self._told, bound, now, is_lost)
        if any(contact.is_news for contact in contacts) or any(binding.expires_at <= now for binding in self._told):
            self._tell(contacts, bound, False)
        else:
            self._told = where_they_are(self._told, bound)

    def _tell(self, contacts: tuple[Contact, ...], bound: tuple[Binding, ...], is_full: bool,
              why_last: str = "") -> None:
        self.version += 1
        self._told = bound
        now = self._around.wheel.now()
        body = to_xml(Document(self.aor, self.version, is_full, contacts, bool(bound)), now, self._around.gruus)
        left = max(0, int(self.expires_at - now))
        self._notify("terminated;reason=timeout" if why_last else f"active;expires={left}", body, why_last)

    def _notify(self, state: str, body: bytes, why_last: str) -> None:
        """Send a NOTIFY; with `why_last` it is the last one."""
        headers = [("Event", self.event), ("Subscription-State", state)]
        if body:
            headers.append(("Content-Type", CONTENT_TYPE))
        self._not_before = self._around.wheel.now() + self._around.config.notify_interval_seconds
        self.state = State.OVER if why_last else State.NOTIFYING
        self._arm()
        self._around.send(self.dialog.request("NOTIFY", tuple(headers), body), self.way, self._answered)
        if why_last:
            self._around.over(self, why_last)

    def _answered(self, outcome: Outcome, retry_after: int | None) -> None:
        self._around.told(outcome)
        if self.state is State.OVER:
            return
        if outcome is Outcome.TAKEN:
            self._failures = 0
        elif outcome is Outcome.POSTPONED and self._failures + 1 < MAX_FAILURES:
            self._failures += 1
            # What this NOTIFY said is lost.
            self._due = Due.EVERYTHING
            pause = self._around.config.notify_interval_seconds if retry_after is None else retry_after
            self._not_before = self._around.wheel.now() + max(1.0, pause)
        else:
            self._finish(outcome.value)
            return
        if self.state is State.NOTIFYING:
            self.state = State.RESTING
        self._go_on()

    # --- waiting

    def _go_on(self) -> None:
        """Take the next step if it is time for it."""
        if self.state is State.RESTING and self._due is not Due.NOTHING \
                and self._not_before <= self._around.wheel.now():
            self.state = State.LOOKING
            self._around.look(self)
        self._arm()

    def _arm(self) -> None:
        """See that the wheel calls us when anything is to be done next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.state in (State.NEW, State.OVER):
            return
        moments = [self.expires_at]
        if self.state is State.RESTING:
            if self._due is Due.NOTHING:
                moments += [binding.expires_at + GRACE_SECONDS for binding in self._told]
            else:
                moments.append(self._not_before)
        wheel = self._around.wheel
        self._timer = wheel.call_later(min(moments) - wheel.now(), self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._around.wheel.now() >= self.expires_at:
            self.end("timeout", "timeout")
        elif self._due is Due.NOTHING:
            self.changed()
        else:
            self._go_on()

    def _finish(self, why: str) -> None:
        self.state = State.OVER
        self._arm()
        self._around.over(self, why)

    def _living(self, snapshot: Snapshot) -> tuple[Binding, ...]:
        """Return what is bound: no lapsed bindings, and none whose connection ended with its node."""
        now, is_living = self._around.wheel.now(), self._around.is_living
        return tuple([
            binding for binding in snapshot.bindings if binding.expires_at > now
            and (not binding.connection_bound or is_living(binding.source.node, binding.source.epoch))
        ])
