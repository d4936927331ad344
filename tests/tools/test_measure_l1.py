"""Tests of tools/measure_l1.py: that it measures what it says. What a million cost stands in docs/measurements.md."""

import gc
import json

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Counts
from registrar.records import aor_of_key
from tools.measure_l1 import WAYS, Findings, Store, main, measure, show

CONTACTS = 3_000


class StoreTests(SynchronousTestCase):
    def test_both_ways_keep_the_same(self) -> None:
        """A contact that was packed is the one that was saved, when it came and when it was refreshed."""
        packed, saved = Store(), Store()
        for enter in ((packed.insert, saved.save), (packed.refresh, saved.save)):
            for store, act in zip((packed, saved), enter, strict=True):
                store.for_each(CONTACTS, act)
            self.assertEqual(packed.location.records, saved.location.records)
            self.assertEqual(packed.location.counts(), Counts(CONTACTS, {"UDP": CONTACTS}))
        key = next(iter(packed.location.records))
        (binding,) = packed.location.peek(aor_of_key(key)).bindings
        self.assertEqual((binding.cseq, binding.contact), (2, "sip:u0000000@127.0.0.1:5060"))
        self.assertGreater(binding.refreshed_at, binding.registered_at)


class MeasureTests(SynchronousTestCase):
    def test_parts(self) -> None:
        """Key, index, record and calendar of a contact are told, and are within the 300 bytes that it may cost."""
        for way in WAYS:
            found = measure(way, CONTACTS, tuned=False)
            self.assertEqual(set(found.parts), {"key", "index", "record", "calendar"})
            self.assertTrue(100 < sum(found.parts.values()) <= 300, found.parts)
            self.assertEqual((found.way, found.tuned, found.contacts), (way, False, CONTACTS))
            self.assertGreater(found.full_pause, 0.0)

    def test_collections_are_counted(self) -> None:
        """Each collection while contacts come is counted in its generation, and measured; the last one is apart."""
        thresholds = gc.get_threshold()
        self.addCleanup(gc.set_threshold, *thresholds)
        gc.set_threshold(1, 1000, 1000)
        found = measure("saved", 1_000, tuned=False)
        self.assertGreater(found.collections[0], 0)
        self.assertEqual(found.collections[2], 0)
        self.assertGreater(found.longest_pause, 0.0)

    def test_printed(self) -> None:
        """A process that measures prints what it found as JSON, from which the table is drawn."""
        printed = CliRunner().invoke(main, ["--inside", "packed", "--untuned", "--contacts", "1000"])
        self.assertEqual(printed.exit_code, 0, printed.output)
        found = Findings(**json.loads(printed.output))
        table = show([found])
        self.assertEqual(table.row_count, 1)
        self.assertEqual(table.title, "1,000 contacts")
