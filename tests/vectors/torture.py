"""The archives in appendix A of RFC 4475 and RFC 5118, unpacked, and the messages as their authors meant them."""

import base64
import io
import tarfile
from functools import cache
from pathlib import Path, PurePosixPath

_HERE = Path(__file__).parent
# In RFC 4475's archive, but nowhere in its text.
_UNEXPLAINED = frozenset({"test"})


@cache
def rfc4475() -> dict[str, bytes]:
    """Return RFC 4475's 49 messages by name, as they are in its archive."""
    return _unpack("rfc4475.b64")


@cache
def rfc5118() -> dict[str, bytes]:
    """Return RFC 5118's 12 messages by name, as they are in its archive: with LF instead of CRLF."""
    return _unpack("rfc5118.b64")


@cache
def messages() -> dict[str, bytes]:
    """Return all 61 messages by name, without the slips of the archives that the texts say nothing of.

    RFC 5118's were saved with LF only, two of them and RFC 4475's baddn without the empty line at
    the end, and the Content-Length of RFC 5118's bodies does not count what is there.
    """
    meant = {name: _terminated(data) for name, data in rfc4475().items()}
    for name, data in rfc5118().items():
        meant[name] = _with_right_length(_terminated(data.replace(b"\n", b"\r\n")))
    return meant


def _terminated(data: bytes) -> bytes:
    return data if b"\r\n\r\n" in data else data + b"\r\n"


def _with_right_length(data: bytes) -> bytes:
    head, _, body = data.partition(b"\r\n\r\n")
    kept = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length:")]
    return b"\r\n".join([*kept, b"Content-Length: %d" % len(body), b"", body])


def _unpack(name: str) -> dict[str, bytes]:
    archive = base64.b64decode((_HERE / name).read_text("ascii"))
    unpacked = {}
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is not None:
                unpacked[PurePosixPath(member.name).name.removesuffix(".dat")] = stream.read()
    return {name: data for name, data in unpacked.items() if name not in _UNEXPLAINED}
