"""A host loses power, and its idle phones, of which none sends anything, come to the host that has its address now."""

import tempfile
from pathlib import Path
from time import sleep
from typing import ClassVar

import pytest

from rollcall.cluster.config import ClusterConfig
from tests.cluster.case import ClusterCase
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.namespaces import Network, network_or_skip
from tests.interop.process import wait_until
from tools.laboratory.virtual_hosts import PORT, VIRTUAL, VirtualLab

PHONES = 60
ADVERT_SECONDS = 0.1
REGISTRATIONS_PER_SECOND = 300.0
BACK_SECONDS = 40.0
REPEATS = 2
LEASE_SECONDS = ClusterConfig().lease_seconds
RESET = "broken: Connection reset by peer"


class TwoHostsCase(ClusterCase):
    """Two hosts with keepalived and a registrar each; Redis and the phones are on further ones."""

    lab: ClassVar[VirtualLab]
    _network: ClassVar[Network]

    @classmethod
    def setUpClass(cls) -> None:
        cls._network = network_or_skip()
        cls._folder = tempfile.TemporaryDirectory()
        sections = {"tickle": {"repeats": REPEATS}}
        cls.lab = VirtualLab(cls._network, Path(cls._folder.name), PHONES, sections, ADVERT_SECONDS, has_tickles=True)
        cls.lab.start()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._network.close()

    def wait_noted(self, name: str, count: int) -> None:
        """Return when so many phones are noted, at the virtual address and nowhere else."""
        wait_until(lambda: list(self.noted(name).values()) == [count] or None, f"{count} connections of {name}")
        self.assertTrue(all(key.endswith(f"}}:{VIRTUAL}:{PORT}") for key in self.noted(name)))

    def noted(self, name: str) -> dict[str, int]:
        """Return by key how many phones of any life of a node are noted."""
        server = self.lab.redis.servers[0]
        keys = [key.decode() for key in server.ask("KEYS", f"flows:{{{name}:*}}:*")]
        return {key: server.ask("SCARD", key) for key in keys}


class SilentHostTests(TwoHostsCase):
    """The registrar of the other host is there already."""

    def test_power_is_lost(self) -> None:
        """Every idle phone's connection is reset by the other host, and every phone registers there.

        Until it dies a host keeps its connections in Redis. When all are woken nothing of it is left there, and a host
        that ends in order leaves nothing either.
        """
        first, second = self.lab.registrars
        fleet = self.fleet(behaviour=Behaviour(connect_seconds=2.0))
        fleet.loop.do(self.lab.phones_host.enter)
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        self.wait_noted(first.name, PHONES)
        sent, began_at = fleet.sent["REGISTER"], fleet.loop.now()

        self.lab.lose_power(first.name)
        fleet.wait(lambda: all(phone.back_at > began_at for phone in fleet.phones), "all phones", BACK_SECONDS)

        self.assertEqual([ending.why for ending in fleet.endings], [RESET] * PHONES)
        self.assertEqual(fleet.sent["REGISTER"] - sent, PHONES, "one REGISTER for each phone, after its reset")
        self.assertEqual({each["node"] for contacts in self.bindings(second).values() for each in contacts},
                         {second.name})
        self.check_woken(second.name)
        back = max(phone.back_at for phone in fleet.phones) - began_at
        self.figure(f"{PHONES} idle phones of a host that lost power were back on the other one in {back:.1f} s")
        self.check_order(fleet)

    def check_woken(self, name: str) -> None:
        """See that each connection was tickled, how often was told, and that it is not noted any more."""
        node = self.lab.node(name)
        wait_until(lambda: node.metric("rollcall_tickles_sent_total") == PHONES * REPEATS or None, "all tickles")
        self.assertEqual(node.metric("rollcall_tickle_sets_total"), 1)
        self.assertIn(f"tickling {PHONES} connections of node registrar-1", node.log())
        wait_until(lambda: self.noted("registrar-1") == {} or None, "end of what the dead node has noted")

    def check_order(self, fleet: Fleet) -> None:
        """See that a node that ends in order has noted its phones until then and leaves nothing behind."""
        self.wait_noted("registrar-2", PHONES)
        fleet.is_moving = False
        self.lab.node("registrar-2").stop()
        self.assertEqual(self.noted("registrar-2"), {})
        self.assertEqual(self.lab.redis.servers[0].ask("SMEMBERS", "flows:registrar-2"), [])


@pytest.mark.long
class StandbyTests(TwoHostsCase):
    """The registrar of the other host begins when the first one is long dead."""

    def test_begins_later(self) -> None:
        """It finds in Redis whose phones were connected to the address that its host has by then, and wakes them."""
        first, second = self.lab.registrars
        fleet = self.fleet(behaviour=Behaviour(connect_seconds=2.0))
        fleet.loop.do(self.lab.phones_host.enter)
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        self.wait_noted(first.name, PHONES)
        second.stop()
        began_at = fleet.loop.now()

        self.lab.lose_power(first.name)
        sleep(LEASE_SECONDS + 2.0)
        second.start()
        fleet.wait(lambda: all(phone.back_at > began_at for phone in fleet.phones), "all phones", BACK_SECONDS)

        self.assertEqual([ending.why for ending in fleet.endings], [RESET] * PHONES)
