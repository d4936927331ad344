"""Flow tokens: a flow's name in a URI, which nobody else can make up (RFC 5626 §5.2).

    token   = base64url( mac[10] body ), without padding
    body    = fields, each a length octet and that many octets:
              "C" node epoch flow-id          a connection; with workers also transport and listener (may be empty)
              "D" node listener ip port scope a datagram peer
              "N"                             no flow
    mac     = HMAC-SHA256(key, label  length-of-body[2]  body  context), its first 80 bits

All nodes share the keys, so a node can tell a genuine token of another node (and its owner) from a forged one.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Sequence
from enum import Enum
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from rollcall.net.flow import Address, Flow
from rollcall.net.remote import RemoteFlow, Siblings

LABEL = b"rollcall flow 1"
MAC_BYTES = 10
CONNECTION, DATAGRAM, NO_FLOW_KIND = b"C", b"D", b"N"


class NoFlow(Enum):
    """What a token resolves to that names no flow: the request goes on by its URI."""

    NO_FLOW = "no flow"


NO_FLOW = NoFlow.NO_FLOW


class BadToken(Exception):
    """We did not make this token, or not for this context (RFC 5626 §5.3.1: 403)."""


class FlowGone(Exception):
    """The token is genuine but its flow is not here (RFC 5626 §5.3.1: 430).

    `node` and `epoch` tell whose it was; an epoch of 0 means any.
    """

    def __init__(self, node: str, epoch: int) -> None:
        super().__init__(f"the flow of node {node}, epoch {epoch}, is not here")
        self.node = node
        self.epoch = epoch


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

    def token(self, flow: Flow | None, context: bytes = b"") -> str:
        """Return the name of `flow`, fit for the user part of a SIP URI; None means no flow.

        `context` (e.g. a Call-ID) is not carried, but has to be given again to resolve the token.
        """
        body = self._body(flow)
        mac = _mac(self._keys[0], body, context)
        return urlsafe_b64encode(mac + body).rstrip(b"=").decode("ascii")

    def resolve(self, token: str, context: bytes = b"") -> Flow | NoFlow:
        """Return the open flow that `token` names, or NO_FLOW. Raises BadToken, FlowGone or FlowElsewhere."""
        fields = _fields(self._verified(token, context))
        if fields[0] == NO_FLOW_KIND:
            return NO_FLOW
        node = fields[1].decode()
        if fields[0] == DATAGRAM:
            return self._resolve_datagram(node, fields[2:])
        return self._resolve_connection(node, fields[2:])

    def _body(self, flow: Flow | None) -> bytes:
        if flow is None:
            return _join(NO_FLOW_KIND)
        node = self._node.encode()
        if flow.id:
            return self._connection(flow)
        if flow.listener is None:
            raise ValueError("a datagram flow without a listener cannot be named")
        return _join(DATAGRAM, node, flow.listener.name.encode(), *_packed(flow.peer))

    def _connection(self, flow: Flow) -> bytes:
        node, epoch = self._node, self._epoch
        if isinstance(flow, RemoteFlow):
            node, epoch = flow.node, flow.epoch
        named = _join(CONNECTION, node.encode(), _number(epoch), _number(flow.id))
        if self._siblings is None:
            return named
        # Who does not have the connection must still know what to write into Via.
        listener = flow.listener.name if flow.listener is not None else ""
        return named + _join(flow.transport.encode(), listener.encode())

    def _verified(self, token: str, context: bytes) -> bytes:
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
            # Decoding skips what is foreign to the alphabet and the last digit's spare bits: one token, one spelling.
            canonical = urlsafe_b64encode(raw).rstrip(b"=") == token.encode("ascii")
        except (Base64Error, ValueError):
            raise BadToken("not a flow token") from None
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        genuine = False
        for key in self._keys:
            genuine |= hmac.compare_digest(mac, _mac(key, body, context))
        if not (genuine and canonical):
            raise BadToken("a forged flow token, or one made for something else")
        return body

    def _resolve_datagram(self, node: str, fields: list[bytes]) -> Flow:
        # A datagram flow has no state that an epoch could end: it outlives the process, and all workers have its port.
        if node != self._node and not self._is_sibling(node):
            raise FlowElsewhere(node, 0)
        listener, (host, port) = fields[0].decode(), _unpacked(fields[1:])
        flow = self._datagram(listener, host, port)
        if flow is None:
            raise FlowGone(node, 0)
        return flow

    def _resolve_connection(self, node: str, fields: list[bytes]) -> Flow:
        epoch, flow_id = (int.from_bytes(field, "big") for field in fields[:2])
        if node == self._node:
            flow = self._find(flow_id) if epoch == self._epoch else None
        elif self._siblings is not None and self._siblings.knows(node) and len(fields) == 4:
            flow = self._siblings.flow(node, epoch, flow_id, fields[2].decode(), fields[3].decode())
        else:
            raise FlowElsewhere(node, epoch)
        if flow is None or not flow.is_open:
            raise FlowGone(node, epoch)
        return flow

    def _is_sibling(self, node: str) -> bool:
        return self._siblings is not None and self._siblings.knows(node)


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
