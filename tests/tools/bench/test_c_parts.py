"""The parts of the generator in C that can be called one by one."""

import ctypes
import hashlib
import os
import subprocess
import tempfile
from unittest import skipUnless

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.bench.samples import COMPILER, NO_COMPILER
from tools.bench.generator import FOLDER


def compiled(source: str) -> ctypes.CDLL:
    """One of the generator's sources, as functions to call."""
    assert COMPILER is not None
    with tempfile.TemporaryDirectory() as folder:
        built = os.path.join(folder, "part.so")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", built, str(FOLDER / "src" / source)], check=True)
        return ctypes.CDLL(built)


@skipUnless(COMPILER, NO_COMPILER)
class Md5Tests(SynchronousTestCase):
    """The generator's own MD5 (RFC 1321)."""

    library: ctypes.CDLL

    @classmethod
    def setUpClass(cls) -> None:
        cls.library = compiled("md5.c")

    def md5(self, data: bytes) -> str:
        """The digest as the generator computes it."""
        text = ctypes.create_string_buffer(33)
        self.library.md5_hex(data, ctypes.c_size_t(len(data)), text)
        return text.value.decode("ascii")

    def test_every_length_around_the_blocks(self) -> None:
        """Padding is right for each length up to three blocks and beyond."""
        for length in range(200):
            data = bytes(range(length))
            self.assertEqual(self.md5(data), hashlib.md5(data).hexdigest(), length)

    @given(st.binary(max_size=300))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever is hashed, Python's hashlib says the same."""
        self.assertEqual(self.md5(data), hashlib.md5(data).hexdigest())


class LatencyRecord(ctypes.Structure):
    """struct latency of latency.h."""

    _fields_ = (("count", ctypes.c_uint64), ("largest", ctypes.c_uint64), ("buckets", ctypes.c_uint32 * 1344))


@skipUnless(COMPILER, NO_COMPILER)
class LatencyTests(SynchronousTestCase):
    """The generator's histogram."""

    library: ctypes.CDLL

    @classmethod
    def setUpClass(cls) -> None:
        cls.library = compiled("latency.c")
        cls.library.latency_at.restype = ctypes.c_uint64

    def at(self, values: list[int], share: float) -> int:
        """The value below which this share of the recorded ones lies."""
        record = LatencyRecord()
        for value in values:
            self.library.latency_add(ctypes.byref(record), ctypes.c_uint64(value))
        found: int = self.library.latency_at(ctypes.byref(record), ctypes.c_double(share))
        return found

    def test_percentiles(self) -> None:
        """Small values are exact, and nothing recorded is 0."""
        values = list(range(1, 51))
        self.assertEqual([self.at(values, share) for share in (0.5, 0.98, 1.0)], [25, 49, 50])
        self.assertEqual(self.at([], 0.99), 0)

    @given(st.lists(st.integers(0, 2**45), min_size=1, max_size=50), st.floats(0.01, 1.0))
    def test_error_is_bounded(self, values: list[int], share: float) -> None:
        """A percentile is never too low, and at most 3.2 % too high."""
        exact = sorted(values)[max(int(share * len(values) + 0.5), 1) - 1]
        self.assertTrue(exact <= self.at(values, share) <= max(exact * 1.032, exact), (exact, self.at(values, share)))
