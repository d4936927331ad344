"""`rollcall check`: what a configuration would do, and what is wrong with it."""

import json
from datetime import UTC, datetime, timedelta
from unittest import mock

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
SHARED = """
[location]
kind = "redis"
[redis]
mode = "sentinel"
addresses = ["{server}:26379"]
{redis}
[cluster]
internal_host = "{host}"
{cluster}
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

    def test_mysql(self) -> None:
        """Where users are is told, without asking there; certificates that cannot be read are problems."""
        with self.config.open("a") as file:
            file.write('[mysql]\nprimary = "192.0.2.1:3306"\n')
        (warning,) = self.problems()
        self.assertIn("warning: [mysql] is not used", warning)
        with self.config.open("a") as file:
            file.write('replicas = ["192.0.2.2:3306"]\ntls = true\ntls_authority_file = "ca.pem"\n'
                       '[subscribers]\nkind = "mysql"\n')
        (problem,) = self.problems()
        self.assertIn("ca.pem is no readable certificate of an authority", problem)
        self.config.write_text(self.config.read_text().replace("tls = true", "tls = false"))
        there = "database rollcall at 192.0.2.1:3306, replicas 192.0.2.2:3306"
        self.assertIn(f"are in MySQL, {there}", " ".join(self.run_ok("check").split()))
        self.assertEqual(self.run_json("check")["mysql"], there)

    def test_rebalance_alone(self) -> None:
        """Connections cannot move to nodes that nobody knows of."""
        with self.config.open("a") as file:
            file.write("[rebalance]\nenabled = true\n")
        (warning,) = self.problems()
        self.assertIn("warning: [rebalance] is not used", warning)

    def test_media(self) -> None:
        """Where balancers are followed is told, without asking there; unusable files of [access] are problems."""
        with self.config.open("a") as file:
            file.write('[access]\nprefix_file = "prefixes.txt"\n')
        (warning,) = self.problems()
        self.assertIn("warning: [access] is not used", warning)
        with self.config.open("a") as file:
            file.write('[redis]\naddresses = ["192.0.2.1:6379"]\n[media]\nenabled = true\n')
        self.assertEqual(self.problems(), [
            f"problem: {self.directory}/prefixes.txt: No such file or directory ([access])"])
        (self.directory / "prefixes.txt").write_text("192.0.2.0/24 tel\n")
        (problem,) = self.problems()
        self.assertIn("prefixes.txt, line 1: a line is PREFIX CARRIER REGION", problem)
        (self.directory / "prefixes.txt").write_text("192.0.2.0/24 tel north\n")
        self.assertIn("publish in Redis, single at 192.0.2.1:6379", " ".join(self.run_ok("check").split()))
        self.assertEqual(self.run_json("check")["media"], "single at 192.0.2.1:6379")

    def test_data_directory(self) -> None:
        """A data directory that is a file, or below one, is a problem."""
        (self.directory / "data").write_text("a file")
        self.assertEqual(self.problems(), [f"problem: {self.directory}/data is not a directory"])

    def test_no_way_out(self) -> None:
        """A machine without a route would tell peers a loopback address, which is for nobody else."""
        self.config.write_text(self.config.read_text().replace('"127.0.0.1"', '"0.0.0.0"'))
        with mock.patch("socket.socket.connect", side_effect=OSError(101, "Network is unreachable")):
            (warning,) = self.problems()
        self.assertIn("peers of the listener udp are told a loopback address", warning)


class ClusterTests(CommandCase):
    """What a node needs to be one of several."""

    def setUp(self) -> None:
        """Remember what the configuration was."""
        super().setUp()
        self.plain = self.config.read_text()

    def share(
        self, server: str = "127.0.0.1", redis: str = "", host: str = "127.0.0.1", cluster: str = "",
    ) -> list[str]:
        """Have bindings shared by Redis, and return what is found."""
        text = SHARED.format(server=server, redis=redis, host=host, cluster=cluster)
        self.config.write_text(self.plain + text)
        self.checked = check(load(self.config, RegistrarConfig), NOW)
        return [f"{each.kind}: {each.text}" for each in self.checked.findings]

    def keep_secret(self, size: int = 32) -> None:
        """Have a secret of so many bytes."""
        (self.directory / "data").mkdir(exist_ok=True)
        (self.directory / "data" / "node.secret").write_bytes(bytes(size))

    def test_shown(self) -> None:
        """People and programs are told where bindings are shared, and where other nodes reach this one."""
        self.keep_secret()
        self.assertEqual(self.share(), [])
        output = self.run_ok("check")
        self.assertIn("bindings by Redis, sentinel at 127.0.0.1:26379", output)
        self.assertIn("reach it at 127.0.0.1:5070", output)
        found = self.run_json("check")
        self.assertEqual((found["redis"], found["internal"]), ("sentinel at 127.0.0.1:26379", "127.0.0.1:5070"))

    def test_not_shared(self) -> None:
        """A registrar alone needs nothing of that: its secret is made at the first start."""
        found = self.run_json("check")
        self.assertEqual((found["findings"], found["redis"], found["internal"]), ([], None, None))

    def test_secret(self) -> None:
        """A secret that is not there is warned of, for a node would make one of its own; a short one is a problem."""
        (warning,) = self.share()
        self.assertRegex(warning, r"^warning: .*/node.secret .* is not there: .* all need the same")
        self.keep_secret(31)
        (problem,) = self.share()
        self.assertRegex(problem, r"^problem: .*/node.secret .* holds 31 bytes, a secret has 32 or more$")

    def test_ports(self) -> None:
        """Each worker has an internal port of its own, which nothing else may listen on."""
        self.keep_secret()
        self.plain = (self.plain.replace("[registrar]", "[registrar]\nworkers = 2")
                      + '[[listen]]\nname = "lan"\ntransport = "tcp"\nhost = "127.0.0.1"\nport = 5061\n')
        self.assertEqual(self.share(cluster="internal_port = 5061"),
                         ["problem: internal_port of worker 1 is 5061, which is the port of listener lan, too"])
        self.assertEqual(self.share(cluster="internal_port = 8059"),
                         ["problem: internal_port of worker 2 is 8060, which is admin.port, too"])
        self.assertEqual(self.share(cluster="internal_port = 8061"), [])

    def test_loopback(self) -> None:
        """Where Redis is on another machine, nodes are likely to be so too, and cannot reach this one's loopback."""
        self.keep_secret()
        (warning,) = self.share("192.0.2.1")
        self.assertIn("internal_host is 127.0.0.1: no node on another machine can reach this one", warning)
        self.assertEqual(self.share("192.0.2.1", host="192.0.2.7"), [])
        self.assertEqual(self.share("redis.example.com", cluster='internal_advertise_host = "192.0.2.7"'), [])
        self.assertEqual((self.share("[::1]"), self.share("localhost")), ([], []))

    def test_tls_to_redis(self) -> None:
        """Files that Redis needs and that cannot be read are problems, when TLS is spoken to it."""
        self.keep_secret()
        files = 'tls_authority_file = "no.pem"\ntls_certificate_file = "no.pem"\ntls_key_file = "no.key"'
        self.assertEqual(self.share(redis=files), [])
        self.assertEqual(self.share(redis=f"tls = true\n{files}"), [
            f"problem: {self.directory}/no.pem is no readable certificate: No such file or directory",
            f"problem: {self.directory}/no.pem is no readable certificate of an authority: No such file or directory"])

    def test_tls_between_nodes(self) -> None:
        """So are those of the internal listener, whose certificates may lapse like any other."""
        self.keep_secret()
        files = DemoCertificates(self.directory / "tls")
        files.ensure(["example.com"], NOW - timedelta(days=390))
        lines = ("internal_tls = true", 'internal_certificate_file = "tls/server.pem"',
                 'internal_key_file = "tls/server.key"', 'internal_authority_file = "tls/ca.pem"')
        (warning,) = self.share(cluster="\n".join(lines))
        self.assertRegex(warning, "^warning: .*server.pem expires on")
        self.assertEqual(self.checked.internal, "127.0.0.1:5070 (TLS)")
        files.key.unlink()
        self.assertIn("is no readable key", " ".join(self.share(cluster="\n".join(lines))))
