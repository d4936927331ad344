"""The balancer as twistd starts it."""

import re
import signal
import socket
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from twisted.application.service import IServiceMaker, ServiceMaker
from twisted.internet.testing import MemoryReactorClock
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.server import Site

from balancer.service import Options, makeService
from tests.balancer.test_config import NODES
from tests.rollcall.ops.asking import ask

ROOT = Path(__file__).parents[2]


class MakeServiceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.path = Path(self.enterContext(TemporaryDirectory())) / "balancer.toml"
        self.options = Options()
        self.options.parseOptions(["--config", str(self.path)])

    def test_parts_are_joined(self) -> None:
        """The service answers below /v1 on the configured address, and listens only once it is started."""
        self.path.write_text(NODES + "[admin]\nport = 8123\ntoken = 't0p'\n")
        reactor = MemoryReactorClock()
        service = makeService(self.options, reactor)
        self.assertEqual(reactor.tcpServers, [])
        service.startService()
        self.addCleanup(service.stopService)
        ((port, site, _, interface),) = reactor.tcpServers
        assert isinstance(site, Site)
        self.assertEqual((port, interface), (8123, "127.0.0.1"))
        answered = ask(site, "POST", "/v1/select", {"call_id": "c"}, authorization="Bearer t0p")
        self.assertEqual(answered.json["node"], "m1")
        # Nobody has asked the nodes how they are: whoever wants a node may ask us, but the others know better.
        self.assertEqual(ask(site, "GET", "/readyz").status, 503)
        self.assertIn("not every node was asked yet", str(ask(site, "GET", "/readyz").json))

    def test_bad_configuration(self) -> None:
        """A bad configuration ends the start with all mistakes, not with a traceback."""
        self.path.write_text("[[node]]\nid = 'm1'\naddress = 'x'\n[admin]\nport = 0.5\n")
        error = self.assertRaises(SystemExit, makeService, self.options, MemoryReactorClock())
        self.assertIn("node[0].address", str(error))
        self.assertIn("admin.port", str(error))


class CheckTests(SynchronousTestCase):
    """`twistd balancer --check`."""

    def said(self, text: str) -> str:
        """Return what is said of a configuration, which starts nothing."""
        path = Path(self.enterContext(TemporaryDirectory())) / "balancer.toml"
        path.write_text(text)
        options = Options()
        options.parseOptions(["--config", str(path), "--check"])
        reactor = MemoryReactorClock()
        with redirect_stdout(StringIO()) as printed:
            ended = self.assertRaises(SystemExit, makeService, options, reactor)
        self.assertEqual((reactor.tcpServers, reactor.tcpClients), ([], []))
        return printed.getvalue() + ("" if ended.code == 0 else str(ended))

    def test_alone(self) -> None:
        """A balancer that publishes nothing is told to be one; groups without a node are named."""
        said = self.said(NODES + "[tenants]\n'example.com' = 'silver'\n[admin]\nport = 8123\n")
        for text in ("m1 at ", "nothing: [publication] enabled is false", "no [[node]] is in: silver",
                     "http://127.0.0.1:8123", "balancer.toml is good."):
            self.assertIn(text, said)

    def test_published(self) -> None:
        """It is told where reports are taken, and as whom and where it publishes."""
        said = self.said(NODES + "[ingest]\nhep_udp = ['127.0.0.1:9060']\n[publication]\nenabled = true\n"
                                 "[standby]\nname = 'b1'\n[redirect]\nudp = ['127.0.0.1:5060']\n")
        for text in ("HEP over UDP at 127.0.0.1:9060", "as b1 in Redis, single at 127.0.0.1:6379",
                     "redirects    at 127.0.0.1:5060"):
            self.assertIn(text, said)

    def test_mistakes(self) -> None:
        """Mistakes are named as at a start, files of [access] among them."""
        said = self.said(NODES + "[access]\nprefix_file = 'none.txt'\n")
        self.assertIn("none.txt: No such file", said)
        self.assertNotIn("is good", said)


class TwistdTests(SynchronousTestCase):
    def test_plugins_are_found(self) -> None:
        """twistd finds the plugins of both services, and does so without importing them."""
        found = [maker for maker in getPlugins(IServiceMaker) if isinstance(maker, ServiceMaker)]
        makers = {maker.tapname: maker.module for maker in found}
        self.assertEqual(makers["balancer"], "balancer.service")
        self.assertEqual(makers["registrar"], "registrar.service")
        self.assertNotIn("reactor", (ROOT / "twisted/plugins/balancer_plugin.py").read_text())

    def test_a_real_start(self) -> None:
        """`twistd -n balancer` serves, logs each line once in our form, and ends cleanly on SIGTERM."""
        directory = Path(self.enterContext(TemporaryDirectory()))
        config = directory / "balancer.toml"
        config.write_text(NODES + "[admin]\nport = 0\n")
        twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
        command = [*twistd, "-n", "--pidfile=", "balancer", "--config", str(config)]
        with subprocess.Popen(
            command,
            cwd=directory,
            env={"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            self.addCleanup(process.kill)
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(r"admin site at (http://\S+)", line):
                    break
            else:
                self.fail("it did not start:\n" + "".join(lines))
            with urlopen(f"{found[1]}/v1/nodes", timeout=10) as response:
                self.assertEqual(response.status, 200)
            process.send_signal(signal.SIGTERM)
            lines += process.stdout
            # twistd stops every service, then dies by the signal that asked for it, as a shell expects
            self.assertEqual(process.wait(10), -signal.SIGTERM)
        self.assertTrue(lines[-1].endswith("Server Shut Down.\n"), lines)
        self.assertEqual(len(lines), len(set(lines)), lines)
        for line in lines:
            self.assertRegex(line, r"^\S+Z (info |warn ) \S+: ")

    def test_port_taken(self) -> None:
        """A port that somebody has ends the start with a sentence and exit code 1, not with a traceback."""
        directory = Path(self.enterContext(TemporaryDirectory()))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            config = directory / "balancer.toml"
            config.write_text(NODES + f"[admin]\nport = {taken.getsockname()[1]}\n")
            twistd = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
            ended = subprocess.run(
                [*twistd, "-n", "--pidfile=", "balancer", "--config", str(config)],
                cwd=directory,
                env={"PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        self.assertEqual(ended.returncode, 1)
        said = ended.stdout + ended.stderr  # twistd sends what is printed to the log
        self.assertRegex(said, r"cannot start:\n.*127.0.0.1:\d+.*in use")
        self.assertNotIn("Traceback", said)
