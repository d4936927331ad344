"""What a contact in memory costs, part by part, and how long the garbage collector stops for a million of them:
`python -m tools.measure_l1`. Each way is measured in a process of its own.

The contacts are registered and refreshed once, by a clock that goes as in a busy registrar: packed, as a usual REGISTER
is answered, or as values through load and save, as every other one is.
"""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import click
from attrs import asdict, evolve, field, frozen
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

import registrar.service  # noqa: F401
from registrar.location.contract import Snapshot
from registrar.location.memory import SLOT_SECONDS, MemoryLocation
from registrar.location.packing import COMPACT, DIRECT, HEAD
from registrar.records import Binding, Source, aor_of_key
from rollcall.net.flow import pack_address
from rollcall.net.wheel import TimerWheel
from rollcall.ops.collecting import settle
from tools.bench.accounting import memory

START = 1_800_000_000.0
LIFETIME_SECONDS = 3600
PER_SECOND = 2_000
"""So many register in each second of the clock, so that the calendar has the slots that it has in life."""

ADDRESS = pack_address("127.0.0.1", 5060)
SOURCE = Source("UDP", "127.0.0.1", 5060, "udp", "bench", 1_800_000_000_000)
AGENT = "Bench/1.0"

WAYS = ("packed", "saved")


@frozen(kw_only=True)
class Findings:
    """What one process saw; sizes in bytes per contact, times in milliseconds."""

    way: str
    tuned: bool
    contacts: int
    parts: dict[str, float]
    """What the objects take by Python's own count."""
    grown: float
    """What the process has grown by when all were registered; by its resident pages that no other process has."""
    grown_refreshed: float
    """The same when all were refreshed."""
    collections: list[int]
    """Collections of each generation while that happened."""
    longest_pause: float
    full_pause: float
    """What a collection of everything takes at the end."""
    microseconds: dict[str, float] = field(factory=dict)
    """What one contact took."""


class Store:
    """The location in memory with a clock of its own."""

    def __init__(self) -> None:
        self._clock = Clock()
        self._clock.advance(START)
        self.location = MemoryLocation(TimerWheel(self._clock), self._clock.seconds)
        self.agent = self.location.packing.agents.index(AGENT.encode())
        self.place = self.location.packing.places.index(SOURCE.transport, SOURCE.listener, SOURCE.node, SOURCE.epoch)

    def for_each(self, count: int, act: Callable[[int, float], None]) -> float:
        """Do something for each contact while the clock goes on; return the microseconds that one took."""
        began = time.process_time()
        for number in range(count):
            if number % PER_SECOND == 0:
                self._clock.advance(1)
            act(number, self._clock.seconds())
        return (time.process_time() - began) / count * 1e6

    def insert(self, number: int, now: float) -> None:
        """Register one as a usual REGISTER does."""
        expires_at = now + LIFETIME_SECONDS
        head = HEAD.pack(1, int(expires_at // SLOT_SECONDS), COMPACT | DIRECT, len(ADDRESS), self.agent, self.place,
                         expires_at, now, now, 1, 0, 0)
        identity = b"sip:u%07d@127.0.0.1:5060\0\0c%07d-4f2a9d01c37b@127.0.0.1" % (number, number)
        self.location.insert(_key(number), head + ADDRESS + identity, "UDP")

    def refresh(self, number: int, now: float) -> None:
        """Refresh one as a usual REGISTER does."""
        key = _key(number)
        old = self.location.records[key]
        version, slot, kind, length, agent, place, _, _, registered_at, cseq, flow_id, _ = HEAD.unpack_from(old)
        head = HEAD.pack(version + 1, slot, kind, length, agent, place, now + LIFETIME_SECONDS, now, registered_at,
                         cseq + 1, flow_id, 0)
        self.location.refresh(key, head + old[HEAD.size:])

    def save(self, number: int, now: float) -> None:
        """Register or refresh one as the whole way does."""
        _at_once(self._save(aor_of_key(_key(number)), number, now))

    async def _save(self, aor: str, number: int, now: float) -> None:
        seen = await self.location.load(aor)
        if seen.bindings:
            (old,) = seen.bindings
            new = evolve(old, cseq=old.cseq + 1, refreshed_at=now, expires_at=now + LIFETIME_SECONDS)
        else:
            new = Binding(
                f"sip:u{number:07}@127.0.0.1:5060", (), 1000, now + LIFETIME_SECONDS,
                f"c{number:07}-4f2a9d01c37b@127.0.0.1", 1, (), None, None, SOURCE, True, False, AGENT, now, now, 0)
        await self.location.save(aor, Snapshot(seen.version + 1, (new,)))


def _key(number: int) -> bytes:
    return b"u%07d@bench.test" % number


def _at_once(coroutine: Coroutine[Any, Any, None]) -> None:
    failures: list[Any] = []
    Deferred.fromCoroutine(coroutine).addErrback(failures.append)
    if failures:
        failures[0].raiseException()


def measure(way: str, contacts: int, tuned: bool) -> Findings:
    """Register and refresh so many in this process, which should be a fresh one."""
    if tuned:
        settle()
    pauses = _Pauses()
    store, begin = Store(), _resident()
    enter, renew = (store.insert, store.refresh) if way == "packed" else (store.save, store.save)
    took = {"register": store.for_each(contacts, enter)}
    grown = (_resident() - begin) / contacts
    took["refresh"] = store.for_each(contacts, renew)
    refreshed = (_resident() - begin) / contacts
    collections, longest = pauses.collections, pauses.longest
    return Findings(
        way=way, tuned=tuned, contacts=contacts, parts=_parts(store.location), grown=grown, grown_refreshed=refreshed,
        collections=collections, longest_pause=longest * 1000, full_pause=pauses.full() * 1000, microseconds=took)


class _Pauses:
    """How long the collector stopped this process, in CPU time: another process's share is not its fault."""

    def __init__(self) -> None:
        self.collections = [0, 0, 0]
        self.longest = 0.0
        self._began_at = 0.0
        gc.callbacks.append(self._heard)

    def full(self) -> float:
        """Return what a collection of everything takes."""
        gc.callbacks.remove(self._heard)
        began = time.process_time()
        gc.collect()
        return time.process_time() - began

    def _heard(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._began_at = time.process_time()
        else:
            self.collections[info["generation"]] += 1
            self.longest = max(self.longest, time.process_time() - self._began_at)


def _parts(location: MemoryLocation) -> dict[str, float]:
    """Return what Python says that the objects of one contact take; pymalloc's units are 16 bytes."""
    records, calendar = location.records, location._calendar
    key, record = next(iter(records.items()))
    chunks = [chunk for chunks in calendar._full.values() for chunk in chunks]
    listed = sum(map(sys.getsizeof, [*chunks, *calendar._open.values(), *calendar._full.values()]))
    listed += sys.getsizeof(calendar._open) + sys.getsizeof(calendar._full)
    return {
        "key": _rounded(sys.getsizeof(key)), "index": sys.getsizeof(records) / len(records),
        "record": _rounded(sys.getsizeof(record)), "calendar": listed / len(records),
    }


def _rounded(size: int) -> float:
    return -(-size // 16) * 16.0


def _resident() -> int:
    return memory([os.getpid()]).private


@click.command()
@click.option("--contacts", default=1_000_000, show_default=True, type=click.IntRange(1_000, 10_000_000))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.option("--inside", type=click.Choice(WAYS), hidden=True, help="Measure this way in this process.")
@click.option("--untuned", is_flag=True, hidden=True)
def main(contacts: int, as_json: bool, inside: str | None, untuned: bool) -> None:
    """Measure what contacts cost in memory, and the collector's pauses, with tuning and without."""
    if inside is not None:
        print(json.dumps(asdict(measure(inside, contacts, not untuned))))
        return
    found = [_in_a_process(way, contacts, tuned) for way in WAYS for tuned in (False, True)]
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        Console(width=140).print(show(found))


def _in_a_process(way: str, contacts: int, tuned: bool) -> Findings:
    words = [sys.executable, "-m", "tools.measure_l1", "--inside", way, "--contacts", str(contacts)]
    told = subprocess.run(words + ([] if tuned else ["--untuned"]), capture_output=True, check=True).stdout
    return Findings(**json.loads(told))


def show(found: list[Findings]) -> Table:
    """Return what was found as a table, a row for each process."""
    columns = ("way", "collector", "bytes each", "refreshed", "by part", "collections", "longest ms", "full ms", "µs")
    table = Table(*columns, title=f"{found[0].contacts:,} contacts")
    for one in found:
        parts = ", ".join(f"{name} {size:.0f}" for name, size in one.parts.items())
        took = ", ".join(f"{name} {micro:.2f}" for name, micro in one.microseconds.items())
        table.add_row(
            one.way, "tuned" if one.tuned else "as it comes", f"{one.grown:.0f}", f"{one.grown_refreshed:.0f}", parts,
            "/".join(map(str, one.collections)), f"{one.longest_pause:.1f}", f"{one.full_pause:.1f}", took)
    return table


if __name__ == "__main__":
    main()
