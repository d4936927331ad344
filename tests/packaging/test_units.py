"""The systemd units: they start what there is, with no more rights than it needs, and systemd understands them."""

import subprocess
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from registrar.command.directors import nftables_weights
from registrar.distribution.tickle.config import TickleConfig

ROOT = Path(__file__).resolve().parents[2]
UNITS = {name: ROOT / f"etc/systemd/rollcall-{name}.service" for name in
         ("registrar", "balancer", "tickle", "nft-weights")}
INSTALLED = "/opt/rollcall"
CONFINED = {
    "NoNewPrivileges": "yes", "ProtectSystem": "strict", "ProtectHome": "yes", "PrivateTmp": "yes",
    "PrivateDevices": "yes", "ProtectKernelTunables": "yes", "ProtectKernelModules": "yes",
    "ProtectControlGroups": "yes", "RestrictNamespaces": "yes", "RestrictSUIDSGID": "yes", "LockPersonality": "yes",
    "CapabilityBoundingSet": "", "AmbientCapabilities": "", "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "SystemCallArchitectures": "native", "UMask": "0077", "LimitCORE": "0", "Restart": "on-failure",
}
HEARS_OF_ADDRESSES = {"RestrictAddressFamilies": "AF_INET AF_INET6 AF_NETLINK AF_UNIX"}
ALLOWED = {
    "registrar": HEARS_OF_ADDRESSES, "balancer": {},
    "tickle": {"CapabilityBoundingSet": "CAP_NET_RAW", "AmbientCapabilities": "CAP_NET_RAW", **HEARS_OF_ADDRESSES},
    "nft-weights": {"CapabilityBoundingSet": "CAP_NET_ADMIN", "AmbientCapabilities": "CAP_NET_ADMIN",
                    **HEARS_OF_ADDRESSES},
}
PLUGINS = ("registrar", "balancer")
HIGHEST_EXPOSURE = "2.0"


def service(name: str) -> dict[str, str]:
    """Return the settings of a unit's [Service]; of one that stands there twice the last."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNITS[name].read_text(encoding="utf-8"))
    return dict(parser["Service"])


class UnitTests(SynchronousTestCase):
    def test_confined(self) -> None:
        """No service may write, see or become anything that it has no need of."""
        for name in UNITS:
            found = service(name)
            self.assertEqual({key: found.get(key) for key in CONFINED}, CONFINED | ALLOWED[name], name)

    def test_nobody_important(self) -> None:
        """None runs as root; the registrar's user owns its data, which nobody else may read."""
        registrar, balancer = service("registrar"), service("balancer")
        self.assertEqual((service("tickle")["User"], service("tickle")["Group"]), ("rollcall", "rollcall"))
        self.assertEqual((registrar["User"], registrar["StateDirectoryMode"]), ("rollcall", "0700"))
        self.assertEqual((balancer["DynamicUser"], balancer.get("User")), ("yes", None))

    def test_descriptors(self) -> None:
        """There are enough file descriptors for as many connections as the registrar lets one address open."""
        self.assertGreater(int(service("registrar")["LimitNOFILE"]), 10_000)

    def test_starts_what_there_is(self) -> None:
        """Each starts twistd in the foreground with a plugin that exists, and a configuration that has an example."""
        plugins = {plugin.tapname for plugin in getPlugins(IServiceMaker)}
        for name in PLUGINS:
            program, *arguments = service(name)["ExecStart"].split()
            self.assertEqual(program, f"{INSTALLED}/.venv/bin/twistd")
            self.assertEqual(arguments[:3], ["--nodaemon", "--pidfile=", name])
            self.assertIn(name, plugins)
            self.assertTrue((ROOT / "etc" / Path(arguments[-1]).name).is_file())

    def test_starts_the_sender(self) -> None:
        """The sender of tickles is a module that exists, and listens where registrars look for it by default."""
        program, *arguments = service("tickle")["ExecStart"].split()
        self.assertEqual(program, f"{INSTALLED}/.venv/bin/python")
        self.assertEqual(arguments, ["-m", "registrar.distribution.tickle.sender", "--socket", TickleConfig().socket])
        self.assertIsNotNone(find_spec(arguments[1]))
        self.assertEqual(f"/run/{service('tickle')['RuntimeDirectory']}", str(Path(arguments[3]).parent))

    def test_keeps_weights(self) -> None:
        """What keeps the weights of a director's table is a command that exists, as a user of no other use."""
        program, *arguments = service("nft-weights")["ExecStart"].split()
        self.assertEqual(program, f"{INSTALLED}/.venv/bin/rollcall")
        self.assertEqual(arguments[:3], ["nftables", "weights", "--apply"])
        self.assertEqual(service("nft-weights")["DynamicUser"], "yes")
        options = {option for parameter in nftables_weights.params for option in parameter.opts}
        self.assertLessEqual({word for word in arguments if word.startswith("--")}, options | {"--config"})

    def test_systemd_understands_them(self) -> None:
        """systemd finds no fault with them and little that they are exposed to."""
        if which("systemd-analyze") is None:
            raise SkipTest("systemd-analyze is not installed")
        with TemporaryDirectory() as folder:
            for path in UNITS.values():
                copy = Path(folder, path.name)
                # It wants to see the program, which is in nobody's /opt here.
                text = path.read_text(encoding="utf-8")
                for each in ("twistd", "python", "rollcall"):
                    text = text.replace(f"{INSTALLED}/.venv/bin/{each}", "/bin/true")
                copy.write_text(text, encoding="utf-8")
                self.assertEqual(analyzed("verify", str(copy)), (0, ""), path.name)
                exposure = ("--offline=true", f"--threshold={HIGHEST_EXPOSURE.replace('.', '')}")
                self.assertEqual(analyzed("security", *exposure, str(copy))[0], 0, path.name)


def analyzed(*arguments: str) -> tuple[int, str]:
    """Return the status of systemd-analyze(1) and what it complains of."""
    ended = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False)
    return ended.returncode, ended.stderr.strip()
