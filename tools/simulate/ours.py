"""The balancer's own choice: reports through balancer.quality, snapshots, and the rule of rollcall.media.selection."""

from typing import Protocol

from rollcall.media.reports import CallFacts, CallOver, Report, RtcpReport
from rollcall.media.selection import Wanted
from tools.simulate.control import EPOCH, Control, Paths
from tools.simulate.demand import Call
from tools.simulate.rtcp import Phones
from tools.simulate.running import Stage


class Ears(Paths, Protocol):
    """Whoever hears reports, and believes something of ways for it."""

    def heard(self, report: Report, now: float) -> None:
        """Take a report at a moment of the balancer's clock."""
        ...


class Ours:
    """Chooses as registrars do: each from the snapshot that it has, and from what it has placed since."""

    def __init__(self, stage: Stage, ears: Ears, control: Control) -> None:
        self._stage = stage
        self._ears = ears
        self._control = control
        self._phones = Phones(stage, self._hear)

    def choose(self, call: Call, now: float, refused: frozenset[str]) -> str | None:
        """Return the board's choice."""
        wanted = Wanted(sides=call.sides, call_id=call.id, without=refused)
        return self._control.registrars[call.registrar].choose(now, wanted, self._stage.random.random)

    def placed(self, call: Call, node: str, now: float) -> None:
        """Count it, tell of it, and let its phones talk."""
        self._control.registrars[call.registrar].placed(now, node)
        self._ears.heard(CallFacts(at=EPOCH + now, call_id=call.id, node=node, codec=call.codec,
                                   hosts=(call.caller.address, call.callee.address)), EPOCH + now)
        self._phones.placed(call, node, now)

    def ended(self, call: Call, now: float) -> None:
        """Tell of it."""
        self._phones.ended(call)
        self._ears.heard(CallOver(call_id=call.id), EPOCH + now)

    def _hear(self, now: float, report: RtcpReport) -> None:
        self._ears.heard(report, EPOCH + now)
