"""The admin site of several workers: their metrics, one by one and added up, their state, and a way to restart them."""

from collections.abc import Callable
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, DeferredList

from registrar.workers.adding_up import added_up
from registrar.workers.hub import NoAnswer
from registrar.workers.messages import Answer
from registrar.workers.supervisor import CannotRestart, Supervisor
from rollcall.ops.admin import AdminConfig, AdminSite
from rollcall.ops.api import ApiError, Call, Reply
from rollcall.ops.metrics import CONTENT_TYPE, Metrics

OWN = "supervisor"
"""The name of the supervisor's own page among those of the workers."""


class RestartWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/workers/restart: which workers, all of them when it does not say."""

    workers: list[int] | None = None


class WorkersSite(AdminSite):
    """An AdminSite whose /metrics adds up those of all workers and the supervisor's own; /metrics/N is one worker's."""

    def __init__(self, reactor: Any, config: AdminConfig, metrics: Metrics, supervisor: Supervisor) -> None:
        super().__init__(reactor, config, metrics)
        self._supervisor = supervisor
        self.routes.get("/metrics/{worker}", self._page_of_one)
        self.routes.get("/v1/workers", self._workers)
        self.routes.post("/v1/workers/restart", self._restart)
        for index in supervisor.workers:
            self.ready_when(f"worker {index}", self._check(index))
        watch(metrics, supervisor)

    def _check(self, index: int) -> Callable[[], str | None]:
        return lambda: self._supervisor.not_ready(index)

    async def _page(self, call: Call) -> Reply:
        """Return one page for all; a worker that does not answer is missing from it."""
        asked: list[Deferred[Answer]] = []
        for index in self._supervisor.workers:
            try:
                asked.append(self._supervisor.hub.ask(index, "/metrics"))
            except NoAnswer:
                continue
        answers = await DeferredList(asked, consumeErrors=True)
        pages = [answer.content.decode() for is_there, answer in answers if is_there]
        return Reply(added_up([self._metrics.render().decode(), *pages]), content_type=CONTENT_TYPE)

    async def _page_of_one(self, call: Call) -> Reply:
        if call.parts["worker"] == OWN:
            return Reply(self._metrics.render(), content_type=CONTENT_TYPE)
        try:
            answer = await self._supervisor.hub.ask(self._index(call.parts["worker"]), "/metrics")
        except NoAnswer as problem:
            raise ApiError(503, str(problem)) from problem
        return Reply(answer.content, answer.status, answer.content_type)

    def _index(self, text: str) -> int:
        known = {str(index): index for index in self._supervisor.workers}
        if text not in known:
            raise ApiError(404, f"there is no worker {text}")
        return known[text]

    def _workers(self, call: Call) -> dict[str, Any]:
        return {"workers": [
            {
                "worker": worker.index, "state": worker.state.value, "lives": worker.lives,
                "pid": worker.child.pid if worker.child is not None else None,
                "not_ready": self._supervisor.not_ready(worker.index),
            }
            for worker in self._supervisor.workers.values()
        ]}

    def _restart(self, call: Call) -> Reply:
        wish = call.body(RestartWish).workers
        chosen = list(self._supervisor.workers) if wish is None else [self._index(str(index)) for index in wish]
        try:
            self._supervisor.restart(chosen)
        except CannotRestart as problem:
            raise ApiError(409, str(problem)) from problem
        return Reply({"restarting": chosen}, 202)


def watch(metrics: Metrics, supervisor: Supervisor) -> None:
    """Export what the supervisor knows, read at each scrape."""
    workers = supervisor.workers

    def states() -> dict[tuple[str, ...], float]:
        found: dict[tuple[str, ...], float] = {}
        for worker in workers.values():
            found[(worker.state.value,)] = found.get((worker.state.value,), 0) + 1
        return found

    def starts() -> dict[tuple[str, ...], float]:
        return {(str(worker.index),): float(worker.lives) for worker in workers.values()}

    metrics.gauge("rollcall_workers", "Workers by state.", ("state",), states)
    metrics.total("rollcall_worker_starts_total", "How often each worker was started.", ("worker",), starts)
    metrics.gauge("rollcall_held_records", "Records that a worker holds.", (), lambda: len(supervisor.hub.directory))
    metrics.total("rollcall_hub_messages_total", "Messages between the supervisor and its workers.", (),
                  lambda: supervisor.hub.messages)
