"""What a phone reports of a call's sound as application/vq-rtcpxr (RFC 6035 §4.6), read leniently.

The RFC's own examples break its grammar (no "0x" before an SSRC, a STOP that is before its START, folded lines), and
phones name the call after the metrics, leave out what they do not know, and write fields of their own.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal

from attrs import field, frozen

from rollcall.media.reports import PhoneReport

CONTENT_TYPE = "application/vq-rtcpxr"
PACKAGE = "vq-rtcpxr"

MOST_BYTES = 16 * 1024
"""The RFC's longest examples have less than 2 KiB."""
CALL_ID_CHARS = 512
MOST_SECONDS = 24 * 3600.0
"""A longer call is a phone's mistake."""
MOST_PACKETS_PER_SECOND = 1000.0

Kind = Literal["session", "interval", "alert"]
_KINDS: Mapping[str, Kind] = {
    "vqsessionreport": "session", "vqintervalreport": "interval", "vqalertreport": "alert"}

# Which lines begin the metrics of whom. An alert calls those of the phone "Metrics".
_SIDES = {"localmetrics": "local", "metrics": "local", "remotemetrics": "remote"}
_METRICS = frozenset({"timestamps", "sessiondesc", "packetloss", "delay", "qualityest"})

# What another name and "=" stand behind is empty. A name begins where no letter is before it, so that a long row of
# letters is looked at once.
_PAIR = re.compile(r'(?<![A-Za-z])([A-Za-z]{1,16})[ \t]*=[ \t]*(?![A-Za-z]{1,16}[ \t]*=)("[^"]*"|[^\s;,]*)')
_NUMBER = re.compile(r"[+-]?\d{1,10}(?:\.\d{1,10})?")


class VqError(ValueError):
    """A body is no report."""


@frozen(kw_only=True)
class Metrics:
    """What one side says of what it received. None: it does not say."""

    loss: float | None = None
    """0 to 1."""
    discarded: float | None = None
    jitter_ms: float | None = None
    rtt_ms: float | None = None
    one_way_ms: float | None = None
    codec: str = ""
    packets: int | None = None
    """By how long it lasted, and how many there are in a second."""
    mos: float | None = None


@frozen(kw_only=True)
class VqReport:
    """One report."""

    kind: Kind
    is_final: bool
    """The call is over."""
    call_id: str
    local: Metrics = field(factory=Metrics)
    remote: Metrics | None = None
    """What the other side's RTCP told the phone."""


def is_vq_report(content_type: str | None) -> bool:
    """Say whether a body of this Content-Type is a report."""
    return (content_type or "").partition(";")[0].strip().lower() == CONTENT_TYPE


def parse_vq_report(body: bytes) -> VqReport:
    """Return what `body` says. Raises VqError when it is no report, or names no call."""
    if len(body) > MOST_BYTES:
        raise VqError("it is too long")
    lines = _lines(body.decode("utf-8", "replace"))
    name, rest = next(lines, ("", ""))
    kind = _KINDS.get(name)
    if kind is None:
        raise VqError("it does not begin as a report does")
    call_id = ""
    said: dict[str, dict[str, dict[str, str]]] = {}
    side = "local"
    for name, value in lines:
        if name == "callid" and not call_id:
            call_id = value
        elif name in _SIDES:
            side = _SIDES[name]
            said.setdefault(side, {})
        elif name in _METRICS:
            said.setdefault(side, {}).setdefault(name, {}).update(_pairs(value))
    if not 0 < len(call_id) <= CALL_ID_CHARS:
        raise VqError("it names no call")
    return VqReport(
        kind=kind, is_final=kind == "session" and rest.lower().startswith("callterm"), call_id=call_id,
        local=_metrics(said.get("local", {})), remote=_metrics(said["remote"]) if "remote" in said else None)


def phone_report(report: VqReport, at: float, source: str, node: str = "") -> PhoneReport:
    """Return what the phone at `source` says of what it received itself; what it repeats of the other is hearsay."""
    local = report.local
    return PhoneReport(
        at=at, source=source, call_id=report.call_id, node=node, packets=local.packets, loss=local.loss,
        discarded=local.discarded, jitter_ms=local.jitter_ms, rtt_ms=local.rtt_ms, one_way_ms=local.one_way_ms,
        codec=local.codec)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name in lower case, value) of each line; a folded one belongs to the line before."""
    held: list[str] = []
    for line in text.splitlines():
        if line[:1] in (" ", "\t") and held:
            held.append(line.strip())
            continue
        if held:
            yield _split(held)
        held = [line.strip()] if line.strip() else []
    if held:
        yield _split(held)


def _split(pieces: list[str]) -> tuple[str, str]:
    name, _, value = " ".join(pieces).partition(":")
    return name.strip().lower(), value.strip()


def _pairs(text: str) -> dict[str, str]:
    return {name.upper(): value.strip('"') for name, value in _PAIR.findall(text)}


def _metrics(said: Mapping[str, Mapping[str, str]]) -> Metrics:
    loss, delay = said.get("packetloss", {}), said.get("delay", {})
    return Metrics(
        loss=_percent(loss.get("NLR")), discarded=_percent(loss.get("JDR")),
        jitter_ms=_milliseconds(delay.get("IAJ")), rtt_ms=_milliseconds(delay.get("RTD")) or None,
        one_way_ms=_milliseconds(delay.get("SOWD")) or None, codec=said.get("sessiondesc", {}).get("PD", "")[:32],
        packets=_packets(said), mos=_between(said.get("qualityest", {}).get("MOSLQ"), 1.0, 5.0))


def _packets(said: Mapping[str, Mapping[str, str]]) -> int | None:
    times = said.get("timestamps", {})
    start, stop = _moment(times.get("START")), _moment(times.get("STOP"))
    per_second = _between(said.get("sessiondesc", {}).get("PPS"), 0.0, MOST_PACKETS_PER_SECOND)
    if start is None or stop is None or per_second is None or not 0 < stop - start <= MOST_SECONDS:
        return None
    return round((stop - start) * per_second) or None


def _moment(text: str | None) -> float | None:
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    # Without a zone it is UTC, for it is only compared with its like.
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return None


def _percent(text: str | None) -> float | None:
    percent = _between(text, 0.0, 100.0)
    return None if percent is None else percent / 100


def _milliseconds(text: str | None) -> float | None:
    """Return a time; the grammar's 65535 stands where a phone does not know it."""
    return _between(text, 0.0, 65534.0)


def _between(text: str | None, low: float, high: float) -> float | None:
    """Return a number in these bounds, None for anything else."""
    if text is None or not _NUMBER.fullmatch(text):
        return None
    number = float(text)
    return number if low <= number <= high else None
