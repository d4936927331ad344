"""Phones over UDP that ask several registrars for the same address-of-record at once, and what Redis kept of that."""

import ast
import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterable
from itertools import count

from attrs import define, frozen

from registrar.location.contract import Snapshot
from registrar.location.shared_form import snapshot_of
from tests.cluster.phone_text import Message, Proof
from tests.interop.process import LOOPBACK, InteropError
from tools.laboratory.filling import LabUser

RESEND_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
# As many as fit into the sockets' buffers on both sides.
AT_ONCE = 90
MAX_CHALLENGES = 2
READ_BYTES = 65536
_branches = count(1)


@define(eq=False)
class Rival:
    """A phone of somebody at one registrar."""

    user: LabUser
    face: int
    proof: Proof | None = None


@frozen
class Wish:
    """A REGISTER to send."""

    rival: Rival
    contact: str
    call_id: str
    cseq: int
    expires: int = 3600


@define
class _Request:
    wish: Wish
    place: int
    data: bytes
    sent_at: float


class Rivals:
    """Sends REGISTERs from one socket for each registrar."""

    def __init__(self, faces: Iterable[tuple[str, int]], domain: str) -> None:
        self._faces = list(faces)
        self._domain = domain
        self._sockets = []
        for face in self._faces:
            one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            one.bind((LOOPBACK, 0))
            one.connect(face)
            self._sockets.append(one)
        self.challenged = 0

    def close(self) -> None:
        """Close the sockets."""
        for one in self._sockets:
            one.close()

    def ask(self, groups: Iterable[list[Wish]]) -> list[list[int]]:
        """Send the wishes of each group at the same moment, and return the status of each; groups do not wait."""
        statuses: list[list[int]] = []
        part: list[list[Wish]] = []
        for group in groups:
            part.append(group)
            if sum(map(len, part)) >= AT_ONCE:
                statuses += self._ask_some(part)
                part = []
        return statuses + (self._ask_some(part) if part else [])

    def _ask_some(self, groups: list[list[Wish]]) -> list[list[int]]:
        wishes = [wish for group in groups for wish in group]
        found = self._answers(wishes)
        for _ in range(MAX_CHALLENGES):
            # Who was challenged tries again, all at the same moment as before.
            again = [place for place, message in enumerate(found) if message.status == 401]
            self.challenged += len(again)
            for place in again:
                user = wishes[place].rival.user
                wishes[place].rival.proof = Proof(found[place], user.username, user.password)
            for place, message in zip(again, self._answers([wishes[place] for place in again]), strict=True):
                found[place] = message
        statuses = iter([message.status for message in found])
        return [[next(statuses) for _ in group] for group in groups]

    def _answers(self, wishes: list[Wish]) -> list[Message]:
        answers: list[Message | None] = [None] * len(wishes)
        waiting: dict[str, _Request] = {}
        deadline = time.monotonic() + PATIENCE_SECONDS
        for place, wish in enumerate(wishes):
            branch = f"z9hG4bKrival{next(_branches)}"
            waiting[branch] = _Request(wish, place, self._text(wish, branch), time.monotonic())
            self._sockets[wish.rival.face].send(waiting[branch].data)
        while waiting:
            for one in select.select(self._sockets, [], [], RESEND_SECONDS)[0]:
                message = Message(one.recv(READ_BYTES).partition(b"\r\n\r\n")[0].decode())
                request = waiting.get(message.get("via").partition("branch=")[2].partition(";")[0])
                if request is not None and message.status >= 200:
                    answers[request.place] = message
                    del waiting[message.get("via").partition("branch=")[2].partition(";")[0]]
            now = time.monotonic()
            if now > deadline:
                raise InteropError(f"{len(waiting)} REGISTERs have got no answer")
            for request in waiting.values():
                if now - request.sent_at > RESEND_SECONDS:
                    request.sent_at = now
                    self._sockets[request.wish.rival.face].send(request.data)
        return [message for message in answers if message is not None]

    def _text(self, wish: Wish, branch: str) -> bytes:
        rival = wish.rival
        uri = f"sip:{self._domain}"
        address = f"sip:{rival.user.username}@{self._domain}"
        host, port = self._sockets[rival.face].getsockname()
        lines = [
            f"REGISTER {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};rport;branch={branch}",
            "Max-Forwards: 70",
            f"From: <{address}>;tag={branch[7:]}",
            f"To: <{address}>",
            f"Call-ID: {wish.call_id}",
            f"CSeq: {wish.cseq} REGISTER",
            f"Contact: <{wish.contact}>;expires={wish.expires}",
            "User-Agent: Rival/1",
        ]
        if rival.proof is not None:
            name, value = rival.proof.field("REGISTER", uri)
            lines.append(f"{name}: {value}")
        return "\r\n".join([*lines, "Content-Length: 0\r\n\r\n"]).encode()


class History:
    """Every value that Redis has kept for addresses-of-record, in order, as MONITOR tells it. A context manager."""

    def __init__(self, port: int) -> None:
        self.kept: dict[str, list[Snapshot | None]] = {}
        self._socket = socket.create_connection((LOOPBACK, port), PATIENCE_SECONDS)
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._read, name="monitor")

    def __enter__(self) -> "History":
        self._socket.sendall(b"MONITOR\r\n")
        if self._socket.recv(5) != b"+OK\r\n":
            raise InteropError("Redis does not let itself be watched")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def __len__(self) -> int:
        return sum(map(len, self.kept.values()))

    def _read(self) -> None:
        with contextlib.suppress(ConnectionError), self._socket.makefile("rb") as lines:
            for line in lines:
                _, found, rest = line.partition(b' lua] "SET" "loc:')
                if found:
                    name, _, rest = rest.partition(b'" ')
                    value = rest[:rest.rindex(b' "PXAT" ')]
                    # Redis quotes as Python does.
                    self.kept.setdefault(name.decode(), []).append(snapshot_of(ast.literal_eval("b" + value.decode())))
