"""One redis-server as a value: started from a file, asked over its port, ended by its id."""

import socket
import ssl
from pathlib import Path
from typing import Any

import hiredis
from attrs import field, frozen

from tests.interop.process import LOOPBACK, InteropError, wait_until
from tools.laboratory.child import Child

ANSWER_SECONDS = 2.0
END_SECONDS = 5.0
READ_BYTES = 65536
# Its annotation says a tuple of one item.
_pack: Any = hiredis.pack_command


@frozen(kw_only=True)
class Wire:
    """How the servers are spoken to: over TLS when there is an authority, as a user when there is one."""

    authority: Path | None = None
    username: str = ""
    password: str = field(default="", repr=False)

    def ask(self, port: int, words: tuple[str | bytes | int, ...]) -> Any:
        """Return the answer to one command. Raises OSError; RuntimeError with the server's text when it refuses."""
        with socket.create_connection((LOOPBACK, port), ANSWER_SECONDS) as plain, self._secured(plain) as connection:
            reader = hiredis.Reader(replyError=RuntimeError)
            if self.username:
                _asked(connection, reader, ("AUTH", self.username, self.password))
            return _asked(connection, reader, words)

    def _secured(self, plain: socket.socket) -> socket.socket:
        if self.authority is None:
            return plain
        context = ssl.create_default_context(cafile=str(self.authority))
        return context.wrap_socket(plain, server_hostname=LOOPBACK)


class RedisProcess(Child):
    """A redis-server, or a Sentinel, in a folder of its own."""

    def __init__(
        self, folder: Path, role: str, port: int, lines: str, wire: Wire, outlives: bool = False
    ) -> None:
        """`lines` is its configuration file; without `outlives` the process ends with this one."""
        super().__init__(outlives)
        self.role = role
        self.folder = folder
        self.port = port
        self.address = f"{LOOPBACK}:{port}"
        self.log = folder / "redis.log"
        self._wire = wire
        self._after = ("--sentinel",) if role == "sentinel" else ()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "redis.conf").write_text(f"dir {folder.resolve()}\n{lines}\n")

    def start(self) -> None:
        """Start it with what its folder holds."""
        self.launch(["redis-server", "redis.conf", *self._after], self.log, self.folder)

    def ask(self, *words: str | bytes | int) -> Any:
        """Return the answer to one command. Raises OSError; RuntimeError with the server's text when it refuses."""
        return self._wire.ask(self.port, words)

    def answers(self) -> bool:
        """Tell whether it has opened its port and loaded its data. Raises InteropError when it has ended."""
        if not self.running:
            raise InteropError(f"redis-server ended\n--- end of {self.log} ---\n{self.log.read_text()[-2000:]}")
        try:
            return bool(self.ask("PING") == b"PONG")
        except (OSError, RuntimeError):
            return False

    def wait_until_it_answers(self, seconds: float) -> None:
        """Return once it serves; raises InteropError when it does not in time."""
        wait_until(lambda: self.answers() or None, f"answer of {self.address}", seconds)

    def end(self) -> None:
        """Wait until it has ended, and kill it when it takes too long."""
        self.wait_or_kill(END_SECONDS)


def _asked(connection: socket.socket, reader: hiredis.Reader, words: tuple[str | bytes | int, ...]) -> Any:
    connection.sendall(_pack(words))
    while (answer := reader.gets()) is False:
        if not (data := connection.recv(READ_BYTES)):
            raise ConnectionError("the server has closed the connection")
        reader.feed(data)
    if isinstance(answer, RuntimeError):
        raise answer
    return answer
