"""Draws the transaction tables as Mermaid state diagrams into docs/transactions.md: `python -m tools.draw_tables`."""

from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

from rollcall.sip.transaction import (
    INVITE_CLIENT,
    INVITE_SERVER,
    NON_INVITE_CLIENT,
    NON_INVITE_SERVER,
    Action,
    Event,
    State,
    Table,
    TransactionConfig,
    timer_seconds,
)

DOCUMENT = Path("docs/transactions.md")

INTRODUCTION = """\
# Transactions

The four machines of RFC 3261 §17 as RFC 6026 corrects them, drawn from the tables in `rollcall/sip/transaction.py`
by `python -m tools.draw_tables`. An edge says what happens, then what is done. "Up" is the user of the transaction:
the proxy or the registrar. What has no edge is ignored.
"""

TIMERS = """\
## Timers

In seconds, as they first run with T1 = {t1:g}, T2 = {t2:g} and T4 = {t4:g}. A doubles each time it fires; E and G do so
up to T2, and E is T2 after a 1xx. A timer of 0 ends the transaction at once.

| Timer | Datagrams | Connections |
|---|---|---|
"""

EVENTS = {
    Event.REQUEST: "request",
    Event.ACK: "ACK",
    Event.PROVISIONAL: "1xx",
    Event.SUCCESS: "2xx",
    Event.FAILURE: "3xx-6xx",
    Event.TRANSPORT_ERROR: "transport error",
}
ACTIONS = {
    Action.SEND: "send",
    Action.RESEND: "send again",
    Action.SEND_ACK: "send ACK",
    Action.PASS_UP: "pass up",
    Action.REPORT_TIMEOUT: "report time-out up",
    Action.REPORT_ERROR: "report error up",
}


@frozen
class Machine:
    """A table with its title, its source, and how it begins: a row of its own, or a request that comes in."""

    title: str
    source: str
    table: Table
    first: State
    is_client: bool


MACHINES = (
    Machine("INVITE client", "RFC 3261 §17.1.1, RFC 6026 figure 5", INVITE_CLIENT, State.CALLING, True),
    Machine("Non-INVITE client", "RFC 3261 §17.1.2, figure 6", NON_INVITE_CLIENT, State.TRYING, True),
    Machine("INVITE server", "RFC 3261 §17.2.1, RFC 6026 figure 7", INVITE_SERVER, State.PROCEEDING, False),
    Machine("Non-INVITE server", "RFC 3261 §17.2.2, figure 8", NON_INVITE_SERVER, State.TRYING, False),
)


def render() -> str:
    """Return the whole document."""
    return "\n".join([INTRODUCTION, *(_section(machine) for machine in MACHINES), _timers()])


def diagram(machine: Machine) -> str:
    """Return the Mermaid source of one machine: an edge for each pair of states, a line of it for each cause."""
    edges: dict[tuple[str, str], dict[str, list[str]]] = {}
    for start, end, event, done in _edges(machine):
        edges.setdefault((start, end), {}).setdefault(done, []).append(event)
    lines = ["stateDiagram-v2"]
    for (start, end), causes in edges.items():
        label = "<br>".join(f"{', '.join(events)} / {done}" for done, events in causes.items())
        lines.append(f"    {start} --> {end}: {label}")
    return "\n".join([*lines, "    Terminated --> [*]"])


def _edges(machine: Machine) -> Iterator[tuple[str, str, str, str]]:
    """Yield (state, next state, event, actions) in words, the beginning first."""
    if not machine.is_client:
        yield "[*]", _name(machine.first), "request", "pass up"
    for (state, event), (actions, following) in machine.table.items():
        is_beginning = machine.is_client and event is Event.REQUEST
        yield (
            "[*]" if is_beginning else _name(state),
            _name(following),
            EVENTS.get(event) or _words(event.name),
            ", ".join(ACTIONS.get(action) or _words(action.name) for action in actions) or "nothing",
        )


def _name(state: State) -> str:
    return state.name.capitalize()


def _words(name: str) -> str:
    """Return "timer A" for TIMER_A, "start A" for START_A."""
    verb, _, letter = name.partition("_")
    return f"{verb.lower()} {letter}"


def _section(machine: Machine) -> str:
    return f"## {machine.title}\n\n{machine.source}.\n\n```mermaid\n{diagram(machine)}\n```\n"


def _timers() -> str:
    config = TransactionConfig()
    rows = [
        f"| {event.name[-1]} | {_seconds(event, config, False)} | {_seconds(event, config, True)} |"
        for event in Event
        if event.name.startswith("TIMER_")
    ]
    head = TIMERS.format(t1=config.t1_seconds, t2=config.t2_seconds, t4=config.t4_seconds)
    return head + "\n".join(rows) + "\n"


def _seconds(timer: Event, config: TransactionConfig, reliable: bool) -> str:
    seconds = timer_seconds(timer, config, reliable)
    return "never" if seconds is None else f"{seconds:g}"


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
