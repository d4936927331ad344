"""What is remembered of the directory."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.directory.known import Known


class KnownTests(SynchronousTestCase):
    def test_fresh(self) -> None:
        """What was read is true for its seconds, and at hand for longer."""
        known: Known[str] = Known(10, 60)
        known.put("a", "one", 100)
        self.assertEqual((known.fresh("a", 159.9), known.fresh("a", 160), known.stale("a")), ("one", None, "one"))
        self.assertEqual((known.fresh("b", 100), known.stale("b")), (None, None))

    def test_full(self) -> None:
        """The one that was read longest ago makes room."""
        known: Known[str] = Known(2, 60)
        for number, key in enumerate("abac"):
            known.put(key, f"{key}{number}", number)
        self.assertEqual([known.stale(key) for key in "abc"], ["a2", None, "c3"])
        self.assertEqual(len(known), 2)
