"""Phones refresh at a rate, while what could hold them up happens beside them; the server tells its longest turn."""

import json
import os
import signal
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.request import urlopen

from attrs import frozen

from registrar.command.certificates import DemoCertificates
from tools.bench.cases import Case
from tools.bench.generator import PHONES_CORE, Tally, generator
from tools.bench.metrics import GC_PAUSE, TURN, highest
from tools.bench.processes import LOOPBACK, BenchError, free_port
from tools.bench.servers import Running, rollcall

TLS = """
[[listen]]
name = "tls"
transport = "tls"
host = "{host}"
port = {port}

[tls]
certificates = [{{certificate_file = "{certificate}", key_file = "{key}"}}]
"""
GREETINGS = 1_000
"""Clients that begin a TLS handshake in the same moment."""
DATAGRAM_PHONES = 4_000
SCRAPES = 20
PATIENCE_SECONDS = 30.0
LONG_TURNS = "rollcall_turns_long_total"


@frozen(kw_only=True)
class Stretch:
    """What phones and server saw while something happened.

    `longest_ms` is the longest turn of the last one or two minutes, `long_turns` those of more than 50 ms.
    """

    happening: str
    long_turns: int
    longest_ms: float
    collection_ms: float
    tally: Tally

    def line(self) -> str:
        """Say it in a line."""
        tally = self.tally
        return (
            f"{self.happening}: {self.long_turns} turns over 50 ms, longest {self.longest_ms:.1f} ms, "
            f"{tally.answered} answers, p50 {tally.p50_us / 1000:.1f} ms, p99 {tally.p99_us / 1000:.1f} ms, "
            f"worst {tally.largest_us / 1000:.1f} ms"
        )


def undisturbed(phones: int, rate: float, seconds: float, tell: Callable[[str], None]) -> list[Stretch]:
    """Let phones with passwords refresh over TCP, above bindings in SQLite, and disturb them in each way there is."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="undisturbed-")))
        tls_port = free_port(after=free_port() + 10)  # the first ones are the server's own
        more = _secured(folder, tls_port)
        start = rollcall("sqlite", more=more, subscribers=phones + DATAGRAM_PHONES)
        server = stack.enter_context(start(True, folder))
        case = Case(name="many", transport="tcp", digest=True, connections=phones, phones=phones, opening_rate=3_000)
        crowd = stack.enter_context(generator(case, server.port))
        stretches = [_stretch("phones come", server, 0, crowd.ready)]
        stack.enter_context(_beside_the_phones())
        tell(stretches[0].line())
        for happening, disturb in _disturbances(server, tls_port, phones, rate):
            before = int(_metric(server, LONG_TURNS))
            crowd.begin(seconds, rate=rate)
            disturb()
            stretches.append(_stretch(happening, server, before, crowd.done()))
            tell(stretches[-1].line())
        return stretches


def verdict(stretches: Sequence[Stretch]) -> list[str]:
    """Return what held the phones up, a sentence each; nothing when nothing did."""
    return [each.line() for each in stretches if each.long_turns or not each.tally.clean]


def _disturbances(server: Running, tls_port: int, phones: int, rate: float) -> list[tuple[str, Callable[[], None]]]:
    case = Case(name="datagrams", transport="udp", digest=True, connections=100, phones=DATAGRAM_PHONES)
    return [
        ("nothing else", lambda: None),
        (f"{GREETINGS} TLS clients at once", partial(_greet, tls_port)),
        ("a walk over all contacts", partial(_walk, server)),
        (f"{SCRAPES} scrapes", partial(_scrape, server)),
        ("certificates are reloaded", lambda: os.kill(server.pid, signal.SIGHUP)),
        ("datagrams that go to disk", partial(_datagrams, server, case, phones, rate / 4)),
    ]


@contextmanager
def _beside_the_phones() -> Iterator[None]:
    """Let what we do take no time of the server's core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {PHONES_CORE} & cores or cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _greet(port: int) -> None:
    """Send the first message of a handshake over many connections, wait for each answer, and leave."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        greeting = outgoing.read()
    with ExitStack() as stack:
        greeters = [stack.enter_context(closing(_connected(port, number))) for number in range(GREETINGS)]
        for greeter in greeters:
            greeter.sendall(greeting)
        for greeter in greeters:
            if not greeter.recv(1):
                raise BenchError("a TLS client was turned away")


def _connected(port: int, number: int) -> socket.socket:
    return socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS, (f"127.0.3.{number % 100 + 1}", 0))


def _walk(server: Running) -> None:
    place: str | None = ""
    while place is not None:
        after = f"&after={place}" if place else ""
        place = json.loads(_page(server, f"/v1/contacts?size=1000{after}"))["next"]


def _scrape(server: Running) -> None:
    for _ in range(SCRAPES):
        _page(server, "/metrics")


def _datagrams(server: Running, case: Case, first: int, rate: float) -> None:
    with generator(case, server.port, first=first, source="127.0.2.1") as crowd:
        if not crowd.ready.clean:
            raise BenchError(f"not every phone could register over UDP: {crowd.ready}")
        crowd.run(2.0, rate=rate)


def _stretch(happening: str, server: Running, long_turns: int, tally: Tally) -> Stretch:
    return Stretch(
        happening=happening,
        tally=tally,
        long_turns=int(_metric(server, LONG_TURNS)) - long_turns,
        longest_ms=round(_metric(server, TURN) * 1000, 1),
        collection_ms=round(_metric(server, GC_PAUSE) * 1000, 1),
    )


def _metric(server: Running, name: str) -> float:
    value = highest(_page(server, "/metrics"), name)
    if value is None:
        raise BenchError(f"the server does not tell {name}")
    return value


def _page(server: Running, path: str) -> str:
    with urlopen(f"http://{LOOPBACK}:{server.metrics_port}{path}", timeout=PATIENCE_SECONDS) as page:
        return str(page.read().decode())


def _secured(folder: Path, port: int) -> str:
    certificates = DemoCertificates(folder / "tls")
    certificates.ensure([LOOPBACK], datetime.now(UTC))
    return TLS.format(host=LOOPBACK, port=port, certificate=certificates.certificate, key=certificates.key)
