"""What the kernel says of addresses."""

import struct
from socket import AF_INET, AF_INET6, inet_pton

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.tickle.netlink import (
    IFA_ADDRESS,
    IFA_F_TENTATIVE,
    IFA_FLAGS,
    IFA_LOCAL,
    NLMSG_DONE,
    NLMSG_ERROR,
    RTM_DELADDR,
    RTM_NEWADDR,
    HeldAddresses,
)

ONE, OTHER = inet_pton(AF_INET, "192.0.2.1"), inet_pton(AF_INET, "192.0.2.2")
SIX = inet_pton(AF_INET6, "2001:db8::1")


def attribute(kind: int, value: bytes) -> bytes:
    """Return an rtattr, padded."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, body: bytes = b"", sequence: int = 0) -> bytes:
    """Return a message as netlink(7) has it."""
    return struct.pack("=IHHII", 16 + len(body), kind, 0, sequence, 0) + body


def told(kind: int, address: bytes, *attributes: bytes, device: int = 2, sequence: int = 0) -> bytes:
    """Return what is said of an address."""
    family = AF_INET if len(address) == 4 else AF_INET6
    body = struct.pack("=BBBBI", family, 32, 0, 0, device) + attribute(IFA_ADDRESS, address)
    return message(kind, body + b"".join(attributes), sequence)


class HeldAddressesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.held = HeldAddresses()

    def answer(self, *addresses: bytes) -> bool:
        """Give the answer to the last question."""
        sequence = struct.unpack_from("=I", self.question, 8)[0]
        said = b"".join(told(RTM_NEWADDR, address, sequence=sequence) for address in addresses)
        return self.held.receive_data(said + message(NLMSG_DONE, bytes(4), sequence))

    def ask(self) -> None:
        self.question = self.held.question()

    def test_all(self) -> None:
        """The answer to the question is every address."""
        self.ask()
        self.assertEqual(len(self.question), struct.unpack_from("=I", self.question)[0])
        self.assertTrue(self.answer(ONE, SIX))
        self.assertEqual(self.held.addresses, {ONE, SIX})

    def test_comes_and_goes(self) -> None:
        """An address that comes is news, and so is one that goes; the same again is none."""
        self.assertTrue(self.held.receive_data(told(RTM_NEWADDR, ONE)))
        self.assertFalse(self.held.receive_data(told(RTM_NEWADDR, ONE)))
        self.assertTrue(self.held.receive_data(told(RTM_DELADDR, ONE)))
        self.assertEqual(self.held.addresses, frozenset())

    def test_two_devices(self) -> None:
        """An address that two devices have is here until the last of them has lost it."""
        self.held.receive_data(told(RTM_NEWADDR, ONE, device=1) + told(RTM_NEWADDR, ONE, device=2))
        self.assertFalse(self.held.receive_data(told(RTM_DELADDR, ONE, device=1)))
        self.assertTrue(self.held.receive_data(told(RTM_DELADDR, ONE, device=2)))

    def test_point_to_point(self) -> None:
        """Where a device has a peer, the address is ours that is called local."""
        self.held.receive_data(told(RTM_NEWADDR, OTHER, attribute(IFA_LOCAL, ONE)))
        self.assertEqual(self.held.addresses, {ONE})

    def test_tentative(self) -> None:
        """An IPv6 address is ours once nobody else has been found to have it."""
        flags = attribute(IFA_FLAGS, struct.pack("=I", IFA_F_TENTATIVE))
        self.assertFalse(self.held.receive_data(told(RTM_NEWADDR, SIX, flags)))
        self.assertTrue(self.held.receive_data(told(RTM_NEWADDR, SIX, attribute(IFA_FLAGS, bytes(4)))))

    def test_asked_again(self) -> None:
        """What has gone while nobody heard of it is not here after the next answer; what comes amid the answer is."""
        self.held.receive_data(told(RTM_NEWADDR, ONE))
        self.ask()
        sequence = struct.unpack_from("=I", self.question, 8)[0]
        self.held.receive_data(told(RTM_NEWADDR, OTHER, sequence=sequence) + told(RTM_NEWADDR, SIX))
        self.assertEqual(self.held.addresses, {ONE, OTHER, SIX})
        self.assertTrue(self.answer())
        self.assertEqual(self.held.addresses, {OTHER, SIX})

    def test_old_news(self) -> None:
        """What was told before the answer begins is older than it: when its end was lost it does not stay."""
        self.ask()
        self.held.receive_data(told(RTM_NEWADDR, ONE))
        self.assertEqual(self.held.addresses, {ONE})
        self.assertTrue(self.answer(OTHER))
        self.assertEqual(self.held.addresses, {OTHER})

    def test_refused(self) -> None:
        """A question that the kernel refuses leaves everything as it was."""
        self.held.receive_data(told(RTM_NEWADDR, ONE))
        self.ask()
        sequence = struct.unpack_from("=I", self.question, 8)[0]
        self.assertFalse(self.held.receive_data(message(NLMSG_ERROR, struct.pack("=i", -16), sequence)))
        self.assertEqual(self.held.addresses, {ONE})

    @given(st.binary(max_size=200))
    def test_rubbish(self, data: bytes) -> None:
        """Whatever comes, nothing is raised, and every address is one."""
        held = HeldAddresses()
        held.receive_data(data)
        held.receive_data(message(RTM_NEWADDR, data))
        self.assertTrue(all(len(address) in (4, 16) for address in held.addresses))
