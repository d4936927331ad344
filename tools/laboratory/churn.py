"""A churn: for minutes phones come, go and move, call and refresh, while registrars and masters of Redis are killed.

Nothing that was acknowledged may be lost meanwhile, and no call may fail but those of callers that are cut off
themselves. In the end Redis and every registrar must have just what was acknowledged last.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from random import Random

from attrs import define, field, frozen

from registrar.location.shared_form import snapshot_of
from tests.cluster.case import TROUBLE
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import Call, CallState
from tests.cluster.fleet_phone import FleetPhone
from tests.interop.process import InteropError, wait_until
from tools.laboratory.churned import Churned
from tools.laboratory.lab import Lab
from tools.laboratory.node import Node
from tools.laboratory.redis_process import RedisProcess

REGISTRARS = 3
REGISTRATIONS_PER_SECOND = 300.0
RING_SECONDS = 0.5
BACK_WITHIN = 3.0
"""A phone that has lost its connection comes back within so many seconds: earlier than callers stop to wait."""
JANITOR_SECONDS = 5.0
"""Records of dead registrars are removed soon, so that Redis can be compared in the end."""
AWAY_SECONDS = 5.0
"""So long after its death a process is started again."""
LOOK_SECONDS = 10.0
STEADY_SECONDS = 1.0
"""Who was told something so shortly before a look is not looked at."""
GUESTS = 5
"""Each phone of so many comes and goes; all others are there, at one registrar or another."""
END_SECONDS = 60.0


@frozen(kw_only=True)
class Plan:
    """How much of what. Rates per second, times in seconds."""

    seconds: float = 300.0
    phones: int = 900
    refreshes: float = 80.0
    comings: float = 12.0
    """So many phones come, go, or lose their connection and come back."""
    calls: float = 9.0
    talk_seconds: float = 1.0
    long_calls: float = 3.0
    hold_seconds: float = 30.0
    registrar_every: float = 40.0
    master_every: float = 60.0


@define
class _Looks:
    """What was not found when all bindings were looked at."""

    number: int = 0
    missing: dict[str, int] = field(factory=dict)
    """By user what was not found the last time: the CSeq of the REGISTER that was acknowledged."""
    lost: list[str] = field(factory=list)


class Churn:
    """One run, in a lab with a fleet."""

    def __init__(self, lab: Lab, fleet: Fleet, plan: Plan, tell: Callable[[str], None], seed: int) -> None:
        self._lab = lab
        self._fleet = fleet
        self._plan = plan
        self._tell = tell
        self._chance = Random(seed)
        self._guests = fleet.phones[::GUESTS]
        self._steady = [phone for phone in fleet.phones if phone.index % GUESTS]
        self._is_over = False
        self._looks = _Looks()
        self._memory: list[int] = []
        self._registrars_killed = self._masters_killed = 0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def run(self) -> Churned:
        """Do all of it, and return what came of it."""
        plan, fleet = self._plan, self._fleet
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        fleet.refresh(plan.refreshes)
        calls = [*self._call(plan.calls, plan.talk_seconds), *self._call(plan.long_calls, plan.hold_seconds)]
        fleet.loop.paced(self._at_random(), lambda: 0.0 if self._is_over else plan.comings, self._disturb)
        self._go_through_trouble()
        self._is_over = True
        self._settle(calls)
        return self._churned(calls)

    # --- what phones do

    def _call(self, rate: float, hold_seconds: float) -> list[Call]:
        number = int(rate * self._plan.seconds)
        return self._fleet.call_at_random(number, rate, self._steady, self._steady, hold_seconds)

    def _at_random(self) -> Iterator[FleetPhone]:
        while True:
            yield self._chance.choice(self._chance.choice((self._guests, self._steady)))

    def _disturb(self, phone: FleetPhone) -> None:
        """Let a phone go or come; who is no guest comes back elsewhere, sooner or later."""
        if phone.index % GUESTS:
            phone.drop(come_back=True)
        elif not phone.is_wanted:
            phone.drop(come_back=False)
            phone.enter()
        elif self._chance.random() < 0.5 and phone.is_registered and not phone.asked_at:
            phone.leave()
        else:
            phone.drop(come_back=False)

    # --- trouble

    def _go_through_trouble(self) -> None:
        plan, begun_at = self._plan, time.monotonic()
        for number in range(1, int(plan.seconds / plan.registrar_every) + 1):
            # The first registrar lives all the time: its memory is looked at.
            node = self._lab.registrars[1 + number % (REGISTRARS - 1)]
            self._at(begun_at + number * plan.registrar_every, partial(self._kill_registrar, node))
        for number in range(1, int(plan.seconds / plan.master_every) + 1):
            self._at(begun_at + number * plan.master_every, self._kill_master)
        for number in range(1, int(plan.seconds / LOOK_SECONDS) + 1):
            self._at(begun_at + number * LOOK_SECONDS, self._look)
        ends_at = begun_at + plan.seconds + AWAY_SECONDS
        while self._due and self._due[0][0] < ends_at:
            at, _, act = self._due.pop(0)
            time.sleep(max(0.0, at - time.monotonic()))
            act()

    def _at(self, moment: float, act: Callable[[], None]) -> None:
        self._due.append((moment, next(self._order), act))
        self._due.sort()

    def _kill_registrar(self, node: Node) -> None:
        self._tell(f"{node.name} dies with {len(self._fleet.at_face(self._lab.registrars.index(node)))} phones")
        node.kill()
        self._registrars_killed += 1
        self._at(time.monotonic() + AWAY_SECONDS, node.begin)

    def _kill_master(self) -> None:
        master = self._lab.redis.master()
        self._tell(f"the master of Redis at {master.address} dies")
        master.kill()
        self._masters_killed += 1
        self._at(time.monotonic() + AWAY_SECONDS, master.start)

    def _look(self) -> None:
        """Compare what one registrar lists with what was acknowledged to phones that were told nothing meanwhile."""
        self._memory.append(resident_bytes(self._lab.registrars[0].pid))
        before = self._registered(time.monotonic() - STEADY_SECONDS)
        node = self._chance.choice([node for node in self._lab.registrars if node.running])
        with suppress(OSError):
            found = {(each["aor"], each["contact"]) for each in node.contacts()}
            after = self._registered(time.monotonic())
            missing = {phone.user: cseq for phone, cseq in before.items()
                       if after.get(phone) == cseq and (phone.aor, phone.contact) not in found}
            self._looks.lost += [f"{user}, CSeq {cseq}, at {node.name}" for user, cseq in missing.items()
                                 if self._looks.missing.get(user) == cseq]
            self._looks.missing = missing
            self._looks.number += 1
            self._tell(f"{len(before)} phones are registered, {len(missing)} of them not found at {node.name}, "
                       f"{sum(map(_has_failed, list(self._fleet.calls.values())))} calls have failed, "
                       f"{self._memory[-1] / 2**20:.1f} MiB")

    def _registered(self, before: float) -> dict[FleetPhone, int]:
        """Return who is registered and waits for nothing, with the CSeq that was acknowledged, before a moment."""
        return {phone: phone.acknowledged for phone in self._fleet.phones
                if phone.is_registered and not phone.asked_at and phone.acknowledged_at < before}

    # --- the end

    def _settle(self, calls: list[Call]) -> None:
        fleet = self._fleet
        for node in self._lab.registrars:
            if not node.running:
                node.begin()
            node.wait_ready()
        fleet.refresh(0)
        fleet.wait(lambda: all(phone.is_registered and not phone.asked_at for phone in fleet.phones
                               if phone.is_wanted), "registration of all phones", END_SECONDS)
        with suppress(InteropError):
            fleet.wait_calls(calls, self._plan.hold_seconds + END_SECONDS)

    def _differences(self) -> list[str]:
        """Return what Redis, and then each registrar, has beside what it should, when they had time to get there."""
        promised = {phone.user: [(phone.acknowledged_contact, phone.acknowledged)] for phone in self._fleet.phones
                    if phone.is_registered}
        looks: list[tuple[str, Callable[[], Bound]]] = [("Redis", lambda: _in_redis(self._lab.redis.master()))]
        looks += [(node.name, partial(_at_node, node)) for node in self._lab.registrars]
        found = []
        for name, look in looks:
            seen = _awaited(look, promised)
            found += [f"{user}: promised {promised.get(user)}, found {seen.get(user)} in {name}"
                      for user in sorted(seen.keys() | promised.keys()) if seen.get(user) != promised.get(user)]
        return found

    def _churned(self, calls: list[Call]) -> Churned:
        fleet = self._fleet
        placed = [call for call in calls if call.why != "the caller is not registered"]
        logged = [f"{node.name}: {line}" for node in self._lab.registrars for line in node.log().splitlines()
                  if any(word in line for word in TROUBLE)]
        return Churned(
            registrars_killed=self._registrars_killed,
            masters_killed=self._masters_killed,
            answers={f"{method} {status}": number for (method, status), number in sorted(fleet.answers.items())},
            moves=len(fleet.endings),
            calls=len(placed),
            cut_off=sum(call.is_callers_loss for call in placed),
            failed=[str(call) for call in placed if call.state is not CallState.ENDED and not call.is_callers_loss],
            refused=[str(each) for each in (*fleet.refusals, *fleet.unanswered)],
            looks=self._looks.number,
            lost=self._looks.lost,
            differences=self._differences(),
            trouble=logged,
            memory=self._memory,
        )


def churn(folder: Path, plan: Plan, tell: Callable[[str], None], seed: int = 1) -> Churned:
    """Start a lab with Sentinels in `folder`, and go through all of it."""
    sections = f"[cluster]\njanitor_seconds = {JANITOR_SECONDS}\n"
    behaviour = Behaviour(jitter_seconds=BACK_WITHIN, answer_seconds=RING_SECONDS)
    lab = Lab(folder, REGISTRARS, "sentinel", plan.phones, sections)
    with lab, Fleet(lab.tcp, lab.users, lab.domain, behaviour, seed) as fleet:
        return Churn(lab, fleet, plan, tell, seed).run()


def _has_failed(call: Call) -> bool:
    """Tell whether a call has failed although its caller was there all the time."""
    return call.state is CallState.FAILED and not call.is_callers_loss


def resident_bytes(pid: int) -> int:
    """Return how much memory of its own a process has in use."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])


Bound = dict[str, list[tuple[str, int]]]


def _awaited(look: Callable[[], Bound], wanted: Bound) -> Bound:
    """Return what is seen, once it is what is wanted or the time is over."""
    with suppress(InteropError):
        wait_until(lambda: look() == wanted or None, "what is wanted", END_SECONDS)
    return look()


def _in_redis(master: RedisProcess) -> Bound:
    """Return by user what is bound: contacts, each with its CSeq."""
    found: Bound = {}
    keys = master.ask("KEYS", "loc:*")
    for key, value in zip(keys, master.ask("MGET", *keys) if keys else (), strict=True):
        snapshot = snapshot_of(value) if value is not None else None
        if snapshot is not None and snapshot.bindings:
            user = key.decode().removeprefix("loc:").partition("@")[0]
            found[user] = [(each.contact, each.cseq) for each in snapshot.bindings]
    return found


def _at_node(node: Node) -> Bound:
    found: Bound = {}
    for each in node.contacts():
        found.setdefault(each["aor"].removeprefix("sip:").partition("@")[0], []).append((each["contact"], each["cseq"]))
    return found
