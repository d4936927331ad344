"""Lines that come by the hundred: told together, each written as if it were alone."""

import json
from io import StringIO

from twisted.internet.task import Clock
from twisted.logger import Logger, LogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.gathering import Gathered
from rollcall.ops.logs import LogConfig, filtered, writing

PLAIN = LogConfig()


class GatheredTests(SynchronousTestCase):
    """What is told within a turn is one event, and as many lines as were told."""

    def written(self, *names: str, config: LogConfig = PLAIN) -> list[str]:
        """Return the lines that are written when phones of these names are told of in one turn."""
        clock, file = Clock(), StringIO()
        publisher = LogPublisher(filtered(writing(file, config), config))
        log = Logger("registrar", observer=publisher)
        gathered = Gathered(log, "{name} new over {transport}", lambda call: clock.callLater(0, call))
        for name in names:
            gathered.tell(name=name, transport="TCP")
        self.assertEqual(file.getvalue(), "")
        clock.advance(0)
        return file.getvalue().splitlines()

    def test_a_line_for_each(self) -> None:
        """Nobody is left out, whether one was told of or many."""
        for names in (["alice"], ["alice", "bob", "carol"]):
            lines = self.written(*names)
            self.assertEqual([line.partition(" registrar: ")[2] for line in lines],
                             [f"{name} new over TCP" for name in names])
            self.assertEqual({line.split()[1] for line in lines}, {"info"})

    def test_as_json(self) -> None:
        """As JSON each is an object with its fields."""
        objects = [json.loads(line) for line in self.written("alice", "bob", config=LogConfig(format="json"))]
        self.assertEqual([(one["name"], one["transport"], one["message"]) for one in objects],
                         [("alice", "TCP", "alice new over TCP"), ("bob", "TCP", "bob new over TCP")])

    def test_guarded(self) -> None:
        """No line is forged, none is endless, and no secret gets out, as with every line."""
        forged, endless, secret = self.written("a\nb", "a" * 5000, 'response="8ca523f5e9506fed4657c9700eebdbec"')
        self.assertIn("a\\nb", forged)
        self.assertLess(len(endless), 1200)
        self.assertNotIn("8ca5", secret)

    def test_level(self) -> None:
        """What is not wanted is not written."""
        self.assertEqual(self.written("alice", "bob", config=LogConfig(level="warn")), [])
