"""DNS by UDP: queries are read and answered by the batch, and no more of them in a turn than leaves room for SIP."""

from socket import socket
from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.distribution.dns.answers import Answers
from registrar.distribution.dns.config import DnsConfig
from rollcall.net.batches import send, take_batches
from rollcall.net.coalescing import Coalescing, Found


class DatagramService:
    """One bound UDP socket. Answers leave from it, so from the address that was asked."""

    _log = Logger()

    def __init__(self, reactor: Any, bound: socket, config: DnsConfig, answers: Answers, place: str) -> None:
        """`bound` is non-blocking, and ours from now on; `place` is what logs call it."""
        self.queries = 0
        self.unsent = 0
        self._reactor = reactor
        self._socket = bound
        self._answers = answers
        self._place = place
        self._most = config.max_datagrams_per_turn
        self._turn_seconds = config.max_turn_ms / 1000
        self._is_open = True
        self._reading = Coalescing(
            reactor, bound.fileno(), self._turn, self._lost, config.coalesce_ms / 1000, f"dns {place}"
        )

    def start(self) -> None:
        """Answer from now on."""
        self._reading.start()

    def stop(self) -> None:
        """Answer no more, and close the socket; harmless twice."""
        if self._is_open:
            self._is_open = False
            self._reading.stop()
            self._socket.close()

    def _turn(self) -> Found:
        """Answer what waits, so much and so long as one turn may."""
        return take_batches(self._socket, self._most, self._reactor.seconds, self._turn_seconds, self._take)

    def _take(self, batch: list[tuple[bytes, bytes]]) -> bool:
        if batch:
            self._answer(batch)
        return self._is_open

    def _answer(self, batch: list[tuple[bytes, bytes]]) -> None:
        self.queries += len(batch)
        try:
            answers = self._answers.datagrams(batch, self._reactor.seconds())
        except Exception:  # this batch is lost, the server is not
            self._log.failure("while queries to {place} were answered", place=self._place, log_rationed=True)
            return
        if answers:
            # Nobody waits to hear that an answer cannot be sent: who asked asks again.
            self.unsent += len(send(self._socket, answers))

    def _lost(self, reason: Failure) -> None:
        if self._is_open:
            self._log.critical("the name server at udp {place} is lost: {why}", place=self._place,
                               why=reason.getErrorMessage())
            self.stop()
