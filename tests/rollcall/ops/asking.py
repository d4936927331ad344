"""Ask an HTTP site in memory, as a client on its own connection would."""

import json
from typing import Any

from attrs import frozen
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection
from twisted.web.server import Site


@frozen
class Answered:
    """What came back: header names are in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The content, decoded."""
        return json.loads(self.content)


class Connection:
    """One client connection to a site."""

    def __init__(self, site: Site) -> None:
        self.transport = StringTransportWithDisconnection()
        address = IPv4Address("TCP", "127.0.0.1", 40000)
        protocol = site.buildProtocol(address)
        assert protocol is not None
        self.protocol: Any = protocol
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self.protocol.dataReceived(data)

    def answers(self) -> list[Answered]:
        """Return and forget what came back so far; all of it must be whole answers."""
        rest = self.transport.value()
        self.transport.clear()
        found = []
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            length = int(headers.get("content-length", "0"))
            found.append(Answered(int(status.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found


def written(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """Return a request; a body that is not bytes becomes JSON. In names of headers "_" stands for "-"."""
    content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = {"host": "localhost", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if body is not None:
        lines = {"content-type": "application/json", "content-length": str(len(content)), **lines}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content


def ask(site: Site, method: str, path: str, body: object = None, **headers: str) -> Answered:
    """Return the answer to one request on a connection of its own."""
    connection = Connection(site)
    connection.send(written(method, path, body, **headers))
    (answered,) = connection.answers()
    return answered
