"""A registrar with two workers: to its phones it is one, whichever worker the kernel gives them to."""

import json
import os
import re
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from time import sleep
from typing import Any, ClassVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.message import Request as SipRequest
from rollcall.sip.message import Response
from rollcall.sip.transaction import cancellation
from tests.interop.case import TROUBLE
from tests.interop.loads import RegisterLoad
from tests.interop.phone import Phone, Silence
from tests.interop.process import LOOPBACK, Process, wait_until
from tests.interop.registrar_process import ROOT, TWISTD
from tests.interop.workers_process import WORKERS, WorkersProcess

DOMAIN = "example.com"
SECTIONS = """
[auth]
required = false

[limits]
close_seconds = 1

[workers]
drain_seconds = 3
"""
INSTANCE = '+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e128>"'
REGISTERS_PER_SECOND = 400
PLACES = tuple(product(("TCP", "UDP"), WORKERS))


class WorkersCase(SynchronousTestCase):
    """One registrar for a class."""

    sections: ClassVar[str] = SECTIONS
    registrar: ClassVar[WorkersProcess]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    trouble: ClassVar[tuple[str, ...]] = TROUBLE

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._folder.cleanup)
        cls.registrar = WorkersProcess(Path(cls._folder.name), cls.sections, DOMAIN)
        cls.registrar.start()
        cls.addClassCleanup(cls.registrar.stop)

    @classmethod
    def tearDownClass(cls) -> None:
        """Judge the log: nobody may have lost his head, and everybody ends cleanly."""
        cls.registrar.stop()
        log = cls.registrar.process.text()
        trouble = [line for line in log.splitlines() if any(word in line for word in cls.trouble)]
        assert not trouble, "\n".join(trouble) + log[-5000:]
        for worker in WORKERS:
            assert re.search(f"WorkerService worker={worker}: stopped", log), log[-5000:]

    def user(self, name: str) -> str:
        """Return a name that no other test has."""
        return f"{name}-{self._testMethodName.removeprefix('test_').replace('_', '-')}"

    def phone(self, name: str, transport: str, worker: int) -> Phone:
        """Return a phone that is registered through a worker; it is closed with the test."""
        phone = self.registrar.phone(name, transport, worker)
        self.addCleanup(phone.close)
        return phone

    def invite(self, caller: Phone, callee: str) -> SipRequest:
        """Send an INVITE and return it."""
        invite = caller.make("INVITE", f"sip:{callee}@{DOMAIN}", [("Contact", f"<{caller.contact}>")])
        caller.send(invite)
        return invite

    def called(self, caller: Phone, callee: Phone) -> tuple[SipRequest, SipRequest, Response]:
        """Set up a call; return the INVITE as it was sent, as it came, and the answer as it came."""
        invite = self.invite(caller, callee.user)
        received = callee.request()
        self.assertEqual(received.method, "INVITE")
        callee.answer(received, 180)
        callee.answer(received, 200)
        answer = caller.final()
        self.assertEqual(answer.status, 200)
        caller.send(caller.within("ACK", invite, answer, cseq=1))
        self.assertEqual(callee.request().method, "ACK")
        return invite, received, answer


class CallTests(WorkersCase):
    def places(self) -> Iterator[tuple[Phone, Phone]]:
        """Yield callers and callees in all pairs of places."""
        for number, (there, here) in enumerate(product(PLACES, PLACES)):
            yield self.phone(self.user(f"a{number}"), *there), self.phone(self.user(f"b{number}"), *here)

    def test_caller_hangs_up(self) -> None:
        """Whoever calls whom, over TCP or UDP, through one worker or the other, talks, and may hang up."""
        for caller, callee in self.places():
            invite, _, answer = self.called(caller, callee)
            caller.send(caller.within("BYE", invite, answer))
            bye = callee.request()
            self.assertEqual(bye.method, "BYE")
            callee.answer(bye, 200)
            self.assertEqual(caller.final().status, 200)

    def test_callee_hangs_up(self) -> None:
        """So may the callee."""
        for caller, callee in self.places():
            _, received, _ = self.called(caller, callee)
            bye = callee.make("BYE", (received.get("Contact") or "").strip("<>"), to=received.get("From"),
                              call_id=received.get("Call-ID"), cseq=7)
            bye.set("From", f"{received.get('To')};tag=callee")
            bye.set_values("Route", received.values("Record-Route"))
            callee.send(bye)
            got = caller.request()
            self.assertEqual(got.method, "BYE")
            caller.answer(got, 200)
            self.assertEqual(callee.final().status, 200)

    def test_cancel(self) -> None:
        """A caller who gives up stops the ringing, and hears that the call is over."""
        for caller, callee in self.places():
            invite = self.invite(caller, callee.user)
            received = callee.request()
            callee.answer(received, 180)
            while caller.response().status != 180:
                pass
            caller.send(cancellation(invite))
            cancel = callee.request()
            self.assertEqual(cancel.method, "CANCEL")
            callee.answer(cancel, 200)
            callee.answer(received, 487)
            self.assertEqual(sorted([caller.final().status, caller.final().status]), [200, 487])
            self.assertEqual(callee.request().method, "ACK")

    def test_refused(self) -> None:
        """A refusal comes back, and the callee gets its ACK."""
        for caller, callee in self.places():
            invite = self.invite(caller, callee.user)
            callee.answer(callee.request(), 486)
            answer = caller.final()
            self.assertEqual(answer.status, 486)
            self.assertEqual(callee.request().method, "ACK")
            caller.acknowledge(invite, answer)

    def test_gone(self) -> None:
        """A phone whose connection has ended is not there, whichever worker is asked; nor is it listed."""
        for worker in WORKERS:
            name = self.user(f"b{worker}")
            callee = self.phone(name, "TCP", worker)
            caller = self.phone(self.user(f"a{worker}"), "TCP", 3 - worker)
            # The record is where it was asked for last.
            self.called(caller, callee)
            callee.close()
            self.registrar.wait_contacts(name, 0)
            self.invite(caller, name)
            self.assertEqual(caller.final().status, 404)


class RegistrationTests(WorkersCase):
    def test_two_phones(self) -> None:
        """Two phones of one user on different workers are both told of both, are both listed, and both ring."""
        for number, (there, here) in enumerate((one, other) for one, other in product(PLACES, PLACES) if one < other):
            name = self.user(f"b{number}")
            phones = self.phone(name, *there), self.phone(name, *here)
            for phone in phones:
                answer = phone.register()
                self.assertEqual(answer.status, 200)
                told = " ".join(answer.values("Contact"))
                for each in phones:
                    self.assertIn(f"<{each.contact}>", told)
            self.assertEqual({each["contact"] for each in self.registrar.contacts(name)},
                             {phone.contact for phone in phones})
            caller = self.phone(self.user(f"a{number}"), "TCP", 1)
            self.invite(caller, name)
            for phone in phones:
                phone.answer(phone.request(), 486)
            self.assertEqual(caller.final().status, 486)

    def test_moved(self) -> None:
        """A phone that comes back through the other worker leaves its old connection without a use: it is closed."""
        for worker in WORKERS:
            name = self.user(f"b{worker}")
            old = self.phone(name, "TCP", worker)
            self.assertEqual(old.register(contact=f"<{old.contact}>;{INSTANCE}").status, 200)
            new = self.phone(name, "TCP", 3 - worker)
            self.assertEqual(new.register(contact=f"<{new.contact}>;{INSTANCE}").status, 200)
            self.assertEqual([each["contact"] for each in self.registrar.contacts(name)], [new.contact])
            with self.assertRaisesRegex(Silence, "closed the connection"):
                old.receive()
            self.assertEqual([each["contact"] for each in self.registrar.contacts(name)], [new.contact])

    def test_unregistered_elsewhere(self) -> None:
        """A phone can remove all bindings of its user, those on the other worker too."""
        one, two = self.phone(self.user("b"), "TCP", 1), self.phone(self.user("b"), "UDP", 2)
        answer = two.register(0, "*")
        self.assertEqual((answer.status, answer.values("Contact")), (200, []))
        with self.assertRaisesRegex(Silence, "closed the connection"):
            one.receive()
        self.assertEqual(self.registrar.contacts(two.user), [])

    def test_listed(self) -> None:
        """A listing has everybody once, through whichever worker he came."""
        phones = [self.phone(self.user(f"b{number}"), *place) for number, place in enumerate(PLACES)]
        found = [each["aor"] for each in everybody(self.registrar)]
        for phone in phones:
            self.assertEqual(found.count(f"sip:{phone.user}@{DOMAIN}"), 1)

    def test_metrics(self) -> None:
        """The page of all workers is the sum of theirs."""
        for place in PLACES:
            self.phone(self.user("b"), *place)
        pages = [values(self.registrar.get(f"/metrics/{name}")) for name in ("1", "2", "supervisor")]
        together = values(self.registrar.get("/metrics"))
        for name in ('rollcall_flows{"transport": "TCP"}', 'rollcall_bindings{"transport": "UDP"}', "rollcall_aors{}"):
            self.assertGreater(together[name], 0)
        for name, value in together.items():
            if name.startswith(("rollcall_registrations", "rollcall_flows", "rollcall_bindings", "rollcall_aors")):
                self.assertEqual(value, sum(page.get(name, 0) for page in pages), name)


class DeathTests(WorkersCase):
    trouble = ("Traceback", "Unhandled")

    def test_killed(self) -> None:
        """kill -9 of a worker costs its connections: everybody else goes on, and all are found again."""
        for worker in WORKERS:
            over_tcp = self.phone(self.user(f"t{worker}"), "TCP", worker)
            over_udp = self.phone(self.user(f"u{worker}"), "UDP", worker)
            living = self.phone(self.user(f"l{worker}"), "TCP", 3 - worker)
            self.registrar.kill_worker(worker)
            with self.assertRaises(Silence):
                over_tcp.receive()
            self.assertEqual(self.registrar.contacts(over_tcp.user), [])
            self.assertEqual(living.register().status, 200)
            self.assertEqual([each["contact"] for each in self.registrar.contacts(over_udp.user)], [over_udp.contact])
            self.called(living, over_udp)
            back = self.phone(over_tcp.user, "TCP", worker)
            self.called(living, back)

    def test_record_of_another(self) -> None:
        """A phone whose binding was held by the worker that died, though it is on another, is made to come back."""
        phone = self.phone(self.user("b"), "TCP", 1)
        other = self.phone(self.user("b"), "TCP", 2)
        self.assertEqual(len(self.registrar.contacts(phone.user)), 2)
        self.registrar.kill_worker(2)
        with self.assertRaisesRegex(Silence, "closed the connection"):
            phone.receive()
        with self.assertRaises(Silence):
            other.receive()
        back = self.phone(phone.user, "TCP", 1)
        self.assertEqual([each["contact"] for each in self.registrar.contacts(back.user)], [back.contact])

    def test_calls_over_the_end(self) -> None:
        """A call rings through to a phone whose worker died in between, once the phone is back."""
        caller = self.phone(self.user("a"), "TCP", 1)
        callee = self.phone(self.user("b"), "TCP", 2)
        self.invite(caller, callee.user)
        callee.answer(callee.request(), 180)
        while caller.response().status != 180:
            pass
        self.registrar.kill_worker(2)
        back = self.phone(callee.user, "TCP", 2)
        self.called(self.phone(self.user("c"), "UDP", 1), back)


class RestartTests(WorkersCase):
    def setUp(self) -> None:
        self.load = RegisterLoad((LOOPBACK, self.registrar.ports["udp"]), DOMAIN, REGISTERS_PER_SECOND)
        self.addCleanup(self.load.close)

    def restarted(self, how: Callable[[], object]) -> None:
        """Have all workers exchanged, and return when they are."""
        lives = {worker: each["lives"] for worker, each in self.registrar.workers().items()}
        how()
        for worker in WORKERS:
            self.registrar.wait_lives(worker, lives[worker] + 1, 40)

    def post(self, body: bytes = b"{}") -> int:
        """Ask the admin site for it; return the status."""
        url = f"http://{LOOPBACK}:{self.registrar.admin_port}/v1/workers/restart"
        try:
            with urlopen(Request(url, body, {"Content-Type": "application/json"})) as answer:
                return int(answer.status)
        except HTTPError as error:
            with error:
                return error.code

    def test_under_load(self) -> None:
        """Workers are exchanged under 400 REGISTER/s: none is refused, and no promise is forgotten."""
        with self.load:
            self.restarted(lambda: wait_until(lambda: self.post() == 202 or None, "the end of what was before"))
        found = {each["aor"].removeprefix("sip:").partition("@")[0]: each for each in everybody(self.registrar)}
        promised = self.load.promised()
        for user in promised.keys() - found.keys():
            # A request that nobody waits for any more may still move a record while the listing walks by.
            found.update((user, each) for each in self.registrar.contacts(user))
        lost = {user for user, cseq in promised.items() if user not in found or found[user]["cseq"] < cseq}
        self.assertEqual(lost, set(), f"of {len(promised)}")
        self.assertEqual(self.load.removed() & found.keys(), set())
        self.assertEqual(self.load.refused, [])
        self.assertGreater(len(promised), 100)

    def test_one_at_a_time(self) -> None:
        """While one worker is exchanged the other is ready, a second wish has to wait, and phones come back."""
        phones = [self.phone(self.user(f"b{worker}"), "TCP", worker) for worker in WORKERS]
        pid = self.registrar.process.pid
        self.before = min(each["lives"] for each in self.registrar.workers().values())
        wait_until(lambda: self.post(b'{"workers": []}') == 202 or None, "the end of what was before")

        def ask() -> None:
            os.kill(pid, signal.SIGUSR2)
            wait_until(lambda: self.post() == 409 or None, "a restart that has begun")
            wait_until(self.is_over, "the end of the restart")

        self.restarted(ask)
        for phone in phones:
            wait_closed(phone)
            again = self.phone(phone.user, "TCP", 1)
            self.assertEqual([each["contact"] for each in self.registrar.contacts(phone.user)], [again.contact])
        self.assertEqual((self.post(b'{"workers": [3]}'), self.post(b"[]")), (404, 400))

    def is_over(self) -> bool | None:
        """Say whether both workers are ready again; never more than one may be away."""
        workers = self.registrar.workers().values()
        self.assertLessEqual(sum(each["not_ready"] is not None for each in workers), 1)
        return all(each["lives"] > self.before and each["not_ready"] is None for each in workers) or None

    def test_ringing(self) -> None:
        """A worker is not exchanged before the phones that ring have answered, be it the caller's worker or theirs."""
        for number, (there, here) in enumerate(product(PLACES, (("TCP", 1), ("TCP", 2)))):
            if 1 not in (there[1], here[1]):
                continue
            caller, callee = self.phone(self.user(f"a{number}"), *there), self.phone(self.user(f"b{number}"), *here)
            self.invite(caller, callee.user)
            received = callee.request()
            callee.answer(received, 180)
            lives = self.registrar.workers()[1]["lives"]
            wait_until(lambda: self.post(b'{"workers": [1]}') == 202 or None, "the end of what was before")
            wait_until(lambda: self.registrar.workers()[1]["state"] == "draining" or None, "draining")
            # Some looks whether all is done.
            sleep(0.4)
            self.assertEqual(self.registrar.workers()[1]["lives"], lives, f"{there} calls {here}")
            callee.answer(received, 200)
            self.assertEqual(caller.final().status, 200)
            self.registrar.wait_lives(1, lives + 1)


class SupervisorTests(SynchronousTestCase):
    """What a registrar with workers says when it cannot start, and what becomes of workers without a supervisor."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.registrar = WorkersProcess(self.folder, SECTIONS, DOMAIN, ("udp", "tcp", "tls"))
        self.command = [TWISTD, "--nodaemon", "--pidfile=", "registrar", "--config", str(self.registrar.config)]

    def assert_refused(self, *words: str) -> None:
        """The process ends by itself, not as one that did well, and says why without a traceback."""
        with Process(self.command, self.folder / "start.log", folder=ROOT) as process:
            self.assertEqual(process.wait(30), 1)
            text = process.text()
        for word in ("cannot start", *words):
            self.assertIn(word, text)
        for word in ("Traceback", "Unhandled", "ready:"):
            self.assertNotIn(word, text)

    def test_ports_taken(self) -> None:
        """A port that somebody else has is named, though workers could share it with him."""
        for transport, kind in (("udp", socket.SOCK_DGRAM), ("tls", socket.SOCK_STREAM)):
            port = self.registrar.ports[transport]
            with socket.socket(socket.AF_INET, kind) as taken:
                taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                taken.bind((LOOPBACK, port))
                if kind is socket.SOCK_STREAM:
                    taken.listen()
                self.assert_refused(f"listener {transport}", str(port), "Address already in use")

    def test_worker_cannot_start(self) -> None:
        """When a worker cannot start, the registrar cannot, and the log has the worker's own reason."""
        text = self.registrar.config.read_text()
        self.registrar.config.write_text(text.replace('certificate_file = "', 'certificate_file = "/nowhere'))
        self.assert_refused("/nowhere", "worker=1", "has failed with status 1")

    def test_unreadable_stores(self) -> None:
        """Stores that cannot be read end the start before any worker is started."""
        for name in ("location.sqlite", "subscribers.sqlite"):
            path = self.folder / "data" / name
            before = path.read_bytes() if path.exists() else None
            path.write_text("This is no database. " * 1000)
            self.assert_refused(name)
            path.unlink()
            if before is not None:
                path.write_bytes(before)

    def test_one_data_directory(self) -> None:
        """A second registrar with the same data directory does not start, with other ports neither."""
        with self.registrar:
            others = WorkersProcess(self.folder / "other", SECTIONS, DOMAIN).config
            text = others.read_text().replace('data_dir = "data"', f'data_dir = "{self.folder / "data"}"')
            others.write_text(text)
            self.command[-1] = str(others)
            self.assert_refused("another registrar uses this file")

    def test_supervisor_killed(self) -> None:
        """When the supervisor is killed its workers end by themselves, and another registrar can start at once."""
        self.registrar.start()
        phone = self.registrar.phone("bob", "UDP", 2)
        self.addCleanup(phone.close)
        pids = [each["pid"] for each in self.registrar.workers().values()]
        os.kill(self.registrar.process.pid, signal.SIGKILL)
        self.registrar.process.wait(10)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids) or None, "end of the workers")
        self.assertIn("the supervisor is gone", self.registrar.process.text())
        with self.registrar:
            self.assertEqual([each["contact"] for each in self.registrar.contacts("bob")], [phone.contact])

    def test_hang_up(self) -> None:
        """SIGHUP reaches all workers, unless the configuration has a mistake: then nobody reloads."""
        with self.registrar:
            process = self.registrar.process
            os.kill(process.pid, signal.SIGHUP)
            for worker in WORKERS:
                process.wait_for_text(f"WorkerService worker={worker}: certificates reloaded")
            self.registrar.config.write_text("[registrar")
            os.kill(process.pid, signal.SIGHUP)
            process.wait_for_text("WorkersService: nothing was reloaded")
            self.assertEqual(process.text().count("certificates reloaded"), len(WORKERS))

    def test_in_memory(self) -> None:
        """Without a file, what a killed worker held is lost, and what the other one held is not."""
        registrar = WorkersProcess(self.folder / "memory", f'{SECTIONS}[location]\nkind = "memory"\n', DOMAIN)
        with registrar:
            phones = [registrar.phone(f"u{worker}", "UDP", worker) for worker in WORKERS]
            registrar.kill_worker(1)
            self.assertEqual([len(registrar.contacts(phone.user)) for phone in phones], [0, 1])
            self.assertEqual([each["aor"] for each in everybody(registrar)], [f"sip:u2@{DOMAIN}"])
            for phone in phones:
                phone.close()


def everybody(registrar: WorkersProcess) -> list[dict[str, Any]]:
    """Return all bindings, page by page."""
    found: list[dict[str, Any]] = []
    answer = json.loads(registrar.get("/v1/contacts?size=3"))
    found += answer["contacts"]
    while answer["next"] is not None:
        answer = json.loads(registrar.get(f"/v1/contacts?after={answer['next']}"))
        found += answer["contacts"]
    return found


def values(page: str) -> dict[str, float]:
    """Return the samples of a page of metrics by their names and labels."""
    return {
        f"{sample.name}{json.dumps(dict(sorted(sample.labels.items()))) if sample.labels else '{}'}": sample.value
        for family in text_string_to_metric_families(page) for sample in family.samples
    }


def wait_closed(phone: Phone) -> None:
    """Return when the server has closed a phone's connection."""

    def look() -> bool | None:
        try:
            phone.receive(0.1)
        except Silence as silence:
            return "closed" in str(silence) or None
        return None

    wait_until(look, "end of a connection")
