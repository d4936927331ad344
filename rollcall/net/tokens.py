"""Flow tokens: a flow's name in a URI, which nobody else can make up (RFC 5626 §5.2).

    token   = base64url( mac[10] body ), without padding
    body    = fields, each a length octet and that many octets:
              "C" node epoch flow-id          a connection; with workers also transport and listener (may be empty)
              "P" phone, then the same        a connection, and whose it is
              "D" node listener ip port scope a datagram peer
              "N"                             no flow
    mac     = HMAC-SHA256(key, label  length-of-body[2]  body  context), its first 80 bits

All nodes share the keys, so a node can tell a genuine token of another node (and its owner) from a forged one.

Whose a connection is, is nobody's business but ours: a caller may have hidden his name from whom he calls. That field
alone is masked, with as many octets of HMAC-SHA256(key, mask-label  mac) as it has; the mac is that of the plain body.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from enum import Enum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from attrs import frozen

from rollcall.net.flow import Address, Flow
from rollcall.net.remote import RemoteFlow, Siblings

LABEL = b"rollcall flow 1"
MASK_LABEL = b"rollcall phone 1"
MAC_BYTES = 10
CONNECTION, PHONE, DATAGRAM, NO_FLOW_KIND = b"C", b"P", b"D", b"N"

MOST_PHONE_BYTES = 255
"""What is longer does not fit a field, and a token goes without it."""


@frozen
class Connection:
    """The name of a connection, on whatever node."""

    node: str
    epoch: int
    flow_id: int
    transport: str = ""
    """How it is called in Via, as far as that is known."""
    listener: str = ""


@frozen
class DatagramPeer:
    """The name of a datagram flow: a peer, and whose listener of which name it is spoken to from."""

    node: str
    listener: str
    host: str
    port: int


FlowName = Connection | DatagramPeer


class NoFlow(Enum):
    """What a token resolves to that names no flow: the request goes on by its URI."""

    NO_FLOW = "no flow"


NO_FLOW = NoFlow.NO_FLOW


class BadToken(Exception):
    """We did not make this token, or not for this context (RFC 5626 §5.3.1: 403)."""


@frozen
class Named:
    """What a token says."""

    flow: FlowName | None
    """None: no flow."""
    phone: bytes = b""
    """Whose it is, as whoever made the token put it."""


class FlowGone(Exception):
    """The token is genuine but its flow is not here (RFC 5626 §5.3.1: 430). `name` tells which it was."""

    def __init__(self, name: FlowName) -> None:
        super().__init__(f"{name} is not here")
        self.name = name


class FlowElsewhere(FlowGone):
    """The token is genuine and belongs to another node, which may still hold the flow."""


class FlowTokens:
    """Makes and resolves the tokens of one node in one epoch (one life of its process)."""

    def __init__(
        self,
        keys: Sequence[bytes],
        node: str,
        epoch: int,
        find: Callable[[int], Flow | None],
        datagram: Callable[[str, str, int], Flow | None],
        siblings: Siblings | None = None,
    ) -> None:
        """`keys` are secrets of at least 16 bytes; the first signs, all verify.

        `find` knows open connections by id, `datagram` a flow by listener name, host and port; `siblings` know the
        connections of the workers that share our ports.
        """
        if not keys or any(len(key) < 16 for key in keys):
            raise ValueError("flow tokens need at least one key, and 16 bytes in each")
        self._keys = tuple(keys)
        self._node = node
        self._epoch = epoch
        self._find = find
        self._datagram = datagram
        self._siblings = siblings

    @property
    def node(self) -> str:
        """The name of the node whose flows have no other."""
        return self._node

    def is_own(self, node: str, epoch: int) -> bool:
        """Say whether connections of that life of a node are here."""
        return node == self._node and epoch == self._epoch

    def name(self, flow: Flow) -> FlowName:
        """Return what names `flow` on any node. Raises ValueError for a datagram flow without a listener."""
        listener = flow.listener.name if flow.listener is not None else ""
        if not flow.id:
            if not listener:
                raise ValueError("a datagram flow without a listener cannot be named")
            return DatagramPeer(self._node, listener, *flow.peer)
        if isinstance(flow, RemoteFlow):
            return Connection(flow.node, flow.epoch, flow.id, flow.transport, listener)
        return Connection(self._node, self._epoch, flow.id, flow.transport, listener)

    def token(self, flow: Flow | FlowName | None, context: bytes = b"", phone: bytes = b"") -> str:
        """Return a signed name of a flow, fit for the user part of a SIP URI; None means no flow.

        `context` (e.g. a Call-ID) is not carried, but has to be given again to resolve the token. `phone`, whatever it
        says of whom the connection belongs to, is carried where only we can read it.
        """
        named = self.name(flow) if isinstance(flow, Flow) else flow
        phone = phone if isinstance(named, Connection) and len(phone) <= MOST_PHONE_BYTES else b""
        body = self._body(named, phone)
        mac = _mac(self._keys[0], body, context)
        if phone:
            body = _masked(self._keys[0], mac, body)
        return urlsafe_b64encode(mac + body).rstrip(b"=").decode("ascii")

    def read(self, token: str, context: bytes = b"") -> Named:
        """Return what a token of any of our nodes says. Raises BadToken."""
        kind, *fields = _fields(self._verified(token, context))
        if kind == NO_FLOW_KIND:
            return Named(None)
        if kind == DATAGRAM:
            return Named(DatagramPeer(fields[0].decode(), fields[1].decode(), *_unpacked(fields[2:])))
        phone = fields.pop(0) if kind == PHONE else b""
        epoch, flow_id = (int.from_bytes(field, "big") for field in fields[1:3])
        return Named(Connection(fields[0].decode(), epoch, flow_id, *(field.decode() for field in fields[3:])), phone)

    def find(self, name: FlowName) -> Flow:
        """Return the open flow of this name. Raises FlowGone or FlowElsewhere."""
        flow = self._datagrams_to(name) if isinstance(name, DatagramPeer) else self._connection(name)
        if flow is None or not flow.is_open:
            raise FlowGone(name)
        return flow

    def resolve(self, token: str, context: bytes = b"") -> Flow | NoFlow:
        """Return the open flow that `token` names, or NO_FLOW. Raises BadToken, FlowGone or FlowElsewhere."""
        name = self.read(token, context).flow
        return NO_FLOW if name is None else self.find(name)

    def _body(self, name: FlowName | None, phone: bytes) -> bytes:
        if name is None:
            return _join(NO_FLOW_KIND)
        node = name.node.encode()
        if isinstance(name, DatagramPeer):
            return _join(DATAGRAM, node, name.listener.encode(), *_packed((name.host, name.port)))
        kind = (PHONE, phone) if phone else (CONNECTION,)
        named = _join(*kind, node, _number(name.epoch), _number(name.flow_id))
        if self._siblings is None:
            return named
        # Who does not have the connection must still know what to write into Via.
        return named + _join(name.transport.encode(), name.listener.encode())

    def _verified(self, token: str, context: bytes) -> bytes:
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            # Decoding skips what is foreign to the alphabet and the last digit's spare bits: one token, one spelling.
            canonical = urlsafe_b64encode(raw).rstrip(b"=") == token.encode("ascii")
        except (Base64Error, ValueError):
            raise BadToken("not a flow token") from None
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        genuine, plain = False, body
        for key in self._keys:
            tried = _masked(key, mac, body) if body[:2] == _PHONE_FIRST else body
            if hmac.compare_digest(mac, _mac(key, tried, context)):
                genuine, plain = True, tried
        if not (genuine and canonical):
            raise BadToken("a forged flow token, or one made for something else")
        return plain

    def _datagrams_to(self, name: DatagramPeer) -> Flow | None:
        # A datagram flow has no state that an epoch could end: it outlives the process, and all workers have its port.
        if name.node != self._node and not self._is_sibling(name.node):
            raise FlowElsewhere(name)
        return self._datagram(name.listener, name.host, name.port)

    def _connection(self, name: Connection) -> Flow | None:
        if name.node == self._node:
            return self._find(name.flow_id) if name.epoch == self._epoch else None
        if self._siblings is not None and name.transport and self._siblings.knows(name.node):
            return self._siblings.flow(name.node, name.epoch, name.flow_id, name.transport, name.listener)
        raise FlowElsewhere(name)

    def _is_sibling(self, node: str) -> bool:
        return self._siblings is not None and self._siblings.knows(node)


_PHONE_FIRST = bytes((len(PHONE),)) + PHONE


def _masked(key: bytes, mac: bytes, body: bytes) -> bytes:
    """Return a "P" body with its second field masked, or unmasked again."""
    begin = len(_PHONE_FIRST) + 1
    field = body[begin : begin + body[begin - 1]] if len(body) >= begin else b""
    mask = b""
    while len(mask) < len(field):
        mask += hmac.digest(key, MASK_LABEL + mac + bytes((len(mask) // 32,)), "sha256")
    hidden = bytes(octet ^ other for octet, other in zip(field, mask, strict=False))
    return body[:begin] + hidden + body[begin + len(field) :]


def _mac(key: bytes, body: bytes, context: bytes) -> bytes:
    return hmac.digest(key, LABEL + len(body).to_bytes(2, "big") + body + context, "sha256")[:MAC_BYTES]


def _join(*fields: bytes) -> bytes:
    return b"".join(bytes((len(field),)) + field for field in fields)


def _fields(body: bytes) -> list[bytes]:
    fields, at = [], 0
    while at < len(body):
        end = at + 1 + body[at]
        fields.append(body[at + 1 : end])
        at = end
    return fields


def _number(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _packed(peer: Address) -> tuple[bytes, bytes, bytes]:
    host, _, scope = peer[0].partition("%")
    return inet_pton(AF_INET6 if ":" in host else AF_INET, host), _number(peer[1]), scope.encode()


def _unpacked(fields: list[bytes]) -> Address:
    ip, port, scope = fields
    host = inet_ntop(AF_INET6 if len(ip) == 16 else AF_INET, ip)
    return f"{host}%{scope.decode()}" if scope else host, int.from_bytes(port, "big")
