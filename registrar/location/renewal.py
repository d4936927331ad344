"""The renewal of a packed record: what a refresh of its one binding changes (see `registrar.location.packing`).

`renewed` and `is_early` are compiled where that could be done (_renewal.pyx); these are their twins where not.
"""

import sys

from registrar.location.memory import SLOT_SECONDS
from registrar.location.packing import COMPACT, DIRECT, GENERATION, HEAD, HIGHEST_VERSION, slot_and_expiry
from rollcall.sip.compiled import compiled_module

USUAL = COMPACT | DIRECT


def plainly_renewed(record: bytes, start: int, end: int, place: int, flow_id: int, agent: int, cseq: int, now: float,
                    seconds: int, repeat: int, /) -> bytes | None:
    """Return the record after a refresh at `now` by request `cseq` for `seconds`, or None when it needs more rules.

    The caller has found the source's address right before `start` and the binding's identity from there to `end`. None
    also when the binding was made another way, has lapsed, or knows a later request.
    """
    (version, slot, kind, length, old_agent, old_place, expires_at, _, registered_at, old_cseq, old_flow,
     _) = HEAD.unpack_from(record)
    if kind & USUAL != USUAL or HEAD.size + length != start or old_place != place or old_flow != flow_id:
        return None
    if old_agent != agent or expires_at <= now or cseq <= old_cseq or version + 1 >= HIGHEST_VERSION:
        return None
    if end != len(record) and not (kind & GENERATION and record[end] == 0):
        return None
    return HEAD.pack(version + 1, slot, kind, length, agent, place, now + seconds, now, registered_at, cseq, flow_id,
                     repeat) + record[HEAD.size:]


def plainly_is_early(record: bytes, /) -> bool:
    """Say whether a record lapses before the slot of the calendar comes up which it stands in."""
    slot, expires_at = slot_and_expiry(record)
    return expires_at < slot * SLOT_SECONDS


# The compiled one moves numbers as the machine has them, records have the lower byte first.
_compiled = compiled_module("registrar.location._renewal") if sys.byteorder == "little" else None

renewed = plainly_renewed if _compiled is None else _compiled.renewed
is_early = plainly_is_early if _compiled is None else _compiled.is_early
