"""The tags of our side of subscriptions, which name the node that has the subscription.

    tag  = base64url( mac[8] chance[8] epoch[6] node ), without padding
    mac  = HMAC-SHA256(key, label  chance  epoch  node), its first 64 bits

Any node that has the key can tell whose subscription a request is for, and nobody can make one up. The same text is the
user part of our Contact.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Callable
from os import urandom

LABEL = b"rollcall subscription 1"
MAC_BYTES = 8
CHANCE_BYTES = 8
EPOCH_BYTES = 6
MAX_TAG_CHARS = 128


class Tags:
    """Makes the tags of one node in one epoch, and reads those of all."""

    def __init__(self, key: bytes, node: str, epoch: int, chance: Callable[[int], bytes] = urandom) -> None:
        if len(key) < 16:
            raise ValueError("tags need a key of at least 16 bytes")
        self._key = key
        self._own = epoch.to_bytes(EPOCH_BYTES, "big") + node.encode()
        self._chance = chance

    def new(self) -> str:
        """Return a tag that was never made before."""
        body = self._chance(CHANCE_BYTES) + self._own
        return urlsafe_b64encode(self._mac(body) + body).rstrip(b"=").decode("ascii")

    def owner(self, tag: str) -> tuple[str, int] | None:
        """Return the node and epoch that made `tag`; None when none of us did."""
        if len(tag) > MAX_TAG_CHARS:
            return None
        try:
            raw = urlsafe_b64decode(tag + "=" * (-len(tag) % 4))
        except (Base64Error, ValueError):
            return None
        mac, body = raw[:MAC_BYTES], raw[MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            return None
        epoch, node = body[CHANCE_BYTES:][:EPOCH_BYTES], body[CHANCE_BYTES + EPOCH_BYTES:]
        return node.decode(), int.from_bytes(epoch, "big")

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, LABEL + body, "sha256")[:MAC_BYTES]
