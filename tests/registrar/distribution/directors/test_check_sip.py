"""`rollcall check-sip`, against servers that are real and small; where one answers the check has time enough."""

import contextlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from threading import Thread
from time import sleep

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors import check_sip
from registrar.distribution.directors.check_sip import ALIVE, DEAD, WEIGHT_0, Found, final_status, place_of, weight_of
from tests.interop.process import free_ports

LOOPBACK = "127.0.0.1"
PATIENCE = "5"
IMPATIENCE = "0.3"

Answer = Callable[[str], bytes]


def saying(status: str) -> Answer:
    """Return what answers a request with this status, after a provisional answer and one to somebody else."""
    def answer(request: str) -> bytes:
        lines = request.split("\r\n")
        via = next(line for line in lines if line.startswith("Via:"))
        other = re.sub("branch=[^;]+", "branch=z9hG4bKother", via)
        said = (("SIP/2.0 100 Trying", via), ("SIP/2.0 603 Decline", other), (f"SIP/2.0 {status}", via))
        return b"".join(f"{line}\r\n{each}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n".encode()
                        for line, each in said)
    return answer


def always(said: bytes) -> Answer:
    """Return what answers any request with these bytes."""
    return lambda request: said


class CheckCase(SynchronousTestCase):
    """Runs the check in this process."""

    def checked(self, *words: str) -> tuple[int, str]:
        """Return the exit code and what was said."""
        with redirect_stdout(StringIO()) as said:
            code = check_sip.run(list(words))
        return code, said.getvalue()

    def stream(self, answer: Answer) -> str:
        """Return the place of a TCP server for one connection."""
        server = socket.create_server((LOOPBACK, 0))

        def serve() -> None:
            with server, server.accept()[0] as connection:
                request = connection.recv(4096).decode("latin-1")
                self.requests.append(request)
                connection.sendall(answer(request))
        return self._begin(server, serve)

    def datagrams(self, answers: list[Answer]) -> str:
        """Return the place of a UDP server that answers so many datagrams."""
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind((LOOPBACK, 0))

        def serve() -> None:
            with server:
                for answer in answers:
                    request, peer = server.recvfrom(4096)
                    self.requests.append(request.decode())
                    for message in answer(request.decode()).split(b"\r\n\r\n"):
                        server.sendto(message + b"\r\n\r\n", peer)
        return self._begin(server, serve)

    def agent(self, line: bytes) -> str:
        """Return the place of an agent that says this to whoever connects first."""
        server = socket.create_server((LOOPBACK, 0))

        def serve() -> None:
            with server, server.accept()[0] as connection:
                connection.sendall(line)
        return self._begin(server, serve)

    def _begin(self, server: socket.socket, serve: Callable[[], None]) -> str:
        server.settimeout(10.0)
        port = server.getsockname()[1]
        serving = Thread(target=serve)
        serving.start()
        self.addCleanup(serving.join)
        return f"{LOOPBACK}:{port}"

    def nobody(self) -> str:
        """Return a place where nobody listens."""
        return f"{LOOPBACK}:{free_ports(1)[0]}"

    def setUp(self) -> None:
        self.requests: list[str] = []


class StatusTests(CheckCase):
    def test_answers(self) -> None:
        """A final answer to what was asked says by its status whether new phones are wanted."""
        for status, code in (("200 OK", ALIVE), ("404 Not Found", ALIVE), ("501 Not Implemented", ALIVE),
                             ("503 Service Unavailable", WEIGHT_0), ("500 Broken", WEIGHT_0)):
            for transport, place in (("tcp", self.stream(saying(status))), ("udp", self.datagrams([saying(status)]))):
                found, said = self.checked(place, "--transport", transport, "--timeout", PATIENCE)
                self.assertEqual(found, code, status)
                self.assertRegex(said, rf"^{place} {transport}: {status} \(\d+ ms\)\n$")

    def test_request(self) -> None:
        """It is a whole OPTIONS for the domain that is said, or the place (RFC 3261 §11.1)."""
        self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--domain", "example.com")
        lines = self.requests[0].split("\r\n")
        self.assertEqual(lines[0], "OPTIONS sip:example.com;transport=tcp SIP/2.0")
        self.assertEqual(lines[-2:], ["", ""])
        names = {line.partition(":")[0] for line in lines[1:-2]}
        self.assertLessEqual({"Via", "Max-Forwards", "From", "To", "Call-ID", "CSeq", "Content-Length"}, names)
        self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--domain", "2001:db8::1")
        self.assertTrue(self.requests[1].startswith("OPTIONS sip:[2001:db8::1];transport=tcp SIP/2.0\r\n"))
        place = self.datagrams([saying("200 OK")])
        self.checked(place)
        self.assertTrue(self.requests[-1].startswith(f"OPTIONS sip:{place} SIP/2.0\r\n"))

    def test_lost_datagram(self) -> None:
        """A datagram that is not answered is sent again, the same one."""
        place = self.datagrams([always(b""), saying("200 OK")])
        self.assertEqual(self.checked(place, "--timeout", PATIENCE)[0], ALIVE)
        self.assertEqual(self.requests[0], self.requests[1])

    def test_dead(self) -> None:
        """Nobody there, silence, the end of the connection and something that is no SIP all mean dead."""
        for transport in ("udp", "tcp", "tls"):
            code, said = self.checked(self.nobody(), "--transport", transport, "--timeout", PATIENCE)
            self.assertEqual(code, DEAD)
            self.assertIn("Connection refused", said)
        silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        silent.bind((LOOPBACK, 0))
        with silent:
            code, said = self.checked(f"{LOOPBACK}:{silent.getsockname()[1]}", "--timeout", IMPATIENCE)
        self.assertEqual(code, DEAD)
        self.assertIn(f"no answer within {IMPATIENCE} s", said)
        for heard, why in ((b"", "ended without an answer"), (b"x" * check_sip.MOST_HEAD, "no SIP")):
            code, said = self.checked(self.stream(always(heard)), "--transport", "tcp")
            self.assertEqual(code, DEAD)
            self.assertIn(why, said)

    def test_not_tls(self) -> None:
        """A server that does not speak TLS is dead for whoever checks TLS."""
        self.assertEqual(self.checked(self.stream(always(b"what?")), "--transport", "tls")[0], DEAD)

    def test_final_answer(self) -> None:
        """Neither provisional answers, nor those to others, nor what is no status line count."""
        via = b"Via: SIP/2.0/UDP x;branch=z9hG4bK1"
        self.assertEqual(final_status(b"SIP/2.0 200 OK\r\n" + via, b"z9hG4bK1"), "SIP/2.0 200 OK")
        for message in (b"SIP/2.0 180 Ringing\r\n" + via, b"SIP/2.0 200 OK\r\n" + via.replace(b"K1", b"K2"),
                        b"SIP/2.0 2x0 OK\r\n" + via, b"HTTP/1.1 200 OK\r\n" + via, b"", b"\r\n\r\n", b"SIP/2.0 "):
            self.assertEqual(final_status(message, b"z9hG4bK1"), "", message)


class AgentTests(CheckCase):
    def test_weight(self) -> None:
        """The agent's weight, of what is configured for the node, is the exit code less 2; 0 is nothing but 0."""
        for line, weight, code in ((b"ready up 75%\n", "100", 77), (b"ready up 75%\n", "50", 40), (b"up 0%\n", "50", 2),
                                   (b"ready up 1%\n", "5", 3), (b"ready up 100%\n", "253", 255), (b"drain\n", "100", 2),
                                   (b"down #starting 99%\n", "100", 2), (b"ready\n", "100", 102)):
            found, said = self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--agent", self.agent(line),
                                       "--weight", weight)
            self.assertEqual(found, code, line)
            self.assertIn(f"; the agent says {line.decode().strip()}\n", said)

    def test_answer_before_weight(self) -> None:
        """Who answers 503 has weight 0, whatever its agent says."""
        found, _ = self.checked(self.stream(saying("503 Service Unavailable")), "--transport", "tcp", "--agent",
                                self.agent(b"ready up 100%\n"))
        self.assertEqual(found, WEIGHT_0)

    def test_drained_and_closed(self) -> None:
        """A node whose listener is closed because it is drained is not dead: what hangs on it goes on."""
        for line, code in ((b"drain\n", WEIGHT_0), (b"down #stopped\n", DEAD), (b"ready up 50% #drain\n", DEAD)):
            found, _ = self.checked(self.nobody(), "--transport", "tcp", "--agent", self.agent(line))
            self.assertEqual(found, code, line)

    def test_no_agent_there(self) -> None:
        """A node that answers keeps its weight when its agent does not."""
        found, said = self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--agent", self.nobody())
        self.assertEqual(found, ALIVE)
        self.assertIn("the agent does not answer", said)

    def test_weight_again(self) -> None:
        """A node that serves again has its weight again: 0 would leave an old keepalived with that of its drain."""
        for more in ((), ("--agent", self.nobody())):
            found, _ = self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--weight", "50", *more)
            self.assertEqual(found, WEIGHT_0 + 50)

    def test_slow_line(self) -> None:
        """An agent that never comes to an end is waited for no longer than one that says nothing."""
        found, said = self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--timeout", "0.3", "--agent",
                                   self.trickling())
        self.assertEqual(found, ALIVE)
        self.assertIn("the agent does not answer", said)

    def trickling(self) -> str:
        """Return the place of an agent that says one letter after the other, and no line feed, until nobody listens."""
        server = socket.create_server((LOOPBACK, 0))

        def serve() -> None:
            with server, server.accept()[0] as connection, contextlib.suppress(OSError):
                while True:
                    connection.sendall(b"u")
                    sleep(0.02)
        return self._begin(server, serve)

    def test_full_disk(self) -> None:
        """That nobody can be told changes nothing of the exit code."""
        words = (sys.executable, "-m", "registrar.distribution.directors.check_sip", self.nobody(), "--transport",
                 "tcp")
        with open("/dev/full", "wb") as full:
            done = subprocess.run(words, stdout=full, check=False, timeout=20)
        self.assertEqual(done.returncode, DEAD)

    def test_long_line(self) -> None:
        """What an agent says is neither endless nor steers a terminal."""
        line = b"up 50% #\x1b[2J" + b"x" * 100_000
        found, said = self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--agent", self.agent(line))
        self.assertEqual(found, 52)
        self.assertNotIn("\x1b", said)
        self.assertLess(len(said), 400)

    def test_words(self) -> None:
        """Words of an agent stand in any order; what is behind # counts for nothing; over 100 % is 100."""
        for line, weight in (("75% up", 75), ("up 200%", 100), ("maint", 0), ("stopped", 0), ("fail #x", 0),
                             ("up", None), ("# 50%", None), ("x%", None), ("", None)):
            self.assertEqual(weight_of(line), weight, line)


class CommandTests(CheckCase):
    def test_alive(self) -> None:
        """For VRRP whoever answers is alive, and who does not is not."""
        place = self.stream(saying("503 Service Unavailable"))
        self.assertEqual(self.checked(place, "--transport", "tcp", "--alive")[0], ALIVE)
        self.assertEqual(self.checked(self.nobody(), "--transport", "tcp", "--alive")[0], DEAD)

    def test_output(self) -> None:
        """It says nothing when it shall not, and JSON for programs."""
        self.assertEqual(self.checked(self.nobody(), "--quiet"), (DEAD, ""))
        said = json.loads(self.checked(self.stream(saying("200 OK")), "--transport", "tcp", "--json")[1])
        self.assertEqual((said["status"], said["weight"], said["exit"]), (200, None, ALIVE))

    def test_asked_wrongly(self) -> None:
        """What is asked for wrongly is 1, never 2: keepalived would take that for a weight."""
        for words in ((), ("host:0",), ("host:x",), (":5060",), ("h", "--transport", "smoke"), ("h", "--weight", "254"),
                      ("h", "--timeout", "nan"), ("h", "--timeout", "61"), ("h", "--agent", "h")):
            with redirect_stderr(StringIO()) as said:
                error = self.assertRaises(SystemExit, check_sip.run, list(words))
            self.assertEqual(error.code, DEAD, words)
            self.assertIn("usage:", said.getvalue())

    def test_places(self) -> None:
        """A port may be left out; an IPv6 address stands in brackets where there is one."""
        for text, place in (("a.b", ("a.b", 7)), ("a:1", ("a", 1)), ("::1", ("::1", 7)), ("[::1]", ("::1", 7)),
                            ("[::1]:9", ("::1", 9))):
            self.assertEqual(place_of(text, 7), place)

    def test_any_name(self) -> None:
        """A name that cannot be found is dead, in words."""
        for host in ("nothing.invalid", "nichts-für.invalid", "ü" * 80, "a..b"):
            code, said = self.checked(host, "--timeout", IMPATIENCE)
            self.assertEqual(code, DEAD)
            self.assertIn(f"{host}:5060 udp: ", said)

    def test_light(self) -> None:
        """It starts without the registrar, Twisted or click: keepalived starts it once a second for each node."""
        program = ("import sys; sys.argv = ['rollcall', 'check-sip', '127.0.0.1:1', '--quiet']\n"
                   "from registrar.command import main\n"
                   "try: main()\n"
                   "except SystemExit as end: assert end.code == 1, end.code\n"
                   "print(sorted({name.partition('.')[0] for name in sys.modules}))")
        done = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, text=True, check=True)
        for heavy in ("twisted", "click", "attrs", "attr", "rollcall", "asyncio", "ssl", "json"):
            self.assertNotIn(f"'{heavy}'", done.stdout)

    def test_exit_codes(self) -> None:
        """No answer and no agent is dead; the largest weight is 253."""
        self.assertEqual(Found(0, "", None, 0.0).exit_code(), DEAD)
        self.assertEqual(Found(200, "", "up 100%", 0.0).exit_code(check_sip.MOST_WEIGHT), 255)
