"""Phones that a test moves by hand through calls over the lab, from node to node, with real sockets.

A Handset keeps its user, instance and calls when it moves; a Talk is one call, seen from both ends:

    talk = self.call(alice, bob)
    talk.exchange("BYE", bob)
"""

from itertools import count
from secrets import token_hex
from typing import Self
from uuid import uuid4

from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import cancellation
from tests.interop.phone import Phone
from tools.laboratory.filling import LabUser
from tools.laboratory.lab import Lab
from tools.laboratory.node import Node


class Handset:
    """Somebody's phone. `node` is where it is connected to."""

    def __init__(self, lab: Lab, user: LabUser, node: int, transport: str = "TCP") -> None:
        """Connect and register."""
        self._lab = lab
        self._user = user
        self._transport = transport
        self._instance = uuid4().urn
        self._phone: Phone
        self.node = node
        self.move(node)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lose()

    @property
    def phone(self) -> Phone:
        """The socket of now."""
        return self._phone

    @property
    def aor(self) -> str:
        """What it is called by."""
        return f"sip:{self._user.username}@{self._lab.domain}"

    def lose(self) -> None:
        """Lose the connection."""
        self._phone.close()

    def move(self, node: int) -> None:
        """Connect to a node from another port and register there; what connection there was is lost."""
        if hasattr(self, "_phone"):
            self.lose()
        self.node = node
        there = self._lab.registrars[node]
        self._phone = Phone(self._transport, _address(there, self._transport), self._user.username, self._lab.domain,
                            self._user.password)
        answer = self._phone.register(contact=f'<{self._phone.contact}>;+sip.instance="<{self._instance}>"')
        assert answer.status == 200, answer.start_line

    def hears(self, method: str, seconds: float = 10.0) -> Request:
        """Return the next request, which has to be of this method."""
        request = self._phone.request(seconds)
        assert request.method == method, request.start_line
        return request


class Talk:
    """A call from one handset to another."""

    def __init__(self, caller: Handset, callee: Handset) -> None:
        self.caller, self.callee = caller, callee
        self._tag = token_hex(4)
        self._cseq = count(5000)
        self._routes: dict[Handset, list[str]] = {}
        self._targets: dict[Handset, str] = {}
        self._names: dict[Handset, tuple[str, str]] = {}
        self.invite: Request
        """As the caller sent it, with his password."""
        self.received: Request
        """As the callee got it."""

    def begin(self) -> None:
        """Let the caller call, and prove who he is."""
        phone = self.caller.phone
        asked = phone.make("INVITE", self.callee.aor, [("Contact", f"<{phone.contact}>")])
        phone.send(asked)
        challenge = phone.final()
        assert challenge.status == 407, challenge.start_line
        phone.acknowledge(asked, challenge)
        self.invite = phone.authorised(asked, challenge)
        phone.send(self.invite)

    def ring(self) -> None:
        """Let the callee hear of it and ring, and the caller hear that."""
        self.received = self.callee.hears("INVITE")
        self.callee.phone.answer(self.received, 180, tag=self._tag)
        while (response := self.caller.phone.response()).status != 180:
            assert response.status == 100, response.start_line

    def answer(self) -> None:
        """Let the callee take the call, and the caller acknowledge that."""
        self.callee.phone.answer(self.received, 200, tag=self._tag)
        answer = self.caller.phone.final()
        assert answer.status == 200, answer.start_line
        near, far = self.invite.get("From") or "", answer.get("To") or ""
        self._names = {self.caller: (near, far), self.callee: (far, near)}
        self._routes = {self.caller: answer.values("Record-Route")[::-1],
                        self.callee: self.received.values("Record-Route")}
        self._targets = {self.caller: _uri(answer), self.callee: _uri(self.received)}
        self._acknowledge(self.caller, int((self.invite.get("CSeq") or "").split()[0]))
        self.callee.hears("ACK")

    def cancel(self) -> None:
        """Let the caller give up."""
        self.caller.phone.send(cancellation(self.invite))

    def send(self, method: str, sender: Handset, cseq: int | None = None) -> Request:
        """Let one side send a request within the call."""
        near, far = self._names[sender]
        request = sender.phone.make(method, self._targets[sender], [("Contact", f"<{sender.phone.contact}>")],
                                    call_id=self.invite.get("Call-ID"), cseq=cseq or next(self._cseq))
        request.set("From", near)
        request.set("To", far)
        request.set_values("Route", self._routes[sender])
        sender.phone.send(request)
        return request

    def exchange(self, method: str, sender: Handset) -> None:
        """Let one side send a request and the other answer it; an INVITE is acknowledged."""
        receiver = self.callee if sender is self.caller else self.caller
        sent = self.send(method, sender)
        self.take(method, receiver)
        answer = sender.phone.final()
        assert answer.status == 200, answer.start_line
        if method == "INVITE":
            self._acknowledge(sender, int((sent.get("CSeq") or "").split()[0]))
            receiver.hears("ACK")

    def take(self, method: str, receiver: Handset, seconds: float = 10.0) -> None:
        """Let one side get a request and answer it."""
        receiver.phone.answer(receiver.hears(method, seconds), 200, tag=self._tag)

    def _acknowledge(self, sender: Handset, cseq: int) -> None:
        self.send("ACK", sender, cseq)


def _uri(message: Request | Response) -> str:
    return parse_name_addr(message.get("Contact") or "").uri


def _address(node: Node, transport: str) -> tuple[str, int]:
    host, port = node.tcp
    return (host, node.tls_port) if transport == "TLS" else (host, port)
