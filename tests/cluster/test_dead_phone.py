"""The cable of phones' host is pulled out: the kernel's probes find it, and their bindings are gone everywhere."""

from collections.abc import Callable, Sequence
from time import sleep

from tests.cluster.fleet import Fleet
from tests.cluster.fleet_phone import FleetPhone
from tests.cluster.hosts import HostsCase
from tests.cluster.namespaces import Host

IDLE, INTERVAL, PROBES = 3, 1, 3
DEAD_SECONDS = IDLE + INTERVAL * PROBES
"""So long after the last word of a phone that has vanished its connection is given up."""
CALLED, LEFT_ALONE, CALLERS = 4, 4, 4
CALLERS_HOST = 101
REGISTRATIONS_PER_SECOND = 200.0
LOOK_SECONDS = 0.05
PATIENCE_SECONDS = 30.0


class DeadPhoneTests(HostsCase):
    """Two registrars; the phones that vanish are at the first one, those that call them at the second."""

    registrars = 2
    users = CALLED + LEFT_ALONE + CALLERS
    sections = (f"[keepalive]\nidle = {IDLE}\ninterval = {INTERVAL}\nprobes = {PROBES}\n"
                "[cluster]\nreconnect_wait = 1.0\n")

    def test_dead_phones(self) -> None:
        """Idle phones are unbound after idle + interval × probes, those that an INVITE has just been sent to as well.

        The latter is TCP_USER_TIMEOUT's work, for the kernel sends no probes while data is unacknowledged.
        """
        here, there = self.lab.tcp
        phones = self.fleet_at(self.lab.phones_host, here, 0, CALLED + LEFT_ALONE)
        callers = self.fleet_at(self._network.host(CALLERS_HOST), there, CALLED + LEFT_ALONE, CALLERS)
        callers.register_all(REGISTRATIONS_PER_SECOND)
        phones.register_all(REGISTRATIONS_PER_SECOND)
        called, left_alone = phones.phones[:CALLED], phones.phones[CALLED:]
        self.lab.phones_host.pull_out()
        self.addCleanup(self.lab.phones_host.plug_in)
        calls = [callers.call(caller, FleetPhone(phones, 0, phone.user, "", 0))
                 for caller, phone in zip(callers.phones, called, strict=True)]
        called_at = callers.loop.now()
        gone = self.watch(callers, phones.phones)
        for where, users in gone.items():
            self.tell("idle phones", where, [users[phone.user] - phone.acknowledged_at for phone in left_alone])
            self.tell("phones with an INVITE on its way", where, [users[phone.user] - called_at for phone in called])
        callers.wait_calls(calls)
        self.figure(f"their callers heard {sorted({call.why for call in calls})} "
                    f"{max(call.ended_at for call in calls) - called_at:.1f} s after the INVITE at the latest")
        self.assertEqual(callers.endings, [])
        self.assertEqual({each["aor"] for each in self.lab.registrars[1].contacts()},
                         {phone.aor for phone in callers.phones})

    def fleet_at(self, host: Host, face: tuple[str, int], first: int, number: int) -> Fleet:
        """Return phones of a host of their own, all at one registrar."""
        return self.fleet_of([face], self.lab.users[first:first + number], host=host)

    def watch(self, clock: Fleet, phones: Sequence[FleetPhone]) -> dict[str, dict[str, float]]:
        """Return when each phone was unbound: at its own registrar, at the other one, and in Redis."""
        users = {phone.user for phone in phones}
        first, second = self.lab.registrars
        places: dict[str, Callable[[], set[str]]] = {
            "at its registrar": lambda: set(self.bindings(first)),
            "at the other registrar": lambda: set(self.bindings(second)),
            "in Redis": lambda: {user for user, record in self.shared().items() if record.bindings},
        }
        gone: dict[str, dict[str, float]] = {where: {} for where in places}
        began = clock.loop.now()
        while any(len(found) < len(users) for found in gone.values()):
            self.assertLess(clock.loop.now() - began, PATIENCE_SECONDS, f"unbound by now: {gone}")
            for where, look in places.items():
                for user in users - look() - gone[where].keys():
                    gone[where][user] = clock.loop.now()
            sleep(LOOK_SECONDS)
        return gone

    def tell(self, who: str, where: str, seconds: Sequence[float]) -> None:
        """Show how long it took, and check that nobody was given up before the last probe was sent."""
        self.figure(f"{who} were unbound {where} after {min(seconds):.2f} to {max(seconds):.2f} s (idle {IDLE} + "
                    f"interval {INTERVAL} × probes {PROBES} = {DEAD_SECONDS} s ± {INTERVAL})")
        self.assertGreater(min(seconds), DEAD_SECONDS - INTERVAL)
