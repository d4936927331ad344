"""The four transaction machines of RFC 3261 §17 as RFC 6026 corrects them, as tables.

A machine is nothing but a table and a state. The caller feeds it events and does
what comes back: send, resend, pass up, or start one of the RFC's lettered timers.
"""

from enum import Enum, auto
from typing import Final

from attrs import field, frozen
from attrs.validators import ge, gt

from rollcall.sip.headers import parse_cseq
from rollcall.sip.message import Request, Response


class State(Enum):
    """Where a transaction is (RFC 3261 figures 5 to 8, RFC 6026 figure 5)."""

    CALLING = auto()
    TRYING = auto()
    PROCEEDING = auto()
    ACCEPTED = auto()
    COMPLETED = auto()
    CONFIRMED = auto()
    TERMINATED = auto()


class Event(Enum):
    """What happens to a transaction: a message from either side, a timer, a broken transport."""

    REQUEST = auto()
    ACK = auto()
    PROVISIONAL = auto()
    SUCCESS = auto()
    FAILURE = auto()
    TRANSPORT_ERROR = auto()
    TIMER_A = auto()
    TIMER_B = auto()
    TIMER_D = auto()
    TIMER_E = auto()
    TIMER_F = auto()
    TIMER_G = auto()
    TIMER_H = auto()
    TIMER_I = auto()
    TIMER_J = auto()
    TIMER_K = auto()
    TIMER_L = auto()
    TIMER_M = auto()


class Action(Enum):
    """What the caller does, in the order given."""

    SEND = auto()
    RESEND = auto()
    SEND_ACK = auto()
    PASS_UP = auto()
    REPORT_TIMEOUT = auto()
    REPORT_ERROR = auto()
    START_A = Event.TIMER_A
    START_B = Event.TIMER_B
    START_D = Event.TIMER_D
    START_E = Event.TIMER_E
    START_F = Event.TIMER_F
    START_G = Event.TIMER_G
    START_H = Event.TIMER_H
    START_I = Event.TIMER_I
    START_J = Event.TIMER_J
    START_K = Event.TIMER_K
    START_L = Event.TIMER_L
    START_M = Event.TIMER_M


Table = dict[tuple[State, Event], tuple[tuple[Action, ...], State]]

# RFC 3261 §17.1.1.2 with RFC 6026 §8.4. Created by its own request: (CALLING, REQUEST).
INVITE_CLIENT: Final[Table] = {
    (State.CALLING, Event.REQUEST): ((Action.SEND, Action.START_A, Action.START_B), State.CALLING),
    (State.CALLING, Event.TIMER_A): ((Action.RESEND, Action.START_A), State.CALLING),
    (State.CALLING, Event.TIMER_B): ((Action.REPORT_TIMEOUT,), State.TERMINATED),
    (State.CALLING, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.TERMINATED),
    (State.CALLING, Event.PROVISIONAL): ((Action.PASS_UP,), State.PROCEEDING),
    (State.CALLING, Event.SUCCESS): ((Action.PASS_UP, Action.START_M), State.ACCEPTED),
    (State.CALLING, Event.FAILURE): ((Action.SEND_ACK, Action.PASS_UP, Action.START_D), State.COMPLETED),
    (State.PROCEEDING, Event.PROVISIONAL): ((Action.PASS_UP,), State.PROCEEDING),
    (State.PROCEEDING, Event.SUCCESS): ((Action.PASS_UP, Action.START_M), State.ACCEPTED),
    (State.PROCEEDING, Event.FAILURE): ((Action.SEND_ACK, Action.PASS_UP, Action.START_D), State.COMPLETED),
    (State.ACCEPTED, Event.SUCCESS): ((Action.PASS_UP,), State.ACCEPTED),
    (State.ACCEPTED, Event.TIMER_M): ((), State.TERMINATED),
    (State.COMPLETED, Event.FAILURE): ((Action.SEND_ACK,), State.COMPLETED),
    (State.COMPLETED, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.TERMINATED),
    (State.COMPLETED, Event.TIMER_D): ((), State.TERMINATED),
}

# RFC 3261 §17.1.2.2
NON_INVITE_CLIENT: Final[Table] = {
    (State.TRYING, Event.REQUEST): ((Action.SEND, Action.START_E, Action.START_F), State.TRYING),
    (State.TRYING, Event.TIMER_E): ((Action.RESEND, Action.START_E), State.TRYING),
    (State.TRYING, Event.TIMER_F): ((Action.REPORT_TIMEOUT,), State.TERMINATED),
    (State.TRYING, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.TERMINATED),
    (State.TRYING, Event.PROVISIONAL): ((Action.PASS_UP,), State.PROCEEDING),
    (State.TRYING, Event.SUCCESS): ((Action.PASS_UP, Action.START_K), State.COMPLETED),
    (State.TRYING, Event.FAILURE): ((Action.PASS_UP, Action.START_K), State.COMPLETED),
    (State.PROCEEDING, Event.TIMER_E): ((Action.RESEND, Action.START_E), State.PROCEEDING),
    (State.PROCEEDING, Event.TIMER_F): ((Action.REPORT_TIMEOUT,), State.TERMINATED),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.TERMINATED),
    (State.PROCEEDING, Event.PROVISIONAL): ((Action.PASS_UP,), State.PROCEEDING),
    (State.PROCEEDING, Event.SUCCESS): ((Action.PASS_UP, Action.START_K), State.COMPLETED),
    (State.PROCEEDING, Event.FAILURE): ((Action.PASS_UP, Action.START_K), State.COMPLETED),
    (State.COMPLETED, Event.TIMER_K): ((), State.TERMINATED),
}

# RFC 3261 §17.2.1 with RFC 6026 §8.7: ACCEPTED absorbs late INVITEs; a broken transport ends nothing.
INVITE_SERVER: Final[Table] = {
    (State.PROCEEDING, Event.REQUEST): ((Action.RESEND,), State.PROCEEDING),
    (State.PROCEEDING, Event.PROVISIONAL): ((Action.SEND,), State.PROCEEDING),
    (State.PROCEEDING, Event.SUCCESS): ((Action.SEND, Action.START_L), State.ACCEPTED),
    (State.PROCEEDING, Event.FAILURE): ((Action.SEND, Action.START_G, Action.START_H), State.COMPLETED),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.PROCEEDING),
    (State.ACCEPTED, Event.REQUEST): ((), State.ACCEPTED),
    (State.ACCEPTED, Event.ACK): ((Action.PASS_UP,), State.ACCEPTED),
    (State.ACCEPTED, Event.SUCCESS): ((Action.SEND,), State.ACCEPTED),
    (State.ACCEPTED, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.ACCEPTED),
    (State.ACCEPTED, Event.TIMER_L): ((), State.TERMINATED),
    (State.COMPLETED, Event.REQUEST): ((Action.RESEND,), State.COMPLETED),
    (State.COMPLETED, Event.TIMER_G): ((Action.RESEND, Action.START_G), State.COMPLETED),
    (State.COMPLETED, Event.TIMER_H): ((Action.REPORT_TIMEOUT,), State.TERMINATED),
    (State.COMPLETED, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.COMPLETED),
    (State.COMPLETED, Event.ACK): ((Action.START_I,), State.CONFIRMED),
    (State.CONFIRMED, Event.REQUEST): ((), State.CONFIRMED),
    (State.CONFIRMED, Event.ACK): ((), State.CONFIRMED),
    (State.CONFIRMED, Event.TIMER_I): ((), State.TERMINATED),
}

# RFC 3261 §17.2.2
NON_INVITE_SERVER: Final[Table] = {
    (State.TRYING, Event.REQUEST): ((), State.TRYING),
    (State.TRYING, Event.PROVISIONAL): ((Action.SEND,), State.PROCEEDING),
    (State.TRYING, Event.SUCCESS): ((Action.SEND, Action.START_J), State.COMPLETED),
    (State.TRYING, Event.FAILURE): ((Action.SEND, Action.START_J), State.COMPLETED),
    (State.PROCEEDING, Event.REQUEST): ((Action.RESEND,), State.PROCEEDING),
    (State.PROCEEDING, Event.PROVISIONAL): ((Action.SEND,), State.PROCEEDING),
    (State.PROCEEDING, Event.SUCCESS): ((Action.SEND, Action.START_J), State.COMPLETED),
    (State.PROCEEDING, Event.FAILURE): ((Action.SEND, Action.START_J), State.COMPLETED),
    (State.PROCEEDING, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.TERMINATED),
    (State.COMPLETED, Event.REQUEST): ((Action.RESEND,), State.COMPLETED),
    (State.COMPLETED, Event.TRANSPORT_ERROR): ((Action.REPORT_ERROR,), State.TERMINATED),
    (State.COMPLETED, Event.TIMER_J): ((), State.TERMINATED),
}


@frozen(kw_only=True)
class TransactionConfig:
    """RFC 3261 table 4, all in seconds: T1 a round trip, T2 the longest pause, T4 a message's life in the network."""

    t1_seconds: float = field(default=0.5, validator=gt(0))
    t2_seconds: float = field(default=4.0, validator=gt(0))
    t4_seconds: float = field(default=5.0, validator=gt(0))
    max_answers: int = field(default=250_000, validator=ge(1000))
    """Answers to datagrams that are kept for repeated requests, about 0.8 kB each; beyond that the oldest go."""


def timer_seconds(
    timer: Event, config: TransactionConfig, reliable: bool, sent: int = 1, state: State | None = None
) -> float | None:
    """Return how long `timer` runs, or None when a reliable transport does without it (RFC 3261 table 4).

    `sent` is how often the message has left so far: retransmission timers double with it.
    """
    if timer in (Event.TIMER_A, Event.TIMER_E, Event.TIMER_G):
        if reliable:
            return None
        # §17.1.2.2: "If Timer E fires while in the Proceeding state … MUST be reset with a value of T2."
        if state is State.PROCEEDING:
            return config.t2_seconds
        pause: float = config.t1_seconds * 2 ** min(sent - 1, 16)
        return pause if timer is Event.TIMER_A else min(pause, config.t2_seconds)
    if timer in (Event.TIMER_I, Event.TIMER_K):
        return 0.0 if reliable else config.t4_seconds
    if timer is Event.TIMER_D:
        return 0.0 if reliable else max(32.0, 64 * config.t1_seconds)
    if timer is Event.TIMER_J:
        return 0.0 if reliable else 64 * config.t1_seconds
    return 64 * config.t1_seconds


def seconds_until_t2(config: TransactionConfig) -> float:
    """Return when a client that hears nothing resets timer E to T2: then a 100 is due (RFC 4320 §4.1)."""
    seconds, pause = 0.0, config.t1_seconds
    while pause < config.t2_seconds:
        seconds += pause
        pause *= 2
    return seconds


def keeps_timers(old: State, new: State) -> bool:
    """Say whether running timers outlive the step: only E and F go on when a non-INVITE hears a 1xx (§17.1.2.2)."""
    return old is new or (old is State.TRYING and new is State.PROCEEDING)


def event_for(status: int) -> Event:
    """Return the event that a response of `status` is to a transaction."""
    if status < 200:
        return Event.PROVISIONAL
    return Event.SUCCESS if status < 300 else Event.FAILURE


def acknowledge(request: Request, response: Response) -> Request:
    """Return the ACK that ends the INVITE `request` refused by `response` (RFC 3261 §17.1.1.3)."""
    ack = _hop_by_hop("ACK", request)
    ack.set("To", response.get("To") or "")
    return ack


def cancellation(request: Request) -> Request:
    """Return the CANCEL of `request`, with its Via, Route and branch (RFC 3261 §9.1)."""
    return _hop_by_hop("CANCEL", request)


def _hop_by_hop(method: str, request: Request) -> Request:
    fields = [("Via", request.first_value("Via") or ""), ("Max-Forwards", "70")]
    fields += [("Route", value) for value in request.get_all("Route")]
    fields += [(name, request.get(name) or "") for name in ("From", "To", "Call-ID")]
    fields.append(("CSeq", f"{parse_cseq(request.get('CSeq') or '').number} {method}"))
    # RFC 3326 §2: a Reason in the INVITE is no reason for its end, so none is copied.
    return Request.new(method, request.uri, fields)
