"""What the tests of directors share: the lab for each class, phones by TCP and UDP, and where connections have gone."""

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

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
# IPVS tells of connections in packets that are full, or two seconds old; a director writes its state once in a second.
SYNCHRONISED_SECONDS = 10.0


class LvsCase(ClusterCase):
    """Starts the lab and both directors before the first test."""

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
        made = Fleet([(VIRTUAL, SIP_PORT)], users, self.lab.domain, behaviour, sources=PHONES)
        made.start()
        self.addCleanup(made.stop)
        made.loop.do(self.lab.phones_host.enter)
        return made

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
