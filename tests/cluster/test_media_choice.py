"""Packets that are really lost on one way move the new calls of one carrier, and nobody else, to other media nodes."""

import time
from collections.abc import Callable

import pytest

from tests.cluster.media_lab_case import MediaLabCase
from tools.laboratory.media_call import MediaCall
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.media_servers import CARRIERS

BAD = "alpha"
LOSS = 0.08
CALLS_PER_SECOND = 3.0
TALK_SECONDS = (6.0, 9.0)
BEFORE_SECONDS = 12.0
LEAVE_SECONDS = 15.0
LOOK_SECONDS = 12.0
BACK_SECONDS = 150.0


@pytest.mark.long
class MediaChoiceTests(MediaLabCase):
    """Twenty phones of each of three carriers, and three rtpengines that are half full."""

    users = 60
    balancer_sections = {"every_node": {"capacity": 15}}

    def begun(self, phones: MediaPhones, since: float, is_bad: Callable[[MediaCall], bool]) -> list[str]:
        """Return the hosts of the nodes at which calls began since then, of those that have phones of this kind."""
        return [call.nodes[0][1] for call in list(phones.calls.values())
                if call.begun_at > since and call.nodes and is_bad(call)]

    def test_lossy_way(self) -> None:
        """The carrier's new calls leave within 15 s of its first report of loss, others stay, and they come back."""
        phones, host = self.phones(), self.lab.media.nodes[0].host
        phones.call_on(CALLS_PER_SECOND, TALK_SECONDS)
        time.sleep(BEFORE_SECONDS)
        self.assertIn(host, self.begun(phones, 0.0, touches_bad))
        phones.watch_losses()
        self.losses.set({(CARRIERS[BAD], host): LOSS})
        lossy_at = phones.loop.now()
        phones.wait(lambda: (BAD, host) in phones.first_losses, "report of a loss", 20)
        reported_at = phones.first_losses[BAD, host]
        time.sleep(LEAVE_SECONDS + LOOK_SECONDS)
        late = self.begun(phones, reported_at + LEAVE_SECONDS, touches_bad)
        self.assertGreater(len(late), LOOK_SECONDS)
        self.assertNotIn(host, late)
        self.assertIn(host, self.begun(phones, reported_at, lambda call: not touches_bad(call)))
        left_at = max([call.begun_at for call in list(phones.calls.values())
                       if touches_bad(call) and call.nodes and call.nodes[0][1] == host] + [reported_at])
        self.losses.set({})
        healed_at = phones.loop.now()
        phones.wait(lambda: host in self.begun(phones, healed_at, touches_bad), "calls that come back", BACK_SECONDS)
        back_at = phones.loop.now()
        phones.call_on(0, TALK_SECONDS)
        phones.wait_over()
        self.check_ended(list(phones.calls.values()))
        self.figure(f"a way lost 8 %: first report after {reported_at - lossy_at:.1f} s, the last new call over it "
                    f"{left_at - reported_at:.1f} s later; back {back_at - healed_at:.0f} s after it was good")


def touches_bad(call: MediaCall) -> bool:
    """Tell whether one of the call's phones is of the carrier whose way loses packets."""
    return BAD in (call.caller.who.carrier, call.callee.who.carrier)
