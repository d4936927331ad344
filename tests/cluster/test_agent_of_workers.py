"""What the health agent of a registrar with workers says while Redis, by which they know of each other, is away."""

import socket
from typing import ClassVar

from tests.cluster.case import ClusterCase
from tests.interop.process import LOOPBACK, free_ports, wait_until

BACK_SECONDS = 15.0
ASKED = 10
"""So often the agent is asked; whichever worker the kernel chooses answers."""


class AgentTests(ClusterCase):
    """One machine with two workers, which keep no journal."""

    registrars = 1
    workers = 2
    users = 1
    place: ClassVar[tuple[str, int]]

    @classmethod
    def setUpClass(cls) -> None:
        cls.place = LOOPBACK, free_ports(1)[0]
        cls.sections = (f'[health]\nagent = ["{cls.place[0]}:{cls.place[1]}"]\n[location]\n'
                        'when_unavailable = "refuse"\n[cluster]\nlease_seconds = 1.0\nrenew_seconds = 0.25\n')
        super().setUpClass()

    def said(self) -> set[str]:
        """Return all that is said."""
        answers = set()
        for _ in range(ASKED):
            with socket.create_connection(self.place, 2.0) as asking:
                answers.add(asking.recv(200).decode().strip())
        return answers

    def wait_said(self, line: str) -> None:
        """Wait until all workers say this."""
        wait_until(lambda: self.said() == {line} or None, f"agents that say {line}", BACK_SECONDS)

    def test_redis_away(self) -> None:
        """Workers that can keep no bindings do not call each other ready by leases that nobody can renew."""
        self.wait_said("ready up 100%")
        self.lab.redis.kill(self.lab.redis.pids[0])
        self.wait_said("drain")
        self.lab.redis.restart(0)
        self.wait_said("ready up 100%")
