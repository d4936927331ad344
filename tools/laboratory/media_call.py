"""One call between two phones of the lab, with its audio: what both ends do, and what both users had of it."""

from enum import Enum
from functools import partial
from random import Random
from typing import Protocol

from attrs import define, field, frozen

from tests.cluster.phone_text import Message, Proof
from tools.laboratory.media_audio import Lines
from tools.laboratory.media_line import Paths
from tools.laboratory.media_phone import MAX_CHALLENGES, Exchange, MediaPhone, audio_of
from tools.laboratory.media_rtp import Ear, Heard, Mouth, silence_between

SETUP_SECONDS = 10.0
"""A call that is not answered by then has failed."""
LINGER_SECONDS = 0.5
"""So long before the BYE both fall silent, so that what was said still arrives."""


class State(Enum):
    """How far a call has come."""

    PLANNED = "not begun"
    INVITED = "INVITE sent"
    TALKING = "both talk"
    SILENT = "both have said all"
    ENDING = "BYE sent"
    ENDED = "over, as it should"
    FAILED = "failed"


class CallExchange(Exchange, Protocol):
    """Who knows all phones and calls, and how packets travel."""

    paths: Paths

    def reported(self, call: "MediaCall", phone: MediaPhone, fraction: int) -> None:
        """A phone has sent a report block: so much of 256 was lost."""


@frozen
class Leg:
    """What is known of one side within a call: its dialog, and where its audio goes."""

    target: str
    routes: tuple[str, ...]
    near: str
    far: str


@define(eq=False)
class MediaCall:
    """Everything here happens in the loop's thread."""

    exchange: CallExchange = field(repr=False)
    id: str
    caller: MediaPhone
    callee: MediaPhone
    hold_seconds: float
    seed: str
    state: State = State.PLANNED
    why: str = ""
    begun_at: float = 0.0
    answered_at: float = 0.0
    ended_at: float = 0.0
    nodes: list[tuple[float, str]] = field(factory=list)
    """From when on which node's host had the call, by the caller's SDP."""
    heard: dict[str, Heard] = field(factory=dict)
    """By user, when it is over."""
    longest_silence: float = 0.0
    """The longest time in which one of both heard nothing, in seconds."""
    _cseq: int = 0
    _challenges: int = 0
    _branch: str = ""
    _leg: Leg | None = None
    _has_ack: bool = False
    _sent: dict[str, int] = field(factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether nothing more happens."""
        return self.state in (State.ENDED, State.FAILED)

    @property
    def node(self) -> str:
        """The host of its node now; empty before the answer."""
        return self.nodes[-1][1] if self.nodes else ""

    @property
    def r(self) -> float:
        """What the user had who heard worse: the mean R of the call; 0 when it failed."""
        return min((each.r for each in self.heard.values()), default=0.0)

    def __str__(self) -> str:
        return f"{self.id}, {self.caller.who.user} to {self.callee.who.user}: {self.why or self.state.value}"

    # --- its beginning

    def begin(self) -> None:
        """Send the INVITE."""
        self.begun_at = self.exchange.loop.now()
        self.caller.is_busy = self.callee.is_busy = True
        self._open_audio()
        self.state = State.INVITED
        self._invite()
        self.exchange.loop.later(SETUP_SECONDS, self._give_up)

    def _open_audio(self) -> None:
        phones = {"caller": self.caller, "callee": self.callee}
        chances = {side: Random(f"{self.seed}/{side}") for side in phones}
        mouths = {side: Mouth(chances[side]) for side in phones}
        for side, phone in phones.items():
            theirs = mouths["callee" if side == "caller" else "caller"]
            phone.audio.open(mouths[side], Ear(theirs.ssrc, theirs.first_sequence), chances[side])
            phone.audio.when_reported = partial(self._reported, phone)

    def _reported(self, phone: MediaPhone, ear: Ear) -> None:
        self.exchange.reported(self, phone, ear.told_fraction)

    def _invite(self) -> None:
        self._cseq += 1
        self._branch = self.caller.branch()
        proof = self.caller.call_proof
        fields = [*self._names(), ("CSeq", f"{self._cseq} INVITE"), ("Contact", f"<{self.caller.contact}>")]
        if proof is not None:
            fields.append(proof.field("INVITE", self.callee.aor))
        self.caller.ask("INVITE", self.callee.aor, fields, self.caller.sdp(), self._branch)

    def _names(self, to: str = "") -> list[tuple[str, str]]:
        return [("From", f"<{self.caller.aor}>;tag=caller{self.caller.number}"), ("To", to or f"<{self.callee.aor}>"),
                ("Call-ID", self.id)]

    def _give_up(self) -> None:
        if self.state is State.INVITED:
            self._fail(f"no answer in {SETUP_SECONDS} s")

    # --- what the caller is told

    def answered(self, phone: MediaPhone, answer: Message) -> None:
        """See PhoneCall."""
        if answer.method == "INVITE" and answer.status >= 200 and phone is self.caller:
            self._invite_answered(answer)
        elif answer.method == "BYE" and answer.status >= 200 and self.state is State.ENDING:
            self._end(answer)

    def _invite_answered(self, answer: Message) -> None:
        if answer.status == 200:
            self._accepted(answer)
            return
        self.caller.ask("ACK", self.callee.aor, [*self._names(answer.get("to")), ("CSeq", f"{answer.cseq} ACK")],
                        branch=self._branch)
        if answer.status in (401, 407) and self._challenges < MAX_CHALLENGES:
            self._challenges += 1
            self.caller.call_proof = Proof(answer, self.caller.who.user, self.caller.who.password)
            self._invite()
        elif self.state is State.INVITED:
            self._fail(answer.start)

    def _accepted(self, answer: Message) -> None:
        if self.state is State.INVITED:
            self.answered_at = self.exchange.loop.now()
            self._leg = Leg(answer.contact, tuple(reversed(answer.routes)), answer.get("from"), answer.get("to"))
            self._hear_of(self.caller, answer.body)
        self._within("ACK", answer.cseq)

    def _within(self, method: str, cseq: int) -> None:
        """Let the caller send a request within the dialog."""
        leg = self._leg
        assert leg is not None, f"{self} has no dialog"
        fields = [("From", leg.near), ("To", leg.far), ("Call-ID", self.id), ("CSeq", f"{cseq} {method}"),
                  *(("Route", f"<{uri}>") for uri in leg.routes)]
        self.caller.ask(method, leg.target, fields)

    # --- what comes to either phone

    def asked(self, phone: MediaPhone, message: Message) -> None:
        """See PhoneCall."""
        if message.method in ("INVITE", "UPDATE"):
            self._offered(phone, message)
        elif message.method == "ACK":
            self._confirmed(phone, message)
        elif message.method == "BYE":
            phone.answer(message, 200, "OK")
            if not self.is_over and self.state is not State.ENDING:
                self._fail(f"BYE from elsewhere to {phone.who.user} while {self.state.value}")
        else:
            phone.answer(message, 200, "OK")

    def _offered(self, phone: MediaPhone, message: Message) -> None:
        """Take the call, or another place for its audio; without an offer we make one, and the ACK has the answer."""
        if self.is_over:
            phone.answer(message, 481, "Call/Transaction Does Not Exist")
            return
        if message.body:
            self._hear_of(phone, message.body)
        phone.answer(message, 200, "OK", phone.sdp() if message.body or message.method == "INVITE" else b"")

    def _confirmed(self, phone: MediaPhone, message: Message) -> None:
        if message.body:
            self._hear_of(phone, message.body)
        if self.state is State.INVITED and phone is self.callee:
            self.state = State.TALKING
            for each in (self.caller, self.callee):
                each.audio.talk()
            self.exchange.loop.later(self.hold_seconds, self.hang_up)

    def _hear_of(self, phone: MediaPhone, sdp: bytes) -> None:
        """Send a phone's audio to where SDP says."""
        remote = audio_of(sdp)
        if remote is None:
            return
        turn = len(self.nodes)
        up, down = (self.exchange.paths.line(phone.who.carrier, remote[0],
                                             Random(f"{self.seed}/{phone.who.user}/{turn}/{way}"))
                    for way in ("up", "down"))
        phone.audio.connect(remote, Lines(up, down))
        if phone is self.caller and remote[0] != self.node:
            self.nodes.append((self.exchange.loop.now(), remote[0]))

    # --- its end

    def hang_up(self) -> None:
        """Let both fall silent, and the caller send BYE when all has arrived."""
        if self.state is not State.TALKING:
            return
        self.state = State.SILENT
        for phone in (self.caller, self.callee):
            phone.audio.hush()
        self.exchange.loop.later(LINGER_SECONDS, self._bye)

    def _bye(self) -> None:
        if self.state is State.SILENT:
            self._note_what_was_heard()
            self.state = State.ENDING
            self._cseq += 1
            self._within("BYE", self._cseq)
            self.exchange.loop.later(SETUP_SECONDS, self._never_ended)

    def _never_ended(self) -> None:
        if self.state is State.ENDING:
            self._fail("no answer to BYE")

    def _end(self, answer: Message) -> None:
        self.state = State.ENDED if answer.status == 200 else State.FAILED
        self.why = "" if answer.status == 200 else f"BYE: {answer.start}"
        self._over()

    def _fail(self, why: str) -> None:
        if not self.heard and self.answered_at:
            self._note_what_was_heard()
        self.state, self.why = State.FAILED, why
        self._over()

    def _note_what_was_heard(self) -> None:
        for phone, other in ((self.caller, self.callee), (self.callee, self.caller)):
            ear, mouth = phone.audio.ear, other.audio.mouth
            if ear is not None and mouth is not None:
                self.heard[phone.who.user] = ear.heard(mouth.sent)
                self.longest_silence = max(self.longest_silence, silence_between(ear))

    def _over(self) -> None:
        self.ended_at = self.exchange.loop.now()
        for phone in (self.caller, self.callee):
            phone.audio.end()
            phone.is_busy = False
