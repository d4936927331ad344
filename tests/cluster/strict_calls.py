"""Calls of the lab whose phones take every rule of a dialog for what it is, and can do more within it.

What is wrong is kept in `faults`: a CSeq that does not rise (RFC 3261 §12.2.2), an "o=" that names another session, a
version that is not the next one or stays the same for another description (RFC 3264 §8), an ACK of nothing.
"""

import re
from collections.abc import Sequence

from attrs import define, field

from tests.cluster.phone_text import Message, tag_in
from tools.laboratory.media_call import Leg, MediaCall, State
from tools.laboratory.media_phone import MediaPhone, Subscriber
from tools.laboratory.media_phones import MediaPhones

_ORIGIN = re.compile(rb"^o=(\S+ \S+) ([0-9]+) (.*)$", re.MULTILINE)


@define
class Known:
    """What a phone has heard of its peer within the call."""

    cseq: int = 0
    origin: bytes = b""
    version: int = 0
    rest: bytes = b""
    """All of the description but its origin."""


@define(eq=False)
class StrictCall(MediaCall):
    """Everything here happens in the loop's thread."""

    faults: list[str] = field(factory=list)
    reinvited: int = 0
    """How many re-INVITEs the phones have got."""
    answers: dict[str, list[int]] = field(factory=dict)
    """What was said to the requests that the callee has sent within the call, by method."""
    _known: dict[str, Known] = field(factory=dict)
    may_be_told_later: bool = False
    """Whether a BYE may be refused as too old, if another one follows."""
    _has_bye: set[str] = field(factory=set)
    _is_owed_bye: bool = False
    _back: Leg | None = None
    _back_cseq: int = 0
    _invites: dict[str, set[int]] = field(factory=dict)

    # --- what comes to a phone

    def asked(self, phone: MediaPhone, message: Message) -> None:
        """Check a request before it is taken."""
        heard = self._known.setdefault(phone.who.user, Known())
        numbers = self._invites.setdefault(phone.who.user, set())
        if message.method == "ACK":
            if message.cseq not in numbers:
                self.faults.append(f"{phone.who.user} got an ACK of {message.cseq}, INVITEs were {sorted(numbers)}")
        elif message.cseq <= heard.cseq:
            if not (message.method == "BYE" and self.may_be_told_later):
                self.faults.append(f"{phone.who.user} got {message.start} with CSeq {message.cseq} after {heard.cseq}")
            phone.answer(message, 500, "CSeq Too Low")
            return
        else:
            heard.cseq = message.cseq
        if message.method == "INVITE":
            self.reinvited += bool(tag_in(message.get("to")))
            numbers.add(message.cseq)
            if phone is self.callee and self._back is None:
                self._back = Leg(message.contact, tuple(message.routes),
                                 f"{message.get('to')};tag=callee{phone.number}", message.get("from"))
        if message.method == "BYE" and self.state is State.ENDING:
            self._has_bye.add(phone.who.user)
            if self._is_owed_bye:
                self._over_at_last()
        if message.method == "BYE" and (phone is self.caller or self.is_over):
            phone.answer(message, 481 if self.is_over else 200, "OK")
            return
        super().asked(phone, message)

    def _end(self, answer: Message) -> None:
        """Take the answer to a BYE: who hangs up has hung up, but the other side has to hear of it all the same."""
        other = self.callee if answer.get("from").partition("tag=")[2].startswith("caller") else self.caller
        if answer.status == 200 or other.who.user in self._has_bye:
            self._over_at_last()
        elif answer.status == 500 and self.may_be_told_later:
            self._is_owed_bye = True
        else:
            super()._end(answer)

    def _over_at_last(self) -> None:
        self.state = State.ENDED
        self._over()

    def answered(self, phone: MediaPhone, answer: Message) -> None:
        """Take an answer; those to what the callee has asked, too."""
        if phone is not self.callee:
            super().answered(phone, answer)
            return
        if answer.cseq > self._back_cseq:
            self.faults.append(f"{phone.who.user} got an answer to {answer.cseq}, which it has not sent")
        if answer.status < 200:
            return
        self.answers.setdefault(answer.method, []).append(answer.status)
        if answer.method == "INVITE":
            if answer.status == 200 and answer.body:
                self._hear_of(phone, answer.body)
            self._ask_back("ACK", answer.cseq)
        elif answer.method == "BYE" and self.state is State.ENDING:
            self._end(answer)

    def _hear_of(self, phone: MediaPhone, sdp: bytes) -> None:
        heard = self._known.setdefault(phone.who.user, Known())
        found = _ORIGIN.search(sdp)
        if found is None:
            self.faults.append(f"{phone.who.user} got a description without an origin")
            return
        version, rest = int(found[2]), sdp[:found.start()] + sdp[found.end():]
        origin = found[1] + found[3]
        wanted = heard.version if rest == heard.rest and version == heard.version else heard.version + 1
        if heard.origin and (origin != heard.origin or version != wanted):
            self.faults.append(f"{phone.who.user} got {found[0]!r} after version {heard.version} of {heard.origin!r}")
        heard.origin, heard.version, heard.rest = origin, version, rest
        super()._hear_of(phone, sdp)

    # --- what phones do within the call

    def reinvite(self, by_callee: bool) -> None:
        """Let one side offer once more what it has."""
        if by_callee:
            self._back_cseq += 1
            self._ask_back("INVITE", self._back_cseq, self.callee.sdp())
            return
        leg = self._leg
        assert leg is not None
        self._cseq += 1
        self.caller.ask("INVITE", leg.target, [*self._fields(leg, self._cseq, "INVITE"),
                                               ("Contact", f"<{self.caller.contact}>")], self.caller.sdp())

    def hang_up_by_callee(self) -> None:
        """Let the callee send the BYE."""
        for phone in (self.caller, self.callee):
            phone.audio.hush()
        self._note_what_was_heard()
        self.state = State.ENDING
        self._back_cseq += 1
        self._ask_back("BYE", self._back_cseq)

    def _ask_back(self, method: str, cseq: int, sdp: bytes = b"") -> None:
        leg = self._back
        assert leg is not None
        contact = [("Contact", f"<{self.callee.contact}>")] if sdp else []
        self.callee.ask(method, leg.target, [*self._fields(leg, cseq, method), *contact], sdp)

    def _fields(self, leg: Leg, cseq: int, method: str) -> list[tuple[str, str]]:
        return [("From", leg.near), ("To", leg.far), ("Call-ID", self.id), ("CSeq", f"{cseq} {method}"),
                *(("Route", f"<{uri}>") for uri in leg.routes)]

    def received(self) -> tuple[int, int]:
        """Return how many packets both have heard by now."""
        ears = (self.caller.audio.ear, self.callee.audio.ear)
        first, second = (ear.received if ear is not None else 0 for ear in ears)
        return first, second


class StrictPhones(MediaPhones):
    """Phones that hang on several proxies in turn, so that both ends of each call are elsewhere."""

    def __init__(self, proxies: Sequence[tuple[str, int]], domain: str, who: Sequence[Subscriber]) -> None:
        super().__init__(proxies[0], domain, who)
        for phone in self.phones:
            phone.proxy = proxies[phone.number % len(proxies)]

    def _made(self, caller: MediaPhone, callee: MediaPhone, hold_seconds: float) -> StrictCall:
        number = next(self._numbers)
        made = StrictCall(self, f"{self._name}-{number}", caller, callee, hold_seconds, f"{self._seed}/{number}")
        self.calls[made.id] = made
        return made
