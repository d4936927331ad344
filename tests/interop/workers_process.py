"""A registrar with two workers as an operator starts it, and phones that are where a test wants them."""

import json
import os
import signal
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK, wait_until
from tests.interop.registrar_process import RegistrarProcess

WORKERS = (1, 2)
MAX_TRIES = 60
"""With two workers, that all phones land on the wrong one happens once in 2**60 times."""


class WorkersProcess(RegistrarProcess):
    """A registrar with two workers."""

    def __init__(self, folder: Path, sections: str, domain: str, transports: Iterable[str] = ("udp", "tcp")) -> None:
        super().__init__(folder, (), sections, domain, transports)

    def _toml(self, sections: str) -> str:
        return super()._toml(sections).replace("[registrar]\n", f"[registrar]\nworkers = {len(WORKERS)}\n")

    def phone(self, user: str, transport: str, worker: int) -> Phone:
        """Return a phone of `user` that is registered through this worker."""
        for _ in range(MAX_TRIES):
            phone = Phone(transport, (LOOPBACK, self.ports[transport.lower()]), user, self.domain)
            answer = phone.register()
            assert answer.status == 200, answer.start_line
            if self.worker_of(phone) == worker:
                return phone
            assert phone.register(0).status == 200
            phone.close()
        raise AssertionError(f"the kernel gives worker {worker} nothing over {transport}")

    def worker_of(self, phone: Phone) -> int:
        """Return the number of the worker that a registered phone speaks to."""
        (node,) = {each["node"] for each in self.contacts(phone.user) if each["contact"] == phone.contact}
        return int(str(node).rpartition("-")[2])

    def workers(self) -> dict[int, dict[str, Any]]:
        """Return what the admin site says of the workers."""
        return {each["worker"]: each for each in json.loads(self.get("/v1/workers"))["workers"]}

    def kill_worker(self, worker: int) -> None:
        """End one as the kernel does when memory is out, and return when the next one is ready."""
        before = self.workers()[worker]
        os.kill(before["pid"], signal.SIGKILL)
        self.wait_lives(worker, before["lives"] + 1)

    def wait_lives(self, worker: int, lives: int, seconds: float = 20.0) -> None:
        """Return when a worker is ready in this life of it."""

        def look() -> bool | None:
            now = self.workers()[worker]
            return (now["lives"] == lives and now["not_ready"] is None) or None

        wait_until(look, f"life {lives} of worker {worker}", seconds)

    def wait_all_ready(self) -> None:
        """Return when all workers are ready."""
        wait_until(lambda: self._answers("/readyz") or None, "readiness")
