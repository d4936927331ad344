"""What the tests with sipp share: one registrar for a class, scenarios from scripts, and two judges for the class."""

import tempfile
from itertools import count
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.message import Request, Response
from tests.interop.capture import Capture
from tests.interop.case import TROUBLE
from tests.interop.phone import Phone
from tests.interop.process import LOOPBACK
from tests.interop.registrar_process import RegistrarProcess
from tests.interop.script import DOMAIN, READY, Script
from tests.interop.sipp import Sipp

EVERYBODY = "[auth]\nrequired = false\n"
EXACT = "[bindings]\nexpiry_jitter = 0.0\n"
TRANSPORTS = ("udp", "tcp")


class SippCase(SynchronousTestCase):
    """Starts the registrar before the first test. After the last, tshark and the server's log must be content.

    A test has a name of its own for each of its users, so that tests cannot disturb one another.
    """

    sections: ClassVar[str] = EVERYBODY + EXACT
    registrar: ClassVar[RegistrarProcess]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]
    _capture: ClassVar[Capture]
    _runs: ClassVar["count[int]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls._folder.cleanup)
        folder = Path(cls._folder.name)
        cls._runs = count(1)
        cls.registrar = RegistrarProcess(folder / "registrar", (), cls.sections, DOMAIN, TRANSPORTS)
        cls.registrar.start()
        cls.addClassCleanup(cls.registrar.stop)
        cls._capture = Capture(cls.registrar.ports.items(), folder)
        cls._capture.__enter__()

    @classmethod
    def tearDownClass(cls) -> None:
        """Judge: what pytest reports as an error of the last test may concern any of the class."""
        cls._capture.__exit__(None)
        cls.registrar.stop()
        faults, unread = cls._capture.faults(), cls._capture.unread()
        assert not faults, f"tshark does not like what we sent: {faults}"
        assert not unread, f"tshark saw data over {unread}, but no SIP"
        log = cls.registrar.process.text()
        trouble = [line for line in log.splitlines() if any(word in line for word in TROUBLE)]
        assert not trouble, log[-5000:]

    def script(self, user: str) -> Script:
        """Return an empty script of somebody whom no other test knows."""
        return Script(f"{user}-{self._testMethodName.removeprefix('test_').replace('_', '-')}")

    def start(self, script: Script, transport: str = "udp", *, password: str | None = None,
              auth_uri: str = DOMAIN) -> Sipp:
        """Let sipp begin to play; it is ended with the test. All scripts of a test share one Call-ID (see Script).

        With a password it answers challenges, for `auth_uri` ("user@host" or "host").
        """
        folder = Path(self._folder.name) / f"{self._testMethodName}-{next(self._runs)}"
        folder.mkdir()
        scenario = folder / f"{script.user}.xml"
        scenario.write_text(script.xml)
        credentials = None if password is None else (script.user, password)
        sipp = Sipp(scenario, folder, self.registrar.address(transport), transport, call_id=self.call_id,
                    credentials=credentials, auth_uri=None if password is None else auth_uri)
        self.addCleanup(sipp.end)
        return sipp

    def play(self, script: Script, transport: str = "udp", *, password: str | None = None,
             auth_uri: str = DOMAIN) -> None:
        """Let sipp play the whole script."""
        self.start(script, transport, password=password, auth_uri=auth_uri).check()

    def subscriber(self, user: str, password: str) -> Script:
        """Return an empty script of somebody who has an account."""
        script = self.script(user)
        self.registrar.add_users([(script.user, password)])
        return script

    def serve(self, script: Script, transport: str = "udp", *, password: str | None = None) -> Sipp:
        """Let sipp begin to play, and return when it is ready to be called.

        That its contact is bound is not enough: its 200 leaves when the disk has the binding, a little later.
        """
        sipp = self.start(script, transport, password=password)
        sipp.process.wait_until(lambda: (sipp.folder / READY).exists() or None, "registration")
        return sipp

    def phone(self, user: str, transport: str = "UDP", password: str = "") -> Phone:
        """Return a phone whose every byte is ours to choose; its socket is closed with the test."""
        phone = Phone(transport, (LOOPBACK, self.registrar.ports[transport.lower()]), user, DOMAIN, password)
        self.addCleanup(phone.close)
        return phone

    def arrived(self, phone: Phone) -> list[Request | Response]:
        """Return what has come to `phone` and was not read yet: it stands before the answer to what it asks now."""
        question = phone.make("OPTIONS", f"sip:{self.registrar.address(phone.transport.lower())}")
        phone.send(question)
        came: list[Request | Response] = []
        while (message := phone.receive()).get("Call-ID") != question.get("Call-ID"):
            came.append(message)
        return came

    def check_silent(self, phone: Phone) -> None:
        """Fail if anything has come to `phone`."""
        self.assertEqual(self.arrived(phone), [])

    def setUp(self) -> None:
        self.call_id = f"{self._testMethodName}-{next(self._runs)}"
