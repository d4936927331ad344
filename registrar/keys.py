"""The secret of a node, kept in a file, and the keys derived from it for one purpose each (RFC 5869's expand step)."""

import os
from hmac import digest
from pathlib import Path

SECRET_BYTES = 32


def load_or_create_secret(path: Path) -> bytes:
    """Return the secret in `path`, a new one when there is no such file yet; only its owner may read it.

    A restart with the same file keeps nonces, flow tokens and GRUUs valid. Raises ValueError when the
    file holds too little, OSError when it cannot be read or made.
    """
    try:
        with open(path, "xb", opener=_private) as file:
            secret = os.urandom(SECRET_BYTES)
            file.write(secret)
            return secret
    except FileExistsError:
        secret = path.read_bytes()
    if len(secret) < SECRET_BYTES:
        raise ValueError(f"{path} holds {len(secret)} bytes, a secret has {SECRET_BYTES}")
    return secret


def derive(secret: bytes, purpose: str) -> bytes:
    """Return the key for `purpose`: 32 bytes from which neither the secret nor another key follows."""
    return digest(secret, purpose.encode("ascii") + b"\x01", "sha256")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
