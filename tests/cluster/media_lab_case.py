"""What tests of calls through media nodes share: a whole lab in a network of its own, and phones with real audio."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from tests.cluster.case import ClusterCase
from tests.cluster.namespaces import Namespace, namespace_or_skip
from tests.interop.process import wait_until
from tools.laboratory.lab import Lab
from tools.laboratory.media_call import MediaCall, State
from tools.laboratory.media_loss import Losses
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.media_servers import subscribers

UP_SECONDS = 20.0


class MediaLabCase(ClusterCase):
    """See ClusterCase: with rtpengines and balancers, all in a network namespace, in which packets can be lost."""

    registrars = 1
    media: ClassVar[int] = 3
    balancers: ClassVar[int] = 1
    balancer_sections: ClassVar[Mapping[str, Any]] = {}
    network: ClassVar[Namespace]
    losses: ClassVar[Losses]

    @classmethod
    def setUpClass(cls) -> None:
        cls.network = namespace_or_skip()
        cls._folder = tempfile.TemporaryDirectory()
        with cls.network.entered():
            cls.losses = Losses()
            cls.lab = Lab(Path(cls._folder.name), cls.registrars, cls.redis, cls.users, cls.sections, media=cls.media,
                          balancers=cls.balancers, balancer_sections=cls.balancer_sections)
            cls.lab.start()

    @classmethod
    def tearDownClass(cls) -> None:
        with cls.network.entered():
            super().tearDownClass()
        cls.network.close()

    def setUp(self) -> None:
        """Have the thread of the test be in the network, as all that it starts."""
        inside = self.network.entered()
        inside.__enter__()
        self.addCleanup(inside.__exit__, None, None, None)
        self.wait_media()

    def wait_media(self) -> None:
        """Return when all registrars know all media nodes as up."""

        def look() -> bool | None:
            states = [node["state"] for registrar in self.lab.registrars
                      for node in registrar.get("/v1/media")["nodes"]]
            return states == ["up"] * self.media * self.registrars or None

        wait_until(look, "media nodes that are up, at all registrars", UP_SECONDS)

    def phones(self, registrar: int = 0) -> MediaPhones:
        """Return phones for all users of the lab, registered at one registrar; they end with the test."""
        made = MediaPhones(self.lab.tcp[registrar], self.lab.domain, subscribers(self.lab.users))
        made.start()
        self.addCleanup(made.stop)
        made.register_all()
        return made

    def check_ended(self, calls: "list[MediaCall]") -> None:
        """Expect that all these calls ended as they should."""
        self.assertEqual([str(call) for call in calls if call.state is not State.ENDED], [])
