"""The journal on disk: plain blocking calls, for one thread at a time.

The file is MAGIC and then entries, each of which is

    CRC-32 of the rest, 4 bytes | kind | lengths of key and data, 2 and 4 bytes | record key | data

A WRITTEN entry holds a Change of an address-of-record as msgpack (`registrar.location.general`). A DONE one says that
all before it of the same key count no more. What a crash has left half written at the end is cut off. An empty file
beside it, `….lock`, is locked as long as a process has the journal (flock(2)).
"""

import os
from collections.abc import Iterable, Iterator
from fcntl import LOCK_EX, LOCK_NB, flock
from struct import Struct
from zlib import crc32

from twisted.logger import Logger

from registrar.location.general import Decoder, PlainBinding, Text, bindings_of, encode, plain_binding
from registrar.location.merging import Change
from registrar.records import aor_of_key, record_key

MAGIC = b"journal1"

WRITTEN, DONE = 1, 2

READ_AT_ONCE = 2**20

MOST_ENTRY_BYTES = 2**24
"""A longer entry is none: the bindings of an address-of-record come from messages of less than 64 KiB each."""

_CRC = Struct("<I")
_LENGTHS = Struct("<BHI")
_HEAD_BYTES = _CRC.size + _LENGTHS.size

_Form = tuple[float, tuple[PlainBinding[Text], ...], tuple[PlainBinding[Text], ...]]
_DECODER = Decoder(_Form)

Left = tuple[str, Change, int]
"""An address-of-record, a change that still counts, and how many bytes it takes."""


class JournalFile:
    """One file, of one process at a time. Every method raises OSError when it cannot be used."""

    _log = Logger()

    def __init__(self, path: str) -> None:
        self.path = path
        self.size = 0
        """Bytes that are in the file for good."""
        self._descriptor = -1
        self._lock = -1
        self._torn = False

    def open(self) -> list[Left]:
        """Claim the file, cut off what is half written, and return what still counts, in order."""
        self._lock = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(self._lock, LOCK_EX | LOCK_NB)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            return list(self._understood(self._look_through()))
        except BlockingIOError as problem:
            self.close()
            raise OSError("another registrar uses this file") from problem
        except BaseException:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        """Add entries; they are on the disk when this returns, and none of them is in the file when it raises."""
        is_new = not self.size
        if is_new:
            data = MAGIC + data
        self._cut()
        try:
            _write_at(self._descriptor, data, self.size)
            os.fdatasync(self._descriptor)
            if is_new:
                _sync_folder(self.path)
        except OSError:
            self._torn = True
            raise
        self.size += len(data)

    def empty(self) -> None:
        """Forget all entries."""
        os.ftruncate(self._descriptor, 0)
        self.size = 0
        self._torn = False
        os.fdatasync(self._descriptor)

    def compact(self) -> None:
        """Forget what does not count any more; afterwards the file is no larger than what does."""
        self._cut()
        path = f"{self.path}.new"
        new = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            size = self._copy_to(new)
            os.fdatasync(new)
            os.rename(path, self.path)
        except OSError:
            os.close(new)
            os.unlink(path)
            raise
        os.close(self._descriptor)
        self._descriptor, self.size, self._torn = new, size, False
        _sync_folder(self.path)

    def close(self) -> None:
        """Let go of the file, and let others have it."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def _cut(self) -> None:
        """See that nothing of what could not be written is left."""
        if self._torn:
            os.ftruncate(self._descriptor, self.size)
            self._torn = False

    def _copy_to(self, descriptor: int) -> int:
        """Write what still counts into another file, and return how much that is."""
        size = len(MAGIC)
        _write_at(descriptor, MAGIC, 0)
        for place, length in self._counting()[0]:
            _write_at(descriptor, os.pread(self._descriptor, length, place), size)
            size += length
        return size

    def _look_through(self) -> list[tuple[int, int]]:
        """Return place and length of each entry that counts, and cut off what is no entry."""
        length = os.fstat(self._descriptor).st_size
        start = os.pread(self._descriptor, len(MAGIC), 0)
        if not MAGIC.startswith(start):
            raise OSError("this is no journal, or one of another release")
        places, self.size = self._counting() if start == MAGIC else ([], 0)
        if length > self.size:
            self._log.error("the last {count} bytes of {path} are no whole entries and are cut off: they were being "
                            "written when the process or the machine ended", count=length - self.size, path=self.path)
            os.ftruncate(self._descriptor, self.size)
        return places

    def _counting(self) -> tuple[list[tuple[int, int]], int]:
        """Return place and length of each entry that counts, in order, and where the last whole one ends."""
        counting: dict[bytes, list[tuple[int, int]]] = {}
        end = len(MAGIC)
        for kind, key, length in self._entries():
            if kind == DONE:
                counting.pop(key, None)
            else:
                counting.setdefault(key, []).append((end, length))
            end += length
        return sorted(place for places in counting.values() for place in places), end

    def _entries(self) -> Iterator[tuple[int, bytes, int]]:
        """Yield kind, key and length of each entry, up to one that is not whole."""
        buffer, place, read_to = b"", 0, len(MAGIC)
        while True:
            length = _length_at(buffer, place)
            if length > len(buffer) - place:
                more = os.pread(self._descriptor, max(READ_AT_ONCE, length), read_to)
                if not more:
                    return
                read_to += len(more)
                buffer, place = buffer[place:] + more, 0
                continue
            found = _read_entry(buffer[place:place + length])
            if found is None:
                return
            yield found[0], found[1], length
            place += length

    def _understood(self, places: Iterable[tuple[int, int]]) -> Iterator[Left]:
        for place, length in places:
            entry = os.pread(self._descriptor, length, place)
            found = _read_entry(entry)
            if found is None:
                raise OSError("what was read a moment ago cannot be read again")
            _, key, data = found
            try:
                at, kept, removed = _DECODER.decode(data)
                yield aor_of_key(key), Change(bindings_of(kept), bindings_of(removed), at), length
            except ValueError as problem:
                self._log.error("an entry of {path} for {aor} is not understood: {problem}", path=self.path,
                                aor=aor_of_key(key), problem=str(problem))


def written(aor: str, change: Change) -> bytes:
    """Return the entry for a change."""
    kept, removed = (tuple([plain_binding(one) for one in some]) for some in (change.kept, change.removed))
    return _entry(WRITTEN, aor, encode((change.at, kept, removed)))


def done(aor: str) -> bytes:
    """Return the entry that ends all before it of an address-of-record."""
    return _entry(DONE, aor, b"")


def _entry(kind: int, aor: str, data: bytes) -> bytes:
    key = record_key(aor)
    rest = _LENGTHS.pack(kind, len(key), len(data)) + key + data
    return _CRC.pack(crc32(rest)) + rest


def _length_at(buffer: bytes, place: int) -> int:
    """Return how long the entry that begins there is, or at least is."""
    if len(buffer) - place < _HEAD_BYTES:
        return _HEAD_BYTES
    _, key_length, data_length = _LENGTHS.unpack_from(buffer, place + _CRC.size)
    return int(min(_HEAD_BYTES + key_length + data_length, MOST_ENTRY_BYTES))


def _read_entry(entry: bytes) -> tuple[int, bytes, bytes] | None:
    """Return kind, key and data of an entry, or None when it is not whole."""
    kind, key_length, data_length = _LENGTHS.unpack_from(entry, _CRC.size)
    key_end = _HEAD_BYTES + key_length
    if kind not in (WRITTEN, DONE) or key_end + data_length != len(entry):
        return None
    if crc32(entry[_CRC.size:]) != _CRC.unpack_from(entry)[0]:
        return None
    return kind, entry[_HEAD_BYTES:key_end], entry[key_end:]


def _write_at(descriptor: int, data: bytes, place: int) -> None:
    """Write all of it. Raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, place)
        place += count
        view = view[count:]


def _sync_folder(path: str) -> None:
    """See that the file is found under its name after a power cut, too."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
