"""A node behind directors falls silent: another node wakes its idle phones, once the directors have noticed."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import pytest

from tests.cluster.fleet import Behaviour
from tests.cluster.hosts import FIRST_NODE_HOST
from tests.interop.process import wait_until
from tests.lvs.case import LvsCase
from tools.laboratory.virtual_hosts import TickleSender

pytestmark = pytest.mark.lvs

PHONES = 60
REGISTRATIONS_PER_SECOND = 100.0
WAIT_SECONDS = 8.0
"""The directors take 3 to 5 s to notice: two checks, each of which takes as long as it may."""
BACK_SECONDS = 60.0
RESET = "broken: Connection reset by peer"


class SilentNodeTests(LvsCase):
    """Three registrars that all have the virtual address, and tell nobody of it."""

    users = PHONES
    weights = (100, 100, 100)
    senders: ClassVar[list[TickleSender]]

    @classmethod
    def setUpClass(cls) -> None:
        places = TemporaryDirectory()
        cls.addClassCleanup(places.cleanup)
        folders = {f"registrar-{number}": Path(places.name, str(number)) for number in (1, 2, 3)}
        cls.own = {
            name: {"tickle": {"enabled": True, "socket": str(folder / "tickle.sock"), "wait_seconds": WAIT_SECONDS}}
            for name, folder in folders.items()}
        super().setUpClass()
        cls.senders = [TickleSender(folder, cls._network.host(FIRST_NODE_HOST + index))
                       for index, folder in enumerate(folders.values())]
        for sender in cls.senders:
            cls.addClassCleanup(partial(sender.wait_or_kill, 5.0))
            cls.addClassCleanup(sender.ask_to_end)
            sender.start()

    def test_silent(self) -> None:
        """All of its phones are reset, and register at the others; the phones of the others hear nothing."""
        fleet = self.fleet(behaviour=Behaviour(connect_seconds=3.0))
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        dying = self.lab.registrars[0]
        theirs = self.phones_of(fleet, dying)
        self.assertGreater(len(theirs), PHONES // 6)
        wait_until(lambda: dying.metric("rollcall_tickle_noted_flows") == len(theirs) or None, "notes")
        died_at = fleet.loop.now()
        self.lab.host(dying.name).pull_out()
        fleet.wait(lambda: all(phone.back_at > died_at for phone in theirs), "the phones of the node", BACK_SECONDS)
        self.assertEqual({ending.user for ending in fleet.endings}, {phone.user for phone in theirs})
        self.assertEqual({ending.why for ending in fleet.endings}, {RESET})
        first, last = (each(phone.back_at for phone in theirs) - died_at for each in (min, max))
        self.figure(f"{len(theirs)} idle phones of a node behind LVS that fell silent were back after {first:.1f} to "
                    f"{last:.1f} s")
