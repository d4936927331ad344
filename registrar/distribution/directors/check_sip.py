"""Asks a node for its health as a phone would: an OPTIONS to its own listener (RFC 3261 §11). The exit code is what
keepalived's MISC_CHECK with misc_dynamic expects:

    0          it serves, its weight stays as configured
    1          it is dead: no answer
    2 to 255   it answers, and its weight is this less 2: 2 means that it is drained or not ready

With an agent (the line that registrar.distribution.health.agent says) the weight is the one that the node wishes for.
Of 0 keepalived's manual says that the weight is unchanged: 2.2 goes back to the configured one, older versions keep the
last, be it that of a drain. So with `--weight` a node that serves and says no weight has that one, in so many words.
keepalived starts this program every second or so for each real server, so only the standard library is imported, and
of it little: `python -m registrar.distribution.directors.check_sip` does the same as `rollcall check-sip`.
"""

import os
import socket
import sys
from argparse import ArgumentParser, ArgumentTypeError, HelpFormatter
from collections.abc import Callable
from time import monotonic

# Importing typing takes a tenth of a check's time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

ALIVE, DEAD, WEIGHT_0 = 0, 1, 2
MOST_WEIGHT = 253
FULL = 100
"""The weight that a node has when it wants as many new phones as it may get."""

T1_SECONDS = 0.5
"""After so long a datagram is sent again, then after twice as long each time (RFC 3261 §17.1.2.2)."""

AGENT_SECONDS = 0.3
"""So long the agent has for its line, when the answer to OPTIONS has left it no more."""

MOST_HEAD = 65_536
MOST_LINE = 256
HELP_WIDTH = 100
DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}
# RFC 3261 §21.5: 501 and 505 are said of the request, not of the server.
ABOUT_THE_REQUEST = (501, 505)

Place = tuple[str, int]


class NoAnswer(Exception):
    """Why there was no answer."""


class _Parser(ArgumentParser):
    def format_help(self) -> str:
        """Return help that begins as that of the other commands."""
        return super().format_help().replace("usage:", "Usage:", 1)

    def error(self, message: str) -> "NoReturn":
        """Say what is wrong and end with 1, for 2 would tell keepalived of a weight."""
        self.print_usage(sys.stderr)
        self.exit(DEAD, f"{self.prog}: {message}\n")


class Found:
    """What a check has found."""

    def __init__(self, status: int, told: str, said: str | None, seconds: float) -> None:
        """`status` is 0 without an answer; `said` is the agent's line, None when no agent was asked."""
        self.status = status
        self.weight = weight_of(said) if said is not None else None
        self.is_drained = said is not None and "drain" in said.partition("#")[0].split()
        self.seconds = seconds
        self.why = told
        if said is not None:
            self.why += f"; the agent {'says ' + said if said else 'does not answer'}"

    def exit_code(self, full_weight: float | None = None) -> int:
        """Return what keepalived is told; `full_weight` is what it knows as the weight of a node that wants 100 %."""
        if not self.status:
            # Its listener may be closed because it is drained; what hangs on it shall go on.
            return WEIGHT_0 if self.is_drained else DEAD
        if 500 <= self.status < 600 and self.status not in ABOUT_THE_REQUEST:
            return WEIGHT_0
        if self.weight is None and full_weight is None:
            return ALIVE
        weight = FULL if self.weight is None else self.weight
        return WEIGHT_0 + (max(1, round(weight * (full_weight or FULL) / FULL)) if weight else 0)


def run(words: list[str]) -> int:
    """Do what the words of the command line ask for, and return the exit code."""
    parser = _parser()
    asked = parser.parse_args(words)
    try:
        target = place_of(asked.place, DEFAULT_PORTS[asked.transport])
    except ValueError as problem:
        parser.error(str(problem))
    found = check(target, asked.transport, asked.timeout, asked.agent, asked.domain)
    code = found.exit_code(asked.weight)
    if asked.alive and code != DEAD:
        code = ALIVE
    if not asked.quiet:
        place = f"{shown(target)} {asked.transport}"
        _say(_as_json(found, place, code) if asked.json else f"{place}: {found.why}\n")
    return code


def _say(text: str) -> None:
    """Tell it if that can be done: on a full disk Python would end with 120, which is a weight."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check(target: Place, transport: str, timeout: float, agent: Place | None = None, domain: str = "") -> Found:
    """Ask a node, and its agent when there is one."""
    began = monotonic()
    try:
        answer = options(target, transport, timeout, domain)
        status, told = int(answer[8:11]), answer[8:]
    except NoAnswer as problem:
        status, told = 0, str(problem)
    seconds = monotonic() - began
    # A host that is silent shall not be waited for twice.
    said = ask_agent(agent, max(AGENT_SECONDS, timeout - seconds)) if agent is not None else None
    return Found(status, f"{told} ({seconds * 1000:.0f} ms)", said, seconds)


def weight_of(said: str) -> int | None:
    """Return the weight of 0 to 100 in an agent's line, None when it says none (HAProxy's agent-check)."""
    words = said.partition("#")[0].split()
    if any(word in ("drain", "down", "maint", "stopped", "fail") for word in words):
        return 0
    for word in words:
        if word.endswith("%") and word[:-1].isascii() and word[:-1].isdigit():
            return min(FULL, int(word[:-1]))
    return None


def ask_agent(place: Place, timeout: float) -> str:
    """Return the line that an agent says, empty when there is none, or not in time."""
    until = monotonic() + timeout
    try:
        with _reached(place, socket.SOCK_STREAM, timeout) as connection:
            heard = b""
            while b"\n" not in heard and len(heard) < MOST_LINE:
                connection.settimeout(max(0.001, until - monotonic()))
                more = connection.recv(MOST_LINE)
                if not more:
                    break
                heard += more
    except (OSError, UnicodeError):
        return ""
    line = heard.partition(b"\n")[0][:MOST_LINE].decode("ascii", "replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in line)


# --- OPTIONS


def options(target: Place, transport: str, timeout: float, domain: str = "") -> str:
    """Return the status line of the final answer. Raises NoAnswer."""
    until = monotonic() + timeout
    try:
        with _connected(target, transport, until, domain) as connection:
            branch = "z9hG4bK" + os.urandom(8).hex()
            request = a_request(domain or shown(target), transport, connection.getsockname()[:2], branch)
            ask = _over_datagrams if transport == "udp" else _over_stream
            return ask(connection, request, branch.encode(), until)
    except UnicodeError:
        raise NoAnswer("this is no host name") from None
    except TimeoutError:
        raise NoAnswer(f"no answer within {timeout:g} s") from None
    except OSError as problem:
        raise NoAnswer(problem.strerror or str(problem)) from problem


def a_request(server: str, transport: str, ours: Place, branch: str) -> bytes:
    """Return an OPTIONS for the server itself: its Request-URI names nobody (RFC 3261 §11.1)."""
    uri = f"sip:{bracketed(server) if is_ipv6(server) else server}" + ("" if transport == "udp" else ";transport=tcp")
    return "\r\n".join((
        f"OPTIONS {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport.upper()} {shown(ours)};branch={branch};rport",
        "Max-Forwards: 70",
        f"From: <sip:check-sip@{bracketed(ours[0])}>;tag={branch[-8:]}",
        f"To: <{uri}>",
        f"Call-ID: {branch[7:]}@check-sip",
        "CSeq: 1 OPTIONS",
        "User-Agent: rollcall check-sip",
        "Content-Length: 0",
        "", "")).encode()


def _connected(target: Place, transport: str, until: float, domain: str) -> socket.socket:
    left = max(0.001, until - monotonic())
    if transport == "udp":
        return _reached(target, socket.SOCK_DGRAM, left)
    stream = _reached(target, socket.SOCK_STREAM, left)
    return _with_tls(stream, domain or target[0], until) if transport == "tls" else stream


def _reached(target: Place, kind: int, seconds: float) -> socket.socket:
    """Return a connected socket. For bytes Python does not import its IDNA tables."""
    host = target[0].encode("ascii" if target[0].isascii() else "idna")
    family, _, protocol, _, address = socket.getaddrinfo(host, target[1], type=kind)[0]
    made = socket.socket(family, kind, protocol)
    try:
        made.settimeout(seconds)
        made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


def _with_tls(stream: socket.socket, server_name: str, until: float) -> socket.socket:
    """Return the same with TLS. The certificate is not looked at: who is asked by his address is our own node."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream.settimeout(max(0.001, until - monotonic()))
    return context.wrap_socket(stream, server_hostname=server_name)


def _over_datagrams(datagrams: socket.socket, request: bytes, branch: bytes, until: float) -> str:
    pause = T1_SECONDS
    again_at = monotonic()
    while (now := monotonic()) < until:
        if now >= again_at:
            datagrams.send(request)
            again_at, pause = now + pause, pause * 2
        datagrams.settimeout(max(0.001, min(again_at, until) - now))
        try:
            heard = datagrams.recv(MOST_HEAD)
        except TimeoutError:
            continue
        if status := final_status(heard, branch):
            return status
    raise TimeoutError


def _over_stream(stream: socket.socket, request: bytes, branch: bytes, until: float) -> str:
    stream.settimeout(max(0.001, until - monotonic()))
    stream.sendall(request)
    heard = b""
    while len(heard) < MOST_HEAD:
        stream.settimeout(max(0.001, until - monotonic()))
        if not (more := stream.recv(MOST_HEAD)):
            raise NoAnswer("the connection ended without an answer")
        heard += more
        while b"\r\n\r\n" in heard:
            head, _, heard = heard.partition(b"\r\n\r\n")
            if status := final_status(head, branch):
                return status
    raise NoAnswer("what came is no SIP")


def final_status(message: bytes, branch: bytes) -> str:
    """Return the status line of a final answer to the request with this branch, else an empty text."""
    head = message.lstrip(b"\r\n").partition(b"\r\n\r\n")[0]
    line = head.partition(b"\r\n")[0]
    is_final = line.startswith(b"SIP/2.0 ") and line[8:11].isdigit() and line[8:9] in b"23456"
    # RFC 3261 §17.1.3: the branch of the topmost Via says which request is answered.
    return line[:MOST_LINE].decode("utf-8", "replace") if is_final and b"branch=" + branch in head else ""


# --- words


def _parser() -> ArgumentParser:
    # Without a width argparse imports shutil, and that all kinds of compression.
    parser = _Parser(prog="rollcall check-sip", formatter_class=lambda prog: HelpFormatter(prog, width=HELP_WIDTH),
                     description="Ask a node for its health by OPTIONS over its listener. "
                     "Exit code 0: it serves; 1: dead; 2 to 255: weight + 2, so 2 is drained or not ready.")
    add = parser.add_argument
    add("place", metavar="HOST[:PORT]", help="a node's own address; an IPv6 address with a port stands in brackets")
    add("--transport", choices=tuple(DEFAULT_PORTS), default="udp", help="default: udp")
    add("--timeout", type=_checked(lambda text: _between(0.01, 60, text), "0.01 to 60"), default=2.0,
        metavar="SECONDS", help="for the answer, and the agent's; default: 2")
    add("--agent", type=_checked(place_of, "host:port"), metavar="HOST:PORT",
        help="the node's [health] agent, which says its weight")
    add("--weight", type=_checked(lambda text: _between(1, MOST_WEIGHT, text), "1 to 253"), default=None,
        metavar="N", help="what 100%% is worth, and who says no weight; default: 100, and exit code 0 for the latter")
    add("--domain", default="", metavar="NAME", help="a domain that the node serves; default: HOST, which has to be an "
        "address that it knows as its own")
    add("--alive", action="store_true", help="exit code 0 for whoever answers at all, whatever its weight")
    add("--json", action="store_true", help="print JSON for programs")
    add("--quiet", action="store_true", help="print nothing")
    return parser


def _checked(make: Callable[[str], float | Place], allowed: str) -> Callable[[str], object]:
    """Return how argparse reads a value; `make` raises ValueError."""
    def read(text: str) -> object:
        try:
            return make(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r}; allowed: {allowed}") from None
    return read


def _between(low: float, high: float, text: str) -> float:
    if not low <= (number := float(text)) <= high:
        raise ValueError
    return number


def _as_json(found: Found, place: str, code: int) -> str:
    from json import dumps

    return dumps({"place": place, "status": found.status, "weight": found.weight, "seconds": round(found.seconds, 4),
                  "why": found.why, "exit": code}) + "\n"


def shown(place: Place) -> str:
    """Return host:port, an IPv6 address in brackets."""
    return f"{bracketed(place[0])}:{place[1]}"


def bracketed(host: str) -> str:
    """Return a host as it stands in a URI."""
    return f"[{host}]" if ":" in host else host


def is_ipv6(host: str) -> bool:
    """Say whether a host is an address without brackets, rather than a host with a port."""
    return host.count(":") > 1 and not host.startswith("[")


def place_of(text: str, default_port: int = 0) -> Place:
    """Return the host and port of "host:port", "[::1]:port" or, with a default port, a host. Raises ValueError."""
    host, colon, digits = text.rpartition(":")
    if not colon or text.endswith("]") or (":" in host and not host.startswith("[")):
        host, digits = text, str(default_port)
    port = int(digits) if digits.isascii() and digits.isdigit() else 0
    host = host.removeprefix("[").removesuffix("]")
    if not host or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not host:port")
    return host, port


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
