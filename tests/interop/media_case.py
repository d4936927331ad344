"""What the tests of calls through real rtpengines share: two of them, a real Redis that names them, phones with RTP."""

import socket
import struct
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import ClassVar

from registrar.media.sdp import described
from rollcall.sip.message import Message, Request, Response
from tests.interop.case import InteropCase
from tests.interop.media_nodes import MediaNodes
from tests.interop.phone import Headers, Phone
from tests.interop.process import LOOPBACK, wait_until
from tools.laboratory.rtpengine_process import RtpengineProcess

SDP_TYPE = ("Content-Type", "application/sdp")
PACKETS = 10
PACKET_SECONDS = 0.02
RTP_HEADER = struct.Struct("!BBHII")


class MediaCase(InteropCase):
    """Starts Redis and the rtpengines m1 and m2 before the first test; each test begins with both, preferring m1."""

    transports: ClassVar[tuple[str, ...]] = ("udp", "tcp", "ws", "wss")
    options: ClassVar[tuple[str, ...]] = ()
    """Further arguments of rtpengines."""
    media: ClassVar[MediaNodes]
    nodes: ClassVar[list[RtpengineProcess]]

    @classmethod
    def setUpClass(cls) -> None:
        servers = tempfile.TemporaryDirectory()
        cls.addClassCleanup(servers.cleanup)
        cls.media = MediaNodes(Path(servers.name), cls.options)
        cls.addClassCleanup(cls.media.stop)
        cls.media.start()
        cls.nodes = cls.media.all
        cls.sections = cls.media.sections
        super().setUpClass()

    def setUp(self) -> None:
        super().setUp()
        self.media.renew(self.registrar)

    def publish(self, *down: str) -> None:
        """See MediaNodes."""
        self.media.publish(self.registrar, *down)

    def calls_of(self, node: int) -> int:
        """See MediaNodes."""
        return self.media.calls_of(node)

    def wait_no_calls(self) -> None:
        """See MediaNodes."""
        self.media.wait_no_calls()

    def a_phone(self, user: str, transport: str = "UDP") -> "SoundPhone":
        """Return a phone that is registered, until the test ends."""
        phone = SoundPhone(transport, ("127.0.0.1", self.registrar.ports[transport.lower()]), user,
                           self.registrar.domain)
        self.addCleanup(phone.close)
        assert phone.register().status == 200
        self.addCleanup(self._goes, phone)
        return phone

    def _goes(self, phone: "SoundPhone") -> None:
        """Have a phone unregister, whatever else still comes to it."""
        phone.send(phone.make("REGISTER", f"sip:{phone.domain}", [("Contact", f"<{phone.contact}>"), ("Expires", "0")],
                              to=f"<sip:{phone.user}@{phone.domain}>"))
        contact = phone.contact
        wait_until(lambda: all(contact not in each["contact"] for each in self.registrar.contacts(phone.user)) or None,
                   f"end of {contact}")


class SoundPhone(Phone):
    """A phone with a socket for RTP: it says where that is, and tells what it hears."""

    def __init__(self, transport: str, server: tuple[str, int], user: str, domain: str) -> None:
        super().__init__(transport, server, user, domain)
        self.sound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sound.bind((LOOPBACK, 0))
        self.version = 0
        self._peer = ("", 0)
        self._sequence_number = count(1)

    def close(self) -> None:
        """Close both sockets."""
        self.sound.close()
        super().close()

    def sdp(self, mode: str = "sendrecv", media: str = "audio {port} RTP/AVP 0") -> bytes:
        """Return a description, newer than the last."""
        self.version += 1
        port = self.sound.getsockname()[1]
        return (f"v=0\r\no={self.user} 7 {self.version} IN IP4 {LOOPBACK}\r\ns=-\r\nc=IN IP4 {LOOPBACK}\r\nt=0 0\r\n"
                f"m={media.format(port=port)}\r\na={mode}\r\n").encode()

    def invite(self, user: str, body: bytes | None = None, headers: Headers = ()) -> Request:
        """Call a user of the domain with a new description, or with none when `body` is empty."""
        body = self.sdp() if body is None else body
        kind = [SDP_TYPE] if body else []
        request = self.make("INVITE", f"sip:{user}@{self.domain}", [
            ("Contact", f"<{self.contact}>"), *kind, *headers], body)
        self.send(request)
        return request

    def takes(self, request: Request, status: int = 200, body: bytes | None = None, headers: Headers = ()) -> Response:
        """Answer a request that came with a new description, or with none when `body` is empty."""
        body = self.sdp() if body is None else body
        response = self.make_answer(request, status, [*headers, *([SDP_TYPE] if body else [])], self.user)
        response.body = body
        self.send(response)
        return response

    def hears_of(self, message: Message) -> str:
        """Send to where a description says; return that address."""
        found = described(message)
        assert found is not None, message.start_line
        lines = found.sdp.decode().split("\r\n")
        host = next(line.split()[2] for line in lines if line.startswith("c="))
        port = next(int(line.split()[1]) for line in lines if line.startswith("m="))
        self._peer = (host, port)
        return host

    def play(self) -> None:
        """Send one packet with this phone's name in it to its peer."""
        number = next(self._sequence_number)
        header = RTP_HEADER.pack(0x80, 0, number, number * 160, sum(self.user.encode()))
        self.sound.sendto(header + self.user.encode().ljust(160, b"."), self._peer)

    def heard(self) -> set[str]:
        """Return whose packets have come since the last look."""
        names: set[str] = set()
        self.sound.setblocking(False)
        while True:
            try:
                data = self.sound.recv(2048)
            except BlockingIOError:
                return names
            names.add(data[RTP_HEADER.size:].rstrip(b".").decode(errors="replace"))


def talk(*phones: SoundPhone, packets: int = PACKETS) -> list[set[str]]:
    """Let all phones play for a moment; return whom each of them has heard."""
    for phone in phones:
        phone.heard()
    for _ in range(packets):
        for phone in phones:
            phone.play()
        time.sleep(PACKET_SECONDS)
    return [phone.heard() for phone in phones]
