"""A storm: a registrar is killed behind a balancer, and all its phones come to the others in one moment.

Phones know one address. Half of them have kept their nonce; the others come as if nobody knew them. Calls of phones
that stay are hung up meanwhile, one after the other: these may not have to wait for those who register.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from attrs import field, frozen

from tests.cluster.case import at_share, spread
from tests.cluster.fleet import Fleet
from tests.cluster.fleet_phone import FleetPhone
from tools.laboratory.node import Node
from tools.laboratory.storm_calls import Callers

BACK_SECONDS = 180.0
_SAMPLE = re.compile(r'^rollcall_(\w+?)(?:\{(?:kind|outcome)="(\w+)"\})? ([\d.e+-]+)$', re.MULTILINE)


@frozen(kw_only=True)
class Storm:
    """What came of it. Times in seconds."""

    moved: int
    took: float
    """From the first lost connection until all were registered again."""
    away: Sequence[float] = field(repr=False)
    asked: Sequence[float] = field(repr=False)
    """How long each 200 to a REGISTER took."""
    peak: int
    """Registrations in the busiest second."""
    shed: Mapping[int, int]
    """How many phones got a 503 once, twice and so on."""
    refused: Mapping[str, float]
    """Who got one, as the registrars count it."""
    appointments: Mapping[str, float]
    other: Sequence[str]
    """Refusals that were no 503."""
    banned: float
    calls: int
    byes: Sequence[float] = field(repr=False)
    """How long the 200 to each BYE took."""

    @property
    def shed_twice(self) -> int:
        """How many phones got more than one 503."""
        return sum(number for times, number in self.shed.items() if times > 1)

    def lines(self) -> list[str]:
        """Return it in sentences."""
        half = at_share(sorted(self.away), 0.99)
        return [
            f"{self.moved} phones moved; 99 % were back after {half:.2f} s, all {self.took:.2f} s after the first had "
            f"gone, up to {self.peak} in a second",
            f"without a registrar: {spread(self.away)}; REGISTER to 200: {spread(self.asked)}",
            f"shed once: {self.shed.get(1, 0)}, more often: {self.shed_twice}; by kind: {_told(self.refused)}; "
            f"appointments: {_told(self.appointments)}; other refusals: {len(self.other)}; banned: {self.banned:.0f}",
            f"meanwhile {len(self.byes)} BYEs: {spread(self.byes)}",
        ]


def storm(fleet: Fleet, callers: Callers, dying: Node, staying: Sequence[Node], tell: Callable[[str], None],
          meanwhile: AbstractContextManager[object] | None = None) -> Storm:
    """Kill one of the registrars of phones that are registered, and return what came of it when all are back.

    Until then this thread is in `meanwhile`.
    """
    at_node = {contact["aor"]: contact["node"] for contact in staying[0].contacts()}
    theirs = [phone for phone in fleet.phones if at_node.get(phone.aor) == dying.name]
    mine = {phone.aor for phone in fleet.phones}
    calls = callers.call([aor.removeprefix("sip:").partition("@")[0] for aor, node in at_node.items()
                          if node != dying.name and aor not in mine])
    for phone in theirs[::2]:
        phone.forget_challenge()
    tell(f"{len(theirs)} of {len(fleet.phones)} phones are at {dying.name}, {calls} calls elsewhere")
    registered, refused, before = len(fleet.register_seconds), len(fleet.refusals), _counts(staying)
    began = fleet.loop.now()
    with meanwhile or nullcontext():
        dying.kill()
        callers.begin_to_hang_up()
        fleet.wait(lambda: all(phone.back_at > began for phone in theirs), "all phones", BACK_SECONDS)
    after, told = _counts(staying), fleet.refusals[refused:]
    gained = {name: after[name] - before.get(name, 0.0) for name in after}
    return Storm(
        moved=len(theirs),
        took=max(phone.back_at for phone in theirs) - min(phone.lost_at for phone in theirs),
        away=[phone.back_at - phone.lost_at for phone in theirs],
        asked=fleet.register_seconds[registered:],
        peak=_peak(theirs),
        shed=Counter(Counter(each.user for each in told if " 503" in each.line).values()),
        refused=_of(gained, "avalanche_refused_total"),
        appointments=_of(gained, "avalanche_appointments_total"),
        other=[str(each) for each in told if " 503" not in each.line],
        banned=sum(_of(gained, "bans_total").values()),
        calls=calls,
        byes=callers.byes(),
    )


def _peak(phones: Iterable[FleetPhone]) -> int:
    return max(Counter(int(phone.back_at) for phone in phones).values())


def _counts(nodes: Iterable[Node]) -> Counter[tuple[str, str]]:
    """Return what registrars have counted together, by metric and label."""
    found: Counter[tuple[str, str]] = Counter()
    for node in nodes:
        for name, label, value in _SAMPLE.findall(node.read("/metrics")):
            found[name, label] += float(value)  # type: ignore[assignment]
    return found


def _of(counts: Mapping[tuple[str, str], float], wanted: str) -> dict[str, float]:
    return {label: value for (name, label), value in counts.items() if name == wanted}


def _told(counts: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.0f}" for name, value in counts.items())
