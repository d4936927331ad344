"""Where all that comes in is taken or refused, and counted: who may send, how much, and what it is worth."""

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Literal

from twisted.logger import Logger

from balancer.ingest.budget import Budget
from balancer.ingest.config import IngestConfig, RtcpConfig
from balancer.ingest.hep import HepError, is_allowed, parse_hep
from balancer.ingest.reading import KnownNodes, Outcome, Reports, Unusable, read_hep, read_rtcp
from rollcall.media.reports import PhoneReport, RtcpReport

Way = Literal["hep_udp", "hep_tcp", "rtcp", "http"]
"""How something came, as metrics call it."""

MAPPED = "::ffff:"

TOLD = {
    Outcome.STRANGER: "reports from {host} are not taken: it is no media node, and not in [ingest] senders",
    Outcome.WRONG_KEY: "reports from {host} are not taken: they carry another key than [ingest] auth_key",
    Outcome.UNKNOWN_NODE: "a report from {host} is not taken: no media node has its capture id, name or address",
    Outcome.FUTURE: "a report from {host} is not taken: its clock is ahead of ours",
    Outcome.FLOOD: "reports from {host} are dropped: there are more than [ingest] allows",
    Outcome.MALFORMED: "a report from {host} is not taken: {why}",
}


class Intake:
    """Takes what the listeners and the API receive, and hands reports on."""

    _log = Logger()

    def __init__(self, config: IngestConfig, nodes: KnownNodes, heard: Callable[[RtcpReport | PhoneReport], object],
                 now: Callable[[], float]) -> None:
        """`heard` gets each report; `now` is in seconds since the epoch."""
        self.outcomes: Counter[tuple[str, str]] = Counter()
        """How many packets came by which way, and what became of them."""
        self.by_node: Counter[str] = Counter()
        """How many reports media nodes have sent."""
        self._nodes = nodes
        self._heard = heard
        self._now = now
        self._key = config.auth_key
        self._budget = Budget(config.max_reports_per_second, config.max_reports_per_sender)
        self._is_sender = _within(config.senders)
        self._copies = {listener.address: _within(listener.senders) for listener in config.rtcp}

    def knows(self, host: str) -> bool:
        """Say whether `host` may send HEP."""
        return self._is_sender(host) or self._nodes.node_of(0, "", host) is not None

    def hep(self, data: bytes, host: str, way: Way) -> None:
        """Take one whole HEP packet; whatever it is, nothing is raised."""
        host = host.removeprefix(MAPPED)
        try:
            self._admit(self.knows(host), host)
            packet = parse_hep(data)
            if not is_allowed(packet, self._key):
                raise Unusable(Outcome.WRONG_KEY)
            self._take(read_hep(packet, host, self._nodes, self._now()), way)
        except HepError as problem:
            self.refuse(Outcome.MALFORMED, way, host, str(problem))
        except Unusable as problem:
            self.refuse(problem.outcome, way, host, str(problem))

    def rtcp(self, data: bytes, host: str, listener: RtcpConfig) -> None:
        """Take one RTCP packet as it is."""
        host = host.removeprefix(MAPPED)
        try:
            self._admit(self._copies[listener.address](host), listener.address)
            if self._nodes.node_of(0, listener.node, "") is None:
                raise Unusable(Outcome.UNKNOWN_NODE)
            self._take(read_rtcp(data, host, listener.node, self._now()), "rtcp")
        except Unusable as problem:
            self.refuse(problem.outcome, "rtcp", host, str(problem))

    def posted(self, reports: Reports) -> bool:
        """Take what came over HTTP, all or nothing; say whether there was room for it."""
        if not self._budget.admits("http", self._now(), len(reports)):
            self.refuse(Outcome.FLOOD, "http", "HTTP")
            return False
        self._take(reports, "http")
        return True

    def refuse(self, outcome: Outcome, way: Way, host: str, why: str = "") -> None:
        """Count what is not taken, and tell what an operator can do something about."""
        self.outcomes[way, outcome.value] += 1
        sentence = TOLD.get(outcome)
        if sentence is not None:
            self._log.warn(sentence, host=host, why=why, log_rationed=True)

    def _admit(self, is_known: bool, sender: str) -> None:
        if not is_known:
            raise Unusable(Outcome.STRANGER)
        if not self._budget.admits(sender, self._now()):
            raise Unusable(Outcome.FLOOD)

    def _take(self, reports: Reports, way: Way) -> None:
        self.outcomes[way, Outcome.TAKEN.value] += 1
        for report in reports:
            if report.node:
                self.by_node[report.node] += 1
            self._heard(report)


def _within(networks: tuple[str, ...]) -> Callable[[str], bool]:
    """Return what says whether a numeric address is in one of these networks."""
    parsed = [ip_network(text) for text in networks]

    @lru_cache(maxsize=4096)
    def is_within(host: str) -> bool:
        try:
            address = ip_address(host)
        except ValueError:
            return False
        return any(address in network for network in parsed)

    return is_within
