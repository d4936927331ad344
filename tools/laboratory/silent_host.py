"""A host with thousands of idle TCP phones loses power: how long until they are registered on the other host?

`python -m tools.laboratory.silent_host --phones 5000 [--no-tickle]`. It measures; what may not happen in it is tested
on a smaller scale in tests/cluster/test_tickle.py. It needs root, for network namespaces, and keepalived.
"""

import argparse
import sys
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.namespaces import Network
from tools.laboratory.virtual_hosts import VirtualLab, address_at

REGISTRATIONS_PER_SECOND = 500.0
REGISTRATION_SECONDS = 120.0
NOTED_SECONDS = 2.0
"""So long after the last registration all is quiet, and every connection is noted."""
CONNECT_SECONDS = 2.0
"""So long a phone waits for TCP before it begins anew."""
MOST_RETRY_SECONDS = 30.0
LOOK_SECONDS = 0.1


@frozen(kw_only=True)
class Silence:
    """What came of it. Times in seconds since the host's death."""

    phones: int
    moved: float
    """When the other host had the address."""
    lost: Sequence[float]
    """When each phone heard that its connection is no more, in order."""
    back: Sequence[float]
    """When each phone was registered again, in order."""
    shed: Counter[str]
    """How often each phone was answered 503."""
    waited: float
    answers: dict[int, int]

    def lines(self) -> list[str]:
        """Return it in sentences."""
        whole = len(self.back) == self.phones
        first = [f"VRRP moved the address after {self.moved:.2f} s",
                 f"{len(self.back)} of {self.phones} phones were back after {self.waited:.1f} s"]
        if self.back:
            first.append(f"first {self.back[0]:.2f} s, half {self.share(0.5)}, 99 % {self.share(0.99)}, "
                         f"all {f'{self.back[-1]:.2f} s' if whole else 'never'}")
            first.append(f"at most {peak(self.back)} were registered in a second; "
                         f"{peak(self.lost)} connections were reset in a second")
        twice = sum(count > 1 for count in self.shed.values())
        first.append(f"shed (503) at least once: {len(self.shed)}, twice or more: {twice}")
        first.append("answers to REGISTER since: " + ", ".join(
            f"{count} × {status}" for status, count in sorted(self.answers.items())))
        return first

    def share(self, part: float) -> str:
        """Return when so large a part of all phones was back."""
        index = max(0, round(self.phones * part) - 1)
        return f"{self.back[index]:.2f} s" if index < len(self.back) else "never"


def silence(folder: Path, phones: int, has_tickles: bool, advert_seconds: float, pace: float,
            seconds: float) -> Silence:
    """Register phones at the first host, take its power away, and watch for at most so many seconds."""
    sections = {"tickle": {"flows_per_second": pace}}
    behaviour = Behaviour(connect_seconds=CONNECT_SECONDS, when_unavailable="later", jitter_seconds=0.0,
                          max_retry_seconds=MOST_RETRY_SECONDS)
    network = Network()
    try:
        lab = VirtualLab(network, folder, phones, sections, advert_seconds, has_tickles)
        with lab, Fleet(lab.tcp, lab.users, lab.domain, behaviour) as fleet:
            fleet.loop.do(lab.phones_host.enter)
            fleet.register_all(REGISTRATIONS_PER_SECOND, REGISTRATION_SECONDS)
            time.sleep(NOTED_SECONDS)
            return _measured(lab, fleet, seconds)
    finally:
        network.close()


def _measured(lab: VirtualLab, fleet: Fleet, seconds: float) -> Silence:
    answers = Counter(fleet.answers)
    with address_at(lab.host("registrar-2")) as second:
        died_at = time.monotonic()
        lab.lose_power("registrar-1")
        moved = second.wait(seconds) - died_at
    while time.monotonic() < died_at + seconds:
        if all(phone.back_at > died_at for phone in fleet.phones):
            break
        time.sleep(LOOK_SECONDS)
    later = Counter(fleet.answers)
    later.subtract(answers)
    return Silence(
        phones=len(fleet.phones), moved=moved, waited=time.monotonic() - died_at,
        lost=sorted(phone.lost_at - died_at for phone in fleet.phones if phone.lost_at > died_at),
        back=sorted(phone.back_at - died_at for phone in fleet.phones if phone.back_at > died_at),
        shed=Counter(refusal.user for refusal in fleet.refusals
                     if refusal.at > died_at and refusal.line.split()[1] == "503"),
        answers={status: count for (method, status), count in later.items() if method == "REGISTER" and count})


def peak(moments: Sequence[float]) -> int:
    """Return how many of the moments lie in the second in which most do."""
    return max((bisect_right(moments, each + 1.0) - index for index, each in enumerate(moments)), default=0)


def main() -> None:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--phones", type=int, default=5000)
    parser.add_argument("--no-tickle", action="store_true", help="what happens without: the figure that shows why")
    parser.add_argument("--advert", type=float, default=1.0, help="VRRP's advertisement interval in seconds")
    parser.add_argument("--pace", type=float, default=1000.0, help="[tickle] flows_per_second")
    parser.add_argument("--seconds", type=float, default=75.0, help="how long the phones are waited for")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = silence(Path(folder), options.phones, not options.no_tickle, options.advert, options.pace,
                        options.seconds)
    tickles = "no tickles" if options.no_tickle else f"tickles at {options.pace:g} a second"
    sys.stdout.write(f"{options.phones} idle phones, {tickles}, advert {options.advert:g} s:\n")
    sys.stdout.write("".join(f"  {line}\n" for line in found.lines()))


if __name__ == "__main__":
    main()
