"""Finds SIP servers through DNS: asks what rollcall/sip/targets.py wants to know (RFC 3263), and remembers answers."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, TimeoutError, gatherResults, succeed
from twisted.logger import Logger
from twisted.names import client, dns
from twisted.names.error import DNSNameError, DomainError, ResolverError
from twisted.names.hosts import searchFileForAll
from twisted.python.filepath import FilePath

from rollcall.net.config import ResolverConfig
from rollcall.sip.headers import Via
from rollcall.sip.targets import (
    Naptr,
    Preferences,
    Question,
    Record,
    Search,
    Srv,
    Target,
    locate,
    locate_response,
)
from rollcall.sip.uri import SipUri

MAX_NAME_BYTES, MAX_LABEL_BYTES = 253, 63

# How long it is remembered that a server failed to answer (RFC 2308 §7 allows up to five minutes).
FAILURE_TTL_SECONDS = 5

# How long an entry of the hosts file is remembered.
HOSTS_TTL_SECONDS = 10

TYPES = {"A": dns.A, "AAAA": dns.AAAA, "SRV": dns.SRV, "NAPTR": dns.NAPTR}


class Unresolvable(Exception):
    """No server was found for a URI; `temporary` when DNS did not answer, so that later one may be found."""

    def __init__(self, reason: str, temporary: bool) -> None:
        super().__init__(reason)
        self.temporary = temporary


@frozen
class Answer:
    """The records for a question. `problem` says why there are none when that is no fact but a failure."""

    records: tuple[Record, ...]
    ttl_seconds: float
    problem: str = ""


class AnswerCache:
    """Answers until they lapse; the ones longest unused go when there are too many."""

    def __init__(self, max_answers: int) -> None:
        self._max_answers = max_answers
        self._answers: OrderedDict[Question, tuple[float, Answer]] = OrderedDict()

    def __len__(self) -> int:
        """How many there are, lapsed ones that nobody asked for included."""
        return len(self._answers)

    def get(self, question: Question, now: float) -> Answer | None:
        """Return the answer if it has not lapsed."""
        lapses_at, answer = self._answers.get(question, (now, None))
        if lapses_at <= now:
            self._answers.pop(question, None)
            return None
        self._answers.move_to_end(question)
        return answer

    def put(self, question: Question, answer: Answer, now: float) -> None:
        """Remember an answer for its time to live."""
        if answer.ttl_seconds <= 0 or not self._max_answers:
            return
        self._answers[question] = (now + answer.ttl_seconds, answer)
        self._answers.move_to_end(question)
        while len(self._answers) > self._max_answers:
            self._answers.popitem(last=False)


class Resolver:
    """Resolves URIs to targets."""

    _log = Logger()

    def __init__(
        self,
        reactor: Any,
        config: ResolverConfig,
        preferences: Preferences = Preferences(),  # noqa: B008 - frozen
        dns_client: Any = None,
    ) -> None:
        """`dns_client` has the `query` of twisted.names.client.Resolver, which is made when None is given."""
        self._reactor = reactor
        self._config = config
        self._preferences = preferences
        self._client = dns_client
        self._cache = AnswerCache(config.max_cached)
        self._asking: dict[Question, list[Deferred[Answer]]] = {}

    async def resolve(self, uri: SipUri, large: bool = False) -> list[Target]:
        """Return the places to try for a request to `uri`, best first, at least one. Raises Unresolvable.

        A `large` request, one that would not fit a datagram, gets TCP tried before UDP.
        """
        return await self._search(locate(uri, self._preferences, large), uri.host)

    async def resolve_response(self, via: Via) -> list[Target]:
        """Return the places to try for a response whose request's way back failed. Raises Unresolvable."""
        return await self._search(locate_response(via, self._preferences), via.host)

    async def _search(self, search: Search, name: str) -> list[Target]:
        problem = ""
        try:
            questions = next(search)
            while True:
                asking = list(map(self._answer, questions))
                answers: Sequence[Answer] = await gatherResults(asking, consumeErrors=True)
                problem = next((answer.problem for answer in answers if answer.problem), problem)
                questions = search.send([answer.records for answer in answers])
        except StopIteration as found:
            targets: list[Target] = found.value
        if not targets:
            raise Unresolvable(f"{name}: {problem or 'no server found'}", temporary=bool(problem))
        return targets

    def _answer(self, question: Question) -> "Deferred[Answer]":
        """Return the answer; those who ask the same at the same time share one query."""
        known = self._cache.get(question, self._reactor.seconds()) or self._from_hosts_file(question)
        if known is not None:
            return succeed(known)
        waiting: Deferred[Answer] = Deferred()
        if question in self._asking:
            self._asking[question].append(waiting)
            return waiting
        self._asking[question] = [waiting]
        asking = Deferred.fromCoroutine(self._ask(question))
        asking.addErrback(self._failed, question)
        asking.addCallback(partial(self._tell, question))
        return waiting

    def _tell(self, question: Question, answer: Answer) -> None:
        self._cache.put(question, answer, self._reactor.seconds())
        for waiting in self._asking.pop(question):
            waiting.callback(answer)

    def _failed(self, failure: Any, question: Question) -> Answer:
        self._log.failure("while DNS was asked for {question}", failure=failure, question=question)
        return Answer((), FAILURE_TTL_SECONDS, "DNS failed")

    async def _ask(self, question: Question) -> Answer:
        if not _is_domain_name(question.name):
            return Answer((), self._config.negative_ttl_seconds)
        if self._client is None:
            self._client = _client(self._reactor, self._config)
        seconds = self._config.timeout_seconds
        query = dns.Query(question.name.encode("ascii"), TYPES[question.kind], dns.IN)
        asking: Deferred[Any] = self._client.query(query, timeout=(seconds / 4, seconds / 2))
        asking.addTimeout(seconds, self._reactor)
        try:
            answers, authority, _ = await asking
        except DNSNameError as error:
            return self._negative(getattr(error.args[0], "authority", ()) if error.args else ())
        except (DomainError, ResolverError, TimeoutError, OSError) as error:
            return Answer((), FAILURE_TTL_SECONDS, f"DNS did not answer ({type(error).__name__})")
        return self._positive(question, answers) or self._negative(authority)

    def _positive(self, question: Question, headers: Sequence[Any]) -> Answer | None:
        matching = [header for header in headers if header.type == TYPES[question.kind]]
        if not matching:
            return None
        ttl = min(self._config.max_ttl_seconds, *(header.ttl for header in matching))
        return Answer(tuple(_record(header.payload) for header in matching), ttl)

    def _negative(self, authority: Sequence[Any]) -> Answer:
        """RFC 2308 §5: that there is nothing lives as long as the zone's SOA says."""
        ttl = self._config.negative_ttl_seconds
        for header in authority:
            if header.type == dns.SOA:
                ttl = min(ttl, header.ttl, header.payload.minimum)
        return Answer((), ttl)

    def _from_hosts_file(self, question: Question) -> Answer | None:
        """Return what the hosts file says; a name that stands there has no other addresses and no services."""
        file = self._config.hosts_file
        name = question.name
        if file is None or not name.isascii():
            return None
        if question.kind == "SRV":
            name = name.split(".", 2)[-1]
        addresses = _in_hosts_file(file, name)
        if not addresses:
            return None
        version = {"A": 4, "AAAA": 6}.get(question.kind)
        fitting = tuple(each for each in addresses if ip_address(each).version == version)
        answer = Answer(fitting, HOSTS_TTL_SECONDS)
        self._cache.put(question, answer, self._reactor.seconds())
        return answer


def _client(reactor: Any, config: ResolverConfig) -> Any:
    if config.servers:
        return client.Resolver(servers=[(server, config.port) for server in config.servers], reactor=reactor)
    return client.Resolver(resolv="/etc/resolv.conf", reactor=reactor)


def _in_hosts_file(file: Path, name: str) -> list[str]:
    addresses: list[str] = searchFileForAll(FilePath(str(file)), name.encode("ascii"))
    return addresses


def _is_domain_name(name: str) -> bool:
    if not name.isascii() or len(name) > MAX_NAME_BYTES:
        return False
    return all(0 < len(label) <= MAX_LABEL_BYTES for label in name.split("."))


def _record(payload: Any) -> Record:
    if isinstance(payload, dns.Record_SRV):
        return Srv(payload.priority, payload.weight, payload.port, _text(payload.target.name))
    if isinstance(payload, dns.Record_NAPTR):
        flags, service, regexp = (_text(each.string) for each in (payload.flags, payload.service, payload.regexp))
        return Naptr(payload.order, payload.preference, flags, service, regexp, _text(payload.replacement.name))
    return str(ip_address(payload.address))


def _text(octets: bytes) -> str:
    return octets.decode("ascii", "replace")
