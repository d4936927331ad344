"""tshark as judge: what the server sent during a test, as Wireshark's dissectors read it.

The capture is begun and ended by a datagram of our own that has to be seen in it, so no packet is missed at either end,
and nothing waits for longer than it takes.
"""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from secrets import token_hex
from typing import Self

from attrs import frozen

from tests.interop.process import LOOPBACK, WITH_US, InteropError, free_ports, wait_until

# Sequence (lost segments, resets) is about TCP's fortunes on a busy machine, not about what we wrote.
SEQUENCE_GROUP, WARNING = 0x02000000, 0x00600000
FAULTY = f"_ws.malformed || (_ws.expert.severity >= {WARNING} && !(_ws.expert.group == {SEQUENCE_GROUP}))"
DECODE = {
    "udp": ("udp.port=={port},sip",),
    "tcp": ("tcp.port=={port},sip",),
    "tls": ("tcp.port=={port},tls", "tls.port=={port},sip"),
    "ws": ("tcp.port=={port},http",),
    "wss": ("tcp.port=={port},tls", "tls.port=={port},http"),
}


@frozen
class Fault:
    """A packet of ours that Wireshark does not like."""

    frame: str
    protocols: str
    complaint: str
    summary: str


class Capture:
    """The packets of some server ports on loopback. Use it as a context manager around the talk, then ask.

    `ports` are (transport, port) of the server. TLS keys that clients write to `keys` (SSLKEYLOGFILE) open their
    sessions. Of `hosts` all packets are taken, whatever their ports.
    """

    def __init__(self, ports: Iterable[tuple[str, int]], folder: Path, keys: Path | None = None,
                 hosts: Iterable[str] = ()) -> None:
        self.ports = tuple(ports)
        self.file = folder / "capture.pcapng"
        self.keys = keys
        (self._sentinel_port,) = free_ports()
        self._sentinel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        wanted = {port for _, port in self.ports} | {self._sentinel_port}
        packets = " or ".join([*(f"port {port}" for port in sorted(wanted)), *(f"host {host}" for host in hosts)])
        command = [*WITH_US, *as_root(), "dumpcap", "-q", "-i", "lo", "-B", "16", "-w", "-", "-f", packets]
        self._log = folder / "capture.log"
        with self.file.open("wb") as output, self._log.open("wb") as log:
            self._dumpcap = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=log)

    def __enter__(self) -> Self:
        try:
            self._see_sentinel()
        except InteropError:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._see_sentinel()
        finally:
            self.stop()

    def stop(self) -> None:
        """End the capture; the packets stay in `file`."""
        self._sentinel.close()
        self._dumpcap.send_signal(signal.SIGINT)
        self._dumpcap.wait(10)

    def rows(self, packets: str, *fields: str, decode: Sequence[str] = ()) -> list[list[str]]:
        """Return the values of `fields` for each packet that fits the display filter.

        `decode` are more of tshark's options on what is read as what.
        """
        command = ["tshark", "-n", "-r", str(self.file), "-Y", packets, "-T", "fields", *self._options(), *decode]
        done = subprocess.run(
            [*command, *chain.from_iterable(("-e", field) for field in fields)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise InteropError(f"tshark failed: {done.stderr}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def faults(self) -> list[Fault]:
        """Return our packets that are malformed, or to which a dissector attaches a warning or an error."""
        fields = ("frame.number", "frame.protocols", "_ws.expert.message", "_ws.col.Info")
        return [Fault(*row) for row in self.rows(f"({self.ours}) && ({FAULTY})", *fields)]

    def sip(self) -> list[str]:
        """Return the first lines of the SIP messages that we sent, as far as tshark can read them."""
        rows = self.rows(f"({self.ours}) && sip", "sip.Request-Line", "sip.Status-Line")
        return [line for row in rows for line in row if line]

    def unread(self) -> list[str]:
        """Return the transports over which we sent data in which tshark saw no SIP: there the judge was blind.

        TLS is left out when nobody wrote its keys down.
        """
        readable = {_from(*each): each[0] for each in self.ports if each[0] != "tls" or self.keys}
        silent: set[str] = set()
        heard: set[str] = set()
        data = f"({self.ours}) && (udp || tcp.len > 4)"  # more than a keepalive's answer
        for udp, tcp, protocols in self.rows(data, "udp.srcport", "tcp.srcport", "frame.protocols"):
            source = _from("udp" if udp else "tcp", int(udp or tcp))
            (heard if "sip" in protocols.split(":") else silent).add(source)
        return sorted(readable[source] for source in silent - heard if source in readable)

    @property
    def ours(self) -> str:
        """The display filter for packets from the server's ports."""
        return " || ".join(_from(transport, port) for transport, port in self.ports)

    def _options(self) -> Sequence[str]:
        decode = (rule.format(port=port) for transport, port in self.ports for rule in DECODE[transport])
        opened = ("-o", f"tls.keylog_file:{self.keys}") if self.keys else ()
        return [*chain.from_iterable(("-d", rule) for rule in decode), *opened]

    def _see_sentinel(self) -> None:
        mark = token_hex(16).encode()

        def look() -> bool | None:
            if self._dumpcap.poll() is not None:
                raise InteropError(f"dumpcap ended: {self._log.read_text()}")
            self._sentinel.sendto(mark, (LOOPBACK, self._sentinel_port))
            return mark in self.file.read_bytes() or None

        wait_until(look, "packet in the capture")


def _from(transport: str, port: int) -> str:
    return f"{'udp' if transport == 'udp' else 'tcp'}.srcport == {port}"


def as_root() -> list[str]:
    """Return what to put before a command that needs root's rights on the network."""
    if os.geteuid() == 0 or shutil.which("sudo") is None:
        return []
    return ["sudo", "-n"]
