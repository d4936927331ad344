"""An avalanche: a third of very many phones lose their registrar in one moment, and all come to the two others.

It measures; what may not happen in it is tested on a smaller scale in tests/cluster.
"""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from attrs import field, frozen

from tests.cluster.case import spread
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_call import Call, CallState
from tools.laboratory.lab import Lab

REGISTRARS = 3
REGISTRATIONS_PER_SECOND = 500.0
CALLS_PER_SECOND = 20.0
BEFORE_SECONDS = 2.0
"""So long calls are placed before anything happens, and so long after everybody is back."""
BACK_SECONDS = 120.0
WAITED_SECONDS = 0.5
"""A call that took longer to its phone has waited for it."""

Way = Literal["kill", "stop", "drain"]


@frozen(kw_only=True)
class Avalanche:
    """What came of it. Times in seconds."""

    way: Way
    moved: int
    took: float
    """From the first lost connection until all were registered again."""
    away: Sequence[float] = field(repr=False)
    """How long each phone was without a registrar."""
    asked: Sequence[float] = field(repr=False)
    """How long each of their registrations took, from the REGISTER with its challenge to the 200."""
    cpu: dict[str, float]
    """What each process used meanwhile."""
    answers: dict[str, int]
    """To REGISTER, from the beginning to the end, by status."""
    calls: int
    waited: int
    cut_off: int
    failed: Sequence[str]

    def lines(self) -> list[str]:
        """Return it in sentences."""
        return [
            f"{self.way}: {self.moved} phones moved, all were back {self.took:.2f} s after the first had gone",
            f"without a registrar: {spread(self.away)}; from REGISTER to 200: {spread(self.asked)}",
            "CPU: " + ", ".join(f"{name} {seconds:.2f} s" for name, seconds in self.cpu.items()),
            "answers to REGISTER: " + ", ".join(f"{count} × {status}" for status, count in self.answers.items()),
            f"calls: {self.calls}, of which {self.waited} waited for their phone, {self.cut_off} lost their caller's "
            f"own connection, {len(self.failed)} failed",
        ]


def avalanche(folder: Path, way: Way, phones: int, pace: int, within: float, tell: Callable[[str], None]) -> Avalanche:
    """Bring phones to three registrars and take one away; `within` so many seconds they come to the others."""
    sections = f"[cluster]\ndrain_grace_seconds = 0\ndrain_flows_per_second = {pace}\n"
    lab = Lab(folder, REGISTRARS, "single", phones, sections)
    patient = Behaviour(jitter_seconds=within, when_unavailable="later", max_retry_seconds=BACK_SECONDS)
    with lab, Fleet(lab.tcp, lab.users, lab.domain, patient) as fleet:
        fleet.register_all(REGISTRATIONS_PER_SECOND, phones / REGISTRATIONS_PER_SECOND + BACK_SECONDS)
        tell(f"{phones} phones are registered")
        return _measured(lab, fleet, way, tell)


def _measured(lab: Lab, fleet: Fleet, way: Way, tell: Callable[[str], None]) -> Avalanche:
    dying = lab.registrars[-1]
    theirs = fleet.at_face(REGISTRARS - 1)
    staying = [phone for phone in fleet.phones if phone not in set(theirs)]
    calls = fleet.call_at_random(int(BACK_SECONDS * CALLS_PER_SECOND), CALLS_PER_SECOND, staying)
    time.sleep(BEFORE_SECONDS)
    processes = {node.name: node.pid for node in lab.registrars[:-1]}
    processes |= {"redis": lab.redis.servers[0].pid, "phones": os.getpid()}
    before = {name: cpu_seconds(pid) for name, pid in processes.items()}
    registered = len(fleet.register_seconds)
    begun_at = time.monotonic()
    {"kill": dying.kill, "stop": dying.stop, "drain": lambda: lab.registrars[0].post(f"/v1/nodes/{dying.name}/drain")}[
        way]()
    tell(f"{way} of {dying.name} took {time.monotonic() - begun_at:.2f} s")
    fleet.wait(lambda: all(phone.face != REGISTRARS - 1 and phone.is_registered for phone in theirs), "all phones",
               BACK_SECONDS)
    cpu = {name: cpu_seconds(pid) - before[name] for name, pid in processes.items()}
    time.sleep(BEFORE_SECONDS)
    placed = [call for call in calls if call.begun_at]
    fleet.wait_calls(placed)
    return Avalanche(
        way=way,
        moved=len(theirs),
        took=max(phone.back_at for phone in theirs) - min(phone.lost_at for phone in theirs),
        away=[phone.back_at - phone.lost_at for phone in theirs],
        asked=fleet.register_seconds[registered:],
        cpu=cpu,
        answers={str(status): count for (method, status), count in sorted(fleet.answers.items())
                 if method == "REGISTER"},
        calls=len(placed),
        waited=sum(_waited(call) for call in placed),
        cut_off=sum(call.is_callers_loss for call in placed),
        failed=[str(call) for call in placed if call.state is CallState.FAILED and not call.is_callers_loss],
    )


def cpu_seconds(pid: int) -> float:
    """Return what a process has used so far, for itself and in the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _waited(call: Call) -> bool:
    return bool(call.delivered) and call.delivered[-1][0] - call.begun_at > WAITED_SECONDS
