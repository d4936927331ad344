"""Debian's Kamailio as a proxy in front of rtpengines, to compare with: it chooses by a hash of the Call-ID."""

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.interop.process import LOOPBACK, Process, free_ports

CONFIG = Path(__file__).with_name("kamailio_media.cfg")
CHILDREN = "2"
START_SECONDS = 10.0


class KamailioMedia:
    """One Kamailio that any phone of lab.test may register with, over TCP."""

    def __init__(self, folder: Path, media: Sequence[str]) -> None:
        """`media` are the ng addresses (host:port) of its rtpengines."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._media = " ".join(f"udp:{address}" for address in media)
        self._process: Process | None = None
        (self.port,) = free_ports()
        self.tcp = (LOOPBACK, self.port)

    @property
    def pid(self) -> int:
        """The process id of the first of its processes."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it and return once it takes connections."""
        self._process = Process(
            ["kamailio", "-DD", "-E", "-f", str(CONFIG), "-l", f"tcp:{LOOPBACK}:{self.port}", "-n", CHILDREN, "-N",
             CHILDREN, "-m", "64", "-Y", str(self._folder), "-A", f'MEDIA="{self._media}"',
             "-A", f'CTL="unix:{self._folder / "ctl"}"'],
            self._folder / "kamailio.log", folder=self._folder)
        self._process.wait_until(lambda: self._takes_connections() or None, "connection to Kamailio", START_SECONDS)

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.end()

    def log(self) -> str:
        """Return all that it has written."""
        return self._process.text() if self._process is not None else ""

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection(self.tcp, 1.0).close()
        except OSError:
            return False
        return True
