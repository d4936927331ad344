"""Run the command in this process, in a directory of its own."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from click.testing import CliRunner, Result
from twisted.trial.unittest import TestCase

from registrar.command.commands import main

CONFIG = """
[registrar]
data_dir = "data"
[[domain]]
name = "example.com"
aliases = ["sip.example.com"]
[[domain]]
name = "example.org"
[[listen]]
name = "udp"
transport = "udp"
host = "127.0.0.1"
port = 5060
"""


def run(*arguments: str, input: str | None = None, **environment: str) -> Result:
    """Return what the command did; its output and errors apart."""
    result = CliRunner().invoke(main, arguments, input=input, env=environment, catch_exceptions=False)
    return result


class CommandCase(TestCase):
    """A test case with a configuration."""

    def setUp(self) -> None:
        self.directory = Path(self.enterContext(TemporaryDirectory()))
        self.config = self.directory / "registrar.toml"
        self.config.write_text(CONFIG)

    def run_ok(self, *arguments: str, input: str | None = None) -> str:
        """Return the output of a command that succeeds without complaints."""
        result = run(*arguments, input=input, ROLLCALL_CONFIG=str(self.config))
        self.assertEqual((result.exit_code, result.stderr), (0, ""), result.output)
        return result.stdout

    def run_json(self, *arguments: str, input: str | None = None) -> Any:
        """Return what a command prints with --json."""
        return json.loads(self.run_ok(*arguments, "--json", input=input))

    def run_failing(self, *arguments: str, input: str | None = None, exit_code: int = 1) -> str:
        """Return what a command that fails says on stderr."""
        result = run(*arguments, input=input, ROLLCALL_CONFIG=str(self.config))
        self.assertEqual(result.exit_code, exit_code, result.output)
        return result.stderr
