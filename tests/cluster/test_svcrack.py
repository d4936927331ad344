"""Somebody guesses passwords from the address of an office with 200 phones: sipvicious' svcrack against a registrar.

svcrack tries a dictionary over UDP. It takes 403 for one more wrong password and goes on: after a ban it hears 403 for
whatever it tries, the right password too.
"""

import re
import sys
import tempfile
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.fleet import Behaviour, Fleet
from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK, Process, free_ports
from tests.interop.registrar_process import DOMAIN, RegistrarProcess
from tools.laboratory.filling import LabUser

PHONES = 200
LIMIT = 10
SOURCE_LIMIT = 15
"""The third user that is guessed at brings it up to this."""
PLACE = 20
"""Where the right password stands in the dictionary."""
OFFICE = [LabUser(f"desk{number}", f"window seat {number}") for number in range(PHONES)]
OWNER, GUEST = LabUser("owner", "corner office"), LabUser("guest", "visitors chair")
"""Two that are not registered."""
FOUND = re.compile(r"\| (\S+) +\| (.*?) +\|")
REFRESHES_PER_SECOND = 100.0


class Svcrack:
    """One run of svcrack from 127.0.0.1."""

    def __init__(self, registrar: RegistrarProcess, victim: LabUser, folder: Path) -> None:
        words = folder / f"{victim.username}.txt"
        words.write_text("\n".join([*(f"guess {n}" for n in range(PLACE)), victim.password, *("last guess",) * 9, ""]))
        (port,) = free_ports()
        self.process = Process(
            ["svcrack", "-v", "-v", "-u", victim.username, "-d", str(words), "-b", LOOPBACK, "-x", LOOPBACK,
             "-P", str(port), f"udp://{registrar.address('udp')}"],
            folder / f"svcrack-{victim.username}.log")

    @property
    def found(self) -> dict[str, str]:
        """The passwords that it reports, by user."""
        rows = dict(FOUND.findall(self.process.text()))
        rows.pop("Extension", None)
        return rows

    @property
    def tried(self) -> int:
        """How many passwords it has tried."""
        return self.process.text().count("trying ")


def print_counts(text: str) -> None:
    """Show what was counted (with `pytest -s`)."""
    sys.stdout.write(f"\n{text}")


class SvcrackCase(SynchronousTestCase):
    """One registrar with all these users."""

    sections: ClassVar[str] = ""
    registrar: ClassVar[RegistrarProcess]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        users = [(user.username, user.password) for user in (*OFFICE, OWNER, GUEST)]
        cls.registrar = RegistrarProcess(Path(cls._folder.name), users, cls.sections, transports=("udp", "tcp"))
        cls.registrar.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.registrar.stop()
        cls._folder.cleanup()

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def crack(self, victim: LabUser) -> Svcrack:
        """Begin to guess; it is ended with the test."""
        svcrack = Svcrack(self.registrar, victim, self.folder)
        self.addCleanup(svcrack.process.end)
        return svcrack


class UnlimitedTests(SvcrackCase):
    sections = "[bans]\nper_user_and_source = 0\nper_source = 0\nper_user = 0\n"

    def test_found(self) -> None:
        """Without limits svcrack learns the password: so it would here, if nothing stopped it."""
        svcrack = self.crack(OWNER)
        svcrack.process.wait(60)
        self.assertEqual(svcrack.found, {OWNER.username: OWNER.password})
        self.assertGreater(svcrack.tried, PLACE)


class OfficeTests(SvcrackCase):
    sections = f"[bans]\nper_user_and_source = {LIMIT}\nper_source = {SOURCE_LIMIT}\n"

    def test_office(self) -> None:
        """svcrack is banned before it comes to the password; 200 phones behind its address refresh all the while."""
        tcp, udp = OFFICE[:PHONES // 2], OFFICE[PHONES // 2:]
        with Fleet([(LOOPBACK, self.registrar.ports["tcp"])], tcp, DOMAIN, Behaviour()) as fleet:
            desks = [self.desk(user) for user in udp]
            fleet.register_all(rate=REFRESHES_PER_SECOND)
            answers = Counter(desk.register().status for desk in desks)
            self.assertEqual(answers, {200: len(desks)})
            fleet.refresh(REFRESHES_PER_SECOND)
            # Somebody who is not registered, a phone over TCP and one over UDP; then the whole address is banned.
            for victim in (OWNER, tcp[7], udp[7]):
                self.guess(victim, desks, answers, LIMIT)
            self.assertEqual(self.metric("rollcall_bans_total"), {"pair": 3, "source": 1})
            self.guess(GUEST, desks, answers, 0)
            before = fleet.answers["REGISTER", 200]
            fleet.wait(lambda: fleet.answers["REGISTER", 200] >= before + 2 * len(tcp), "two more refreshes of each")
            answers.update(desk.register().status for desk in desks)
            fleet.refresh(0)
            self.assertTrue(all(phone.is_registered for phone in fleet.phones))
            self.assertEqual((fleet.refusals, fleet.unanswered, fleet.endings), ([], [], []))
            self.assertEqual(set(answers), {200})
            self.assertEqual(self.bound(), Counter({user.username: 1 for user in OFFICE}))
            print_counts(f"{len(OFFICE)} phones stay registered; 200 to {fleet.answers['REGISTER', 200]} REGISTERs "
                         f"over TCP and {answers[200]} over UDP, refused: {len(fleet.refusals)}; bans: "
                         f"{self.metric('rollcall_bans_total')}, verdicts: "
                         f"{self.metric('rollcall_authentications_total')}")

    def guess(self, victim: LabUser, desks: list[Phone], answers: Counter[int], heard: int) -> None:
        """Let svcrack try all its words on `victim`, while the phones refresh; so many of them are looked at."""
        judged = self.metric("rollcall_authentications_total")
        svcrack = self.crack(victim)
        began_at = monotonic()
        while svcrack.process.running and monotonic() - began_at < 60:
            answers.update(desk.register().status for desk in desks)
        self.assertEqual(svcrack.process.wait(5), 0, svcrack.process.text())
        now = self.metric("rollcall_authentications_total")
        wrong, unheard = (now[cause] - judged[cause] for cause in ("bad_password", "banned"))
        print_counts(f"svcrack tried {svcrack.tried} passwords of {victim.username}: {wrong} were looked at, "
                     f"{unheard} not; found {svcrack.found}")
        self.assertEqual(svcrack.found, {})
        self.assertGreater(svcrack.tried, PLACE, svcrack.process.text()[-2000:])
        self.assertEqual(wrong, heard)
        self.assertGreaterEqual(unheard, PLACE - heard)

    def desk(self, user: LabUser) -> Phone:
        phone = Phone("UDP", (LOOPBACK, self.registrar.ports["udp"]), user.username, DOMAIN, user.password)
        self.addCleanup(phone.close)
        return phone

    def bound(self) -> Counter[str]:
        """Return how many contacts each user has, once svcrack's, if any, had time to come in."""
        return Counter({user.username: len(self.registrar.contacts(user.username)) for user in (*OFFICE, OWNER, GUEST)}
                       ) + Counter()

    def metric(self, name: str) -> Counter[str]:
        """Return the values of a metric by its one label."""
        found = re.findall(rf'^{name}{{\w+="(\w+)"}} (\S+)$', self.registrar.get("/metrics"), re.MULTILINE)
        return Counter({label: int(float(value)) for label, value in found if float(value)})
