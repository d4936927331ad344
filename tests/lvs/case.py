"""What the tests of directors share: the lab for each class, phones by TCP and UDP, and where connections have gone."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

from attrs import frozen

from tests.cluster.case import ClusterCase
from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.fleet_phone import FleetPhone
from tests.interop.phone import Phone
from tests.interop.process import InteropError
from tests.lvs.lab import PHONES, SIP_PORT, VIRTUAL, LvsLab, SwitchedNetwork
from tools.laboratory.node import Node
from tools.laboratory.toml import Sections
from tools.laboratory.uml_director import Director, RealServer, State

TCP, UDP = (f"{protocol} {VIRTUAL}:{SIP_PORT}" for protocol in ("TCP", "UDP"))
TCP_PHONES, LATE_PHONES, UDP_PHONES = 150, 60, 40
REGISTRATIONS_PER_SECOND = 100.0
REFRESHES_PER_SECOND = 60.0
# IPVS tells of connections in packets that are full, or two seconds old; a director writes its state once in a second.
SYNCHRONISED_SECONDS = 10.0
# What phones do by themselves. Nobody answers those of a host that is cut off; a new director does within this time.
BEHAVIOUR = Behaviour(register_patience_seconds=12.0, refused_seconds=0.5, jitter_seconds=1.0)


@frozen
class Takeover:
    """What became of connections when a director died: users."""

    known: set[str]
    """Whose connections the other director had been told of."""
    broken: set[str]
    """Whose connections have ended."""


class Silence:
    """The longest time in which no phone of a fleet got an answer."""

    def __init__(self, fleet: Fleet) -> None:
        self.longest = 0.0
        self._fleet = fleet
        self._heard, self._heard_at = 0, monotonic()

    def look(self) -> bool:
        """Look again; return True."""
        heard, now = self._fleet.answers["REGISTER", 200], monotonic()
        self.longest = max(self.longest, now - self._heard_at)
        if heard > self._heard:
            self._heard, self._heard_at = heard, now
        return True


class LvsCase(ClusterCase):
    """Starts the lab and both directors before the first test."""

    users = TCP_PHONES + LATE_PHONES + UDP_PHONES
    lab: ClassVar[LvsLab]
    weights: ClassVar[Sequence[int]] = (100, 100, 50)
    own: ClassVar[dict[str, Sections]] = {}
    _network: ClassVar[SwitchedNetwork]

    @classmethod
    def setUpClass(cls) -> None:
        cls._network = SwitchedNetwork()
        cls._folder = tempfile.TemporaryDirectory()
        cls.lab = LvsLab(cls._network, Path(cls._folder.name), cls.registrars, cls.users, cls.sections, cls.weights,
                         cls.own)
        cls.lab.start()

    @classmethod
    def tearDownClass(cls) -> None:
        super().tearDownClass()
        cls._network.close()

    def fleet(self, number: int | None = None, behaviour: Behaviour | None = None, first: int = 0) -> Fleet:
        """See ClusterCase: the phones know the virtual address alone, and speak from many of their own.

        `first` leaves out so many users.
        """
        users = self.lab.users[first:None if number is None else first + number]
        return self.fleet_of([(VIRTUAL, SIP_PORT)], users, behaviour, self.lab.phones_host, PHONES)

    def udp_phones(self, number: int) -> list[Phone]:
        """Return phones for the last users of the lab that speak UDP, each from an address of its own in turn."""
        phones = []
        with self.lab.phones_host.entered():
            for turn, user in enumerate(self.lab.users[-number:]):
                phone = Phone("UDP", (VIRTUAL, SIP_PORT), user.username, self.lab.domain, user.password,
                              PHONES[turn % len(PHONES)])
                self.addCleanup(phone.close)
                phones.append(phone)
        return phones

    def real(self, service: str) -> Mapping[str, RealServer]:
        """Return by its name each registrar that the master sends connections to, or has sent some to."""
        servers = self.lab.master.state().services.get(service, {})
        names = {f"{self.lab.host(node.name).ipv4}:{SIP_PORT}": node.name for node in self.lab.registrars}
        return {names[place]: server for place, server in servers.items()}

    def held(self, transport: str = "tcp") -> Counter[str]:
        """Return how many bindings of a transport hang on each registrar."""
        return Counter(contact["node"] for contact in self.contacts() if contact["transport"].lower() == transport)

    def contacts(self) -> list[dict[str, Any]]:
        """Return all bindings, as the last registrar knows them, to which the tests do nothing."""
        return self.lab.registrars[-1].contacts()

    def phones_of(self, fleet: Fleet, node: Node) -> list[FleetPhone]:
        """Return the phones of a fleet that are bound to a registrar."""
        users = {user for user, name in self.homes().items() if name == node.name}
        return [phone for phone in fleet.phones if phone.user in users]

    def homes(self) -> dict[str, str]:
        """Return by user which registrar it is bound to."""
        return {contact["aor"].removeprefix("sip:").partition("@")[0]: contact["node"] for contact in self.contacts()}

    def weights_at(self, director: Director, node: Node) -> list[int]:
        """Return the weights that a director gives a registrar: one for each transport, none when it has left."""
        place = f"{self.lab.host(node.name).ipv4}:{SIP_PORT}"
        return [servers[place].weight for servers in director.state().services.values() if place in servers]

    def wait_weights(self, node: Node, look: Callable[[list[int]], bool], what: str) -> None:
        """Return when both directors give a registrar such weights."""
        for director in self.lab.directors:
            director.wait(lambda _, at=director: look(self.weights_at(at, node)), f"{what} of {node.name}")  # type: ignore[misc]

    def wait_synchronised(self, fleet: Fleet) -> set[str]:
        """Return whose TCP connections the backup director knows: all of them, or what it hears of in time."""

        def known(state: State) -> set[str]:
            clients = {flow.client for flow in state.flows if flow.protocol == "TCP"}
            return {phone.user for phone in fleet.phones if phone.local in clients}

        backup = self.lab.backup
        with suppress(InteropError):
            backup.wait(lambda state: len(known(state)) == len(fleet.phones), "news", SYNCHRONISED_SECONDS)
        return known(backup.state())

    def kill_master(self, least_known: int) -> Takeover:
        """Kill the master director under phones that refresh, and return what came of it. New phones come afterwards.

        First the backup has been told of all connections, or of as many as it is in time, but of `least_known`; with 0
        it is not waited for.
        """
        fleet = self.registered()
        phones = self.udp_phones(UDP_PHONES)
        for phone in phones:
            self.assertEqual(phone.register().status, 200)
        held = {each["contact"]: each["node"] for each in self.contacts()}
        master, backup = self.lab.master, self.lab.backup
        known = self.wait_synchronised(fleet) if least_known else set()
        self.assertGreaterEqual(len(known), least_known, "the backup has been told of too few connections")
        fleet.refresh(REFRESHES_PER_SECOND)
        silence = Silence(fleet)
        master.kill()
        backup.wait(lambda state: silence.look() and VIRTUAL in state.addresses, "virtual address")
        taken = monotonic()
        fleet.wait(lambda: silence.look() and all(phone.acknowledged_at > taken for phone in fleet.phones),
                   "refresh of all")
        fleet.refresh(0)
        broken = {each.user for each in fleet.endings}
        for phone in phones:
            self.assertEqual(phone.register().status, 200)
        moved = {each["contact"] for each in self.contacts() if held.get(each["contact"]) != each["node"]}
        late = self.late()
        late.register_all(REGISTRATIONS_PER_SECOND)
        self.figure(
            f"director killed: nobody was answered for {silence.longest:.1f} s; the other had been told of "
            f"{len(known)} of {TCP_PHONES} TCP connections; {len(broken)} connections broke, {len(moved)} bindings "
            f"changed their registrar, {len(fleet.unanswered)} refreshes were given up; {LATE_PHONES} new phones went "
            f"to {dict(sorted(self.users_on(late).items()))}")
        self.remove(phones)
        return Takeover(known, broken)

    def registered(self, number: int = TCP_PHONES) -> Fleet:
        """Return phones that have registered over TCP."""
        fleet = self.fleet(number, BEHAVIOUR)
        fleet.register_all(REGISTRATIONS_PER_SECOND)
        return fleet

    def be_served_again(self, node: Node) -> None:
        """Have a drained registrar take phones again."""
        node.post(f"/v1/nodes/{node.name}/drain", {"undo": True})
        self.lab.wait_serving()

    def be_started_again(self, node: Node) -> None:
        """Start a killed registrar."""
        node.start()
        self.lab.wait_serving()

    def be_reached_again(self, node: Node) -> None:
        """Plug the cable of a registrar's host in."""
        self.lab.host(node.name).plug_in()
        self.lab.wait_serving()

    def remove(self, phones: list[Phone]) -> None:
        """Let UDP phones remove their bindings, which no connection's end does."""
        for phone in phones:
            self.assertEqual(phone.register(expires=0).status, 200)

    def late(self) -> Fleet:
        """Return phones of other users, who have not registered yet."""
        return self.fleet(LATE_PHONES, BEHAVIOUR, TCP_PHONES)

    def users_on(self, fleet: Fleet) -> Counter[str]:
        """Return how many phones of a fleet hang on each registrar."""
        homes = self.homes()
        return Counter(homes[phone.user] for phone in fleet.phones)
