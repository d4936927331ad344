"""One rtpengine as a value: a loopback address of its own, its ng port, and the collector it reports RTCP to by HEP."""

import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.interop.process import LOOPBACK, InteropError, wait_until
from tools.laboratory.child import Child

# Every rtpengine has an address of its own, so all may have the same ports.
NG_PORT = 22222
FIRST_RTP_PORT, LAST_RTP_PORT = 23000, 31999
START_SECONDS = 10.0
END_SECONDS = 5.0
PING_SECONDS = 1.0
PING = b"d7:command4:pinge"
PONG = b"d6:result4:ponge"
# Without a kernel module; one thread is enough for hundreds of calls and leaves the others' processors alone. A call
# that was deleted is gone at once, so that counts are those of now.
ALWAYS = ("--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--num-threads=1", "--delete-delay=0")


class RtpengineProcess(Child):
    """An rtpengine that relays between phones of this machine's loopback interface."""

    def __init__(
        self,
        folder: Path,
        name: str,
        host: str,
        capture_id: int,
        hep: tuple[str, int] | None = None,
        options: Sequence[str] = (),
        outlives: bool = False,
    ) -> None:
        """`host` is a loopback address that nothing else has (see `own_hosts`); `hep` is where reports go by UDP.

        `options` are further arguments, e.g. "--max-sessions=5". Without `outlives` it ends with this process.
        """
        super().__init__(outlives)
        self.name = name
        self.host = host
        self.capture_id = capture_id
        self.address = self.address_at(host)
        self.log_file = folder / "rtpengine.log"
        self._hep = hep
        self._options = tuple(options)
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def address_at(host: str) -> str:
        """Return the ng address of the one at this host."""
        return f"{host}:{NG_PORT}"

    def as_node(self, **further: Any) -> dict[str, Any]:
        """Return the balancer's [[node]] for it; `further` are keys such as region and capacity."""
        return {"id": self.name, "kind": "rtpengine", "address": self.address, "capture_id": self.capture_id} | further

    def as_json(self) -> dict[str, Any]:
        """Return what the lab's JSON says of it."""
        return {"id": self.name, "pid": self.pid, "ng": self.address, "rtp": self.host, "capture_id": self.capture_id,
                "log": str(self.log_file)}

    # --- what is done to it

    def begin(self) -> None:
        """Start it, with no calls; `wait_until_it_answers` says when it serves."""
        if self.running:
            raise InteropError(f"{self.name} runs already")
        homer = () if self._hep is None else (
            f"--homer={self._hep[0]}:{self._hep[1]}", "--homer-protocol=udp", f"--homer-id={self.capture_id}")
        self.launch(
            ["rtpengine", *ALWAYS, f"--interface={self.host}", f"--listen-ng={self.address}",
             f"--port-min={FIRST_RTP_PORT}", f"--port-max={LAST_RTP_PORT}", *homer, "--log-level=4", *self._options],
            self.log_file)

    def wait_until_it_answers(self, seconds: float = START_SECONDS) -> None:
        """Return once it answers a ping; raises InteropError when it does not in time."""
        wait_until(lambda: self.answers() or None, f"answer of {self.name} at {self.address}", seconds)

    def start(self) -> None:
        """Start it and return once it serves."""
        self.begin()
        self.wait_until_it_answers()

    def stop(self) -> None:
        """End it in order."""
        self.ask_to_end()
        self.wait_or_kill(END_SECONDS)

    # --- what it says

    def answers(self) -> bool:
        """Tell whether it answers a ping. Raises InteropError when it has ended."""
        if not self.running:
            raise InteropError(f"{self.name} ended\n--- end of {self.log_file} ---\n{self.log()[-2000:]}")
        try:
            return self.ask(PING, PING_SECONDS) == PONG
        except OSError:
            return False

    def ask(self, words: bytes, seconds: float = PING_SECONDS) -> bytes:
        """Return the answer to a bencoded dictionary, bencoded as well. Raises OSError when none comes."""
        cookie = secrets.token_hex(8).encode()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(seconds)
            asking.connect((self.host, NG_PORT))
            asking.send(cookie + b" " + words)
            return asking.recv(65535).removeprefix(cookie + b" ")

    def log(self) -> str:
        """Return all that it has logged, in all its lives here."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""


def own_hosts(number: int) -> list[str]:
    """Return loopback addresses that no other process of these tests uses at the same time: by our process id."""
    high, low = divmod(os.getpid() % (200 * 250), 250)
    if number > 200:
        raise ValueError(f"{number} addresses are more than the 200 that a process has")
    prefix = LOOPBACK.partition(".")[0]
    return [f"{prefix}.{1 + high}.{low}.{1 + index}" for index in range(number)]
