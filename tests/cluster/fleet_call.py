"""One call between phones of a fleet: what both of them do, when it happened, and why it failed when it did."""

from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from attrs import define, field

from tests.cluster.fleet_phone import MAX_CHALLENGES, FleetPhone
from tests.cluster.phone_text import Message, Proof, tag_in

if TYPE_CHECKING:
    from tests.cluster.fleet import Fleet

# RFC 3261 §13.3.1.4: a 200 is sent again until its ACK has come, over every transport.
T1_SECONDS = 0.5
T2_SECONDS = 4.0

NOT_PLACED = "the caller is not registered"
"""Why a call has failed that never began."""


class CallState(Enum):
    """How far a call has come, seen from the caller."""

    WAITING = "waits for the caller's registration"
    INVITED = "INVITE sent"
    ANSWERED = "200 has come, ACK sent"
    ENDING = "BYE sent"
    ENDED = "over, as it should"
    FAILED = "failed"


@define(eq=False)
class Call:
    """One call. `caller` and `callee` are phones of the fleet."""

    fleet: "Fleet" = field(repr=False)
    number: int
    caller: FleetPhone
    callee: FleetPhone
    hold_seconds: float | None
    """How long it lasts after the answer; None: until it is hung up."""
    state: CallState = CallState.WAITING
    why: str = ""
    """Why it failed."""
    is_callers_loss: bool = False
    """It failed because the caller's own connection ended before the answer."""
    begun_at: float = 0.0
    delivered: list[tuple[float, int]] = field(factory=list)
    """When the INVITE came to the callee, and over which face; more than once when it was sent again."""
    ringing_at: float = 0.0
    answered_at: float = 0.0
    confirmed_at: float = 0.0
    """When the ACK has come to the callee."""
    ended_at: float = 0.0
    _cseq: int = 0
    _challenges: int = 0
    _branch: str = ""
    _by_callee: bool = False
    _dialog: Message | None = field(default=None, repr=False)
    """The caller's view of the dialog: the 200."""
    _invite: Message | None = field(default=None, repr=False)
    """The callee's: the INVITE as it came last."""
    _bye_cseq: int = 0

    @property
    def id(self) -> str:
        """Its Call-ID."""
        return f"{self.fleet.name}-call-{self.number}"

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self.state in (CallState.ENDED, CallState.FAILED)

    @property
    def setup_seconds(self) -> float:
        """From the first INVITE to the 200; 0 when none came."""
        return self.answered_at - self.begun_at if self.answered_at else 0.0

    @property
    def callers_routes(self) -> list[str]:
        """The route set of the caller, nearest first; empty before the 200."""
        return list(reversed(self._dialog.routes)) if self._dialog is not None else []

    @property
    def callees_routes(self) -> list[str]:
        """The route set of the callee, nearest first; empty before the INVITE has come."""
        return self._invite.routes if self._invite is not None else []

    def __str__(self) -> str:
        names = f"{self.caller.user} (face {self.caller.face}) to {self.callee.user} (face {self.callee.face})"
        return f"call {self.number}, {names}: {self.why or self.state.value}"

    # --- the caller

    def begin(self) -> None:
        """Send the INVITE."""
        self.begun_at = self.fleet.loop.now()
        if not self.caller.is_registered:
            self.is_callers_loss = True
            self._fail(NOT_PLACED)
            return
        self.state = CallState.INVITED
        self._send_invite()
        self.fleet.loop.later(self.fleet.behaviour.patience_seconds, self._give_up)

    def phone_lost(self, phone: FleetPhone) -> None:
        """The connection of one of both has ended."""
        if self.state is CallState.INVITED and phone is self.caller:
            self.is_callers_loss = True
            self._fail("the caller's connection ended before the answer")
        elif self.state is CallState.ENDING and phone is (self.callee if self._by_callee else self.caller):
            self.hang_up(self._by_callee)

    def hang_up(self, by_callee: bool = False) -> None:
        """Send BYE, or do so when the phone is registered again; nothing when there is no dialog."""
        if self.state not in (CallState.ANSWERED, CallState.ENDING):
            return
        self.state, self._by_callee = CallState.ENDING, by_callee
        phone = self.callee if by_callee else self.caller
        if phone.is_registered:
            self._challenges = 0
            self._send_bye(phone)
        else:
            phone.when_registered.append(lambda: self.hang_up(by_callee))

    def answered(self, phone: FleetPhone, answer: Message) -> None:
        """Take an answer to an INVITE or a BYE of this call."""
        if answer.method == "BYE":
            self._bye_answered(phone, answer)
        elif answer.status < 200:
            if answer.status > 100 and not self.ringing_at:
                self.ringing_at = self.fleet.loop.now()
        elif answer.status < 300:
            self._accepted(answer)
        else:
            self._refused(answer)

    def _send_invite(self) -> None:
        self._cseq += 1
        uri = self.callee.aor
        fields = [
            *self._callers_fields(f"<{uri}>", self._cseq, "INVITE"),
            ("Contact", f"<{self.caller.contact}>"),
            ("Supported", "path, outbound"),
        ]
        if self.caller.call_proof is not None:
            fields.append(self.caller.call_proof.field("INVITE", uri))
        self._branch = self.fleet.branch()
        self.fleet.sent["INVITE"] += 1
        self.caller.send(self.caller.request("INVITE", uri, self._branch, fields))

    def _callers_fields(self, to: str, cseq: int, method: str) -> list[tuple[str, str]]:
        return [
            ("From", f"<{self.caller.aor}>;tag=caller{self.number}"),
            ("To", to),
            ("Call-ID", self.id),
            ("CSeq", f"{cseq} {method}"),
        ]

    def _accepted(self, answer: Message) -> None:
        if self.state is CallState.INVITED:
            self.answered_at, self.state, self._dialog = self.fleet.loop.now(), CallState.ANSWERED, answer
            if self.hold_seconds is not None:
                self.fleet.loop.later(self.hold_seconds, self.hang_up)
        if self._dialog is not None:
            fields = [*self._callers_routes(), *self._callers_fields(answer.get("to"), answer.cseq, "ACK")]
            self.caller.send(self.caller.request("ACK", answer.contact, self.fleet.branch(), fields))

    def _callers_routes(self) -> list[tuple[str, str]]:
        return [("Route", f"<{uri}>") for uri in self.callers_routes]

    def _refused(self, answer: Message) -> None:
        fields = self._callers_fields(answer.get("to"), answer.cseq, "ACK")
        self.caller.send(self.caller.request("ACK", self.callee.aor, self._branch, fields))
        if self.state is not CallState.INVITED:
            return
        if answer.status in (401, 407) and self._challenges < MAX_CHALLENGES:
            self._challenges += 1
            self.caller.call_proof = Proof(answer, self.caller.user, self.caller.password)
            self._send_invite()
        else:
            self._fail(answer.start.partition(" ")[2])

    def _give_up(self) -> None:
        if self.state is CallState.INVITED:
            self._fail(f"no answer in {self.fleet.behaviour.patience_seconds} s")

    def _fail(self, why: str) -> None:
        self.why, self.state, self.ended_at = why, CallState.FAILED, self.fleet.loop.now()
        self.fleet.call_over(self)

    # --- the end

    def _send_bye(self, phone: FleetPhone) -> None:
        assert self._dialog is not None
        self._cseq += 1
        self._bye_cseq = self._cseq
        if phone is self.caller:
            uri = self._dialog.contact
            fields = [*self._callers_routes(), *self._callers_fields(self._dialog.get("to"), self._cseq, "BYE")]
        else:
            assert self._invite is not None
            uri = self._invite.contact
            fields = [
                *(("Route", f"<{route}>") for route in self._invite.routes),
                ("From", self._dialog.get("to")),
                ("To", self._invite.get("from")),
                ("Call-ID", self.id),
                ("CSeq", f"{self._cseq} BYE"),
            ]
        if phone.call_proof is not None:
            fields.append(phone.call_proof.field("BYE", uri))
        self.fleet.sent["BYE"] += 1
        phone.send(phone.request("BYE", uri, self.fleet.branch(), fields))
        self.fleet.loop.later(self.fleet.behaviour.patience_seconds, partial(self._bye_unanswered, self._cseq))

    def _bye_answered(self, phone: FleetPhone, answer: Message) -> None:
        if self.state is not CallState.ENDING or answer.status < 200 or answer.cseq != self._bye_cseq:
            return
        if answer.status in (401, 407) and self._challenges < MAX_CHALLENGES:
            self._challenges += 1
            phone.call_proof = Proof(answer, phone.user, phone.password)
            self._send_bye(phone)
        elif answer.status < 300:
            self.state, self.ended_at = CallState.ENDED, self.fleet.loop.now()
            self.fleet.call_over(self)
        else:
            self._fail(f"BYE: {answer.start.partition(' ')[2]}")

    def _bye_unanswered(self, cseq: int) -> None:
        if self.state is CallState.ENDING and cseq == self._bye_cseq:
            self._fail(f"no answer to BYE in {self.fleet.behaviour.patience_seconds} s")

    # --- the callee

    def invited(self, phone: FleetPhone, invite: Message) -> None:
        """Ring at the callee, and answer after a while. The same again when the INVITE comes anew."""
        self._invite = invite
        self.delivered.append((self.fleet.loop.now(), phone.face))
        phone.answer(invite, 180, "Ringing", contact=True)
        self.fleet.loop.later(self.fleet.behaviour.answer_seconds, lambda: self._pick_up(phone, invite))

    def asked(self, phone: FleetPhone, message: Message) -> None:
        """Take an ACK, a BYE or a CANCEL that came to one of both."""
        if message.method == "ACK":
            self.confirmed_at = self.confirmed_at or self.fleet.loop.now()
        elif message.method == "BYE":
            known = tag_in(message.get("to")) in (f"callee{phone.index}", f"caller{self.number}")
            phone.answer(message, *((200, "OK") if known else (481, "Call/Transaction Does Not Exist")))
        elif message.method == "CANCEL":
            phone.answer(message, 200, "OK")
            if self._invite is not None and not self.answered_at:
                phone.answer(self._invite, 487, "Request Terminated")
                self._invite = None

    def _pick_up(self, phone: FleetPhone, invite: Message) -> None:
        if self._invite is invite and not self.confirmed_at:
            again = phone.answer(invite, 200, "OK", contact=True)
            self._insist(phone, again, T1_SECONDS)

    def _insist(self, phone: FleetPhone, answer: bytes, seconds: float) -> None:
        def still() -> None:
            if not self.confirmed_at and not self.is_over:
                phone.send(answer)
                self._insist(phone, answer, min(2 * seconds, T2_SECONDS))

        self.fleet.loop.later(seconds, still)
