"""`rollcall keepalived`, `haproxy`, `nftables` and `sysctl`: what they write, where, and what they warn of."""

import os
from os import geteuid
from pathlib import Path

from tests.registrar.command.running import CommandCase, run

DIRECTORS = """
[[listen]]
name = "tcp"
transport = "tcp"
host = "0.0.0.0"
port = 5060
[directors]
streams_by = "{streams_by}"
datagrams_by = "none"
addresses = ["192.0.2.10"]
directors = [{{ name = "lb1", addresses = ["192.0.2.2"] }}]
nodes = [{{ name = "node1", addresses = ["127.0.0.1"] }}]
check_timeout_seconds = 0.1
check_fall = 1
check_user = "root"
"""


class RenderTests(CommandCase):
    def having(self, streams_by: str) -> None:
        """Let the configuration say who spreads connections."""
        self.config.write_text(self.config.read_text() + DIRECTORS.format(streams_by=streams_by))

    def test_keepalived(self) -> None:
        """It is written to standard output, or a file that is replaced as a whole."""
        self.having("lvs")
        words = ("keepalived", "render", "--role", "director", "--name", "lb1")
        text = self.run_ok(*words)
        self.assertIn("virtual_server 192.0.2.10 5060 {\n", text)
        self.assertIn("rollcall check-sip 127.0.0.1:5060 --transport tcp --domain example.com", text)
        path = self.directory / "keepalived.conf"
        path.write_text("old")
        self.assertEqual(self.run_ok(*words, "--output", str(path)), "")
        self.assertEqual(path.read_text(), text)
        self.assertEqual(self.files(), {"registrar.toml", "keepalived.conf"})

    def test_check_that_cannot_be_run(self) -> None:
        """It is said when the user of the checks is not there, for keepalived would say nothing."""
        self.having("lvs")
        self.config.write_text(self.config.read_text().replace('check_user = "root"', """
check_user = "no-such-user"
check_command = "/bin/true"
"""))
        words = ("keepalived", "render", "--role", "director", "--name", "lb1")
        said = run(*words, ROLLCALL_CONFIG=str(self.config)).stderr
        self.assertEqual("Warning: no-such-user cannot run /bin/true (there is no such user)" in said, not geteuid())

    def files(self) -> set[str]:
        """Return what is in the directory."""
        return {path.name for path in self.directory.iterdir()}

    def test_no_place(self) -> None:
        """A file that cannot be written is named; nothing is left behind."""
        self.having("lvs")
        nowhere = Path("nowhere") / "keepalived.conf"
        said = self.run_failing("keepalived", "render", "--role", "director", "--name", "lb1", "--output",
                                str(self.directory / nowhere))
        self.assertIn(f"{nowhere} cannot be written: No such file or directory", said)
        self.assertEqual(self.files(), {"registrar.toml"})

    def test_what_is_no_file(self) -> None:
        """A link stays, and what it leads to is written; a device or a pipe is never replaced by a file."""
        self.having("lvs")
        words = ("keepalived", "render", "--role", "director", "--name", "lb1", "--output")
        path, link, pipe = (self.directory / name for name in ("keepalived.conf", "link", "pipe"))
        path.write_text("old")
        link.symlink_to(path)
        os.mkfifo(pipe)
        self.run_ok(*words, str(link))
        self.assertTrue(link.is_symlink())
        self.assertIn("virtual_server", path.read_text())
        self.assertIn("is no file", self.run_failing(*words, str(pipe)))
        self.assertTrue(pipe.is_fifo())

    def test_nobody(self) -> None:
        """A machine that is not listed gets no file, and neither does a cluster that is not described."""
        words = ("keepalived", "render", "--role", "director", "--name", "lb7")
        self.assertIn("[directors] nodes is empty", self.run_failing(*words))
        self.having("lvs")
        self.assertIn("lb7 is not a director", self.run_failing(*words))

    def test_haproxy(self) -> None:
        """A listener that does not expect the directors' PROXY headers is warned of."""
        self.having("haproxy")
        result = run("haproxy", "render", "--config", str(self.config))
        self.assertEqual(result.exit_code, 0, result.output)
        self.assertIn("listen sip_tcp_5060\n", result.stdout)
        self.assertIn("Warning: [[listen]] tcp does not list all directors in proxy_protocol_from", result.stderr)

    def test_sysctl(self) -> None:
        """What the kernel is told depends on the role."""
        self.having("lvs")
        self.assertIn("net.ipv4.vs.expire_nodest_conn = 1", self.run_ok("sysctl", "render", "--role", "director"))
        self.assertIn("arp_ignore", self.run_ok("sysctl", "render", "--role", "node"))

    def test_nftables(self) -> None:
        """The table and, with nobody to be reached, weights as if all were well, naming whom it takes for dead."""
        self.having("nftables")
        self.config.write_text(self.config.read_text().replace("port = 5060\n[directors]", "port = 1\n[directors]"))
        self.assertIn("table inet rollcall {", self.run_ok("nftables", "render"))
        self.assertEqual(self.run_ok("nftables", "weights").splitlines(), [
            "flush map inet rollcall nodes4", "add element inet rollcall nodes4 { 0-1020 : 127.0.0.1 }",
            "# dead: conntrack -D --reply-src 127.0.0.1"])

    def test_others_spread(self) -> None:
        """What HAProxy or nftables have nothing to do with is said."""
        self.having("lvs")
        for words in (("haproxy", "render"), ("nftables", "render"), ("nftables", "weights")):
            self.assertIn("nothing is spread by", self.run_failing(*words))


class CheckSipTests(CommandCase):
    def test_among_the_others(self) -> None:
        """It is one of the commands, with its exit codes."""
        result = run("check-sip", "127.0.0.1:1", "--transport", "tcp")
        self.assertEqual(result.exit_code, 1)
        self.assertIn("127.0.0.1:1 tcp: Connection refused", result.stdout)
        self.assertEqual(run("check-sip", "--transport", "smoke", "127.0.0.1").exit_code, 1)
