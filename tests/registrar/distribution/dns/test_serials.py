"""Serial numbers of zones."""

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.dns.serials import Serials

NOW = 1_800_000_000


class SerialsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.file = Path(self.enterContext(TemporaryDirectory())) / "dns.serial"
        self.serials = Serials(self.file)

    def test_time(self) -> None:
        """A number is the time of the change."""
        self.assertEqual(self.serials.number("a", NOW + 0.7), NOW)
        self.assertEqual(self.serials.number("b", NOW + 60.2), NOW + 60)

    def test_grows(self) -> None:
        """Each other content has a greater number, within one second and when the clock is put back."""
        numbers = [self.serials.number(content, at) for content, at in
                   (("a", NOW), ("b", NOW), ("a", NOW + 0.5), ("c", NOW - 3600))]
        self.assertEqual(numbers, [NOW, NOW + 1, NOW + 2, NOW + 3])

    def test_restart(self) -> None:
        """After a restart the same content has its number still, and another one a greater, whatever the clock says."""
        self.serials.number("a", NOW)
        self.assertEqual(Serials(self.file).number("a", NOW + 500), NOW)
        self.assertEqual(Serials(self.file).number("b", NOW - 500), NOW + 1)

    def test_workers(self) -> None:
        """Workers that share the file give one content one number."""
        other = Serials(self.file)
        for content, at in (("a", NOW), ("b", NOW + 10), ("a", NOW + 20)):
            self.assertEqual(self.serials.number(content, at), other.number(content, at + 1))

    def test_workers_that_disagree(self) -> None:
        """Workers that took different ways to the same content have the same number in the end."""
        other = Serials(self.file)
        self.serials.number("a", NOW)
        other.number("b", NOW)
        other.number("a", NOW)
        self.assertFalse(other.is_behind())
        self.assertTrue(self.serials.is_behind())
        self.assertEqual(self.serials.number("a", NOW), NOW + 2)
        self.assertFalse(self.serials.is_behind())

    def test_workers_at_once(self) -> None:
        """Two workers that gave their contents one number in the same moment do not keep it for both."""
        other = Serials(self.file)
        with patch.object(other, "_read", return_value=None):  # it looked before the first had written
            self.assertEqual(self.serials.number("a", NOW), other.number("b", NOW))
        self.assertGreater(self.serials.number("b", NOW), NOW)
        self.assertTrue(other.is_behind())
        self.assertEqual(other.number("b", NOW), self.serials.number("b", NOW))

    def test_unusable_file(self) -> None:
        """What is no such file is told and replaced."""
        for text in (b"\xff", b"{}", b'{"serial": -5, "digest": ""}', b'{"serial": 1e99, "digest": ""}', b""):
            self.file.write_bytes(text)
            with capturedLogs():
                self.assertEqual(Serials(self.file).number("a", NOW), NOW, text)
            self.assertEqual(Serials(self.file).number("a", NOW + 9), NOW, text)

    def test_no_place(self) -> None:
        """Where nothing can be kept that is told, and numbers grow all the same."""
        serials = Serials(self.file / "none" / "dns.serial")
        with capturedLogs() as logs:
            self.assertEqual([serials.number(each, NOW) for each in "ab"], [NOW, NOW + 1])
        self.assertTrue(any("kept" in event["log_format"] for event in logs))
