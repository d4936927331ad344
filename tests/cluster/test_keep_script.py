"""Tests of registrar/location/keep.lua on a real Redis."""

import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.location.packing import Packing
from registrar.location.shared_form import (
    KEEP_TEXT,
    MAGIC,
    keep_arguments,
    snapshot_of,
    to_shared,
    value_of,
    version_of_value,
)
from registrar.records import Binding
from tests.registrar.examples import PHONE, A, B, C, a_binding, a_bound
from tools.laboratory.redis_process import RedisProcess
from tools.laboratory.redis_servers import RedisServers

KEY = "loc:alice@example.com"
LATER = 4_000_000_000.0
"""When the bindings of these tests lapse: Redis has a real clock."""

MAX_CONTACTS = 2


def lasting(contact: str = A, **changes: Any) -> Binding:
    """Return a binding that lasts."""
    return a_binding(contact, **{"expires_at": LATER, **changes})


class KeepScriptTests(SynchronousTestCase):
    """One server for all tests, each of which begins with an empty one."""

    folder: tempfile.TemporaryDirectory[str]
    servers: RedisServers
    redis: RedisProcess

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory()
        cls.servers = RedisServers(Path(cls.folder.name))
        cls.servers.start()
        cls.redis = cls.servers.servers[0]

    @classmethod
    def tearDownClass(cls) -> None:
        cls.servers.stop()
        cls.folder.cleanup()

    def setUp(self) -> None:
        self.packing = Packing()
        self.redis.ask("FLUSHALL")

    def keep(self, version: int, *bindings: Binding, expected: int | None = None, max_contacts: int = MAX_CONTACTS,
             empty_until: float = LATER) -> Any:
        """Let the script write a record with all arguments, and return what it answers."""
        record = self.packing.pack(Snapshot(version, bindings), 7)
        expected = version - 1 if expected is None else expected
        return self.run_script(*keep_arguments(self.packing, record, expected, max_contacts, empty_until))

    def run_script(self, *arguments: bytes | int) -> Any:
        """Run the script with these arguments."""
        return self.redis.ask("EVAL", KEEP_TEXT, 1, KEY, *arguments)

    def stored(self) -> Snapshot | None:
        """Return what the key says now."""
        value = self.redis.ask("GET", KEY)
        return None if value is None else snapshot_of(value)

    def assert_refused(self, answer: Any) -> None:
        """Expect the current value as the answer, and that it stays."""
        self.assertEqual(answer, self.redis.ask("GET", KEY))
        self.assertNotEqual(answer, 1)

    def test_first(self) -> None:
        """The first value is kept where no other one is, and ends with its last binding."""
        last = lasting(B, expires_at=LATER + 1.5)
        self.assertEqual(self.keep(1, lasting(), last), 1)
        self.assertEqual(self.stored(), Snapshot(1, (lasting(), last)))
        self.assertEqual(self.redis.ask("PEXPIRETIME", KEY), int((LATER + 1.5) * 1000))

    def test_value_alone(self) -> None:
        """With no argument but the value, the version before is replaced, and the end is that of the last binding."""
        for version, bindings in ((1, (lasting(expires_at=LATER + 0.25),)), (2, (lasting(cseq=2), lasting(B))),
                                  (3, (lasting(B), lasting(cseq=3, expires_at=LATER - 5)))):
            snapshot = Snapshot(version, bindings)
            value = to_shared(self.packing, self.packing.pack(snapshot, 7))
            self.assertEqual(self.run_script(value), 1)
            self.assertEqual(self.stored(), snapshot)
            last = max(binding.expires_at for binding in bindings)
            self.assertEqual(self.redis.ask("PEXPIRETIME", KEY), int(last * 1000))
            self.assert_refused(self.run_script(value))

    def test_other_version(self) -> None:
        """A value is refused when another version is stored than it replaces, and the current one comes back."""
        self.assertIsNone(self.keep(3, lasting()))
        self.assertIsNone(self.stored())
        self.keep(1, lasting())
        for version in (1, 3):
            self.assert_refused(self.keep(version, lasting(cseq=9)))
        self.assertEqual(self.keep(2, lasting(cseq=9)), 1)

    def test_expected(self) -> None:
        """The version that is replaced may be named, when the new one is not the next."""
        self.assertEqual(self.keep(7, lasting(), expected=0), 1)
        self.assert_refused(self.keep(9, lasting(cseq=2), expected=6))
        self.assertEqual(self.keep(9, lasting(cseq=2), expected=7), 1)
        self.assertEqual(self.stored(), Snapshot(9, (lasting(cseq=2),)))

    def test_out_of_order(self) -> None:
        """No contact gets a lower CSeq of the same Call-ID, whatever form either value has."""
        for old in ((lasting(cseq=5),), (lasting(cseq=5), lasting(B))):
            for new in ((lasting(cseq=4),), (lasting(B), lasting(cseq=4))):
                self.redis.ask("FLUSHALL")
                self.assertEqual(self.keep(1, *old), 1)
                self.assert_refused(self.keep(2, *new))
                for good in (lasting(cseq=5), lasting(cseq=6), lasting(cseq=4, call_id="two"), lasting(C, cseq=4)):
                    self.redis.ask("FLUSHALL")
                    self.keep(1, *old)
                    later = [good if binding.cseq == 4 else binding for binding in new]
                    self.assertEqual(self.keep(2, *later), 1, (old, later))

    def test_order_with_everything(self) -> None:
        """The order is kept for a phone with parameters and a generation, too, which stand between and behind."""
        phone = a_bound(A, 7, params=(("+sip.instance", f'"<{PHONE}>"'),), instance=PHONE, generation=2**40,
                        expires_at=LATER, cseq=5)
        self.keep(1, phone)
        again = attrs.evolve(phone, params=(), instance=None, generation=0, cseq=4)
        self.assert_refused(self.keep(2, again))
        self.assert_refused(self.keep(2, attrs.evolve(phone, generation=2**41, cseq=4)))
        self.assertEqual(self.keep(2, attrs.evolve(again, cseq=6)), 1)

    def test_too_many(self) -> None:
        """Nobody adds a binding beyond the limit; who has more since it was lowered may keep them, but add none."""
        three = lasting(), lasting(B), lasting(C)
        self.keep(1, *three[:2])
        self.assert_refused(self.keep(2, *three))
        self.assertEqual(self.keep(2, *three, max_contacts=3), 1)
        self.assertEqual(self.keep(3, *three), 1)
        self.assert_refused(self.keep(4, *three, lasting("sip:d@192.0.2.7")))
        self.assertEqual(self.keep(4, *three[1:]), 1)
        self.assert_refused(self.keep(5, *three))

    def test_tombstone(self) -> None:
        """A record without bindings stays for as long as it was told, so that its version goes on."""
        self.keep(1, lasting())
        self.assertEqual(self.keep(2, empty_until=LATER - 1), 1)
        self.assertEqual(self.stored(), Snapshot(2))
        self.assertEqual(self.redis.ask("PEXPIRETIME", KEY), int((LATER - 1) * 1000))
        self.assert_refused(self.keep(1, lasting()))
        self.assertEqual(self.keep(3, lasting()), 1)

    def test_lapsed(self) -> None:
        """A value whose time is over already is as good as none, and no error."""
        for bindings in ((lasting(expires_at=1.0),), (lasting(expires_at=0.0),)):
            self.keep(1, lasting())
            self.assertEqual(self.keep(2, *bindings), 1)
            self.assertIsNone(self.redis.ask("GET", KEY))
            value = to_shared(self.packing, self.packing.pack(Snapshot(1, bindings), 7))
            self.assertEqual(self.run_script(value), 1)
            self.assertIsNone(self.redis.ask("GET", KEY))

    def test_not_understood(self) -> None:
        """What is no value at all counts as none: it can be replaced, and does not come back."""
        for garbage in (b"", b"x", b"x" * 100, b"\0" * 54 + MAGIC, b"\0" * 100 + b"\xff" * 4 + MAGIC):
            self.redis.ask("SET", KEY, garbage)
            self.assertEqual(version_of_value(garbage), 0)
            self.assertEqual(self.keep(1, lasting(cseq=0)), 1)

    @given(st.binary(max_size=100), st.integers(0, 3))
    def test_garbage(self, garbage: bytes, form: int) -> None:
        """Whatever stands there, the script does not fail, and names the version that it can be replaced by."""
        several = [value_of(Snapshot(3, bindings)) for bindings in ((lasting(), lasting(B)), (), (lasting(),))]
        start = (*several, to_shared(self.packing, self.packing.pack(Snapshot(1, (lasting(),)), 7)))[form][:58]
        for value in (garbage + MAGIC, start + garbage + MAGIC, start + garbage):
            self.redis.ask("SET", KEY, value)
            version = version_of_value(value)
            first, second = lasting(cseq=2**32 - 1), lasting(B, cseq=2**32 - 1)
            self.assertEqual(self.keep(version + 1, first, second), 1)
            self.redis.ask("SET", KEY, value)
            self.assertEqual(self.keep(version + 1, first), 1)

    @given(st.lists(st.tuples(st.sampled_from((A, B, C)), st.sampled_from("xy"), st.integers(0, 3)), max_size=3),
           st.lists(st.tuples(st.sampled_from((A, B, C)), st.sampled_from("xy"), st.integers(0, 3)), max_size=3))
    def test_model(self, old: list[tuple[str, str, int]], new: list[tuple[str, str, int]]) -> None:
        """Over any two sets of bindings the script decides as the rules say."""
        self.redis.ask("FLUSHALL")
        before = {contact: lasting(contact, call_id=call_id, cseq=cseq) for contact, call_id, cseq in old}
        after = {contact: lasting(contact, call_id=call_id, cseq=cseq) for contact, call_id, cseq in new}
        self.keep(1, *before.values(), max_contacts=3)
        is_good = len(after) <= max(MAX_CONTACTS, len(before)) and not any(
            contact in before and before[contact].call_id == binding.call_id and before[contact].cseq > binding.cseq
            for contact, binding in after.items())
        self.assertEqual(self.keep(2, *after.values()) == 1, is_good)
