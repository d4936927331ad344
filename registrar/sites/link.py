"""One other site: who lives there, as its members say again and again, and who of them is asked.

One member is asked until it does not answer; then the next one is. While nobody answers, nobody waits for an answer:
questions fail at once until one of those that are asked every second has come through.
"""

from collections.abc import Awaitable, Callable, Iterable

from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.location.contract import Snapshot
from registrar.sites.asking import Place, Unanswered
from registrar.sites.words import Question, WordsNotUnderstood, read_nodes, read_record
from rollcall.cluster.config import ClusterConfig, SiteConfig
from rollcall.cluster.nodes import Node
from rollcall.cluster.sites import SiteState
from rollcall.net.wheel import Timer, TimerWheel
from rollcall.ops.coroutines import start

Ask = Callable[[str, Place, Question, float], Awaitable[bytes]]
"""Asks a site's node at a place a question, for at most so many seconds; raises Unanswered."""

Admit = Callable[[str, Iterable[Node]], tuple[Node, ...]]
"""Returns those of a site's nodes that are taken for such."""


class SiteLink:
    """What is known of one other site."""

    _log = Logger()

    def __init__(self, site: SiteConfig, config: ClusterConfig, ask: Ask, admit: Admit, wheel: TimerWheel,
                 now: Callable[[], float], first: int) -> None:
        """`first` says with which of its members to begin, so that not all of ours ask the same one."""
        self.name = site.name
        self.on_change: list[Callable[[], None]] = []
        """Called when other nodes live there than before, or it is reachable or not any more."""
        self.questions = {"answered": 0, "failed": 0, "silent": 0}
        """What became of what this site was asked."""
        self._config = config
        self._ask = ask
        self._admit = admit
        self._wheel = wheel
        self._now = now
        members = [_place(member) for member in site.members]
        first = first % len(members) if members else 0
        self._members = members[first:] + members[:first]
        self._current: Place | None = None
        self._nodes: tuple[Node, ...] = ()
        self._latest: dict[str, int] = {}
        """The epochs of those who lived there when that was known last."""
        self._heard_at = 0.0
        self._is_up = False
        self._is_told = False
        """Whether the log says that nobody answers."""
        self._is_asking = False
        self._timer: Timer | None = None
        self._is_running = False

    # --- life

    def start(self) -> None:
        """Begin to ask who lives there."""
        self._is_running = True
        self._poll()

    def stop(self) -> None:
        """Ask no more."""
        self._is_running = False
        if self._timer is not None:
            self._timer.cancel()

    def hurry(self) -> None:
        """Ask now who lives there: a connection with one of its nodes has ended."""
        if not self._is_asking:
            self._poll_soon(0.0)

    # --- what is known

    @property
    def is_up(self) -> bool:
        """Whether a question is worth its time: what was asked last was answered."""
        return self._is_up

    @property
    def state(self) -> SiteState:
        """What is known of it now."""
        return SiteState(name=self.name, nodes=self._nodes, heard_at=self._heard_at, reachable=self.is_reachable)

    @property
    def is_reachable(self) -> bool:
        """Whether it has answered lately, and not refused since."""
        return bool(self._nodes) and self._now() - self._heard_at < self._config.site_dead_seconds

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Who lives there; nobody when it is not reachable."""
        return self._nodes if self.is_reachable else ()

    def latest_epoch(self, node: str) -> int | None:
        """Return the latest life that is known of a node there, be it over or out of reach; None of others."""
        return self._latest.get(node)

    # --- what is asked

    async def find(self, key: bytes) -> Snapshot:
        """Return what is bound there. Raises Unanswered, at once when nothing is expected to be answered."""
        if not self._is_up:
            raise Unanswered("it does not answer")
        # Those that refuse take no time; all of them together may take that of one question.
        question, ends_at = Question(key), self._wheel.now() + self._config.site_question_seconds
        problem, is_there = Unanswered("it has no members"), False
        for place in self._places():
            left = ends_at - self._wheel.now()
            if left <= 0:
                break
            try:
                found = read_record(await self._ask(self.name, place, question, left))
            except WordsNotUnderstood as wrong:
                problem = Unanswered(f"it is not understood: {wrong}")
            except Unanswered as failed:
                problem, is_there = failed, is_there or failed.is_answer
            else:
                self.questions["answered"] += 1
                self._current = place
                return found
            self._failed(place, problem)
        # Nodes whose Redis is away, or that are asked too much, say so at once: nobody waits for them.
        if not is_there:
            self._doubt()
        raise problem

    def _failed(self, place: Place, problem: Unanswered) -> None:
        self.questions["silent" if problem.is_silent else "failed"] += 1
        tell = self._log.debug if self._is_told else self._log.info
        tell("site {site} has not answered at {host}:{port}: {problem}", site=self.name, host=place[0], port=place[1],
             problem=str(problem), log_rationed=True)
        if place == self._current:
            self._current = None
        if place in self._members:
            # The next question begins with another one.
            self._members.remove(place)
            self._members.append(place)

    def _doubt(self) -> None:
        """Let nobody wait for this site until it has answered who lives there; that is asked at once."""
        was_up = self._is_up
        self._say_silent()
        if was_up:
            self._poll_soon(0.0)

    def _say_silent(self) -> None:
        self._is_up = False
        if not self._is_told:
            self._is_told = True
            self._log.warn("site {site} does not answer: until it does nobody is asked for there", site=self.name)

    def _places(self) -> list[Place]:
        """Return where to ask: who has answered last, those that are configured, and whoever else lives there."""
        last = [] if self._current is None else [self._current]
        known = [(node.host, node.port) for node in self._nodes]
        return list(dict.fromkeys([*last, *self._members, *known]))

    # --- who lives there

    def _poll(self) -> None:
        self._timer = None
        if self._is_running and not self._is_asking:
            self._is_asking = True
            start(self._look(), self._broke)

    async def _look(self) -> None:
        refused = True
        for place in self._places():
            try:
                body = await self._ask(self.name, place, Question(), self._config.site_question_seconds)
                nodes = self._admit(self.name, read_nodes(body))
            except WordsNotUnderstood as wrong:
                refused = False
                self._failed(place, Unanswered(f"it is not understood: {wrong}"))
            except Unanswered as problem:
                refused = refused and not problem.is_silent
                self._failed(place, problem)
            else:
                self.questions["answered"] += 1
                self._heard(place, nodes)
                break
        else:
            self._unheard(refused)
        self._is_asking = False
        self._poll_soon(self._config.site_poll_seconds)

    def _heard(self, place: Place, nodes: tuple[Node, ...]) -> None:
        before = self._nodes
        self._current, self._nodes, self._heard_at = place, nodes, self._now()
        self._latest = {node.node: node.epoch for node in nodes} or self._latest
        if not self._is_up and nodes:
            self._log.info("site {site} answers: {number} nodes live there", site=self.name, number=len(nodes))
        self._is_up = bool(nodes)
        self._is_told = self._is_told and not nodes
        self._tell_if(nodes != before)

    def _unheard(self, refused: bool) -> None:
        """Take note that nobody answers. Where all members refuse to speak, which takes no time, nobody lives."""
        was_up = self._is_up
        self._say_silent()
        before = self._nodes
        if refused:
            self._nodes = ()
        self._tell_if(was_up or self._nodes != before)

    def _tell_if(self, has_changed: bool) -> None:
        if has_changed:
            for listener in tuple(self.on_change):
                listener()

    def _poll_soon(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._is_running:
            self._timer = self._wheel.call_later(seconds, self._poll)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("while site {site} was asked who lives there", failure, site=self.name)
        self._is_asking = False
        self._poll_soon(self._config.site_poll_seconds)


def _place(member: str) -> Place:
    host, _, port = member.rpartition(":")
    return host.strip("[]"), int(port)
