"""baresip calls baresip through one of three real rtpengines: tshark sees their audio there, and scores are shown."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

from rollcall.media.emodel import POOR_R
from tests.cluster.case import TROUBLE, ClusterCase
from tests.interop.baresip import Account, Baresip
from tests.interop.capture import Capture
from tests.interop.process import LOOPBACK, wait_until
from tools.laboratory.lab import Lab
from tools.laboratory.rtpengine_process import FIRST_RTP_PORT, LAST_RTP_PORT

NODES = 3
PACKETS = 150
READ_RTP = ("-d", f"udp.port=={FIRST_RTP_PORT}-{LAST_RTP_PORT},rtp")
COMMAND_SECONDS = 30


class MediaBaresipTests(ClusterCase):
    """Two registrars, three rtpengines that report to one balancer, and two phones."""

    registrars = 2
    users = 2
    folder: ClassVar[Path]

    @classmethod
    def setUpClass(cls) -> None:
        cls._folder = tempfile.TemporaryDirectory()
        cls.folder = Path(cls._folder.name)
        # Both phones have one address, so they count as one: without trust in a single one there would be no scores.
        cls.lab = Lab(cls.folder, cls.registrars, cls.redis, cls.users, media=NODES,
                      balancer_sections={"quality": {"distrusted": 0}})
        cls.lab.start()

    def tearDown(self) -> None:
        super().tearDown()
        for balancer in self.lab.media.balancers:
            found = [line for line in balancer.log().splitlines() if any(word in line for word in TROUBLE)]
            self.assertEqual(found, [], balancer.error("has logged trouble"))

    def phone(self, number: int, folder: Path) -> Baresip:
        """Start the phone of a user at the registrar of the same number, and return it once it is registered."""
        user, node = self.lab.users[number], self.lab.registrars[number]
        account = Account(user.username, user.password, self.lab.domain, "tcp", f"{LOOPBACK}:{node.sip_port}",
                          answers=True)
        phone = Baresip(account, folder / user.username)
        self.addCleanup(phone.finish)
        phone.wait_registered()
        return phone

    def rollcall(self, *words: str) -> str:
        """Return what the command says that operators use."""
        command = str(Path(sys.executable).with_name("rollcall"))
        done = subprocess.run([command, *words, "--config", str(self.lab.registrars[0].config)], capture_output=True,
                              text=True, timeout=COMMAND_SECONDS, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def wait_media(self) -> None:
        """Return when the registrars know all nodes as up."""

        def look() -> bool | None:
            states = [node["state"] for registrar in self.lab.registrars
                      for node in registrar.get("/v1/media")["nodes"]]
            return states == ["up"] * NODES * self.registrars or None

        wait_until(look, "media nodes that are up, at all registrars", 20)

    def talking_through(self, capture: Capture) -> Counter[str]:
        """Return how many packets of RTP came from each media node, as tshark reads them."""
        rows = capture.rows("rtp.version == 2 && rtp.p_type == 0", "ip.src", decode=READ_RTP)
        hosts = {node.host for node in self.lab.media.nodes}
        return Counter(source for (source,) in rows if source in hosts)

    def scores(self) -> list[dict[str, Any]]:
        """Return what `rollcall media` says of each way."""
        return list(json.loads(self.rollcall("media", "--json"))["ways"])

    def test_call(self) -> None:
        """All of their audio is at the chosen node and nowhere else, reports give it a score, and it is free again."""
        self.wait_media()
        with tempfile.TemporaryDirectory() as name:
            alice, bob = self.phone(0, Path(name)), self.phone(1, Path(name))
            with Capture((), Path(name), hosts=[node.host for node in self.lab.media.nodes]) as capture:
                alice.dial(bob.account.username)
                bob.wait_in_call()
                counts = [phone.wait_rtp(PACKETS) for phone in (alice, bob)]
            self.assertEqual([count.lost for count in counts], [0, 0])
            seen = self.talking_through(capture)
            self.assertEqual(len(seen), 1, seen)
            ((host, packets),) = seen.items()
            self.assertGreater(packets, 2 * PACKETS - 50)
            chosen = self.lab.media.node(host)
            self.assertEqual(self.nodes_with_calls(), [chosen.name])
            way = wait_until(lambda: next((each for each in self.scores() if each["node"] == chosen.name
                                           and each["group"] == "local/lab"), None), "score of the way", 20)
            self.assertGreater(way["r"], POOR_R)
            self.assertIn(chosen.name, self.rollcall("media"))
            alice.hangup()
            for phone in (alice, bob):
                phone.wait_idle()
        wait_until(lambda: not self.nodes_with_calls() or None, "end of the call at its node")

    def nodes_with_calls(self) -> list[str]:
        """Return which rtpengines say that they have calls."""
        return [node.name for node in self.lab.media.nodes if b"5:callsle" not in node.ask(b"d7:command4:liste")]
