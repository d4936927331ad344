"""Thousands of scripted phones in one thread, each with a TCP connection of its own, and calls between them.

They register with digest, refresh, go to the next registrar when their connection ends, answer calls and place them.
All that they are told is counted. A test enters a `Fleet` and says what they shall do; it waits for what it wants to
see. Nothing is sent faster than at the pace that was asked for.
"""

import os
import random
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, cycle
from math import inf
from typing import Literal, Self

from attrs import frozen

from tests.cluster.fleet_call import Call
from tests.cluster.fleet_loop import Loop
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.phone_text import Message
from tests.interop.process import InteropError, wait_until
from tools.laboratory.filling import LabUser

# How often is looked for REGISTERs that nobody answers.
SWEEP_SECONDS = 0.25
_names = count(1)


@frozen(kw_only=True)
class Behaviour:
    """What the phones do by themselves. Times in seconds."""

    expires: int = 3600
    """What they ask for."""

    outbound: bool = True
    """Whether they name their instance and reg-id (RFC 5626), so that a new connection's binding takes the old one's
    place."""

    jitter_seconds: float = 0.0
    """A phone whose connection has ended connects to the next registrar after a time up to this; 0: at once."""

    refused_seconds: float = 0.2
    """After a refused connection it tries the next registrar after so long."""

    connect_seconds: float = inf
    """How long a connection may take to be there; then the phone tries anew."""

    when_unavailable: Literal["elsewhere", "later"] = "elsewhere"
    """After a 503: connect to the next registrar, or ask the same one after its Retry-After."""

    max_retry_seconds: float = 2.0
    """At most so much of a Retry-After is kept."""

    answer_seconds: float = 0.0
    """How long a called phone rings."""

    patience_seconds: float = 32.0
    """How long the answer to an INVITE or BYE may take (RFC 3261's timers B and F)."""

    register_patience_seconds: float = 32.0
    """How long that to a REGISTER may take; then the phone closes its connection and goes to the next registrar."""


@frozen
class Refusal:
    """A final answer to a REGISTER that was neither 200 nor a challenge to be answered."""

    at: float
    user: str
    face: int
    line: str


@frozen
class Ending:
    """A connection that has ended, by whatever cause but our own will."""

    at: float
    user: str
    face: int
    why: str


@frozen
class Promise:
    """What a registrar has acknowledged last to a phone that wants to be bound."""

    contact: str
    cseq: int
    at: float


class Fleet:
    """Use it as a context manager: inside, the phones live. Methods may be called from one other thread."""

    def __init__(
        self,
        faces: Sequence[tuple[str, int]],
        users: Iterable[LabUser],
        domain: str,
        behaviour: Behaviour | None = None,
        seed: int = 1,
        sources: Sequence[str] = ("",),
    ) -> None:
        """`faces` are the registrars' TCP addresses, over which the users' phones are spread evenly.

        `sources` are addresses of their own, which they have in turn.
        """
        self.faces = list(faces)
        self.domain = domain
        self.behaviour = behaviour or Behaviour()
        self.name = f"f{os.getpid()}n{next(_names)}"
        self.phones = [
            FleetPhone(self, index, user.username, user.password, index % len(self.faces), source)
            for index, (user, source) in enumerate(zip(users, cycle(sources)))
        ]
        self.calls: dict[str, Call] = {}
        self.answers: Counter[tuple[str, int]] = Counter()
        """Answers that came, by method and status, 100 and challenges too."""
        self.sent: Counter[str] = Counter()
        """Requests that were sent, by method; ACK is not counted."""
        self.received: Counter[str] = Counter()
        """Requests that came, by method."""
        self.refusals: list[Refusal] = []
        self.endings: list[Ending] = []
        self.unanswered: list[str] = []
        """Users whose REGISTER got no answer in time over a connection that stayed."""
        self.register_seconds: list[float] = []
        """How long each 200 to a REGISTER took."""
        self.starved = 0
        """Refreshes that were due when no phone could send one."""
        self.is_moving = True
        """Whether phones go to another registrar when their connection ends; False: they stay away."""
        self.loop = Loop()
        self._chance = random.Random(seed)
        self._branches = count(1)
        self._numbers = count(1)
        self._open: dict[FleetPhone, set[Call]] = {}
        self._refresh_rate = 0.0

    # --- what tests ask for

    def register_all(self, rate: float = 500.0, seconds: float = 60.0) -> None:
        """Register all phones at a pace, each at its face, and return when all are."""
        self.register(self.phones, rate)
        self.wait_registered(self.phones, seconds)

    def register(self, phones: Iterable[FleetPhone], rate: float = 500.0) -> None:
        """Let phones connect and register, so many in a second. Returns at once."""
        self.loop.paced(phones, rate, FleetPhone.enter)

    def unregister(self, phones: Iterable[FleetPhone], rate: float = 500.0) -> None:
        """Let phones remove their bindings; they stay connected, and do not connect again. Returns at once."""
        self.loop.paced(phones, rate, FleetPhone.leave)

    def drop(self, phones: Iterable[FleetPhone], come_back: bool) -> None:
        """Let phones lose their connections, without a word. Returns at once."""
        for phone in phones:
            self.loop.do(partial(phone.drop, come_back))

    def stay_away(self, phones: Iterable[FleetPhone]) -> None:
        """Let phones not come back when their connections end. Until then they do as before."""
        for phone in phones:
            phone.is_wanted = False

    def refresh(self, rate: float) -> None:
        """Keep so many refreshes in a second going, of all registered phones in turn; 0 ends it."""
        was_idle, self._refresh_rate = not self._refresh_rate, rate
        if was_idle and rate:
            self.loop.paced(self._refreshable(), lambda: self._refresh_rate, _refresh)

    def call(self, caller: FleetPhone, callee: FleetPhone, hold_seconds: float | None = 0.0) -> Call:
        """Let a phone call another one, now. With None the call lasts until it is hung up."""
        return self.call_pairs([(caller, callee)], 1.0, hold_seconds)[0]

    def call_pairs(
        self, pairs: Iterable[tuple[FleetPhone, FleetPhone]], rate: float, hold_seconds: float | None = 0.0
    ) -> list[Call]:
        """Let the first of each pair call the second, so many in a second. Returns the calls at once."""
        made = [Call(self, next(self._numbers), caller, callee, hold_seconds) for caller, callee in pairs]
        self.calls.update({call.id: call for call in made})
        self.loop.paced(made, rate, self._begin)
        return made

    def call_at_random(
        self,
        number: int,
        rate: float,
        callers: Sequence[FleetPhone] | None = None,
        callees: Sequence[FleetPhone] | None = None,
        hold_seconds: float | None = 0.0,
    ) -> list[Call]:
        """Let random phones call random other ones. Returns the calls at once."""
        pairs: list[tuple[FleetPhone, FleetPhone]] = []
        while len(pairs) < number:
            caller, callee = self._chance.choice(callers or self.phones), self._chance.choice(callees or self.phones)
            if caller is not callee:
                pairs.append((caller, callee))
        return self.call_pairs(pairs, rate, hold_seconds)

    def hang_up(self, calls: Iterable[Call], rate: float = 500.0, by_callee: bool = False) -> None:
        """Let calls end that were answered. Returns at once."""
        self.loop.paced(calls, rate, lambda call: call.hang_up(by_callee))

    def wait_registered(self, phones: Iterable[FleetPhone], seconds: float = 30.0) -> None:
        """Return when all these phones are registered. Raises InteropError with what is known when they are not."""
        self.wait(lambda: all(phone.is_registered for phone in phones), "registration of all phones", seconds)

    def wait_calls(self, calls: Iterable[Call], seconds: float = 40.0) -> None:
        """Return when all these calls are over, well or not."""
        self.wait(lambda: all(call.is_over for call in calls), "end of all calls", seconds)

    def wait_answered(self, calls: Iterable[Call], seconds: float = 40.0) -> None:
        """Return when all these calls were answered or have failed."""
        self.wait(lambda: all(call.answered_at or call.is_over for call in calls), "answers to all calls", seconds)

    def wait(self, look: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        """Return when `look` says so. Raises InteropError with what is known when it does not in time."""

        def found() -> bool | None:
            if self.loop.problem is not None:
                raise InteropError("the fleet has broken down") from self.loop.problem
            return look() or None

        try:
            wait_until(found, what, seconds)
        except InteropError as late:
            raise InteropError(f"{late}\n{self}") from self.loop.problem

    # --- what they were told

    def at_face(self, face: int) -> list[FleetPhone]:
        """Return the phones that are registered there now."""
        return [phone for phone in self.phones if phone.is_registered and phone.face == face]

    def promised(self) -> dict[str, Promise]:
        """Return by user what must be bound: the last word of a registrar to a phone that was bound by it."""
        return {
            phone.user: Promise(phone.acknowledged_contact, phone.acknowledged, phone.acknowledged_at)
            for phone in self.phones
            if phone.acknowledged_contact
        }

    def removed(self) -> set[str]:
        """Return the users whose last acknowledged REGISTER has removed their binding."""
        return {phone.user for phone in self.phones if phone.acknowledged and not phone.acknowledged_contact}

    # --- what phones and calls tell

    def branch(self) -> str:
        """Return what makes a branch new for every phone."""
        return f"c{next(self._branches)}"

    def connection_ended(self, phone: FleetPhone, was_connected: bool, why: str) -> None:
        """Note the end of a connection, and let its phone go to the next registrar."""
        now = self.loop.now()
        if was_connected:
            self.endings.append(Ending(now, phone.user, phone.face, why))
            for call in list(self._open.get(phone, ())):
                call.phone_lost(phone)
        if phone.is_wanted and self.is_moving:
            phone.face = self._next_face(phone)
            jitter = self._chance.uniform(0.0, self.behaviour.jitter_seconds)
            self.loop.later(jitter if was_connected else self.behaviour.refused_seconds, phone.connect)

    def register_refused(self, phone: FleetPhone, answer: Message) -> None:
        """Note what a phone was told, and let it try elsewhere or later when it was 503."""
        self.refusals.append(Refusal(self.loop.now(), phone.user, phone.face, answer.start))
        if answer.status != 503 or not phone.is_wanted:
            return
        if self.behaviour.when_unavailable == "elsewhere":
            phone.close("503")
            return
        asked = float(answer.get("retry-after").split(";")[0] or 1)
        self.loop.later(min(asked, self.behaviour.max_retry_seconds), phone.register_again)

    def call_answered(self, phone: FleetPhone, answer: Message) -> None:
        """Give an answer to its call."""
        call = self.calls.get(answer.get("call-id"))
        if call is not None:
            call.answered(phone, answer)

    def called(self, phone: FleetPhone, message: Message) -> None:
        """Give a request that came to a phone to its call."""
        call = self.calls.get(message.get("call-id"))
        if call is None:
            phone.answer(message, 481, "Call/Transaction Does Not Exist")
        elif message.method == "INVITE":
            call.invited(phone, message)
        else:
            call.asked(phone, message)

    def call_over(self, call: Call) -> None:
        """Forget a call that is over; `calls` keeps it."""
        for phone in (call.caller, call.callee):
            self._open.get(phone, set()).discard(call)

    def _begin(self, call: Call) -> None:
        for phone in (call.caller, call.callee):
            self._open.setdefault(phone, set()).add(call)
        call.begin()

    def _next_face(self, phone: FleetPhone) -> int:
        """Return another face: those of one that has ended spread over all others."""
        others = len(self.faces) - 1
        if not others:
            return phone.face
        # Phones of one face have indexes that differ by the number of faces.
        step = 1 + phone.index // len(self.faces) % others
        return (phone.face + step) % len(self.faces)

    def _refreshable(self) -> Iterator[FleetPhone | None]:
        """Yield registered phones in turn that wait for no answer; None when there is none."""
        turn = count()
        while True:
            for _ in self.phones:
                phone = self.phones[next(turn) % len(self.phones)]
                if phone.is_registered and not phone.asked_at:
                    yield phone
                    break
            else:
                self.starved += 1
                yield None

    def _sweep(self) -> None:
        late = self.loop.now() - self.behaviour.register_patience_seconds
        unconnected = self.loop.now() - self.behaviour.connect_seconds
        for phone in self.phones:
            if not phone.is_connected and phone.connecting_at < unconnected:
                phone.close("no connection in time")
            if phone.asked_at and phone.asked_at < late:
                self.unanswered.append(phone.user)
                phone.close("no answer to REGISTER")
        self.loop.later(SWEEP_SECONDS, self._sweep)

    # --- its life

    def start(self) -> None:
        """Begin; nobody connects yet."""
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.loop.start()
        self.loop.do(self._sweep)

    def stop(self) -> None:
        """Close all connections, without a word to the registrars."""
        self.loop.stop()
        self.is_moving = False
        for phone in self.phones:
            phone.drop(come_back=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        registered = sum(phone.is_registered for phone in self.phones)
        connected = sum(phone.is_connected for phone in self.phones)
        answers = ", ".join(f"{n} × {method} {status}" for (method, status), n in sorted(self.answers.items()))
        return (
            f"{len(self.phones)} phones, {connected} connected, {registered} registered; sent {dict(self.sent)}, "
            f"answered {answers}; {len(self.refusals)} refusals: {self.refusals[:3]}; {len(self.unanswered)} "
            f"unanswered; {len(self.endings)} connections ended: {self.endings[:3]}; {len(self.calls)} calls"
        )


def _refresh(phone: FleetPhone | None) -> None:
    if phone is not None:
        phone.register()
