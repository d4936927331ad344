"""Whether a check can be run by the user that keepalived runs it as."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from registrar.distribution.directors.running import cannot_run


class CannotRunTests(SynchronousTestCase):
    def setUp(self) -> None:
        if os.geteuid():
            raise SkipTest("only root may run something as somebody else")
        self.folder = Path(self.enterContext(TemporaryDirectory()))
        self.program = self.folder / "check"
        self.program.write_text("#!/bin/sh\nexit 1\n")
        self.program.chmod(0o755)

    def test_can(self) -> None:
        """Whatever it ends with, it was run."""
        self.folder.chmod(0o755)
        self.assertEqual(cannot_run(f"{self.program} more", "nobody"), "")

    def test_folder(self) -> None:
        """A program in a folder that is not for everybody cannot be run by nobody, but by root."""
        self.folder.chmod(0o700)
        self.assertIn("Permission denied", cannot_run(f"{self.program} more", "nobody"))
        self.assertEqual(cannot_run(str(self.program), "root"), "")

    def test_interpreter(self) -> None:
        """Neither can one whose interpreter is in such a folder, also when a shell finds that out."""
        self.folder.chmod(0o755)
        hidden = self.folder / "hidden"
        hidden.mkdir(0o700)
        interpreter = hidden / "interpreter"
        interpreter.symlink_to("/bin/sh")
        for text in (f"#!{interpreter}\n", f"#!/bin/sh\nexec {interpreter}\n"):
            self.program.write_text(text)
            self.assertIn("Permission denied", cannot_run(str(self.program), "nobody"))

    def test_no_user(self) -> None:
        """A user who is not there is named as such."""
        self.assertEqual(cannot_run(str(self.program), "no-such-user"), "there is no such user")

    def test_elsewhere(self) -> None:
        """Of a program that is not on this machine nothing is said."""
        self.assertEqual(cannot_run("/nowhere/check-sip", "nobody"), "")
