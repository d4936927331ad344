"""baresip as a phone in a test: its configuration folder, and its control port (netstring-framed JSON)."""

import json
import re
import signal
import socket
import struct
import wave
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from attrs import define, field, frozen

from tests.interop.process import LOOPBACK, InteropError, Process, free_ports

Found = TypeVar("Found")

MODULES = "/usr/lib/baresip/modules"
MOST_PEERS = 10
TONE_SECONDS = 30
TONE_RATE = 8000  # Hz; the rate of PCMU, so that nothing resamples
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONFIG = """\
module_path {modules}
sip_listen {address}:{sip}
rtp_ports {rtp}-{rtp_last}
audio_source aufile,{tone}
audio_player aufile,{folder}/heard.wav
audio_alert aufile,{folder}/alert.wav
ausrc_srate 8000
auplay_srate 8000
ausrc_channels 1
auplay_channels 1
module g711.so
module aufile.so
module uuid.so
module account.so
module cons.so
module_app menu.so
module_app contact.so
module_app ctrl_tcp.so
ctrl_tcp_listen {host}:{control}
cons_listen {host}:{console}
"""


@frozen
class RtpCount:
    """Audio packets of the present call, as RTP itself counts them."""

    sent: int
    received: int
    lost: int


@frozen
class Account:
    """Who the phone is. `domain` may carry a port; `address` (host:port) is where the requests go, when elsewhere."""

    username: str
    password: str
    domain: str
    transport: str  # "udp", "tcp" or "tls"; empty leaves the choice to DNS
    address: str | None = None
    answers: bool = False
    expires_seconds: int = 60
    parameters: str = ""

    def uri(self, user: str) -> str:
        """Return how this phone addresses a user of its domain."""
        return f"sip:{user}@{self.domain}" + (f";transport={self.transport}" if self.transport else "")

    def __str__(self) -> str:
        outbound = f';outbound="sip:{self.address};transport={self.transport}"' if self.address else ""
        mode = "auto" if self.answers else "manual"
        return (
            f"<{self.uri(self.username)}>;auth_user={self.username};auth_pass={self.password};regint={self.expires_seconds}"
            f";audio_codecs=PCMU;answermode={mode}{outbound}{self.parameters}\n"
        )


@define
class Control:
    """The control port: one command at a time, its answer, and the events that came between."""

    connection: socket.socket
    events: list[dict[str, Any]] = field(factory=list)
    _received: bytes = b""

    def ask(self, command: str, parameters: str = "") -> str:
        """Return what the command prints, without colours."""
        data = json.dumps({"command": command, "params": parameters, "token": command}).encode()
        self.connection.sendall(b"%d:%s," % (len(data), data))
        while True:
            message = self._next()
            if message.get("response"):
                return COLOURS.sub("", message["data"])
            self.events.append(message)

    def poll(self) -> None:
        """Collect the events that have arrived."""
        self.ask("reginfo")

    def close(self) -> None:
        """Hang up the control connection, not the call."""
        self.connection.close()

    def _next(self) -> dict[str, Any]:
        while (framed := self._framed()) is None:
            data = self.connection.recv(65536)
            if not data:
                raise ConnectionError("baresip closed its control port")
            self._received += data
        message: dict[str, Any] = json.loads(framed)
        return message

    def _framed(self) -> bytes | None:
        length, colon, rest = self._received.partition(b":")
        if not colon or len(rest) <= int(length):
            return None
        self._received = rest[int(length) + 1 :]
        return rest[: int(length)]


class Baresip:
    """One phone with one account. It registers when it starts and unregisters in `stop`."""

    def __init__(self, account: Account, folder: Path, peers: tuple[str, ...] = (), host: str = LOOPBACK,
                 lines: str = "") -> None:
        """Start it. `peers` are the users of the same domain to whom `message` can write.

        `host` is its own address, `lines` are more of its configuration.

        Over TLS it does not check certificates: this baresip accepts any.
        """
        self.account = account
        folder.mkdir(parents=True)
        (sip, _, control, console, *rtp) = free_ports(8)  # TLS takes the port after the one for UDP and TCP
        write_tone(folder / "tone.wav")
        config = CONFIG.format(
            modules=MODULES,
            host=LOOPBACK,
            address=host,
            sip=sip,
            control=control,
            console=console,
            folder=folder,
            rtp=rtp[0],
            rtp_last=rtp[-1],
            tone=folder / "tone.wav",
        )
        (folder / "config").write_text(config + lines)
        (folder / "accounts").write_text(str(account))
        (folder / "contacts").write_text("".join(f"{peer} <{account.uri(peer)}>\n" for peer in peers))
        self.process = Process(["baresip", "-n", host, "-f", str(folder)], folder / "log")
        self._control = Control(self._connect(control))
        self._console = self._connect(console)
        self._console.setblocking(False)
        self._shown = b""

    def wait_registered(self, seconds: float = 10) -> None:
        """Return once the registrar has accepted it; raises InteropError otherwise."""
        self._wait(lambda: re.search(r" OK ", self.registration()), "registration", seconds)

    def registration(self) -> str:
        """Return baresip's own line about its registration."""
        return self._control.ask("reginfo")

    def dial(self, target: str, seconds: float = 10) -> None:
        """Call `target` (a user of the same domain, or a URI) and return once the call stands."""
        self.call(target)
        self.wait_in_call(seconds)

    def wait_in_call(self, seconds: float = 10) -> None:
        """Return once a call is established."""
        self._wait(lambda: "ESTABLISHED" in self._control.ask("listcalls") or None, "established call", seconds)

    def wait_idle(self, seconds: float = 10) -> None:
        """Return once no call is left."""
        self._wait(lambda: "Active calls (0)" in self._control.ask("listcalls") or None, "end of the call", seconds)

    def closing_reason(self, seconds: float = 10) -> str:
        """Return why the last call ended, e.g. "480 Temporarily Unavailable"; waits for the end."""
        return str(self.wait_event("CALL_CLOSED", seconds)["param"])

    def wait_event(self, kind: str, seconds: float = 10) -> dict[str, Any]:
        """Return the next event of that type, e.g. "CALL_RINGING", and forget it."""

        def look() -> dict[str, Any] | None:
            self._control.poll()
            found = next((event for event in self._control.events if event.get("type") == kind), None)
            if found:
                self._control.events.remove(found)
            return found

        return self._wait(look, f"event {kind}", seconds)

    def call(self, target: str) -> None:
        """Call `target` without waiting for what comes of it, forgetting the events of earlier calls."""
        self._control.poll()
        self._control.events.clear()
        self._control.ask("dial", target)

    def rtp(self) -> RtpCount:
        """Return the packet counts of the present call; all 0 as long as it has no media."""
        text = self._control.ask("audio_debug")
        sent, received, lost = (re.search(what, text) for what in (r"TX: packets=(\d+)", r"rcvd=(\d+)", r"lost=(\d+)"))
        return RtpCount(*(int(found[1]) if found else 0 for found in (sent, received, lost)))

    def wait_rtp(self, packets: int = 20, seconds: float = 10) -> RtpCount:
        """Return the counts once at least `packets` went out and came in since the start of the call."""

        def look() -> RtpCount | None:
            count = self.rtp()
            return count if min(count.sent, count.received) >= packets else None

        return self._wait(look, f"{packets} RTP packets each way (last: {self.rtp()})", seconds)

    def accept(self) -> None:
        """Answer the call that rings."""
        self._control.ask("accept")

    def hangup(self) -> None:
        """End the present call, or refuse the one that rings."""
        self._control.ask("hangup")

    def hold(self) -> None:
        """Put the other side of the present call on hold, by a re-INVITE."""
        self._control.ask("hold")

    def resume(self) -> None:
        """Go on with the call, by another one."""
        self._control.ask("resume")

    def message(self, peer: str, text: str) -> None:
        """Send a MESSAGE to one of the peers it was started with."""
        for step in (*["contact_prev"] * MOST_PEERS, *["contact_next"] * MOST_PEERS):
            if f"Current contact: {peer} " in self._control.ask(step):
                self._control.ask("message", text)
                return
        raise self.process.error(f"has no contact {peer}")

    def wait_shown(self, text: str, seconds: float = 10) -> str:
        """Return the screen once it shows `text`: a received MESSAGE, or an answer that refuses one of ours."""

        def look() -> str | None:
            with suppress(BlockingIOError):
                self._shown += self._console.recv(65536)
            screen = COLOURS.sub("", self._shown.decode(errors="replace"))
            return screen if text in screen else None

        return self._wait(look, f"{text!r} on its screen", seconds)

    def stop(self, seconds: float = 10) -> None:
        """Unregister, as a phone that is switched off, and end; raises InteropError when it does not end by itself."""
        self._control.ask("quit")
        self._close()
        self.process.wait(seconds)

    def finish(self) -> None:
        """Unregister and end if it can, end it in any case; for clean-up."""
        with suppress(OSError, InteropError):
            self.stop(seconds=2)
        self.process.end(signal.SIGKILL)

    def crash(self) -> None:
        """End it without a word to the registrar."""
        self.process.end(signal.SIGKILL)

    def _close(self) -> None:
        self._control.close()
        self._console.close()

    def _connect(self, port: int) -> socket.socket:
        def look() -> socket.socket | None:
            try:
                return socket.create_connection((LOOPBACK, port), timeout=10)
            except ConnectionRefusedError:
                return None

        return self.process.wait_until(look, f"port {port}")

    def _wait(self, look: Callable[[], Found | None], what: str, seconds: float) -> Found:
        return self.process.wait_until(look, what, seconds)


def check_call(caller: Baresip, callee: Baresip, hanging_up: Baresip) -> None:
    """Have one phone call the other, which answers by itself; both hear each other, and one of them hangs up."""
    caller.dial(callee.account.username)
    callee.wait_in_call()
    for phone in (caller, callee):
        lost = phone.wait_rtp().lost
        assert not lost, f"{phone.account.username} missed {lost} packets"
    hanging_up.hangup()
    for phone in (caller, callee):
        phone.wait_idle()


def write_tone(path: Path) -> None:
    """Write a square tone as a WAV file of PCMU's rate."""
    period = struct.pack("<10h", *[6000] * 5, *[-6000] * 5)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(TONE_RATE)
        out.writeframes(period * (TONE_RATE // 10 * TONE_SECONDS))
