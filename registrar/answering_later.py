"""REGISTERs that are answered once their record has been kept elsewhere: what ends the short way there."""

from collections.abc import Callable

from twisted.logger import Logger

from registrar.auth import Authentication
from registrar.bound import tie
from registrar.location.at_once import LaterStore
from registrar.observing import Face
from registrar.records import aor_of_key
from rollcall.net.flow import Flow, FlowClosed, Listener, PackedAddress
from rollcall.sip.scanner import UsualRegister

LATER = b""
"""The answer to what will be answered later."""


class AnsweringLater:
    """Has records kept, and answers when they are. What could not be kept takes the whole way after all."""

    _log = Logger()

    def __init__(self, *, location: LaterStore, authentication: Authentication | None,
                 whole_way: Callable[[bytes, Flow], None], answer: Callable[[bytes, Listener, PackedAddress], None],
                 flow_to: Callable[[Listener, PackedAddress], Flow | None],
                 flow_closed: Callable[[Flow], None]) -> None:
        """`answer` sends a datagram back to where one came from, together with others, and `flow_to` is the flow to
        there. `flow_closed` unbinds what is tied to a connection that has ended meanwhile.
        """
        self.datagrams: set[str] = set()
        """The transactions of the datagrams that wait: who repeats one has his answer coming."""
        self._location = location
        self._authentication = authentication
        self._whole_way = whole_way
        self._answer = answer
        self._flow_to = flow_to
        self._flow_closed = flow_closed

    def over_connection(self, register: UsualRegister, key: bytes, old: bytes | None, new: bytes, face: Face,
                        flow: Flow, accept: Callable[[], bytes]) -> bytes:
        """Have a record kept for a request that came over `flow`; `accept` writes the answer."""

        def kept(is_kept: bool) -> None:
            if not is_kept:
                self._begin_again(register, flow)
                return
            face.kept(key, old is None, flow.address)
            if old is None:
                tie(flow, key)
                if not flow.is_open:
                    self._flow_closed(flow)
            self._write(flow, key, accept())

        self._location.keep(key, old, new, face.transport, kept)
        return LATER

    def in_datagram(self, register: UsualRegister, key: bytes, old: bytes | None, new: bytes, face: Face,
                    listener: Listener, address: PackedAddress, accept: Callable[[], bytes]) -> bytes:
        """Do the same for one that came in a datagram."""
        transaction = register.transaction_key
        self.datagrams.add(transaction)

        def kept(is_kept: bool) -> None:
            self.datagrams.discard(transaction)
            if is_kept:
                face.kept(key, old is None, address)
                self._answer(accept(), listener, address)
                return
            flow = self._flow_to(listener, address)
            if flow is not None:  # else it is as lost as datagrams may be
                self._begin_again(register, flow)

        self._location.keep(key, old, new, face.transport, kept)
        return LATER

    def _write(self, flow: Flow, key: bytes, answer: bytes) -> None:
        try:
            flow.write(answer)
        except FlowClosed as problem:
            self._log.debug("nobody is left to hear that {aor} is bound: {why}", aor=aor_of_key(key), why=str(problem))

    def _begin_again(self, register: UsualRegister, flow: Flow) -> None:
        if self._authentication is not None and register.has_credentials:
            self._authentication.take_back(register)
        self._whole_way(register.message, flow)
