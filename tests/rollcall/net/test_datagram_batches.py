"""Datagrams by the batch over loopback sockets: one contract for the compiled way and for the plain one."""

import contextlib
import gc
from collections.abc import Callable
from errno import EAFNOSUPPORT, EAGAIN, EBADF, EINVAL, EMSGSIZE
from socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    SOCK_DGRAM,
    create_connection,
    create_server,
    if_nametoindex,
    socket,
    socketpair,
)
from types import ModuleType
from typing import Any, cast
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from rollcall.net import batches, plain_datagrams
from rollcall.net.flow import pack_address
from rollcall.net.plain_datagrams import SLOTS
from rollcall.sip.compiled import compiled_module

LARGEST = 65_507  # what IPv4's 65,535 bytes leave beside its header and UDP's
compiled = compiled_module("rollcall.net._datagrams")


class Batches:
    """For both ways. A subclass says which, and over which family."""

    way: ModuleType
    family = AF_INET
    host = "127.0.0.1"

    assertEqual: Callable[..., None]
    assertLess: Callable[..., None]
    assertRaises: Callable[..., Any]
    addCleanup: Callable[..., None]

    def setUp(self) -> None:
        self.ours, self.theirs = self.a_socket(), self.a_socket()
        self.their_address = pack_address(*self.theirs.getsockname()[:2])

    def a_socket(self) -> socket:
        bound = socket(self.family, SOCK_DGRAM)
        self.addCleanup(bound.close)
        bound.setblocking(False)
        bound.bind((self.host, 0))
        return bound

    def tell(self, *datagrams: bytes) -> None:
        """They send us this."""
        for each in datagrams:
            self.theirs.sendto(each, self.ours.getsockname())

    def heard(self) -> list[bytes]:
        """Return what they received."""
        found = []
        while True:
            try:
                found.append(self.theirs.recv(LARGEST + 1))
            except BlockingIOError:
                return found

    # --- receiving

    def test_nothing_waits(self) -> None:
        """Where nothing waits there is an empty batch, and no waiting, not even for a socket that blocks."""
        for blocks in (False, True):
            self.ours.setblocking(blocks)
            self.assertEqual(self.way.receive(self.ours, SLOTS), [])

    def test_received(self) -> None:
        """A batch has what waits, in order, each with the address it came from."""
        other = self.a_socket()
        self.tell(b"one", b"two")
        other.sendto(b"three", self.ours.getsockname())
        theirs, others = self.their_address, pack_address(*other.getsockname()[:2])
        expected = [(b"one", theirs), (b"two", theirs), (b"three", others)]
        self.assertEqual(self.way.receive(self.ours, SLOTS), expected)
        self.assertEqual(self.way.receive(self.ours, SLOTS), [])

    def test_sizes(self) -> None:
        """An empty datagram is one, and the largest comes whole, whatever came in its place before."""
        sizes = (LARGEST, 0, 1, 2047, 2048, 2049, 4096, 40_000)
        sent = [bytes(index % 251 for index in range(size)) for size in sizes]
        for _ in range(2):
            self.tell(*sent)
            self.assertEqual([data for data, _ in self.way.receive(self.ours, SLOTS)], sent)
            sent.reverse()

    def test_at_most(self) -> None:
        """No more is taken than was asked for, nor more than there are slots; the rest stays."""
        sent = [str(number).encode() for number in range(SLOTS + 10)]
        self.tell(*sent)
        self.assertEqual(self.way.receive(self.ours, 0), [])
        self.assertEqual(self.way.receive(self.ours, -1), [])
        taken = [self.way.receive(self.ours, most) for most in (1, 3, 1000, 1000)]
        self.assertEqual([len(batch) for batch in taken], [1, 3, SLOTS, 6])
        self.assertEqual([data for batch in taken for data, _ in batch], sent)

    def test_kept(self) -> None:
        """What was received stays what it is when the next batch comes."""
        self.tell(b"first")
        (kept, _), = self.way.receive(self.ours, SLOTS)
        self.tell(b"other")
        self.way.receive(self.ours, SLOTS)
        self.assertEqual(kept, b"first")

    def test_refused(self) -> None:
        """That a router or host complained of an earlier datagram is an error once, then reading goes on (ip(7))."""
        self.ours.connect(self.theirs.getsockname())
        self.theirs.close()
        self.assertEqual(self.way.send(self.ours, [(b"hello", self.their_address)]), [])
        self.assertRaises(ConnectionRefusedError, self.way.receive, self.ours, SLOTS)
        self.assertEqual(self.way.receive(self.ours, SLOTS), [])

    def test_many_batches(self) -> None:
        """Batch after batch leaves nothing behind."""
        def turn() -> None:
            self.tell(*[b"x" * 3000] * 20)
            batch = self.way.receive(self.ours, SLOTS)
            self.assertEqual(self.way.send(self.ours, batch), [])
            self.assertEqual(len(self.heard()), 20)

        turn()
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(50):
            turn()
        gc.collect()
        self.assertLess(len(gc.get_objects()) - before, 50)

    # --- sending

    def test_sent(self) -> None:
        """A batch leaves in its order, however long it is, empty and large datagrams too."""
        batch = [(str(number).encode(), self.their_address) for number in range(2 * SLOTS + 3)]
        batch[5:7] = [(b"", self.their_address), (b"x" * 20_000, self.their_address)]
        self.assertEqual(self.way.send(self.ours, batch), [])
        self.assertEqual(self.heard(), [data for data, _ in batch])
        self.assertEqual(self.way.send(self.ours, []), [])

    def test_refused_by_the_kernel(self) -> None:
        """What the kernel does not take is told with its place and reason; what stands behind it leaves."""
        nowhere = b"\0\0" + self.their_address[2:]
        batch = [
            (b"x" * 70_000, self.their_address),
            (b"one", self.their_address),
            (b"two", nowhere),
            (b"three", self.their_address),
            (b"x" * 70_000, self.their_address),
        ]
        self.assertEqual(self.way.send(self.ours, batch), [(0, EMSGSIZE), (2, EINVAL), (4, EMSGSIZE)])
        self.assertEqual(self.heard(), [b"one", b"three"])

    def test_wrong_address(self) -> None:
        """An address that is none is a mistake of the caller's, and nothing is read beyond it."""
        for address in (b"", b"\0", b"\0" * 5, b"\0" * 7, b"\0" * 17, b"\0" * 21, b"\0" * 23):
            self.assertRaises(ValueError, self.way.send, self.ours, [(b"data", address)])

    def test_closed(self) -> None:
        """A closed socket is an error, and no other that has its number now is touched."""
        number = self.ours.fileno()
        self.ours.close()
        successor = self.a_socket()
        self.assertEqual(successor.fileno(), number)
        error = self.assertRaises(OSError, self.way.receive, self.ours, SLOTS)
        self.assertEqual(error.errno, EBADF)
        self.assertEqual(self.way.send(self.ours, [(b"hello", self.their_address)] * 2), [(0, EBADF), (1, EBADF)])
        self.assertEqual(self.heard(), [])


class OverIpv4(Batches):
    """What only IPv4 has, or what needs no second family."""

    def test_other_family(self) -> None:
        """An IPv6 address is none for an IPv4 socket."""
        batch = [(b"one", pack_address("::1", 5060)), (b"two", self.their_address)]
        self.assertEqual(self.way.send(self.ours, batch), [(0, EAFNOSUPPORT)])
        self.assertEqual(self.heard(), [b"two"])

    def test_full(self) -> None:
        """When the kernel has no room for one it has none for those behind it: all are told, and nothing waits.

        Datagrams to loopback need no room, so a stream that nobody reads stands for them.
        """
        listening = create_server((self.host, 0))
        stream = create_connection(listening.getsockname())
        for each in (listening, stream):
            self.addCleanup(each.close)
        stream.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while stream.send(b"x" * 1_000_000):
                pass
        with contextlib.suppress(BlockingIOError):
            while stream.send(b"x"):
                pass
        batch = [(b"data", self.their_address)] * (SLOTS + 2)
        self.assertEqual(self.way.send(stream, batch), [(index, EAGAIN) for index in range(SLOTS + 2)])


class OverIpv6(Batches):
    """What only IPv6 has."""

    family = AF_INET6
    host = "::1"

    def test_scope(self) -> None:
        """An address may name the interface that it is reached by."""
        scope = if_nametoindex("lo").to_bytes(4)
        self.assertEqual(self.way.send(self.ours, [(b"hello", self.their_address + scope)]), [])
        self.assertEqual(self.heard(), [b"hello"])


class PlainOverIpv4Tests(OverIpv4, SynchronousTestCase):
    way = plain_datagrams


class PlainOverIpv6Tests(OverIpv6, SynchronousTestCase):
    way = plain_datagrams


@skipIf(compiled is None, "not compiled, or the twins are asked for")
class CompiledOverIpv4Tests(OverIpv4, SynchronousTestCase):
    way = cast(ModuleType, compiled)

    def test_wrong_types(self) -> None:
        """What is no list of bytes is refused before the kernel sees it."""
        for wrong in ([(None, None)], [(b"data", None)], [("data", "address")], [b"data"], [(b"data",)], [None]):
            self.assertRaises((TypeError, ValueError), self.way.send, self.ours, wrong)
        self.assertRaises(TypeError, self.way.send, self.ours, ((b"data", self.their_address),))

    def test_other_sockets(self) -> None:
        """The address of a peer that is not on the Internet cannot be told, which is an error and no address."""
        ours, theirs = socketpair(AF_UNIX, SOCK_DGRAM)
        for each in (ours, theirs):
            self.addCleanup(each.close)
        theirs.send(b"hello")
        self.assertEqual(self.assertRaises(OSError, self.way.receive, ours, SLOTS).errno, EAFNOSUPPORT)
        self.tell(b"goes on")
        self.assertEqual(self.way.receive(self.ours, SLOTS), [(b"goes on", self.their_address)])


@skipIf(compiled is None, "not compiled, or the twins are asked for")
class CompiledOverIpv6Tests(OverIpv6, SynchronousTestCase):
    way = cast(ModuleType, compiled)


class ChoiceTests(SynchronousTestCase):
    def test_choice(self) -> None:
        """What was compiled is taken where it is."""
        taken = plain_datagrams if compiled is None else compiled
        self.assertEqual(batches.COMPILED, compiled is not None)
        self.assertEqual((batches.receive, batches.send), (taken.receive, taken.send))
