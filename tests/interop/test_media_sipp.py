"""sipp calls sipp through a real rtpengine: what each of them reads, and many calls in a row."""

import tempfile
from pathlib import Path
from typing import ClassVar

from tests.interop.media_nodes import MediaNodes
from tests.interop.script import literal, never_says, says
from tests.interop.sipp_case import EXACT
from tests.interop.test_calls_sipp import CallCase

OWN = literal("c=IN IP4 127.0.0.1")


class SippMediaTests(CallCase):
    """Bob is called, and Alice calls."""

    media: ClassVar[MediaNodes]

    @classmethod
    def setUpClass(cls) -> None:
        servers = tempfile.TemporaryDirectory()
        cls.addClassCleanup(servers.cleanup)
        cls.media = MediaNodes(Path(servers.name))
        cls.addClassCleanup(cls.media.stop)
        cls.media.start()
        cls.sections = cls.media.sections + EXACT
        super().setUpClass()

    def setUp(self) -> None:
        super().setUp()
        self.media.renew(self.registrar)
        self.node = says(literal(f"\nc=IN IP4 {self.media.all[0].host}"))

    def test_call(self) -> None:
        """Both read the address of the node and never each other's, in a call and in what they offer within it."""
        self.bob.registered()
        self.bob.receive("INVITE", self.node, never_says(OWN))
        self.bob.answer(180)
        self.bob.accept()
        self.bob.receive("INVITE", self.node, never_says(OWN))
        self.bob.accept()
        self.bob.hung_up()
        self.alice.invite(self.bob.user)
        self.alice.expect(180)
        self.alice.expect(200, self.node, never_says(OWN))
        self.alice.acknowledge()
        self.alice.within("INVITE")
        self.alice.expect(100, optional=True)
        self.alice.expect(200, self.node, never_says(OWN))
        self.alice.acknowledge()
        self.alice.hang_up()
        self.finish("tcp", "udp")
        self.media.wait_no_calls()

    def test_refused(self) -> None:
        """A refusal has nothing of the node, which has nothing of the call."""
        self.bob.registered()
        self.bob.receive("INVITE", self.node)
        self.bob.refuse(486)
        self.alice.invite(self.bob.user)
        self.alice.refused(486)
        self.finish()
        self.media.wait_no_calls()
