"""A registrar is killed behind a balancer: all its phones come back, in an order, and no call waits for them."""

import contextlib
import os
import signal
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import pytest

from tests.cluster.fleet import Behaviour, Fleet
from tests.cluster.namespaces import DEVICE
from tests.cluster.test_directors import DIRECTOR, SIP_PORT, VIRTUAL, DirectedCase
from tests.interop.process import wait_until
from tools.laboratory.balancers import HaproxyProcess, NftTable, NftWeights, rendered
from tools.laboratory.node import Node
from tools.laboratory.storm import Storm, storm
from tools.laboratory.storm_calls import Callers
from tools.laboratory.toml import Sections

PATIENT = Behaviour(when_unavailable="later", max_retry_seconds=120, refused_seconds=0.5, connect_seconds=5.0)
FEW, MANY, CALLERS = 300, 10_000, 60
FEW_PER_SECOND, MANY_PER_SECOND = 200.0, 700.0
SECOND_VIRTUAL = "10.78.0.11"


class Slowly(AbstractContextManager[None]):
    """Lets a process rest until many wait for it, then run for a twenty-fifth of the time, inside a with statement."""

    FIRST_REST_SECONDS, RUN_SECONDS, REST_SECONDS = 1.0, 0.002, 0.048

    def __init__(self, node: Node) -> None:
        self._pid = node.pid
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._go)

    def _go(self) -> None:
        # Before all others, or the process would run on for as long as this thread waits for a processor.
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        seconds = self.FIRST_REST_SECONDS
        while not self._ends.wait(self.RUN_SECONDS):
            os.kill(self._pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(self._pid, signal.SIGCONT)
            seconds = self.REST_SECONDS

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()


class StormCase(DirectedCase):
    """Two registrars behind a director; one is killed."""

    streams_by = "nftables"
    virtuals: ClassVar[tuple[str, ...]] = (VIRTUAL,)
    users = FEW + CALLERS
    rate = FEW_PER_SECOND

    def registered(self) -> Fleet:
        """Return phones that wait when they are asked to, and have registered by way of the virtual addresses."""
        faces = [(virtual, SIP_PORT) for virtual in self.virtuals]
        made = self.fleet_of(faces, self.lab.users[CALLERS:], PATIENT, self.lab.phones_host)
        made.register_all(self.rate, self.users / self.rate + 60)
        return made

    def storm(self, meanwhile: AbstractContextManager[object] | None = None) -> Storm:
        """Register all phones, kill the first registrar, and return what came of it."""
        fleet = self.registered()
        callers = Callers(
            self.lab.phones_host, (VIRTUAL, SIP_PORT), self.lab.users[:CALLERS], self.lab.domain)
        self.addCleanup(callers.stop)
        return storm(fleet, callers, self.lab.registrars[0], self.lab.registrars[1:], print, meanwhile)

    def spread_by_kernel(self) -> None:
        """Have the kernel's table lead phones to both, and to the one that is killed until somebody tells it."""
        NftTable(self.director, self.folder, rendered("nftables", self.config)).load()

    def tell_kernel(self) -> None:
        """Have the table follow the nodes' weights."""
        weights = NftWeights(self.director, self.folder, self.config)
        weights.start()
        self.addCleanup(weights.stop)

    def check(self, seen: Storm) -> None:
        """Check that nobody was sent away twice, banned or forgotten, and show how it went."""
        for line in seen.lines():
            self.figure(f"{type(self).__name__}: {line}")
        self.assertGreater(seen.moved, self.users // 4)
        self.assertEqual((seen.shed_twice, list(seen.other), seen.banned), (0, [], 0.0))
        self.assertEqual(len(seen.byes), seen.calls)


class FewTests(StormCase):
    """So that it takes few phones, the registrar that is left hardly runs while they come."""

    sections = f"{StormCase.sections}[avalanche]\ntarget_seconds = 0.03\n"

    def test_storm(self) -> None:
        """Phones are shed, each once at most, and all are back; a call is hung up meanwhile as ever."""
        self.spread_by_kernel()
        staying = self.lab.registrars[1]
        seen = self.storm(Slowly(staying))
        self.check(seen)
        self.assertGreater(sum(seen.shed.values()), 0, staying.error("has shed nobody"))
        self.assertIn("REGISTERs are turned away", staying.log())


@pytest.mark.long
class ManyTests(StormCase):
    """Ten thousand phones."""

    users = MANY + CALLERS
    rate = MANY_PER_SECOND

    def test_nftables(self) -> None:
        """The kernel resets the phones' connections when the process is killed; they come at once."""
        self.spread_by_kernel()
        self.tell_kernel()
        self.check(self.storm())


@pytest.mark.long
class ManyByHaproxyTests(StormCase):
    """The same behind two HAProxies, for one has no descriptors for so many phones."""

    streams_by = "haproxy"
    virtuals = (VIRTUAL, SECOND_VIRTUAL)
    users = MANY + CALLERS
    rate = MANY_PER_SECOND

    @classmethod
    def own_of(cls, own: str, addresses: dict[str, str]) -> Sections:
        """See DirectedCase: both HAProxies are believed."""
        sections = super().own_of(own, addresses)
        sections["listen"][0]["proxy_protocol_from"] = ["10.77.0.3/32", "10.77.0.4/32"]
        return sections

    def proxy(self, number: int, virtual: str) -> None:
        """Start one at a host of its own."""
        host = self._network.host(DIRECTOR + number)
        if number:
            host.run("ip", "addr", "add", f"{virtual}/24", "dev", DEVICE)
        text = rendered("haproxy", self.config).replace(VIRTUAL, virtual)
        proxy = HaproxyProcess(host, Path(self.folder / str(number)), text)
        proxy.start()
        self.addCleanup(proxy.stop)
        wait_until(lambda: set(proxy.states().values()) == {"UP"} or None, "both nodes in HAProxy", 20.0)

    def test_haproxy(self) -> None:
        """HAProxy closes the phones' connections, and leads them to the registrar that is left."""
        for number, virtual in enumerate(self.virtuals):
            self.proxy(number, virtual)
        self.check(self.storm())
