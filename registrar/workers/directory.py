"""Which worker holds the record of which address-of-record: at any time one at most.

A worker that needs a record asks for it. Nobody's is given to it at once; another's is asked back from who holds it,
and passed on when it comes, to all who asked in their order. What is to be said to whom is returned, not said.
"""

from collections.abc import Iterable

from attrs import frozen

Worker = int
Record = tuple[int, str]
"""A version, and bindings as `registrar.location.rows.encode` writes them."""


@frozen
class Grant:
    """Tell `worker` that it holds the record of `key` now."""

    worker: Worker
    key: bytes
    record: Record | None
    """What the one before held; None when it must be looked for in the file, if there is one."""


@frozen
class Release:
    """Ask `worker` to hand over the record of `key`."""

    worker: Worker
    key: bytes


@frozen
class Deny:
    """Tell `worker` that somebody else has the record of `key`, which it had not needed yet."""

    worker: Worker
    key: bytes


Step = Grant | Release | Deny


class Directory:
    """Who holds what. Keys are those of `registrar.records.record_key`."""

    def __init__(self) -> None:
        self._holders: dict[bytes, Worker] = {}
        # Those that wait for a record that its holder was asked for, first come, first served.
        self._moving: dict[bytes, list[Worker]] = {}

    def __len__(self) -> int:
        return len(self._holders)

    def holder(self, key: bytes) -> Worker | None:
        """Return who holds a record, or held it until it was asked back."""
        return self._holders.get(key)

    def acquire(self, worker: Worker, key: bytes) -> list[Step]:
        """Let `worker` have the record, now or in its turn."""
        holder = self._holders.setdefault(key, worker)
        waiting = self._moving.get(key)
        if waiting is not None:
            if worker not in waiting:
                waiting.append(worker)
            return []
        if holder == worker:
            # Nobody's before; or its own, and it has forgotten a record that was empty.
            return [Grant(worker, key, None)]
        self._moving[key] = [worker]
        return [Release(holder, key)]

    def anticipate(self, worker: Worker, key: bytes) -> list[Step]:
        """Let `worker` have the record if nobody has it: it is not asked back from anybody for a mere guess."""
        return [Deny(worker, key)] if key in self._holders else self.acquire(worker, key)

    def released(self, worker: Worker, key: bytes, record: Record | None) -> list[Step]:
        """Pass on what `worker` was asked for. Whoever was not asked is not listened to."""
        if self._holders.get(key) != worker or key not in self._moving:
            return []
        return self._pass_on(key, record)

    def give_back(self, worker: Worker, keys: Iterable[bytes]) -> None:
        """Forget that `worker` holds these; what it was asked for it will release."""
        for key in keys:
            if self._holders.get(key) == worker and key not in self._moving:
                del self._holders[key]

    def left(self, worker: Worker) -> list[Step]:
        """Forget a worker that has ended, and pass on what others wait for; it took the records along."""
        for waiting in self._moving.values():
            if worker in waiting:
                waiting.remove(worker)
        steps: list[Step] = []
        for key in [key for key, holder in self._holders.items() if holder == worker]:
            if self._moving.get(key):
                steps += self._pass_on(key, None)
            else:
                self._moving.pop(key, None)
                del self._holders[key]
        return steps

    def _pass_on(self, key: bytes, record: Record | None) -> list[Step]:
        waiting = self._moving.pop(key)
        if not waiting:
            # Who wanted it has ended meanwhile: the one that let go of it has it again.
            return [Grant(self._holders[key], key, record)]
        holder = self._holders[key] = waiting.pop(0)
        steps: list[Step] = [Grant(holder, key, record)]
        if waiting:
            self._moving[key] = waiting
            steps.append(Release(holder, key))
        return steps
