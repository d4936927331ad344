"""Queries per CPU second of the name server, beside Debian's knot and nsd: `python -m tools.measure_dns`.

All serve the same zone on a core of their own, by UDP and in turns; tools/bench/src/dns.c asks them on the other core.
CPU is that of the server's processes as the kernel counts it, its share of sending and receiving included. With
--phones it is asked instead what a flood of queries does to phones of the same process.
"""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import click
import dns.edns
import dns.message
from attrs import evolve, frozen
from twisted.internet import reactor

from registrar.distribution.dns.config import DnsConfig
from registrar.distribution.dns.server import DnsServer
from tests.registrar.distribution.dns.zones import ORIGIN, ZONE, a_snapshot
from tools.bench import accounting
from tools.bench.cases import Case as PhonesCase
from tools.bench.generator import PHONES_CORE, generator
from tools.bench.processes import LOOPBACK, BenchError, free_port, pinned, running, wait_for
from tools.bench.servers import rollcall

ASKING = Path(__file__).parent / "bench" / "build" / "dns"
SERVER_CORE = 0

OTHER = ZONE.replace("SRV 10 60 5060 fra", "SRV 30 60 5060 fra")
"""What every other network is shown: the same sites in another order."""

QUESTIONS = (
    ("sip.example.com.", "NAPTR"), ("_sip._udp.sip.example.com.", "SRV"), ("_sip._tcp.sip.example.com.", "SRV"),
    ("fra.sip.example.com.", "A"), ("fra.sip.example.com.", "AAAA"),
)

DNS = """
[dns]
listen = ["{host}:{port}"]
"""

KNOT = """
server:
    rundir: "{folder}"
    listen: 127.0.0.1@{port}
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: "{folder}"
zone:
  - domain: sip.example.com
    file: "{folder}/zone"
"""

NSD = """
server:
    server-count: 1
    ip-address: 127.0.0.1@{port}
    username: ""
    chroot: ""
    zonesdir: "{folder}"
    database: ""
    pidfile: "{folder}/pid"
    xfrdfile: "{folder}/xfrd"
    zonelistfile: "{folder}/zones"
    logfile: "{folder}/log"
    rrl-ratelimit: 0
    minimal-responses: yes
remote-control:
    control-enable: no
zone:
    name: sip.example.com
    zonefile: zone
"""


@frozen
class Case:
    """What is asked."""

    name: str
    what: str
    """How dns.c varies the queries."""

    kinds: Sequence[tuple[str, str]] = QUESTIONS
    subnet: str = ""

    def queries(self) -> bytes:
        """Return the queries as dns.c reads them."""
        options = [dns.edns.ECSOption.from_text(self.subnet)] if self.subnet else None
        wires = [dns.message.make_query(name, kind, use_edns=0, payload=1232, options=options, flags=0).to_wire()
                 for name, kind in self.kinds]
        return b"".join(len(wire).to_bytes(2) + wire for wire in wires)


CASES = (
    Case("usual", "letters"),
    Case("no such name", "names", (("abcdefgh.sip.example.com.", "A"),)),
    Case("client subnets", "subnets", subnet="10.0.0.0/24"),
)


PHONES = 1000
PHONES_RATE = 500.0

FLOODS = (
    ("usual queries", Case("usual", "letters", (("bench.test.", "NAPTR"), ("_sip._tcp.bench.test.", "SRV")))),
    ("names that do not exist", Case("no such name", "names", (("abcdefgh.bench.test.", "A"),))),
)


@frozen
class Round:
    """What one server did in one round."""

    answered: int
    wrong: int
    lost: int
    seconds: float
    answer_bytes: float
    cpu_seconds: float = 0.0

    @property
    def per_cpu_second(self) -> float:
        """Answers in a second of CPU."""
        return self.answered / self.cpu_seconds


def ask(case: Case, port: int, seconds: float) -> Round:
    """Ask one server as fast as it answers. Raises BenchError when it does not."""
    words = [*pinned(PHONES_CORE), str(ASKING), LOOPBACK, str(port), str(seconds), case.what]
    said = subprocess.run(words, input=case.queries(), capture_output=True, check=False)
    if said.returncode:
        raise BenchError(said.stderr.decode())
    lasted, _, answered, wrong, lost, size = said.stdout.split()
    if not int(answered):
        raise BenchError(f"nothing was answered at port {port}: {said.stdout.decode()}")
    return Round(int(answered), int(wrong), int(lost), float(lasted), int(size) / int(answered))


def measure(case: Case, port: int, pid: int, seconds: float) -> Round:
    """Ask one server, and see what that costs it."""
    pids = accounting.family(pid)
    before = accounting.cpu_microseconds(pids)
    said = ask(case, port, seconds)
    return evolve(said, cpu_seconds=(accounting.cpu_microseconds(pids) - before) / 1e6)


@frozen
class Served:
    """A server that runs."""

    name: str
    port: int
    pid: int


@contextmanager
def serving(name: str, words: Sequence[str], files: Mapping[str, str]) -> Iterator[Served]:
    """Run a server whose words and files have {folder} and {port} where these belong."""
    with TemporaryDirectory() as made:
        folder, port = Path(made), free_port()
        for file, text in files.items():
            (folder / file).write_text(text.replace("{folder}", made).replace("{port}", str(port)))
        filled = [word.replace("{folder}", made).replace("{port}", str(port)) for word in words]
        with running(filled, core=SERVER_CORE, log=folder / "output", folder=Path.cwd()) as process:
            wait_for(process, port, folder / "output")
            yield Served(name, port, process.pid)


def servers(stack: ExitStack) -> list[Served]:
    """Run all that are compared."""
    ours = [sys.executable, "-m", "tools.measure_dns", "--serve", "{port}"]
    zone = {"zone": f"$ORIGIN {ORIGIN}\n{ZONE}"}
    return [stack.enter_context(serving(*each)) for each in (
        ("Rollcall", ours, {}),
        ("Rollcall, two views", [*ours, "--split"], {}),
        ("knot", ["/usr/sbin/knotd", "-c", "{folder}/conf"], {**zone, "conf": KNOT}),
        ("nsd", ["/usr/sbin/nsd", "-d", "-c", "{folder}/conf"], {**zone, "conf": NSD}),
    )]


def serve(port: int, split: bool) -> None:
    """Be our server until somebody ends it. Rates are counted, but high enough."""
    config = DnsConfig(listen=(f"{LOOPBACK}:{port}",), answers_per_second=1e9, unlimited_networks=())
    server = DnsServer(reactor, config)
    views = {"one": ZONE, "other": OTHER} if split else {"all": ZONE}
    names = list(views)
    server.publish(a_snapshot(1, views, lambda address: names[address[-2] % len(names)]))
    server.start()
    reactor.run()


def row(name: str, rounds: Sequence[Round], best: float) -> str:
    """Return one line of the table."""
    rates = [each.per_cpu_second for each in rounds]
    spread = (max(rates) - min(rates)) / 2 / median(rates)
    return (f"| {name} | {median(rates):,.0f} ± {spread:.0%} | {1e6 / median(rates):.2f} | {median(rates) / best:.2f} "
            f"| {median(each.answered / each.seconds for each in rounds):,.0f} "
            f"| {median(each.answer_bytes for each in rounds):.0f} "
            f"| {sum(each.wrong for each in rounds)} | {sum(each.lost for each in rounds)} |")


def compare(rounds: int, seconds: float) -> None:
    """Print a table for each case."""
    with ExitStack() as stack:
        served = servers(stack)
        for case in CASES:
            found: dict[str, list[Round]] = {each.name: [] for each in served}
            for _ in range(rounds):
                for each in served:
                    found[each.name].append(measure(case, each.port, each.pid, seconds))
            best = max(median(one.per_cpu_second for one in of) for of in found.values())
            click.echo(f"\n{case.name}:\n\n| server | queries per CPU second | µs | of the best | answers/s | bytes "
                       "| wrong | lost |\n|---|---|---|---|---|---|---|---|")
            for name, of in found.items():
                click.echo(row(name, of, best))


def beside_phones(seconds: float) -> Iterator[str]:
    """Yield how phones that refresh at a rate fare while the same process is asked as fast as it answers."""
    phones = PhonesCase(name="phones", transport="tcp", digest=True, connections=PHONES, phones=PHONES)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        port = free_port(after=free_port() + 10)
        start = rollcall("memory", more=DNS.format(host=LOOPBACK, port=port), subscribers=PHONES)
        server = stack.enter_context(start(True, folder))
        crowd = stack.enter_context(generator(phones, server.port))
        if not crowd.ready.clean:
            raise BenchError("not all phones came")
        for happening, case in ((("nothing else", None), *FLOODS)):
            before = server.cpu_microseconds()
            crowd.begin(seconds, rate=PHONES_RATE)
            said = ask(case, port, seconds) if case is not None else None
            tally = crowd.done()
            busy = (server.cpu_microseconds() - before) / 1e6 / tally.seconds
            answered = f"{said.answered / said.seconds:,.0f} DNS answers/s, " if said is not None else ""
            late = [f"{value / 1000:.1f} ms" for value in (tally.p50_us, tally.p99_us, tally.largest_us)]
            yield (f"{happening}: {answered}{tally.answered} of {tally.sent} REGISTERs, p50 {late[0]}, p99 {late[1]}, "
                   f"worst {late[2]}, core {busy:.0%} busy")


@click.command()
@click.option("--phones", is_flag=True, help="See how phones fare beside a flood of queries instead.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--seconds", default=1.0, show_default=True, help="How long a round of one server lasts.")
@click.option("--serve", "port", default=0, help="Only be the server, at this port.")
@click.option("--split", is_flag=True, help="Show two views then.")
def main(phones: bool, rounds: int, seconds: float, port: int, split: bool) -> None:
    """Measure and print."""
    if port:
        serve(port, split)
        return
    subprocess.run(["make", "--quiet", "-C", str(ASKING.parent.parent), "all"], check=True)
    if phones:
        for line in beside_phones(seconds):
            click.echo(line)
        return
    compare(rounds, seconds)


if __name__ == "__main__":
    main()
