"""Requests in a phone's name: made as it would make them, sent over the way of its peer (RFC 3261 §§14.1, 15.1).

The phone that is spoken for never hears of them. Its peer answers to us: whatever it says ends here.
"""

from collections.abc import Awaitable, Callable, Sequence

from attrs import evolve
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.authorising import Refusal
from registrar.branching import Branch
from registrar.dialogs import Dialogs, Moved
from registrar.media.session import Session, Who, other
from registrar.routing import ByUri, ProxyConfig
from registrar.sending import Attempt, Forwarded, Sender, Undeliverable, dialog_context
from rollcall.net.flow import Address, Flow, FlowClosed, Listener
from rollcall.net.transactions import Transactions
from rollcall.net.wheel import Timer
from rollcall.ops.coroutines import start
from rollcall.sip.chance import random_name
from rollcall.sip.errors import ParseError
from rollcall.sip.forwarding import MAGIC_COOKIE, loop_mark
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response

ANSWER_SECONDS = 10.0
"""How long a phone may take for its answer. It has nobody to ask, and its user hears nothing meanwhile."""

ANYBODY = "192.0.2.1"
"""Who speaks from somewhere that we do not know may have us speak to what everybody may: to nothing on this machine."""

FLOW_IS_GONE = 430  # RFC 5626 §5.3.1

ALLOW = "INVITE, ACK, BYE, CANCEL, UPDATE, PRACK, INFO, OPTIONS, MESSAGE, REFER, NOTIFY"

Follow = Callable[[bytes, Request], Awaitable[Attempt | None]]
"""Returns where a phone is by now whose connection is gone; see registrar.owners for how it is called."""


class NoAnswer(Exception):
    """The peer was not reached, or has not answered; says why in a word."""


class Speaking:
    """Speaks in the names of phones."""

    def __init__(self, dialogs: Dialogs, sender: Sender, transactions: Transactions, config: ProxyConfig,
                 follow: Follow | None = None) -> None:
        """Without `follow` a phone that has lost its connection is not found again."""
        self._dialogs = dialogs
        self._sender = sender
        self._transactions = transactions
        self._config = config
        self._follow = follow

    async def invite(self, session: Session, who: Who, number: int, sdp: bytes) -> Response:
        """Send the peer of `who` a re-INVITE in its name, acknowledge a 2xx, and return what the peer has said.

        Raises NoAnswer.
        """
        return await self._ask(session, who, lambda: _invite(session, who, number, sdp))

    async def bye(self, session: Session, who: Who, number: int) -> Response:
        """Let `who` hang up, as far as its peer can see. Raises NoAnswer."""
        return await self._ask(session, who, lambda: _request("BYE", session, who, number))

    async def _ask(self, session: Session, who: Who, made: Callable[[], Request]) -> Response:
        try:
            request = made()
            way = self._dialogs.take_own(request)
            attempt = await self._found(way.phone, request) if isinstance(way, Moved) else way
        except Refusal as problem:
            raise NoAnswer("gone") from problem
        except ParseError as problem:
            raise NoAnswer("unreadable") from problem
        side = session.side(who)
        if isinstance(attempt.hop, ByUri):
            # What the phone may have us speak to, we may, too.
            attempt = evolve(attempt, asked_from=side.host or ANYBODY)
        forwarded = Forwarded(request, _Ourselves(), loop_mark(request), False, dialog_context(request, side.tag), 1)
        response = await self._asked(forwarded, attempt)
        if response.status == FLOW_IS_GONE:
            # Another node had it, or has ended; what was sent has reached nobody.
            response = await self._asked(forwarded, await self._found(attempt.phone, request))
        return response

    async def _asked(self, forwarded: Forwarded, attempt: Attempt) -> Response:
        return await _Asked(forwarded, attempt, self._sender, self._transactions, self._config).answer()

    async def _found(self, phone: bytes, request: Request) -> Attempt:
        """Return where a phone is by now that has lost its connection. Raises NoAnswer."""
        found = None if self._follow is None or not phone else await self._follow(phone, request)
        if found is None:
            raise NoAnswer("gone")
        return found


class _Asked:
    """One request on its way: the trunk of its only branch."""

    log = Logger()

    def __init__(self, forwarded: Forwarded, attempt: Attempt, sender: Sender, transactions: Transactions,
                 config: ProxyConfig) -> None:
        self.forwarded = forwarded
        self.request = forwarded.request
        self.is_invite = forwarded.request.method == "INVITE"
        self.sender = sender
        self.transactions = transactions
        self.config = config
        self.tag = transactions.new_tag()
        self._attempt = attempt
        self._answer: Deferred[Response] = Deferred()
        self._branch = Branch(self, attempt)
        self._patience: Timer | None = None
        self._ack: Request | None = None

    async def answer(self) -> Response:
        """Send it, and return what comes of it. Raises NoAnswer."""
        self._patience = self.later(ANSWER_SECONDS, self._out_of_time)
        self._branch.start()
        return await self._answer

    def later(self, seconds: float, function: Callable[[], None]) -> Timer:
        """See Trunk."""
        return self.transactions.wheel.call_later(seconds, function)

    def progressed(self, response: Response) -> None:
        """See Trunk: it rings, or thinks."""

    def succeeded(self, branch: Branch, response: Response) -> None:
        """Acknowledge a 2xx to an INVITE, each time it comes (RFC 3261 §13.2.2.4)."""
        if self.is_invite:
            if self._ack is None:
                self._ack = _ack(self.request, response)
            start(self.sender.pass_on(evolve(self.forwarded, request=self._ack), _towards(branch.attempt, response)),
                  self._ack_was_lost)
        self._end(response)

    def failed(self, branch: Branch, response: Response) -> None:
        """See Trunk: it was refused."""
        self._end(response)

    def unreached(self, attempt: Attempt) -> None:
        """See Trunk: its node will be gone."""

    def _out_of_time(self) -> None:
        self._branch.cancel()
        if not self._answer.called:
            self._answer.errback(NoAnswer("silent"))

    def _end(self, response: Response) -> None:
        if self._patience is not None:
            self._patience.cancel()
        if not self._answer.called:
            self._answer.callback(response)

    def _ack_was_lost(self, failure: Failure) -> None:
        if failure.check(Undeliverable) is None:
            self.log.failure("while a re-INVITE was acknowledged", failure=failure)
        else:
            self.log.info("the ACK of a re-INVITE was lost: {why}", why=failure.getErrorMessage(), log_rationed=True)


class _Ourselves(Flow):
    """Where what we send in a phone's name comes from: nowhere. Like another node it is not recorded in the route."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0))

    @property
    def member(self) -> str:
        return "ourselves"

    @property
    def id(self) -> int:
        return 0

    @property
    def transport(self) -> str:
        return "TCP"

    @property
    def local(self) -> Address:
        return self.peer

    @property
    def listener(self) -> Listener | None:
        return None

    @property
    def reliable(self) -> bool:
        return True

    @property
    def secure(self) -> bool:
        return True

    @property
    def is_open(self) -> bool:
        return False

    @property
    def confirmed(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise FlowClosed("nobody is there")

    def close(self, reason: str) -> None:
        """There is nothing to close."""

    def confirm(self) -> None:
        """There is nothing to confirm."""


def _invite(session: Session, who: Who, number: int, sdp: bytes) -> Request:
    """Return a re-INVITE as `who` would send it, with this CSeq."""
    fields = [("Contact", session.side(who).contact), ("Allow", ALLOW), ("Supported", "timer"),
              *_refreshing(session, who), ("Content-Type", "application/sdp")]
    return _request("INVITE", session, who, number, fields, sdp)


def _request(method: str, session: Session, who: Who, number: int, further: Sequence[tuple[str, str]] = (),
             body: bytes = b"") -> Request:
    own, peer = session.side(who), session.side(other(who))
    fields = [
        # Our own Via will stand above it, as if it had come from the phone.
        ("Via", f"SIP/2.0/TCP 127.0.0.1;branch={MAGIC_COOKIE}{random_name()}"),
        ("Max-Forwards", "70"), *(("Route", route) for route in own.routes),
        ("From", own.address), ("To", peer.address), ("Call-ID", session.call_id), ("CSeq", f"{number} {method}"),
    ]
    return Request.new(method, peer.target, [*fields, *further], body)


def _refreshing(session: Session, who: Who) -> Sequence[tuple[str, str]]:
    """Return what goes on to be agreed: an answer without Session-Expires would end it (RFC 4028 §7.2)."""
    if not session.interval:
        return ()
    refresher = "uac" if session.refresher == who else "uas"
    return (("Session-Expires", f"{session.interval};refresher={refresher}"),)


def _ack(request: Request, response: Response) -> Request:
    """Return the ACK of a 2xx to `request`, whose Routes that lead through us are taken off."""
    number = (request.get("CSeq") or "").split()[0]
    fields = [
        ("Via", f"SIP/2.0/TCP 127.0.0.1;branch={MAGIC_COOKIE}{random_name()}"),
        ("Max-Forwards", "70"), *(("Route", route) for route in request.values("Route")),
        ("From", request.get("From") or ""), ("To", response.get("To") or ""),
        ("Call-ID", request.get("Call-ID") or ""), ("CSeq", f"{number} ACK"),
    ]
    return Request.new("ACK", request.uri, fields)


def _towards(attempt: Attempt, response: Response) -> Attempt:
    """Return the same way to what the peer is called from now on (RFC 3261 §12.2.1.2)."""
    try:
        contact = response.first_value("Contact")
        return attempt if contact is None else evolve(attempt, uri=parse_name_addr(contact).uri)
    except ParseError:
        return attempt
