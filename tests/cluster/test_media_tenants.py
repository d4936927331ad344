"""A tenant is moved to another group of media nodes while its phones call: running calls stay, new ones go there.

Everything is real: a balancer, two registrars, four rtpengines in two groups, Redis, and phones with audio.
"""

import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.cluster.media_lab_case import MediaLabCase
from tools.laboratory.media_call import MediaCall, State
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.media_servers import subscribers

GROUPS = {"general": ("media-1", "media-2"), "gold": ("media-3", "media-4")}
PER_SECOND = 4.0
HOLD_SECONDS = (5.0, 7.0)
BETWEEN_SECONDS = 6.0
"""How long calls are set up before the first move, between both, and after the second."""
MOVED_SECONDS = 1.0
"""So long after the balancer's answer a call may still begin in the old group."""


class TenantTests(MediaLabCase):
    """Half of the phones are connected to each registrar."""

    registrars = 2
    users = 90
    media = 4
    balancer_sections: ClassVar[Mapping[str, Any]] = {
        "each_node": {node: {"groups": [group]} for group, nodes in GROUPS.items() for node in nodes}}

    def setUp(self) -> None:
        super().setUp()
        self.callers = MediaPhones(self.lab.tcp[0], self.lab.domain, subscribers(self.lab.users))
        for phone in self.callers.phones:
            phone.proxy = self.lab.tcp[phone.number % self.registrars]
        self.callers.start()
        self.addCleanup(self.callers.stop)
        self.callers.register_all()

    def group_of(self, host: str) -> str:
        """Return the group of the node at this host."""
        name = self.lab.media.node(host).name
        return next(group for group, nodes in GROUPS.items() if name in nodes)

    def ask(self, method: str, body: dict[str, Any] | None = None) -> float:
        """Say something of the tenant to the balancer; return when that was answered, by the phones' clock."""
        content = None if body is None else json.dumps(body).encode()
        self.lab.media.balancers[0].read(f"/v1/tenants/{self.lab.domain}", content, method)
        return self.callers.loop.now()

    def test_moved_under_load(self) -> None:
        """Running calls keep their node when a tenant is moved, and back; a moment later all new calls are moved."""
        self.callers.call_on(PER_SECOND, HOLD_SECONDS)
        time.sleep(BETWEEN_SECONDS)
        moved_at = self.ask("PUT", {"group": "gold"})
        running = self.callers.talking()
        time.sleep(BETWEEN_SECONDS)
        back_at = self.ask("DELETE")
        running += self.callers.talking()
        time.sleep(BETWEEN_SECONDS)
        self.callers.call_on(0, HOLD_SECONDS)
        self.callers.wait_over()
        calls = list(self.callers.calls.values())
        self.assertEqual([str(call) for call in calls if call.state is not State.ENDED], [])
        self.assertEqual([str(call) for call in calls if len(call.nodes) != 1], [])
        self.assertGreater(len(running), 2 * PER_SECOND)
        self.check_groups(calls, moved_at, back_at)
        self.figure(f"{len(calls)} calls, {len(running)} of which ran when the tenant was moved or moved back: none "
                    f"changed its node; the last call began in the old group {self.latest(calls, moved_at):.2f} s and "
                    f"{self.latest(calls, back_at, 'gold'):.2f} s after the balancer's answer (0.00: none)")

    def check_groups(self, calls: list[MediaCall], moved_at: float, back_at: float) -> None:
        """Check that each call had the group that counted when it began; for a moment after a move either may count."""
        for call in calls:
            wanted = "gold" if moved_at <= call.begun_at < back_at else "general"
            is_early = any(0 <= call.begun_at - at < MOVED_SECONDS for at in (moved_at, back_at))
            if not is_early and call.answered_at:
                self.assertEqual(self.group_of(call.node), wanted, call)

    def latest(self, calls: list[MediaCall], since: float, group: str = "general") -> float:
        """Return how long after this moment the last call of the old group began, until it is moved again."""
        late = [call.begun_at - since for call in calls if 0 <= call.begun_at - since < BETWEEN_SECONDS - 1
                and self.group_of(call.node) == group]
        return max(late, default=0.0)
