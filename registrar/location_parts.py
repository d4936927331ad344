"""Where bindings are kept that are not shared by Redis, made as the configuration says."""

from collections.abc import Callable
from typing import Any

from registrar.config import RegistrarConfig
from registrar.location.at_once import Location
from registrar.location.changes import Changes
from registrar.location.held import HeldLocation
from registrar.location.memory import MemoryLocation
from registrar.location.rows import BUSY_SECONDS, Rows
from registrar.location.sqlite import SqliteLocation
from registrar.location.writer import WriterThread
from registrar.workers.member import Membership
from rollcall.net.wheel import TimerWheel


def make_location(config: RegistrarConfig, reactor: Any, wheel: TimerWheel, membership: Membership | None,
                  changes: Changes) -> Location:
    """Return the store that `config` describes; with a `membership` that of one of several workers."""
    if membership is None:
        return _store(config, reactor, wheel, False, lambda key: None, changes)

    def forgotten(key: bytes) -> None:
        held.forgotten(key)

    store = _store(config, reactor, wheel, True, forgotten, changes)
    held = HeldLocation(store, membership, membership.me.node, wheel, reactor.seconds, config.workers,
                        membership.siblings.release)
    return held


def _store(config: RegistrarConfig, reactor: Any, wheel: TimerWheel, shared: bool,
           forgotten: Callable[[bytes], None], changes: Changes) -> MemoryLocation | SqliteLocation:
    if config.location.kind == "memory":
        return MemoryLocation(wheel, reactor.seconds, forgotten=forgotten, changes=changes)
    busy_seconds = config.workers.patience_seconds if shared else BUSY_SECONDS
    rows = Rows(config.path(config.location.file, "location.sqlite"), config.location.synchronous, busy_seconds)
    return SqliteLocation(rows, WriterThread(reactor, "location"), wheel, reactor.seconds, config.location.max_waiting,
                          shared, forgotten, changes)
