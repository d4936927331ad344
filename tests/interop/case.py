"""What the tests with real clients share: one registrar for a class, and two judges for each test."""

import tempfile
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.baresip import Account, Baresip
from tests.interop.capture import Capture
from tests.interop.registrar_process import RegistrarProcess

ALICE = ("alice", "wonder")
BOB = ("bob", "builder")
TROUBLE = ("Traceback", "Unhandled", " critical ", "[critical]", "CRITICAL")


class InteropCase(SynchronousTestCase):
    """Starts the registrar before the first test. After each test tshark and the server's log must be content."""

    keys: ClassVar[Path | None] = None
    sections: ClassVar[str] = ""
    transports: ClassVar[tuple[str, ...]] = ("udp", "tcp", "tls", "ws", "wss")
    registrar: ClassVar[RegistrarProcess]
    _folder: ClassVar["tempfile.TemporaryDirectory[str]"]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        folder = Path(cls._folder.name)
        cls.registrar = RegistrarProcess(folder / "registrar", (ALICE, BOB), cls.sections, transports=cls.transports)
        cls.registrar.start()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.registrar.stop()
        cls._folder.cleanup()

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self._phones = 0
        self._log_before = len(self.registrar.process.text())
        self._capture = Capture(self.registrar.ports.items(), self.folder, self.keys)
        self._capture.__enter__()
        self.addCleanup(self._judge)

    def phone(self, user: tuple[str, str], transport: str, *peers: str, answers: bool = True) -> Baresip:
        """Start a baresip, which registers; it is ended with the test."""
        name, password = user
        account = Account(name, password, self.registrar.address(transport), transport, answers=answers)
        self._phones += 1
        phone = Baresip(account, self.folder / f"phone{self._phones}", peers)
        self.addCleanup(phone.finish)
        return phone

    def _judge(self) -> None:
        self._capture.__exit__(None)
        self.assertEqual(self._capture.faults(), [], "tshark does not like what we sent")
        self.assertEqual(self._capture.unread(), [], "tshark saw data, but no SIP")
        new = self.registrar.process.text()[self._log_before :]
        self.assertEqual([line for line in new.splitlines() if any(word in line for word in TROUBLE)], [], new)
