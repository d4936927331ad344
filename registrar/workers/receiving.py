"""What comes to a worker: as ever, but that datagrams may be for a sibling.

The kernel chooses by a peer's address who of the workers gets a datagram, and chooses anew when a worker comes or goes.
So the CANCEL of a ringing call may come to another worker than its INVITE. And a worker that is about to end takes what
belongs to what it has begun, and passes on all else.
"""

from collections.abc import Callable

from registrar.workers.siblings import WorkerSiblings
from rollcall.net.flow import Flow, FlowUser, Listener, PackedAddress
from rollcall.sip.scanner import UsualRegister

CANCEL = b"CANCEL "


class Receiving:
    """The FlowUser of a worker, before the one that every registrar has."""

    def __init__(self, inner: FlowUser, siblings: WorkerSiblings) -> None:
        # Not through us, for nearly everything goes there.
        self.short_way = inner.short_way
        self.datagram_short_way: Callable[[UsualRegister, Listener, PackedAddress, float], bytes | None]
        self.datagram_short_way = inner.datagram_short_way
        self.framing_failed = inner.framing_failed
        self._inner = inner
        self._siblings = siblings
        self._passes_on = False

    def pass_on(self) -> None:
        """From now on let siblings have the datagrams that begin something."""
        self._passes_on = True
        self.datagram_short_way = lambda register, listener, address, now: None

    def message_received(self, data: bytes, flow: Flow) -> None:
        """Take a message, or let a sibling have it."""
        if not flow.reliable and (self._passes_on or data.startswith(CANCEL)) and not self._siblings.is_known(data):
            if self._passes_on and self._siblings.pass_datagram(data, flow):
                return
            self._siblings.offer_datagram(data, flow)
        self._inner.message_received(data, flow)

    def flow_closed(self, flow: Flow, reason: str) -> None:
        """Tell the siblings too."""
        self._inner.flow_closed(flow, reason)
        self._siblings.flow_closed(flow)
