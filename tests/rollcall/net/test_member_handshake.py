"""The proof that two nodes give each other, and what is no proof."""

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.member_handshake import (
    GREETING,
    MAX_LINE_BYTES,
    AnotherLife,
    Called,
    Calling,
    Handshake,
    HandshakeFailed,
    Life,
)

KEY = b"k" * 32
A, B = Life("a", 1_700_000_000_000), Life("b.example", 7)


class Both:
    """Two ends, and what each has said."""

    def __init__(self, caller: Handshake, called: Handshake, channels: tuple[bytes, bytes] = (b"", b"")) -> None:
        self.caller = caller
        self.called = called
        self.said_by_called = [called.begin(channels[1])]
        self.said_by_caller = [caller.begin(channels[0])]

    def run(self) -> None:
        """Let the caller answer the greeting, and the called the caller."""
        self.said_by_caller.append(self.caller.receive_data(self.said_by_called[-1]))
        self.said_by_called.append(self.called.receive_data(self.said_by_caller[-1]))
        self.caller.receive_data(self.said_by_called[-1])


def both(wanted: Life = B, caller_key: bytes = KEY, called_key: bytes = KEY,
         channels: tuple[bytes, bytes] = (b"", b"")) -> Both:
    """Return two ends that have not spoken yet."""
    return Both(Calling(caller_key, A, wanted), Called(called_key, B), channels)


class ProofTests(SynchronousTestCase):
    def test_both_know(self) -> None:
        """Two nodes with the same key know each other's name and epoch afterwards, after a line each and a greeting."""
        ends = both()
        ends.run()
        self.assertEqual((ends.caller.member, ends.called.member), (B, A))
        said = ends.said_by_called + ends.said_by_caller
        self.assertEqual([each.count(b"\n") for each in said], [1, 1, 0, 1])

    @given(st.integers(1, 40))
    def test_in_pieces(self, size: int) -> None:
        """It does not matter in which pieces the lines come."""
        caller, called = Calling(KEY, A, B), Called(KEY, B)
        to_caller, to_called = called.begin(), caller.begin()
        while to_caller or to_called:
            piece, to_caller = to_caller[:size], to_caller[size:]
            to_called += caller.receive_data(piece) if piece else b""
            piece, to_called = to_called[:size], to_called[size:]
            to_caller += called.receive_data(piece) if piece else b""
        self.assertEqual((caller.member, called.member), (B, A))

    def test_what_follows(self) -> None:
        """What the called node says right after its proof is kept for whoever reads messages."""
        ends = both()
        answer = ends.caller.receive_data(ends.said_by_called[0])
        ends.caller.receive_data(ends.called.receive_data(answer) + b"OPTIONS sip:a SIP/2.0\r\n")
        self.assertEqual(ends.caller.rest, b"OPTIONS sip:a SIP/2.0\r\n")

    def test_long_names(self) -> None:
        """The longest names that hosts can have fit."""
        here, there = Life("h" * 253, 10**19), Life("t" * 253, 10**19 + 1)
        ends = Both(Calling(KEY, here, there), Called(KEY, there))
        ends.run()
        self.assertEqual(ends.called.member, here)

    def test_nonces_differ(self) -> None:
        """No two handshakes say the same."""
        greetings = {Called(KEY, B).begin() for _ in range(100)}
        self.assertEqual(len(greetings), 100)


class RefusalTests(SynchronousTestCase):
    def test_other_key_of_caller(self) -> None:
        """Who has another key is refused, and is told nothing but the greeting, which names nobody."""
        ends = both(caller_key=b"x" * 32)
        error = self.assertRaises(HandshakeFailed, ends.run)
        self.assertIn("another key", str(error))
        self.assertEqual(len(ends.said_by_called), 1)
        self.assertNotIn(b"example", ends.said_by_called[0])
        self.assertIsNone(ends.called.member)

    def test_other_key_of_called(self) -> None:
        """Who answers without the key is not taken for a member."""
        caller = Calling(KEY, A, B)
        caller.receive_data(Called(b"x" * 32, B).begin())
        # A called node with another key does not answer at all; this one makes up a proof of its own.
        forging = both(caller_key=b"x" * 32, called_key=b"x" * 32)
        forging.run()
        self.assertRaises(HandshakeFailed, caller.receive_data, forging.said_by_called[-1])
        self.assertIsNone(caller.member)

    def test_replay_to_called(self) -> None:
        """What a caller has said once is no proof a second time."""
        ends = both()
        ends.run()
        again = Called(KEY, B)
        again.begin()
        self.assertRaises(HandshakeFailed, again.receive_data, ends.said_by_caller[-1])

    def test_replay_to_caller(self) -> None:
        """What a called node has said once is no proof to another caller, or to the same one later."""
        ends = both()
        ends.run()
        again = Calling(KEY, A, B)
        again.receive_data(ends.said_by_called[0])
        self.assertRaises(HandshakeFailed, again.receive_data, ends.said_by_called[1])

    def test_reflection(self) -> None:
        """A caller's own words are no proof to it, nor to its own called side."""
        caller, mirror = Calling(KEY, A, B), Called(KEY, A)
        said = caller.receive_data(mirror.begin())
        self.assertRaises(HandshakeFailed, Calling(KEY, A, B).receive_data, said)
        error = self.assertRaises(HandshakeFailed, mirror.receive_data, said)
        self.assertIn("our own name", str(error))
        fields = said.split(b" ")
        self.assertRaises(HandshakeFailed, caller.receive_data, b" ".join([*fields[1:3], fields[-1]]))

    def test_stood_between(self) -> None:
        """Who passes everything on between two TLS connections is found out by what differs between them."""
        ends = both(channels=(b"one", b"another"))
        self.assertRaises(HandshakeFailed, ends.run)
        ends = both(channels=(b"same", b"same"))
        ends.run()
        self.assertEqual(ends.caller.member, B)

    def test_changed_names(self) -> None:
        """A name or epoch that is changed on the way makes the proof wrong, at either end."""
        for at in range(5):
            ends = both()
            fields = ends.caller.receive_data(ends.said_by_called[0]).rstrip(b"\n").split(b" ")
            fields[at] = fields[at][:-2] + (b"AA" if fields[at][-2:] != b"AA" else b"BB")
            self.assertRaises(HandshakeFailed, ends.called.receive_data, b" ".join(fields) + b"\n")
        for at in range(2):
            ends = both()
            reply = ends.called.receive_data(ends.caller.receive_data(ends.said_by_called[0]))
            fields = reply.rstrip(b"\n").split(b" ")
            fields[at] = b"YWFh"
            self.assertRaises(HandshakeFailed, ends.caller.receive_data, b" ".join(fields) + b"\n")

    def test_moved_letters(self) -> None:
        """A name is not the longer for the letters of the next field, though all of them together are the same."""
        ends = Both(Calling(KEY, Life("a1", 23), B), Called(KEY, B))
        fields = ends.caller.receive_data(ends.said_by_called[0]).rstrip(b"\n").split(b" ")
        fields[1:3] = b"YTEy", b"Mw"  # "a12" and "3"
        self.assertRaises(HandshakeFailed, ends.called.receive_data, b" ".join(fields) + b"\n")

    def test_another_life(self) -> None:
        """A node that has been restarted proves that it has, and both ends give up the connection."""
        for wanted in (Life("b.example", 6), Life("c", 7)):
            ends = both(wanted=wanted)
            answer = ends.caller.receive_data(ends.said_by_called[0])
            refused = self.assertRaises(AnotherLife, ends.called.receive_data, answer)
            error = self.assertRaises(AnotherLife, ends.caller.receive_data, refused.reply)
            self.assertEqual(error.there, B)
            self.assertEqual((ends.caller.member, ends.called.member), (None, None))
        self.assertTrue(Life("b.example", 6).is_before(B))
        self.assertFalse(Life("c", 6).is_before(B))

    def test_too_long(self) -> None:
        """A line that does not end is not waited for."""
        called = Called(KEY, B)
        called.begin()
        called.receive_data(b"a" * MAX_LINE_BYTES)
        self.assertRaises(HandshakeFailed, called.receive_data, b"a")
        caller = Calling(KEY, A, B)
        self.assertRaises(HandshakeFailed, caller.receive_data, b"a" * (MAX_LINE_BYTES + 1))

    def test_too_much(self) -> None:
        """Who says more before it is known has said too much: nothing of it is looked at."""
        ends = both()
        self.assertRaises(HandshakeFailed, ends.caller.receive_data, ends.said_by_called[0] + b"OPTIONS")
        ends = both()
        answer = ends.caller.receive_data(ends.said_by_called[0])
        self.assertRaises(HandshakeFailed, ends.called.receive_data, answer + b"OPTIONS")

    def test_no_members(self) -> None:
        """What speaks anything else is no member, and a genuine proof of a name that cannot be one is none, either."""
        for line in (b"", b"SIP/2.0 200 OK\r", GREETING, GREETING + b" AAAA", GREETING + b" \xff\xff", b"a b c"):
            self.assertRaises(HandshakeFailed, Calling(KEY, A, B).receive_data, line + b"\n")
        for line in (b"", b"INVITE sip:a@example.com SIP/2.0\r", b"a b c d e f", b"AAAA " * 5 + b"AAAA", b"= " * 5):
            called = Called(KEY, B)
            called.begin()
            self.assertRaises(HandshakeFailed, called.receive_data, line + b"\n")
        for nobody in (Life("", 7), Life("a", -1)):
            self.assertRaises(HandshakeFailed, Both(Calling(KEY, nobody, B), Called(KEY, B)).run)

    @given(st.binary(max_size=200))
    def test_noise(self, noise: bytes) -> None:
        """Whatever comes, nothing but a refusal follows."""
        for end in (Calling(KEY, A, B), Called(KEY, B)):
            end.begin()
            try:
                end.receive_data(noise + b"\n")
            except HandshakeFailed:
                continue
            self.fail("noise was taken for a proof")
