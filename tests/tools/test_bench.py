"""The bench: its generator's digest against Python's, what it refuses, and the arithmetic of its report."""

import ctypes
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from unittest import skipUnless

from attrs import asdict, evolve
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from twisted.trial.unittest import SynchronousTestCase

from tools.bench import accounting, report
from tools.bench.accounting import Memory
from tools.bench.cases import CASES, Case
from tools.bench.generator import FOLDER, LOAD, PASSWORD, Generator, Tally, build, generator, parse_tally, words
from tools.bench.processes import LOOPBACK, BenchError, end, free_port, running
from tools.bench.profile import Cost, costs
from tools.bench.report import Holding, Round
from tools.bench.soak import Slice, verdict

COMPILER = shutil.which("cc")
NO_COMPILER = "the generator is C, and there is no compiler"

TALLY = Tally(
    seconds=1.0,
    sent=10,
    answered=10,
    failed=0,
    challenged=0,
    unanswered=0,
    retransmitted=0,
    lost=0,
    request_bytes=480.0,
    answer_bytes=440.0,
    p50_us=500,
    p99_us=2_000,
    p999_us=3_000,
    largest_us=4_000,
    statuses={"200": 10},
)


def a_round(server: str, cpu_us: float, case: str = "tcp-refresh", p99_us: int = 2_000) -> Round:
    """One run of a server at a cost."""
    return Round(case=case, server=server, cpu_us=cpu_us, tally=evolve(TALLY, p99_us=p99_us))


def a_holding(server: str, proportional: float) -> Holding:
    """One look at a server that holds idle phones."""
    return Holding(
        case="tcp-idle",
        server=server,
        phones=100,
        proportional=proportional,
        private=proportional,
        shared_used=None,
        tally=TALLY,
    )


def compiled(source: str) -> ctypes.CDLL:
    """One of the generator's sources, as functions to call."""
    assert COMPILER is not None
    with tempfile.TemporaryDirectory() as folder:
        built = os.path.join(folder, "part.so")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", built, str(FOLDER / "src" / source)], check=True)
        return ctypes.CDLL(built)


@skipUnless(COMPILER, NO_COMPILER)
class Md5Tests(SynchronousTestCase):
    """The generator's own MD5 (RFC 1321)."""

    library: ctypes.CDLL

    @classmethod
    def setUpClass(cls) -> None:
        cls.library = compiled("md5.c")

    def md5(self, data: bytes) -> str:
        """The digest as the generator computes it."""
        text = ctypes.create_string_buffer(33)
        self.library.md5_hex(data, ctypes.c_size_t(len(data)), text)
        return text.value.decode("ascii")

    def test_every_length_around_the_blocks(self) -> None:
        """Padding is right for each length up to three blocks and beyond."""
        for length in range(200):
            data = bytes(range(length))
            self.assertEqual(self.md5(data), hashlib.md5(data).hexdigest(), length)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever is hashed, Python's hashlib says the same."""
        self.assertEqual(self.md5(data), hashlib.md5(data).hexdigest())


class LatencyRecord(ctypes.Structure):
    """struct latency of latency.h."""

    _fields_ = (("count", ctypes.c_uint64), ("largest", ctypes.c_uint64), ("buckets", ctypes.c_uint32 * 1344))


@skipUnless(COMPILER, NO_COMPILER)
class LatencyTests(SynchronousTestCase):
    """The generator's histogram."""

    library: ctypes.CDLL

    @classmethod
    def setUpClass(cls) -> None:
        cls.library = compiled("latency.c")
        cls.library.latency_at.restype = ctypes.c_uint64

    def at(self, values: list[int], share: float) -> int:
        """The value below which this share of the recorded ones lies."""
        record = LatencyRecord()
        for value in values:
            self.library.latency_add(ctypes.byref(record), ctypes.c_uint64(value))
        found: int = self.library.latency_at(ctypes.byref(record), ctypes.c_double(share))
        return found

    def test_percentiles(self) -> None:
        """Small values are exact, and nothing recorded is 0."""
        values = list(range(1, 51))
        self.assertEqual([self.at(values, share) for share in (0.5, 0.98, 1.0)], [25, 49, 50])
        self.assertEqual(self.at([], 0.99), 0)

    @given(st.lists(st.integers(0, 2**45), min_size=1, max_size=50), st.floats(0.01, 1.0))
    def test_error_is_bounded(self, values: list[int], share: float) -> None:
        """A percentile is never too low, and at most 3.2 % too high."""
        exact = sorted(values)[max(int(share * len(values) + 0.5), 1) - 1]
        self.assertTrue(exact <= self.at(values, share) <= max(exact * 1.032, exact), (exact, self.at(values, share)))


class Phonebook:
    """A server in a thread that challenges, checks what comes back against hashlib, and keeps the nonce counts."""

    def __init__(self) -> None:
        self.to_lose = 0
        self.lost: list[bytes] = []
        self.requests: list[bytes] = []
        self.counts: dict[str, list[int]] = {}
        self.wrong: list[str] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.port = free_port()
        self._socket.bind((LOOPBACK, self.port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as knock:
            knock.sendto(b"", (LOOPBACK, self.port))
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while True:
            data, peer = self._socket.recvfrom(65_535)
            if not data:
                return
            if len(self.lost) < self.to_lose:
                self.lost.append(data)
                continue
            self.requests.append(data)
            self._socket.sendto(self._answer(data.decode("ascii")), peer)

    def _answer(self, request: str) -> bytes:
        cseq = re.search(r"\r\nCSeq: (.*)\r\n", request)
        credentials = re.search(r"\r\nAuthorization: Digest (.*)\r\n", request)
        assert cseq is not None
        status, more = (
            "401 Unauthorized",
            (
                'WWW-Authenticate: Digest realm="other", nonce="no", algorithm=SHA-256, qop="auth"\r\n'
                'WWW-Authenticate: Digest realm="a, b", nonce="x=,y", opaque="z", algorithm=MD5, qop="auth"\r\n'
            ),
        )
        if credentials is not None:
            status, more = "200 OK", ""
            self._check(dict(re.findall(r'(\w+)="?([^"]*?)"?(?:, (?=\w+=)|$)', credentials[1])))
        return f"SIP/2.0 {status}\r\nCSeq: {cseq[1]}\r\n{more}Content-Length: 0\r\n\r\n".encode("ascii")

    def _check(self, given: dict[str, str]) -> None:
        secret = _md5(f"{given['username']}:a, b:{PASSWORD}")
        asked = _md5(f"REGISTER:{given['uri']}")
        expected = _md5(f"{secret}:x=,y:{given['nc']}:{given['cnonce']}:auth:{asked}")
        if given["response"] != expected or given["opaque"] != "z" or given["nonce"] != "x=,y":
            self.wrong.append(str(given))
        self.counts.setdefault(given["username"], []).append(int(given["nc"], 16))


def _md5(text: str) -> str:
    return hashlib.md5(text.encode("ascii")).hexdigest()


@skipUnless(COMPILER, NO_COMPILER)
class GeneratorTests(SynchronousTestCase):
    """The generator in C, run against a server that checks it."""

    @classmethod
    def setUpClass(cls) -> None:
        build()

    def setUp(self) -> None:
        self.server = Phonebook()
        self.addCleanup(self.server.close)

    def run_phones(self, case: Case, requests: int, rate: float = 0.0) -> tuple[Tally, Tally]:
        """What the generator said of the opening and of one run of so many requests."""
        with generator(case, self.server.port) as phones:
            assert isinstance(phones, Generator)
            return phones.ready, phones.run(5.0, requests=requests, rate=rate)

    def test_digest(self) -> None:
        """Each phone picks the MD5 challenge and answers as RFC 7616 says, its nonce count growing by one."""
        ready, done = self.run_phones(Case(name="d", transport="udp", digest=True, connections=2, phones=4), 12)
        self.assertEqual(self.server.wrong, [])
        self.assertEqual(self.server.counts, {f"u{number:07}": [1, 2, 3, 4] for number in range(4)})
        self.assertEqual((ready.challenged, ready.answered, done.challenged, done.answered), (4, 4, 0, 12))
        self.assertTrue(done.clean)

    def test_lost_datagram_is_sent_again(self) -> None:
        """What nobody answers is sent again as it was, not as another request."""
        self.server.to_lose = 1
        ready, done = self.run_phones(Case(name="d", transport="udp", digest=True, connections=1, phones=1), 1)
        self.assertEqual((ready.retransmitted, ready.answered, done.answered), (1, 1, 1))
        self.assertEqual(self.server.lost, self.server.requests[:1])
        self.assertEqual(self.server.counts, {"u0000000": [1, 2]})

    def test_challenge_without_digest_is_a_failure(self) -> None:
        """A phone that was told not to authenticate counts each 401 as a failure."""
        ready, done = self.run_phones(Case(name="d", transport="udp", connections=2, phones=2), 6)
        self.assertEqual((done.answered, done.failed, dict(done.statuses)), (0, 6, {"401": 6}))
        self.assertFalse(ready.clean)

    def test_open_loop_sends_what_was_planned(self) -> None:
        """With a rate, a run sends exactly the asked number of requests."""
        _, done = self.run_phones(Case(name="p", transport="udp", digest=True, connections=3, phones=3), 30, 1_000.0)
        self.assertEqual((done.sent, done.answered), (30, 30))
        self.assertGreaterEqual(done.seconds, 0.029)

    def test_fresh_phones_never_come_back(self) -> None:
        """With fresh phones every request is the first one of its user."""
        case = Case(name="n", transport="udp", digest=True, fresh=True, connections=2, phones=2)
        self.run_phones(case, 6)
        self.assertEqual(self.server.wrong, [])
        self.assertEqual(len(self.server.counts), 8)


@skipUnless(COMPILER, NO_COMPILER)
class RefusalTests(SynchronousTestCase):
    """What the generator does not do, whoever asks."""

    @classmethod
    def setUpClass(cls) -> None:
        build()

    def refusal(self, *command: str) -> str:
        """What it says when it ends with status 2."""
        ended = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        self.assertEqual((ended.returncode, ended.stdout), (2, ""))
        return ended.stderr

    def test_only_loopback(self) -> None:
        """An address that is not in 127.0.0.0/8 is never sent to."""
        for server in ("192.0.2.1:5060", "0.0.0.0:5060", "128.0.0.1:5060", "localhost:5060", "[::1]:5060", "127.0.0.1"):
            self.assertIn(server, self.refusal(str(LOAD), "--server", server))

    def test_bounds(self) -> None:
        """Numbers beyond the bounds are refused before anything is sent."""
        address = ("--server", "127.0.0.1:9")
        self.assertIn("30000", self.refusal(str(LOAD), *address, "--connections", "30000"))
        self.assertIn("--phones", self.refusal(str(LOAD), *address, "--connections", "3", "--phones", "4"))
        self.assertIn("--server", self.refusal(str(LOAD)))


class CommandLineTests(SynchronousTestCase):
    """How a case becomes the generator's command line."""

    def test_words(self) -> None:
        """Transport, spread and flags are passed on; the server is on loopback."""
        line = words(evolve(CASES["tcp-digest"], connections=10), 5060)
        self.assertIn("--digest", line)
        self.assertNotIn("--fresh", line)
        self.assertEqual(line[line.index("--server") + 1], "127.0.0.1:5060")
        self.assertEqual(line[line.index("--connections") + 1], "10")

    def test_tally(self) -> None:
        """A line of the generator's becomes a tally; another phase's line, or none, is an error."""
        line = json.dumps({"phase": "done", **asdict(TALLY)})
        self.assertEqual(parse_tally(line, "done"), TALLY)
        for wrong in ("", "{}", line.replace("done", "ready"), '{"phase": "done"}'):
            self.assertRaises(BenchError, parse_tally, wrong, "done")


class AccountingTests(SynchronousTestCase):
    """What the files under /proc say."""

    def test_parent_and_start(self) -> None:
        """A program's name may hold blanks and parentheses."""
        stat = "42 (a) b (c) S 7 42 41 0 -1 4194560 1 0 0 0 5 6 0 0 20 0 1 0 98765 1000 10"
        self.assertEqual((accounting.parse_parent(stat), accounting.parse_started(stat)), (7, 98765))
        self.assertEqual(accounting.parse_session(stat), 41)

    def test_on_cpu(self) -> None:
        """The first number of schedstat is the time on the CPU."""
        self.assertEqual(accounting.parse_on_cpu("123456789 42 7\n"), 123456789)

    def test_memory(self) -> None:
        """Proportional memory is Pss; private memory is clean and dirty."""
        text = (
            "55-7f ---p 00000000 00:00 0 [rollup]\nRss: 90 kB\nPss: 40 kB\nPrivate_Clean: 3 kB\nPrivate_Dirty: 30 kB\n"
        )
        self.assertEqual(accounting.parse_memory(text), Memory(40 * 1024, 33 * 1024))

    def test_family(self) -> None:
        """A process's children count with it, and are gone once it was ended."""
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with running(["sh", "-c", "sleep 60 & wait"], core=0, log=folder / "log", folder=folder) as process:
                while len(accounting.family(process.pid)) < 2:
                    self.assertIsNone(process.poll())
                family = accounting.family(process.pid)
                self.assertGreater(accounting.cpu_microseconds(family), 0)
                self.assertGreater(accounting.memory(family).private, 0)
            end(process)
        self.assertEqual([pid for pid in family if accounting.started_at(pid) is not None], [])


class SoakTests(SynchronousTestCase):
    """What makes a long run a bad one."""

    def a_run(self, *memory: int, failed: int = 0) -> list[Slice]:
        """Slices that ended with so much memory, the last one with failures."""
        good = [Slice(cpu_us=10.0, memory=value, tally=TALLY) for value in memory]
        return [*good[:-1], evolve(good[-1], tally=evolve(TALLY, failed=failed))]

    def test_good(self) -> None:
        """Growth in the first third is warming up."""
        self.assertEqual(verdict(self.a_run(50, 90, 100, 101, 102, 102)), [])

    def test_growth(self) -> None:
        """Memory that grows after that is a leak."""
        (sentence,) = verdict(self.a_run(50 << 20, 90 << 20, 100 << 20, 101 << 20, 103 << 20, 104 << 20))
        self.assertIn("from 100.0 to 104.0 MiB", sentence)

    def test_failure(self) -> None:
        """One failed REGISTER is enough."""
        (sentence,) = verdict(self.a_run(100, 100, 100, failed=1))
        self.assertIn("slice 3", sentence)
        self.assertIn("1 failures", sentence)


IDLE_THREAD = "bootstrap (threading.py:1);Condition.wait (threading.py:295) 4"


class ProfileTests(SynchronousTestCase):
    """What samples of stacks say about functions."""

    def test_costs(self) -> None:
        """A cost with callees counts once per stack, even if it recurs; a waiting thread costs nothing."""
        found = costs(["run (a.py:1);parse (b.py:2) 3", "run (a.py:1);send (c.py:1);run (a.py:1) 1", IDLE_THREAD])
        self.assertEqual(
            found,
            [Cost("parse (b.py:2)", 0.75, 0.75), Cost("run (a.py:1)", 0.25, 1.0), Cost("send (c.py:1)", 0.0, 0.25)],
        )


class ReportTests(SynchronousTestCase):
    """The arithmetic between rounds and rows."""

    def test_medians_and_ratios(self) -> None:
        """A row holds the median of its rounds, and its ratios are those of medians within the case."""
        rounds = [a_round("kamailio", cost) for cost in (10.0, 30.0, 11.0)]
        rounds += [a_round("rollcall", cost, p99_us=p99) for cost, p99 in ((5.0, 100), (6.0, 900), (5.5, 300))]
        rounds += [a_round("floor", 2.75)]
        kamailio, rollcall, floor = report.rows(rounds, [], "kamailio", "floor")
        self.assertEqual((kamailio.cpu_us, kamailio.ratio_kamailio, kamailio.ratio_floor), (11.0, 1.0, 4.0))
        self.assertEqual((rollcall.cpu_us, rollcall.ratio_kamailio, rollcall.ratio_floor), (5.5, 0.5, 2.0))
        self.assertEqual((rollcall.p99_ms, rollcall.bytes_per_phone, floor.ratio_floor), (0.3, None, 1.0))

    def test_cases_are_not_mixed(self) -> None:
        """A ratio is never taken across cases; without the reference there is none."""
        rounds = [a_round("kamailio", 10.0), a_round("rollcall", 5.0, case="udp-refresh")]
        self.assertEqual([row.ratio_kamailio for row in report.rows(rounds, [], "kamailio", "floor")], [1.0, None])

    def test_memory(self) -> None:
        """A row of idle phones holds bytes and their ratio, and no CPU."""
        held = [a_holding("kamailio", 6400.0), a_holding("rollcall", 1500.0), a_holding("rollcall", 1700.0)]
        kamailio, rollcall = report.rows([], held, "kamailio", "floor")
        self.assertEqual((rollcall.bytes_per_phone, rollcall.ratio_kamailio, rollcall.cpu_us), (1600.0, 0.25, None))
        self.assertEqual(kamailio.bytes_per_phone, 6400.0)

    def test_spread(self) -> None:
        """The spread is the distance of the extremes over the median."""
        rounds = [a_round("kamailio", cost) for cost in (9.0, 10.0, 12.0)]
        self.assertEqual(report.spread(rounds), {("tcp-refresh", "kamailio"): 0.3})

    def test_complaints(self) -> None:
        """A run with a failure is named; a clean one is not."""
        bad = evolve(a_round("rollcall", 5.0), tally=evolve(TALLY, failed=1, statuses={"200": 9, "503": 1}))
        (complaint,) = report.complaints([a_round("kamailio", 9.0), bad], [a_holding("kamailio", 1.0)])
        self.assertIn("tcp-refresh on rollcall", complaint)
        self.assertIn("503", complaint)

    def test_written_file(self) -> None:
        """The file holds rows with exactly the agreed keys, and the rounds behind them."""
        rounds = [a_round("kamailio", 10.0)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "new" / "bench.json"
            report.write(path, {"cores": 2}, report.rows(rounds, [], "kamailio", "floor"), rounds, [])
            read = json.loads(path.read_text())
        keys = {"case", "server", "cpu_us", "ratio_kamailio", "ratio_floor", "p99_ms", "bytes_per_phone"}
        self.assertEqual(set(read["rows"][0]), keys)
        self.assertEqual(read["rounds"][0]["tally"]["answered"], 10)

    def test_table(self) -> None:
        """Each row is drawn once, and what was not measured as a dash."""
        rounds = [a_round("kamailio", 10.0), a_round("rollcall", 5.0)]
        made = report.rows(rounds, [a_holding("kamailio", 6400.0)], "kamailio", "floor")
        console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
        console.print(report.table(made, report.spread(rounds)))
        text = console.export_text()
        self.assertEqual(text.count("tcp-refresh"), 2)
        self.assertRegex(text, r"rollcall\W+5\.0\W+0\W+0\.50\W+–\W+2\.0")
        self.assertIn("6400", text)
