"""Phones that only call, in a process of their own, so that no thousands of others make them slow.

It speaks in lines of JSON: how many phones have registered; then it is told which users shall call each other, says how
many calls there are, is told to go on, hangs them up one after the other, and says how long each BYE took.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.cluster.fleet import Fleet
from tests.cluster.fleet_call import Call
from tests.cluster.namespaces import Host
from tools.laboratory.filling import LabUser

REGISTRATIONS_PER_SECOND = 200.0
HANG_UPS_PER_SECOND = 50.0


class Callers:
    """That process, as seen by who started it."""

    def __init__(self, host: Host, face: tuple[str, int], users: Sequence[LabUser], domain: str) -> None:
        """Start it on a host, and return when its phones have registered."""
        with host.entered():
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tools.laboratory.storm_calls"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                text=True)
        self._tell({"face": face, "users": [(user.username, user.password) for user in users], "domain": domain})
        self.registered: int = self._hear()

    def call(self, users: Sequence[str]) -> int:
        """Let these call each other in pairs; return how many calls there are when all are answered."""
        self._tell(users)
        calls: int = self._hear()
        return calls

    def begin_to_hang_up(self) -> None:
        """Let them hang up, one after the other. Returns at once."""
        self._tell("go")

    def byes(self) -> list[float]:
        """Return how long each BYE took, in seconds, when all are over."""
        seconds: list[float] = self._hear()
        return seconds

    def stop(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{json.dumps(what)}\n")
        self._process.stdin.flush()

    def _hear(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())


def main() -> None:
    """Be that process."""
    told = json.loads(sys.stdin.readline())
    users = [LabUser(*user) for user in told["users"]]
    with Fleet([(told["face"][0], told["face"][1])], users, told["domain"]) as fleet:
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        _say(len(fleet.phones))
        wanted = set(json.loads(sys.stdin.readline()))
        phones = [phone for phone in fleet.phones if phone.user in wanted]
        calls = fleet.call_pairs(zip(phones[::2], phones[1::2], strict=False), HANG_UPS_PER_SECOND, None)
        fleet.wait_answered(calls)
        _say(len(calls))
        sys.stdin.readline()
        sent: dict[Call, float] = {}

        def end(call: Call) -> None:
            sent[call] = fleet.loop.now()
            call.hang_up()

        fleet.loop.paced(calls, HANG_UPS_PER_SECOND, end)
        fleet.wait_calls(calls)
        _say([call.ended_at - sent[call] for call in calls if call.ended_at])


def _say(what: Any) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
