"""What operators see of the name server: what was asked and answered, what was held back, and who has the zones."""

from registrar.distribution.dns.answers import KINDS
from registrar.distribution.dns.server import DnsServer
from rollcall.ops.metrics import Metrics


def watch_dns(metrics: Metrics, server: DnsServer) -> None:
    """Export the counts of a name server."""
    metrics.total("rollcall_dns_queries_total", "Messages received, by transport.", ("transport",),
                  lambda: _queries(server))
    metrics.total("rollcall_dns_answers_total", "Answers, by what they said; those that were cut are truncated.",
                  ("answer",), lambda: {(kind,): float(count)
                                        for kind, count in zip(KINDS, server.answers.counts, strict=True)})
    metrics.total("rollcall_dns_unanswered_total", "Messages without an answer: no queries, answers beyond the rate of "
                  "a network (truncated ones count too), and such as the system did not take.", ("reason",),
                  lambda: _unanswered(server))
    metrics.total("rollcall_dns_connections_closed_total", "TCP connections that were not let in, or cut because of "
                  "what they did.", ("reason",), lambda: _closed(server))
    metrics.total("rollcall_dns_transfers_total", "Zones asked for by TCP, by what became of it.", ("outcome",),
                  lambda: {("sent",): float(server.transfers), ("refused",): float(server.transfers_refused)})
    metrics.total("rollcall_dns_notifications_total", "News of zones to secondaries, by what became of them.",
                  ("outcome",), lambda: {("heard",): float(server.notifying.told),
                                         ("unanswered",): float(server.notifying.unanswered)})
    metrics.gauge("rollcall_dns_serial", "The serial that the zones have here; 0 before there are any.", (),
                  lambda: float(server.answers.snapshot.serial) if server.answers.snapshot is not None else 0.0)


def _queries(server: DnsServer) -> dict[tuple[str], float]:
    return {("udp",): float(sum(service.queries for service in server.datagram_services)),
            ("tcp",): float(sum(service.queries for service in server.stream_services))}


def _unanswered(server: DnsServer) -> dict[tuple[str], float]:
    return {("ignored",): float(server.answers.ignored), ("limited",): float(server.answers.rates.limited),
            ("unsent",): float(sum(service.unsent for service in server.datagram_services))}


def _closed(server: DnsServer) -> dict[tuple[str], float]:
    return {("refused",): float(sum(service.refused for service in server.stream_services)),
            ("cut",): float(sum(service.cut for service in server.stream_services))}
