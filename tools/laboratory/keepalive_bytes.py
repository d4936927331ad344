"""What it costs to keep a phone's connection alive, counted by tcpdump: `python -m tools.laboratory.keepalive_bytes`.

Registrars and phones are on hosts of their own (network namespaces). Each phone keeps its connection in one way, over
TCP or TLS; tcpdump sees all frames at the phones' host. What one exchange costs is scaled to the hour. It needs root.
"""

import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
from attrs import field, frozen

from rollcall.sip.message import Request
from tests.cluster.hosts import HostLab
from tests.cluster.namespaces import Host, Network
from tests.interop.phone import Phone
from tests.interop.process import InteropError, wait_until
from tools.laboratory.child import Child
from tools.laboratory.lab import DOMAIN

HOUR = 3600
IDLE, INTERVAL, PROBES = 60, 30, 4
"""[keepalive] of the registrar whose kernel probes phones in our time."""
DEFAULT_IDLE = 600
"""That of rollcall, which is used for the other phones: within our time it sends no probe."""
FIRST_AT_SECONDS = 5.0
DOUBLE_CRLF = b"\r\n\r\n"
HEADERS = [
    ("User-Agent", "Lab Phone T46 96.86.0.100 80:5e:c0:00:00:00"),
    ("Allow", "INVITE, ACK, BYE, CANCEL, OPTIONS, NOTIFY, REFER, UPDATE, PRACK, INFO, MESSAGE"),
    ("Supported", "path, outbound, gruu, replaces, timer"),
    ("Allow-Events", "talk, hold, conference, refer, check-sync"),
]
"""What a usual desk phone says of itself in each request."""
FRAME = re.compile(r"^(\d+\.\d+) .*? length (\d+): \S+\.(\d+) > \S+\.(\d+): ")


@frozen
class Way:
    """One way to keep a connection."""

    name: str
    period: int
    once: Callable[["Subject"], None] | None
    """What the phone does once a period; None when the registrar's kernel does it."""


@frozen(eq=False)
class Subject:
    """A phone that keeps its connection in one way."""

    way: Way
    phone: Phone
    challenge: str
    call_id: str
    cseqs: Iterator[int] = field(factory=lambda: iter(range(10, 1_000_000)))

    @property
    def is_probed(self) -> bool:
        """Whether the kernel of the registrar does it."""
        return self.way.once is None


def ping(subject: Subject) -> None:
    """Send a double CRLF; the kernel takes the single one that answers it (RFC 5626 §3.5.1)."""
    subject.phone.send_bytes(DOUBLE_CRLF)


def ask_options(subject: Subject) -> None:
    """Ask the registrar for its options."""
    phone = subject.phone
    answer = phone.ask(phone.make("OPTIONS", f"sip:{DOMAIN}", HEADERS))
    assert answer.status == 200, answer


def refresh(subject: Subject) -> None:
    """Register again, with the nonce of the first time."""
    request = a_register(subject.phone, subject.call_id, next(subject.cseqs))
    request.set("Authorization", subject.phone.credentials(subject.challenge, "REGISTER", request.uri))
    subject.phone.send(request)
    answer = subject.phone.final()
    assert answer.status == 200, answer


def register_anew(subject: Subject) -> None:
    """Register again without credentials, and once more with an answer to the challenge."""
    answer = subject.phone.ask(a_register(subject.phone, subject.call_id, next(subject.cseqs)))
    assert answer.status == 200, answer


WAYS = (
    Way(f"TCP keepalive of the kernel, idle {IDLE} s", IDLE, None),
    Way("double CRLF every 30 s", 30, ping),
    Way("OPTIONS every 30 s", 30, ask_options),
    Way("re-REGISTER every 60 s, nonce used again", 60, refresh),
    Way("re-REGISTER every 60 s, challenged each time", 60, register_anew),
)


@frozen
class Cost:
    """What one way has cost over one transport."""

    way: Way
    transport: str
    exchanges: int
    frames: int
    octets: int

    def per_hour(self, period: float | None = None) -> float:
        """Return the bytes in an hour, with a period of its own when that is not to be the measured one."""
        return self.octets / self.exchanges * HOUR / (period or self.way.period)


class Tcpdump(Child):
    """Writes all TCP frames that a host sends and receives into a file."""

    def __init__(self, folder: Path, host: Host) -> None:
        super().__init__(outlives=False)
        self._file, self._log = folder / "frames.pcap", folder / "tcpdump.log"
        with host.entered():
            self.launch(["tcpdump", "-i", "eth0", "-nn", "-U", "-s", "96", "-Z", "root", "-w", str(self._file), "tcp"],
                        self._log)
        wait_until(lambda: "listening on" in self._log.read_text() or None, "start of tcpdump", 10)

    def stop(self, host: Host) -> list[tuple[float, int, frozenset[int]]]:
        """End it and return all frames: when, how many bytes from the Ethernet header on, and both ports."""
        self.signal(signal.SIGINT)
        self.wait_or_kill(10)
        text = host.run("tcpdump", "-r", str(self._file), "-nn", "-e", "-tt", "-q")
        found = [match for match in map(FRAME.match, text.splitlines()) if match is not None]
        return [(float(match[1]), int(match[2]), frozenset((int(match[3]), int(match[4])))) for match in found]


def a_register(phone: Phone, call_id: str, cseq: int) -> Request:
    """Return a REGISTER of this phone."""
    contact = (f"<{phone.contact}>;reg-id=1;"
               f'+sip.instance="<urn:uuid:00000000-0000-4000-8000-{phone.port:012x}>"')
    return phone.make("REGISTER", f"sip:{DOMAIN}", [("Contact", contact), ("Expires", "3600"), *HEADERS],
                      to=f"<sip:{phone.user}@{DOMAIN}>", call_id=call_id, cseq=cseq)


def measure(folder: Path, seconds: float, tell: Callable[[str], None]) -> list[Cost]:
    """Have a phone for each way and transport keep its connection for so long."""
    network = Network()
    try:
        own = {"registrar-1": {"keepalive": {"idle": IDLE, "interval": INTERVAL, "probes": PROBES}},
               "registrar-2": {"keepalive": {"idle": DEFAULT_IDLE}}}
        with HostLab(network, folder, 2, 2 * len(WAYS), "", own, False, False) as lab:
            with lab.phones_host.entered():
                subjects = _subjects(lab)
            for subject in subjects:
                refresh(subject)
            tell(f"{len(subjects)} phones are registered; {seconds:g} s are counted")
            return _counted(lab, folder, subjects, seconds)
    finally:
        network.close()


def _subjects(lab: HostLab) -> list[Subject]:
    users = iter(lab.users)
    made = []
    for way in WAYS:
        for transport in ("TCP", "TLS"):
            node = lab.registrars[0 if way.once is None else 1]
            user, (host, port) = next(users), node.tcp
            phone = Phone(transport, (host, node.tls_port if transport == "TLS" else port), user.username, DOMAIN,
                          user.password, lab.phones_host.ipv4)
            call_id = f"keepalive-{user.username}"
            phone.send(a_register(phone, call_id, 1))
            made.append(Subject(way, phone, phone.final().get("WWW-Authenticate") or "", call_id))
    return made


def _counted(lab: HostLab, folder: Path, subjects: Sequence[Subject], seconds: float) -> list[Cost]:
    capture = Tcpdump(folder, lab.phones_host)
    began = time.time()
    made: Counter[Subject] = Counter()
    for at, subject in sorted(_plan(subjects, seconds), key=lambda each: each[0]):
        time.sleep(max(0.0, began + at - time.time()))
        assert subject.way.once is not None
        subject.way.once(subject)
        made[subject] += 1
    time.sleep(max(0.0, began + seconds - time.time()))
    frames = [frame for frame in capture.stop(lab.phones_host) if frame[0] >= began]
    return [_cost(subject, made[subject], frames) for subject in subjects]


def _plan(subjects: Sequence[Subject], seconds: float) -> Iterator[tuple[float, Subject]]:
    """Yield what is done when; the last exchange has time to end."""
    for subject in subjects:
        at = FIRST_AT_SECONDS
        while not subject.is_probed and at < seconds - FIRST_AT_SECONDS:
            yield at, subject
            at += subject.way.period


def _cost(subject: Subject, exchanges: int, frames: Sequence[tuple[float, int, frozenset[int]]]) -> Cost:
    mine = [octets for _, octets, ports in frames if subject.phone.port in ports]
    # A probe and its answer are two frames.
    count = len(mine) // 2 if subject.is_probed else exchanges
    if not count:
        raise InteropError(f"nothing was seen of {subject.way.name} over {subject.phone.transport}")
    return Cost(subject.way, subject.phone.transport, count, len(mine), sum(mine))


def table(costs: Sequence[Cost]) -> str:
    """Return a table in Markdown."""
    lines = ["| keepalive | over | exchanges | frames each | bytes each | bytes per phone and hour |",
             "|---|---|---|---|---|---|"]
    for cost in costs:
        lines.append(f"| {cost.way.name} | {cost.transport} | {cost.exchanges} | {cost.frames / cost.exchanges:.1f} | "
                     f"{cost.octets / cost.exchanges:.0f} | {cost.per_hour():,.0f} |")
        if cost.way.once is None:
            lines.append(f"| the same, computed for the default idle {DEFAULT_IDLE} s | {cost.transport} | – | "
                         f"{cost.frames / cost.exchanges:.1f} | {cost.octets / cost.exchanges:.0f} | "
                         f"{cost.per_hour(DEFAULT_IDLE):,.0f} |")
    return "\n".join(lines)


@click.command()
@click.option("--seconds", type=click.FloatRange(70, 3600), default=130, show_default=True, help="How long is counted.")
def main(seconds: float) -> None:
    """Print the table; it needs root and tcpdump."""
    click.echo(f"[keepalive] of the registrar that probes: idle = {IDLE}, interval = {INTERVAL}, probes = {PROBES}; of "
               f"the one of all other phones: idle = {DEFAULT_IDLE}", err=True)
    with tempfile.TemporaryDirectory() as folder:
        costs = measure(Path(folder), seconds, lambda text: click.echo(text, err=True))
    click.echo(table(costs))


if __name__ == "__main__":
    sys.exit(main())
