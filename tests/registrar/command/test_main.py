"""The command as a whole: where its options stand, and how it fails."""

import subprocess
import sys
from pathlib import Path

from registrar.command.commands import main
from registrar.command.users import user
from tests.registrar.command.running import CommandCase, run

ROOT = Path(__file__).parents[3]


class MainTests(CommandCase):
    def test_everything_has_help(self) -> None:
        """Every command explains itself."""
        commands = [(), *((name,) for name in main.commands), *(("user", name) for name in user.commands)]
        self.assertGreaterEqual(len(commands), 18)
        for path in commands:
            output = self.run_ok(*path, "--help")
            self.assertTrue(output.startswith("Usage:"), path)

    def test_options_stand_anywhere(self) -> None:
        """--config and --json may stand before, between and after the words of a command."""
        config = ("--config", str(self.config))
        for words in (
            (*config, "--json", "user", "list"),
            ("user", *config, "list", "--json"),
            ("user", "--json", "list", *config),
        ):
            result = run(*words)
            self.assertEqual((result.exit_code, result.stdout), (0, '{"users": []}\n'), words)

    def test_usage(self) -> None:
        """What is asked for wrongly exits with 2."""
        for words in (("nothing",), ("user", "add"), ("contacts", "--what"), ("demo", "--port-offset", "-1")):
            self.assertIn("Usage:", self.run_failing(*words, exit_code=2))

    def test_no_configuration(self) -> None:
        """A configuration that is not there is named, with exit code 1 and no traceback."""
        result = run("user", "list", "--config", str(self.directory / "none.toml"))
        self.assertEqual(result.exit_code, 1)
        self.assertIn("none.toml: cannot be read: No such file or directory", result.stderr)

    def test_bad_configuration(self) -> None:
        """Every mistake of a configuration is named."""
        self.config.write_text(self.config.read_text().replace("port = 5060", "port = 99999\nspeed = 1"))
        stderr = self.run_failing("user", "list")
        self.assertIn("listen[0].port: 99999 is not allowed", stderr)
        self.assertIn("listen[0].speed: unknown key", stderr)

    def test_broken_database(self) -> None:
        """A database that cannot be used is told in a sentence."""
        (self.directory / "data").mkdir()
        (self.directory / "data" / "subscribers.sqlite").write_bytes(b"no database" * 100)
        self.assertIn("subscribers.sqlite", self.run_failing("user", "list"))

    def test_unwritable_directory(self) -> None:
        """A directory that cannot be made is told in a sentence."""
        (self.directory / "data").write_text("a file")
        self.assertIn("data", self.run_failing("user", "add", "alice", "--random"))

    def test_as_a_module(self) -> None:
        """`python -m registrar.command` is the command too, for where its script is not installed."""
        done = subprocess.run(
            [sys.executable, "-m", "registrar.command", "user", "list", "--json", "--config", str(self.config)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self.assertEqual(done.stdout, '{"users": []}\n')
