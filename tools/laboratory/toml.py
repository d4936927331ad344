"""Configuration as TOML text: what the lab sets, joined with what somebody adds to it."""

import json
from collections.abc import Mapping
from typing import Any

Sections = Mapping[str, Any]


def joined(ours: Sections, theirs: Sections) -> dict[str, Any]:
    """Return both; where a table is in both, with the keys of both, and what `theirs` says counts."""
    both = dict(ours)
    for key, value in theirs.items():
        known = both.get(key)
        both[key] = joined(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return both


def toml_of(sections: Sections) -> str:
    """Return tables, and lists of tables, of plain values as TOML."""
    lines: list[str] = []
    for name, table in sections.items():
        for each in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            lines += [f"{key} = {_value(value)}" for key, value in each.items()]
            lines.append("")
    return "\n".join(lines)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    # A string, a number or a truth value looks the same in JSON; DEL is the one character that only JSON takes raw.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
