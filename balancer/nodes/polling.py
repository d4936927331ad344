"""Asks every media node again and again how it is, those that owe an answer sooner."""

from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from balancer.nodes.asking import Asking, Unanswered
from balancer.nodes.node import Node
from balancer.nodes.registry import Happening, Nodes


class Polling(Service):
    """Asks from startService to stopService; each node has a pace of its own, so that none waits for another."""

    def __init__(self, reactor: Any, nodes: Nodes, asking: Asking, random: Callable[[], float]) -> None:
        """`random()` gives numbers from 0 up to 1: nodes are not all asked in the same moment."""
        self._reactor = reactor
        self._nodes = nodes
        self._asking = asking
        self._random = random
        self._paces: dict[str, _Pace] = {}

    def startService(self) -> None:
        """Ask all at once, and then each at its pace."""
        super().startService()
        self._nodes.on_change.append(self._changed)
        for node in self._nodes.all():
            self._begin(node)

    def stopService(self) -> Any:
        """Ask no more, and wait for no answer."""
        if self.running:
            self._nodes.on_change.remove(self._changed)
        for name in tuple(self._paces):
            self._paces.pop(name).stop()
        return super().stopService()

    def _changed(self, happening: Happening) -> None:
        if happening.kind == "gone" and happening.node_id in self._paces:
            self._paces.pop(happening.node_id).stop()
        node = self._nodes.find(happening.node_id)
        if happening.kind == "joined" and node is not None:
            self._begin(node)

    def _begin(self, node: Node) -> None:
        pace = self._paces[node.config.id] = _Pace(self._reactor, self._nodes, node, self._asking, self._random)
        pace.ask()


class _Pace:
    """One node is asked, and after a pause again."""

    _log = Logger()

    def __init__(self, reactor: Any, nodes: Nodes, node: Node, asking: Asking, random: Callable[[], float]) -> None:
        self._reactor = reactor
        self._nodes = nodes
        self._node = node
        self._asking = asking
        self._random = random
        self._is_over = False
        self._next: IDelayedCall | None = None
        self._asked: Deferred[None] | None = None

    def ask(self) -> None:
        """Ask now."""
        self._next = None
        self._asked = Deferred.fromCoroutine(self._ask())
        self._asked.addErrback(self._failed)
        self._asked.addBoth(self._pause)

    def stop(self) -> None:
        """Ask no more."""
        self._is_over = True
        if self._next is not None:
            self._next.cancel()
        if self._asked is not None:
            self._asked.cancel()

    async def _ask(self) -> None:
        config, asked_at = self._node.config, self._reactor.seconds()
        try:
            answer = await self._asking.ask(config, self._nodes.limits.answer_seconds)
        except Unanswered as problem:
            self._nodes.missed(config.id, str(problem), problem.is_refused, self._reactor.seconds())
        else:
            self._nodes.answered(config.id, answer.load, asked_at, self._reactor.seconds(), answer.is_full)

    def _failed(self, failure: Failure) -> None:
        if not self._is_over:
            name, why = self._node.config.id, "it could not be asked, and the log says why"
            self._log.failure("media node {node} could not be asked", failure, node=name)
            self._nodes.missed(name, why, False, self._reactor.seconds())

    def _pause(self, result: object) -> None:
        self._nodes.forget_lapsed(self._reactor.seconds())
        if self._is_over:
            return
        limits = self._nodes.limits
        pause = limits.again_seconds if self._node.health.is_owing else limits.poll_seconds
        # A tenth more or less, so that nodes do not fall into step.
        self._next = self._reactor.callLater(pause * (0.9 + 0.2 * self._random()), self.ask)
