"""Draws the table of a write to Redis as a Mermaid state diagram: `python -m tools.draw_writes`."""

from pathlib import Path

from registrar.location.writing import TRANSITIONS, Action, Event, State

DOCUMENT = Path("docs/redis-writes.md")

INTRODUCTION = """\
# A write to Redis

What becomes of one, drawn from the table in `registrar/location/writing.py` by `python -m tools.draw_writes`. An edge
says what happens, then what is done. A write begins as Sent; as Bare when the journal shall not cover it, because the
configuration says so or because only a connection has ended; or as Writing when Redis cannot be asked. Until it is
Late, Needless or Ended nobody may build on its record.
"""

STATES = {
    State.SENT: "Redis has been asked.",
    State.COVERING: "The same, and because it takes longer than `slow_seconds` the journal writes, too.",
    State.BARE: "Redis has been asked, and there is no journal for it.",
    State.WRITING: "Only the journal is being written: Redis has not answered, or could not be asked.",
    State.LATE: "In the journal and acknowledged; the answer of Redis may still come.",
    State.NEEDLESS: "Redis has answered while the journal was being written.",
    State.ENDED: "Nothing more happens.",
}
EVENTS = {
    Event.KEPT: "kept",
    Event.REFUSED: "somebody else was first",
    Event.UNANSWERED: "no answer",
    Event.SLOW: "slow",
    Event.WRITTEN: "written",
    Event.NOT_WRITTEN: "not written",
}
ACTIONS = {
    Action.NOTHING: "nothing",
    Action.ACKNOWLEDGE: "acknowledge",
    Action.REFUSE: "Conflict",
    Action.GIVE_UP: "LocationUnavailable",
    Action.WRITE: "write the journal",
    Action.OWE: "acknowledge, owe it to Redis",
    Action.SETTLE: "owe it no more",
    Action.LOOK: "join it with what Redis has",
    Action.CANCEL: "drop it from the journal",
}


def render() -> str:
    """Return the whole document."""
    rows = [f"| {_name(state)} | {meaning} |" for state, meaning in STATES.items()]
    return "\n".join([INTRODUCTION, "```mermaid", diagram(), "```", "", "| State | |", "|---|---|", *rows, ""])


def diagram() -> str:
    """Return the Mermaid source: an edge for each pair of states, a line of it for each cause."""
    edges: dict[tuple[State, State], list[str]] = {}
    for (start, event), (action, end) in TRANSITIONS.items():
        if start is not end:
            edges.setdefault((start, end), []).append(f"{EVENTS[event]} / {ACTIONS[action]}")
    begins = [f"    [*] --> {_name(state)}" for state in (State.SENT, State.BARE, State.WRITING)]
    drawn = [f"    {_name(start)} --> {_name(end)}: {'<br>'.join(causes)}" for (start, end), causes in edges.items()]
    return "\n".join(["stateDiagram-v2", *begins, *drawn, f"    {_name(State.ENDED)} --> [*]"])


def _name(state: State) -> str:
    return state.name.capitalize()


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
