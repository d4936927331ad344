"""Phones that register by UDP at a steady rate, and remember what the server has promised them."""

import socket
from collections.abc import Callable
from itertools import count
from secrets import token_hex
from threading import Event, Thread
from time import monotonic
from typing import Self

from attrs import define

from rollcall.sip.message import Response, parse_message

BUFFER_BYTES = 4 * 1024 * 1024
# Sent at once, so that some wait for the disk while others are written.
BURST = 10
REGISTER = """\
REGISTER sip:{domain} SIP/2.0
Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{branch};rport
Max-Forwards: 70
From: <sip:{user}@{domain}>;tag={user}
To: <sip:{user}@{domain}>
Call-ID: {user}
CSeq: {cseq} REGISTER
Contact: <sip:{user}@{host}:{port}>
Expires: {expires}
Content-Length: 0

""".replace("\n", "\r\n")


@define
class _Phone:
    """What one phone has asked for, and the highest CSeq that was answered with 200."""

    cseq: int = 0
    acknowledged: int = 0
    wants_out: bool = False


class RegisterLoad:
    """New phones, refreshes and removals, three to one to one. Use it as a context manager: inside, they are sent.

    Nothing is sent twice: what got no answer may have taken effect or not. It can be entered again, and goes on
    with the phones of the last time.
    """

    def __init__(self, server: tuple[str, int], domain: str, rate: int) -> None:
        """`rate` is in requests per second."""
        self._server = server
        self._domain = domain
        self._rate = rate
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        self._socket.bind((server[0], 0))
        self._phones: dict[str, _Phone] = {}
        self._turn = count()
        self._stopping = Event()
        self._thread: Thread | None = None
        self.acknowledged = 0
        """How many requests got a 200."""
        self.refused: list[str] = []
        """Every other answer."""
        self._mark = 0
        self._at_mark: Callable[[], None] = lambda: None

    def after(self, more: int, function: Callable[[], None]) -> None:
        """Call `function` in the moment in which `more` further requests have got their 200, from our thread."""
        self._mark, self._at_mark = self.acknowledged + more, function

    def promised(self) -> dict[str, int]:
        """Return the users who must be bound: they got a 200 and did not ask to be removed; with its CSeq."""
        return {
            user: phone.acknowledged
            for user, phone in self._phones.items()
            if phone.acknowledged and not phone.wants_out
        }

    def removed(self) -> set[str]:
        """Return the users who must not be bound: a 200 said that they were removed."""
        return {user for user, phone in self._phones.items() if phone.wants_out and phone.acknowledged == phone.cseq}

    def close(self) -> None:
        """Let go of the socket."""
        self._socket.close()

    def __enter__(self) -> Self:
        self._stopping.clear()
        self._thread = Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        assert self._thread is not None
        self._thread.join()
        # What the server said before it ended lies in our socket already.
        self._receive(0.0)

    def _run(self) -> None:
        begun, sent = monotonic(), 0
        while not self._stopping.is_set():
            due = int((monotonic() - begun) * self._rate / BURST) * BURST
            while sent < due:
                self._send()
                sent += 1
            self._receive(BURST / self._rate)

    def _send(self) -> None:
        turn = next(self._turn)
        known = list(self.promised()) if turn % 5 > 2 else []
        # Any one will do, but not always the newest: some of them have been through a restart.
        user = known[turn * 7919 % len(known)] if known else f"user{turn}"
        phone = self._phones.setdefault(user, _Phone())
        phone.cseq += 1
        phone.wants_out = bool(known) and turn % 5 == 4
        host, port = self._socket.getsockname()
        text = REGISTER.format(domain=self._domain, host=host, port=port, branch=token_hex(8), user=user,
                               cseq=phone.cseq, expires=0 if phone.wants_out else 3600)
        self._socket.sendto(text.encode(), self._server)

    def _receive(self, seconds: float) -> None:
        """Take what is there, after waiting for at most `seconds` for the first of it."""
        self._socket.settimeout(seconds)
        try:
            while True:
                answer = parse_message(self._socket.recv(65536))
                assert isinstance(answer, Response)
                self._take(answer)
                self._socket.settimeout(0.0)
        except (TimeoutError, BlockingIOError):
            return

    def _take(self, answer: Response) -> None:
        if answer.status != 200:
            self.refused.append(answer.start_line)
            return
        phone = self._phones[answer.get("Call-ID") or ""]
        phone.acknowledged = max(phone.acknowledged, int((answer.get("CSeq") or "").split()[0]))
        self.acknowledged += 1
        if self.acknowledged == self._mark:
            self._at_mark()
