"""The generator: what it sends, what it makes of answers, and what it refuses to do."""

import json
import subprocess
from pathlib import Path
from unittest import skipUnless

from attrs import asdict, evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.bench.phonebook import Phonebook
from tests.tools.bench.samples import COMPILER, NO_COMPILER, TALLY
from tools.bench.cases import CASES, Case
from tools.bench.generator import FOLDER, LOAD, Generator, Tally, build, generator, parse_tally, together, words
from tools.bench.processes import BenchError


@skipUnless(COMPILER, NO_COMPILER)
class GeneratorTests(SynchronousTestCase):
    """The generator in C, run against a server that checks it."""

    @classmethod
    def setUpClass(cls) -> None:
        build()

    def setUp(self) -> None:
        self.server = Phonebook()
        self.addCleanup(self.server.close)

    def run_phones(self, case: Case, requests: int, rate: float = 0.0, program: Path = LOAD) -> tuple[Tally, Tally]:
        """What the generator said of the opening and of one run of so many requests."""
        with generator(case, self.server.port, program=program) as phones:
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

    def test_run_before_anybody_looked(self) -> None:
        """A run waits for the phones to be there, whether somebody asked how that went or not."""
        with generator(
            Case(name="e", transport="udp", digest=True, connections=2, phones=2), self.server.port
        ) as phones:
            self.assertEqual(phones.run(5.0, requests=4).answered, 4)
            self.assertEqual(phones.ready.answered, 2)

    def test_fresh_phones_never_come_back(self) -> None:
        """With fresh phones every request is the first one of its user."""
        case = Case(name="n", transport="udp", digest=True, fresh=True, connections=2, phones=2)
        self.run_phones(case, 6)
        self.assertEqual(self.server.wrong, [])
        self.assertEqual(len(self.server.counts), 8)

    def test_sources_take_turns(self) -> None:
        """Each phone comes from the next of the addresses, and its REGISTER names that one."""
        self.run_phones(Case(name="s", transport="udp", digest=True, connections=3, phones=3), 0)
        self.assertEqual(set(self.server.peers), {"127.0.1.1", "127.0.1.2", "127.0.1.3"})
        for peer, request in zip(self.server.peers, self.server.requests, strict=True):
            self.assertIn(f"UDP {peer}:".encode("ascii"), request)
            self.assertRegex(request, rf"Contact: <sip:u\d+@{peer}:\d+>".encode("ascii"))

    def test_planned_opening(self) -> None:
        """With an opening rate connections come evenly, and what their registration takes counts from the plan."""
        case = Case(name="r", transport="udp", digest=True, connections=5, phones=5, opening_rate=50)
        ready, _ = self.run_phones(case, 0)
        self.assertGreaterEqual(ready.seconds, 0.08)
        self.assertEqual((ready.answered, ready.challenged), (5, 5))
        self.assertLess(ready.p50_us, 80_000)


@skipUnless(COMPILER, NO_COMPILER)
class SanitizedTests(SynchronousTestCase):
    """The generator, built so that it ends at its first access outside its memory."""

    def run_sanitized(self, server: Phonebook, case: Case, requests: int) -> tuple[Tally, Tally]:
        """What it said; a line that is missing because it ended is an error."""
        subprocess.run(["make", "-s", "-C", str(FOLDER), "build/load-sanitized"], check=True)
        self.addCleanup(server.close)
        with generator(case, server.port, program=FOLDER / "build" / "load-sanitized") as phones:
            return phones.ready, phones.run(5.0, requests=requests)

    def test_stream_in_pieces(self) -> None:
        """Answers over TCP that come in pieces are put together; challenges in them are understood."""
        server = Phonebook(pieces=3)
        _, done = self.run_sanitized(server, Case(name="t", transport="tcp", digest=True, connections=1, phones=4), 12)
        self.assertEqual(server.wrong, [])
        self.assertEqual(server.counts, {f"u{number:07}": [1, 2, 3, 4] for number in range(4)})
        self.assertTrue(done.clean)

    def test_datagrams(self) -> None:
        """The same over UDP, with phones that are always new ones."""
        server = Phonebook()
        case = Case(name="u", transport="udp", digest=True, fresh=True, connections=2, phones=2)
        _, done = self.run_sanitized(server, case, 6)
        self.assertEqual((server.wrong, len(server.counts), done.answered), ([], 8, 6))


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
            self.assertIn(server.rpartition(":")[0] or server, self.refusal(str(LOAD), "--server", server))
        self.assertIn("10.0.0.1", self.refusal(str(LOAD), "--server", "127.0.0.1:9", "--source", "10.0.0.1"))

    def test_bounds(self) -> None:
        """Numbers beyond the bounds are refused before anything is sent."""
        address = ("--server", "127.0.0.1:9")
        self.assertIn("30000", self.refusal(str(LOAD), *address, "--connections", "30000"))
        self.assertIn("--phones", self.refusal(str(LOAD), *address, "--connections", "3", "--phones", "4"))
        self.assertIn("--server", self.refusal(str(LOAD)))
        self.assertIn("--sources", self.refusal(str(LOAD), *address, "--source", "127.0.1.250", "--sources", "6"))


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

    def test_together(self) -> None:
        """Of generators that ran at the same time counts are added, and the slowest one's latency is kept."""
        slow = evolve(TALLY, seconds=3.0, sent=30, p99_us=9_000, failed=1, statuses={"200": 29, "503": 1})
        both = together([TALLY, slow])
        self.assertEqual((both.seconds, both.sent, both.p99_us, both.failed), (3.0, 40, 9_000, 1))
        self.assertEqual(dict(both.statuses), {"200": 39, "503": 1})
        self.assertEqual(both.request_bytes, TALLY.request_bytes)
        self.assertFalse(both.clean)
