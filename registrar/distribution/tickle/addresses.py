"""The addresses of this host, heard of by the reactor in the moment in which they come and go."""

import errno
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from zope.interface import implementer

from registrar.distribution.tickle.netlink import READ_BYTES, HeldAddresses, open_socket


@implementer(IReadDescriptor)
class AddressWatch:
    """Reads what the kernel says of addresses, from `start` to `stop`."""

    _log = Logger()

    def __init__(self, reactor: Any, changed: Callable[[], object]) -> None:
        """`changed` is called when `held` gives other addresses than before."""
        self._reactor = reactor
        self._changed = changed
        self._addresses = HeldAddresses()
        self._socket: Any = None

    @property
    def held(self) -> frozenset[bytes]:
        """All addresses of this host, packed."""
        return self._addresses.addresses

    def start(self) -> None:
        """Ask for all addresses, and hear of each change. Raises OSError."""
        self._socket = open_socket()
        self._socket.send(self._addresses.question())
        self._reactor.addReader(self)

    def stop(self) -> None:
        """Hear nothing more; harmless twice."""
        if self._socket is not None:
            self._reactor.removeReader(self)
            self._socket.close()
            self._socket = None

    # --- what the reactor asks

    def fileno(self) -> int:
        """See IReadDescriptor."""
        return -1 if self._socket is None else self._socket.fileno()

    def doRead(self) -> None:
        """See IReadDescriptor."""
        try:
            is_news = self._addresses.receive_data(self._socket.recv(READ_BYTES))
        except BlockingIOError:
            return
        except OSError as problem:
            self._ask_again(problem)
            return
        if is_news:
            self._changed()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "addresses"

    def connectionLost(self, reason: object) -> None:
        """See IReadDescriptor; the reactor ends."""
        self.stop()

    def _ask_again(self, problem: OSError) -> None:
        """The kernel could not tell us everything, which it says once; anything else is no way on."""
        if problem.errno == errno.ENOBUFS:
            self._socket.send(self._addresses.question())
        else:
            self._log.error("addresses of this host are not heard of any more: {why}", why=problem.strerror)
            self.stop()
            self._addresses = HeldAddresses()  # what is not known any more is not ours
            self._changed()
