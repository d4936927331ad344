"""How hashes are encrypted that lie in Redis: who reads Redis learns nothing, and who writes there forges nothing."""

import os
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORM = b"\x01"
"""Begins every sealed value of this form. Another form, or another way to pack hashes, has another byte."""

PURPOSE = b"rollcall subscriber cache"

_NONCE_BYTES = 12
_EPOCH = Struct(">QQ")
_MOMENT = Struct(">d")
_HEAD = len(FORM) + _EPOCH.size
_BODY = _HEAD + _NONCE_BYTES

Epoch = tuple[int, int]
"""Which announcement that anybody may have changed was the last one known, see registrar.subscribers.announcing."""


class NotSealed(Exception):
    """This was not sealed with our key for this place."""


def key_from(configured: str) -> bytes:
    """Return the key that a text of the configuration stands for."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=PURPOSE).derive(configured.encode())


class Sealing:
    """AES-256-GCM. What is bound to a key of Redis, and to an epoch, cannot be put elsewhere."""

    def __init__(self, key: bytes) -> None:
        """`key` has 32 bytes."""
        self._cipher = AESGCM(key)

    def seal(self, place: bytes, epoch: Epoch, read_at: float, packed: bytes) -> bytes:
        """Return packed hashes as they lie in Redis at the key `place`."""
        head, nonce = FORM + _EPOCH.pack(*epoch), os.urandom(_NONCE_BYTES)
        return head + nonce + self._cipher.encrypt(nonce, _MOMENT.pack(read_at) + packed, place + head)

    def open(self, place: bytes, value: bytes) -> tuple[Epoch, float, bytes]:
        """Return epoch, when the database was asked, and the packed hashes. Raises NotSealed."""
        head, nonce = value[:_HEAD], value[_HEAD:_BODY]
        if not value.startswith(FORM) or len(nonce) < _NONCE_BYTES:
            raise NotSealed("it has another form")
        try:
            plain = self._cipher.decrypt(nonce, value[_BODY:], place + head)
        except InvalidTag:
            raise NotSealed("it was sealed with another key, or for another place") from None
        high, low = _EPOCH.unpack_from(head, len(FORM))
        return (high, low), _MOMENT.unpack_from(plain)[0], plain[_MOMENT.size:]
