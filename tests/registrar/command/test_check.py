"""`rollcall check`: what a configuration would do, and what is wrong with it."""

import json
from datetime import UTC, datetime, timedelta

from registrar.command.certificates import DemoCertificates
from registrar.command.checking import Checked, check
from registrar.config import RegistrarConfig
from rollcall.ops.config import load
from tests.registrar.command.running import CommandCase, run

NOW = datetime.now(UTC)
SECURE = """
[[listen]]
name = "tls"
transport = "tls"
host = "127.0.0.1"
port = 5061
[tls]
certificates = [{ certificate_file = "tls/server.pem", key_file = "tls/server.key" }]
"""


class CheckTests(CommandCase):
    def check(self, now: datetime = NOW) -> Checked:
        """Return what the check finds."""
        return check(load(self.config, RegistrarConfig), now)

    def secure(self) -> DemoCertificates:
        """Add a TLS listener with a certificate, and return its files."""
        self.config.write_text(self.config.read_text() + SECURE)
        files = DemoCertificates(self.directory / "tls")
        files.ensure(["example.com"], NOW)
        return files

    def problems(self, now: datetime = NOW) -> list[str]:
        """Return the findings, each as one text."""
        return [f"{each.kind}: {each.text}" for each in self.check(now).findings]

    def test_good(self) -> None:
        """A good configuration is told in full and exits with 0."""
        self.secure()
        output = self.run_ok("check")
        for text in (
            "UDP on 127.0.0.1:5060 (udp)",
            "TLS on 127.0.0.1:5061 (tls)",
            "example.com, sip.example.com, example.org",
            f"server.pem for example.com, until {NOW + timedelta(days=397):%Y-%m-%d}",
            f"its data in {self.directory}/data",
            "http://127.0.0.1:8060",
            f"{self.config} is good.",
        ):
            self.assertIn(text, output)

    def test_json(self) -> None:
        """A program gets the same as JSON."""
        self.secure()
        found = self.run_json("check")
        self.assertEqual((found["ok"], found["findings"]), (True, []))
        self.assertEqual(found["listeners"][1], {"name": "tls", "transport": "TLS", "host": "127.0.0.1", "port": 5061})
        self.assertEqual(found["domains"], ["example.com", "sip.example.com", "example.org"])
        self.assertEqual(found["certificates"][0]["names"], ["example.com"])

    def test_mistakes(self) -> None:
        """Mistakes exit with 1; as JSON each has its key, value and what is allowed."""
        self.config.write_text(self.config.read_text().replace("5060", "0.5"))
        self.assertIn("listen[0].port: 0.5 is not allowed", self.run_failing("check"))
        result = run("check", "--json", "--config", str(self.config))
        self.assertEqual((result.exit_code, result.stderr), (1, ""))
        self.assertEqual(
            json.loads(result.stdout),
            {
                "ok": False,
                "file": str(self.config),
                "mistakes": [{"key": "listen[0].port", "value": "0.5", "allowed": "a whole number"}],
            },
        )

    def test_expiry(self) -> None:
        """A certificate that expires soon is a warning, an expired one a problem."""
        self.secure()
        self.assertEqual(self.problems(NOW + timedelta(days=370)), [])
        (warning,) = self.problems(NOW + timedelta(days=390))
        self.assertRegex(warning, r"^warning: .*server.pem expires on \S+, in [67] days$")
        self.assertTrue(self.check(NOW + timedelta(days=390)).is_good)
        (problem,) = self.problems(NOW + timedelta(days=398))
        self.assertRegex(problem, r"^problem: .*server.pem has expired on \S+$")
        self.assertFalse(self.check(NOW + timedelta(days=398)).is_good)

    def test_wrong_key(self) -> None:
        """A key of another certificate is a problem, and exits with 1."""
        files = self.secure()
        other = DemoCertificates(self.directory / "other")
        other.ensure(["example.com"], NOW)
        files.key.write_bytes(other.key.read_bytes())
        stderr = self.run_failing("check")
        self.assertIn(f"problem: {files.key} is not the key of {files.certificate}", stderr)

    def test_files_that_are_not_there(self) -> None:
        """Certificates and keys that cannot be read are problems with their reasons."""
        files = self.secure()
        files.key.unlink()
        self.assertEqual(self.problems(), [f"problem: {files.key} is no readable key: No such file or directory"])
        files.certificate.write_text("text")
        (problem,) = self.problems()
        self.assertTrue(problem.startswith(f"problem: {files.certificate} is no readable certificate: "), problem)

    def test_data_directory(self) -> None:
        """A data directory that is a file, or below one, is a problem."""
        (self.directory / "data").write_text("a file")
        self.assertEqual(self.problems(), [f"problem: {self.directory}/data is not a directory"])
