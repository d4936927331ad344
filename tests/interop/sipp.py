"""sipp with a scenario of ours: started, and held to a clean end."""

from collections.abc import Mapping
from pathlib import Path

from tests.interop.process import LOOPBACK, Process, free_ports

TRANSPORTS = {"udp": "u1", "tcp": "t1", "tls": "l1"}


class Sipp:
    """One sipp run in the background. A client scenario calls `server`; a server scenario waits on `port`."""

    def __init__(
        self,
        scenario: Path,
        folder: Path,
        server: str,
        transport: str = "udp",
        *,
        port: int | None = None,
        calls: int = 1,
        rate: int = 10,
        user: str | None = None,
        credentials: tuple[str, str] | None = None,
        keys: Mapping[str, str] | None = None,
        call_id: str | None = None,
        auth_uri: str | None = None,
        certificate: tuple[Path, Path] | None = None,
        seconds: int = 20,
    ) -> None:
        """Start it. `server` is "host:port", `user` the scenario's [service], `keys` its other [words].

        `call_id` is a Call-ID pattern (sipp's -cid_str) in the place of sipp's own.
        `credentials` are (name, password) for [authentication], made for `auth_uri`, which sipp wants without "sip:",
        instead of the server's address; `certificate` is (certificate, key) for TLS.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_ports()[0]
        self.seconds = seconds
        self._errors = folder / f"{scenario.stem}-{self.port}.errors"
        arguments = ["sipp", server, "-sf", str(scenario), "-t", TRANSPORTS[transport], "-i", LOOPBACK]
        arguments += ["-p", str(self.port), "-m", str(calls), "-r", str(rate), "-nostdin"]
        arguments += ["-timeout", str(seconds), "-timeout_error", "-trace_err", "-error_file", str(self._errors)]
        arguments += ["-s", user] if user else []
        arguments += ["-au", credentials[0], "-ap", credentials[1]] if credentials else []
        for word, value in (keys or {}).items():
            arguments += ["-key", word, value]
        arguments += ["-cid_str", call_id] if call_id else []
        arguments += ["-auth_uri", auth_uri] if auth_uri else []
        if certificate:
            arguments += ["-tls_cert", str(certificate[0]), "-tls_key", str(certificate[1])]
        self.process = Process(arguments, folder / f"{scenario.stem}-{self.port}.log", folder=folder)

    def wait_listening(self) -> None:
        """Return once a server scenario can be called."""
        self.process.wait_until(lambda: _bound(self.port) or None, f"socket on port {self.port}")

    def check(self) -> None:
        """Wait for the end; raises InteropError, with what sipp did not expect, when one call of it failed."""
        status = self.process.wait(self.seconds + 5)
        if status:
            errors = self._errors.read_text(errors="replace") if self._errors.exists() else "no error file"
            raise self.process.error(f"failed ({status}):\n{errors[-4000:]}\n")

    def end(self) -> None:
        """End it however it stands; for clean-up."""
        self.process.end()


def _bound(port: int) -> bool:
    """Tell from the kernel's tables whether a socket of ours has this local port (UDP, or TCP in LISTEN)."""
    wanted = f":{port:04X}"
    for table, listening in (("udp", "07"), ("tcp", "0A")):
        rows = (line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:])
        if any(row[1].endswith(wanted) and row[3] == listening for row in rows):
            return True
    return False
