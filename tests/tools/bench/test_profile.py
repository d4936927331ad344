"""What is made of a profiler's samples."""

from twisted.trial.unittest import SynchronousTestCase

from tools.bench.profile import Cost, costs

IDLE_THREAD = "bootstrap (threading.py:1);Condition.wait (threading.py:295) 4"


class ProfileTests(SynchronousTestCase):
    """What samples of stacks say about functions."""

    def test_costs(self) -> None:
        """A cost with callees counts once per stack, even if it recurs; waiting threads and reactors cost nothing."""
        waiting = [IDLE_THREAD, "run (a.py:1);_WatchedPoller.poll (rollcall/ops/turns.py:103) 9"]
        found = costs(["run (a.py:1);parse (b.py:2) 3", "run (a.py:1);send (c.py:1);run (a.py:1) 1", *waiting])
        self.assertEqual(
            found,
            [Cost("parse (b.py:2)", 0.75, 0.75), Cost("run (a.py:1)", 0.25, 1.0), Cost("send (c.py:1)", 0.0, 0.25)],
        )
