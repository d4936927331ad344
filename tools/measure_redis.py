"""What it costs to keep a binding in Redis, ours and Redis' CPU: `python -m tools.measure_redis`.

A real redis-server is started for it. Bindings are refreshed as the short way does it, so many in one turn of the
reactor, and the next turn's when all of them are acknowledged: asking, writing, reading the answer, taking the record
over, and the reactor's own work are all in it. What else a REGISTER takes is not.
"""

import json
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from tempfile import TemporaryDirectory

import click
from attrs import asdict, frozen
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor

from registrar.location.changes import Changes
from registrar.location.journal import Journal
from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import COMPACT, CONNECTION_BOUND, DIRECT, HEAD
from registrar.location.redis import RedisLocation
from registrar.location.renewal import renewed
from registrar.location.writer import WriterThread
from rollcall.cluster.access import make_redis
from rollcall.cluster.config import RedisConfig
from rollcall.net.flow import pack_address
from rollcall.net.wheel import TimerWheel
from rollcall.ops.collecting import settle
from tools.laboratory.redis_servers import RedisServers

BATCHES = (1, 16, 64, 256)
LIFETIME_SECONDS = 3600
ADDRESS = pack_address("127.0.0.1", 49152)
AGENT = b"Bench/1.0"
CLOCK_TICKS = 100
WARM_BATCHES = 20
BATCHES_EACH = 2000

Kept = Callable[[bool], None]


@frozen(kw_only=True)
class Found:
    """What one size of batch took, in microseconds per binding."""

    batch: int
    bindings: int
    ours: float
    """CPU of this process."""
    theirs: float
    """CPU of redis-server."""
    elapsed: float


class Bench:
    """A location over a real Redis, and who refreshes in it."""

    def __init__(self, folder: Path, servers: RedisServers) -> None:
        self.reactor = EPollReactor()
        self._servers = servers
        wheel = TimerWheel(self.reactor)
        writer = WriterThread(self.reactor, "journal")
        journal = Journal(str(folder / "journal"), writer, 1000, 1_000_000)
        self.location = RedisLocation(
            wheel=wheel, wall=self.reactor.seconds, journal=journal, max_contacts=10, max_waiting=20_000,
            max_records=1_000_000, max_journal_writes=1000, journals=True, slow_seconds=5.0, node="bench", epoch=1,
            release_flow=lambda flow_id, key: None, changes=Changes(lambda call: wheel.call_later(0, call)))
        self.agent = self.location.packing.agents.index(AGENT) or 0
        self.place = self.location.packing.places.index("TCP", "tcp", "bench", 1) or 0
        self.found: list[Found] = []
        self._waiting = self._number = self._refused = 0

    async def run(self, bindings: int, batches: tuple[int, ...]) -> None:
        """Measure each size of batch over records that are there."""
        location = self.location
        redis = make_redis(self.reactor, RedisConfig(**self._servers.settings), _Passing(location))
        location.use(redis)
        redis.start()
        await location.start()
        while redis.problem is not None:
            await self._pause(0.01)
        keys = [b"u%07d@bench.test" % number for number in range(bindings)]
        await self._batches(keys, 256, self._insert)
        settle()
        for batch in batches:
            count = min(bindings, batch * BATCHES_EACH)
            await self._batches(keys[:min(count, batch * WARM_BATCHES)], batch, self._refresh)
            self.found.append(await self._measured(keys[:count], batch))
        if self._refused:
            raise RuntimeError(f"{self._refused} bindings were not kept")
        await location.stop()
        await redis.stop()

    async def _measured(self, keys: list[bytes], batch: int) -> Found:
        pid = self._servers.servers[0].pid
        theirs, began, ours = _cpu_of(pid), time.perf_counter(), time.process_time()
        await self._batches(keys, batch, self._refresh)
        ours, elapsed = time.process_time() - ours, time.perf_counter() - began
        each = 1e6 / len(keys)
        return Found(batch=batch, bindings=len(keys), ours=(ours - self._building(keys)) * each,
                     theirs=(_cpu_of(pid) - theirs) * each, elapsed=elapsed * each)

    def _building(self, keys: list[bytes]) -> float:
        """Return the seconds that the new records alone take, which are the REGISTER's."""
        began = time.process_time()
        for key in keys:
            self._renewed(key)
        return time.process_time() - began

    async def _batches(self, keys: list[bytes], batch: int, act: Callable[[bytes, Kept], None]) -> None:
        for start in range(0, len(keys), batch):
            done: Deferred[None] = Deferred()
            self._waiting = len(keys[start:start + batch])
            kept = self._counting(done)
            for key in keys[start:start + batch]:
                if not self.location.takes_at_once(key, True):
                    raise RuntimeError("the record cannot be kept")
                act(key, kept)
            await done

    def _counting(self, done: "Deferred[None]") -> Kept:
        def kept(is_kept: bool) -> None:
            self._waiting -= 1
            self._refused += not is_kept
            if not self._waiting:
                done.callback(None)

        return kept

    def _insert(self, key: bytes, kept: Kept) -> None:
        now = self.reactor.seconds()
        self._number += 1
        expires_at = now + LIFETIME_SECONDS
        head = HEAD.pack(1, int(expires_at // SLOT_SECONDS), COMPACT | DIRECT | CONNECTION_BOUND, len(ADDRESS),
                         self.agent, self.place, expires_at, now, now, 1, self._number, 0)
        identity = b"sip:u%07d@127.0.0.1:5060;transport=tcp\0\0c%07d-4f2a9d01c37b@127.0.0.1"
        self.location.keep(key, None, head + ADDRESS + identity % (self._number, self._number), "TCP", kept)

    def _refresh(self, key: bytes, kept: Kept) -> None:
        old = self.location.records[key]
        self.location.keep(key, old, self._renewed(key), "TCP", kept)

    def _renewed(self, key: bytes) -> bytes:
        old = self.location.records[key]
        cseq = HEAD.unpack_from(old)[9] + 1
        flow_id = HEAD.unpack_from(old)[10]
        new = renewed(old, HEAD.size + len(ADDRESS), len(old), self.place, flow_id, self.agent, cseq,
                      self.reactor.seconds(), LIFETIME_SECONDS, 0)
        if new is None:
            raise RuntimeError("the record cannot be renewed")
        return new

    def _pause(self, seconds: float) -> "Deferred[None]":
        pause: Deferred[None] = Deferred()
        self.reactor.callLater(seconds, pause.callback, None)
        return pause


class _Passing:
    """Passes on to a location what Redis says."""

    def __init__(self, location: RedisLocation) -> None:
        self.connected, self.disconnected, self.invalidated = (
            location.connected, location.disconnected, location.invalidated)

    def leases_changed(self) -> None:
        """There are none."""


def measure(bindings: int, batches: tuple[int, ...]) -> list[Found]:
    """Start a Redis and measure over it."""
    with TemporaryDirectory() as folder, RedisServers(Path(folder) / "redis") as servers:
        bench = Bench(Path(folder), servers)
        _run(bench.reactor, bench.run(bindings, batches))
        return bench.found


def _run(reactor: EPollReactor, coroutine: Coroutine["Deferred[None]", None, None]) -> None:
    failures: list[object] = []

    def begin() -> None:
        running = Deferred.fromCoroutine(coroutine)
        running.addErrback(failures.append)
        running.addBoth(lambda _: reactor.stop())

    reactor.callWhenRunning(begin)
    reactor.run(installSignalHandlers=False)
    for failure in failures:
        failure.raiseException()  # type: ignore[attr-defined]


def _cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


@click.command()
@click.option("--bindings", default=100_000, show_default=True, type=click.IntRange(1_000, 1_000_000))
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def main(bindings: int, as_json: bool) -> None:
    """Measure what a binding costs that is kept in Redis, by how many are kept at once."""
    found = measure(bindings, BATCHES)
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=1))
        return
    table = Table("at once", "bindings", "our CPU", "Redis' CPU", "elapsed", title="µs per binding kept in Redis")
    for one in found:
        table.add_row(str(one.batch), f"{one.bindings:,}", f"{one.ours:.2f}", f"{one.theirs:.2f}", f"{one.elapsed:.2f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
