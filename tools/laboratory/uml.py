"""A Linux kernel that runs as a process (User-Mode Linux), with a network card at a switch, as a value.

It sees all files of this machine, so that programs run in it as they are installed here. What it loses with SIGKILL is
what a computer loses with its power.
"""

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from attrs import frozen

from tests.cluster.namespaces import BRIDGE, NET4, Namespace
from tools.laboratory.child import Child

FOLDER = Path(__file__).resolve().parents[2] / "build" / "uml"
START = Path(__file__).with_name("uml_start.py")
INIT = Path(__file__).with_name("uml_init")
MEMORY = "192M"
# Its processes are processes of this machine, too, and would outlive a kernel that is killed, were it not the first
# process of a PID namespace (unshare(1)).
ALONE = ("unshare", "--pid", "--fork", "--kill-child=KILL")
# What programs inside may not use, see uml_start.py: each library chooses by itself.
TUNABLES = "glibc.cpu.hwcaps=" + ",".join(
    f"-{feature}" for feature in (
        "AVX", "AVX2", "AVX512F", "AVX512VL", "AVX512BW", "AVX512DQ", "AVX512CD", "AVX_Fast_Unaligned_Load", "FMA",
        "FMA4", "XSAVE", "XSAVEC"))
OPENSSL_CAPABILITIES = "~0x1000000000000000:~0xc0230020"


class NoUml(Exception):
    """This machine cannot run directors; says why, and what to do."""


@frozen
class UmlFiles:
    """What tools/setup-uml has unpacked."""

    folder: Path = FOLDER

    @property
    def root(self) -> Path:
        """What the packages hold."""
        return self.folder / "root"

    @property
    def kernel(self) -> Path:
        """The kernel, a program."""
        return self.root / "usr" / "bin" / "linux.uml"

    def check(self) -> None:
        """Raise NoUml when it is not there, or this process may not do what it needs."""
        if not (self.folder / "ready").exists():
            raise NoUml("User-Mode Linux is not there; fetch it with tools/setup-uml")
        if os.geteuid():
            raise NoUml("directors in User-Mode Linux need root: for network namespaces, and for tap devices")
        if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
            raise NoUml("directors in User-Mode Linux need /dev/net/tun, and this machine has none")


class Uml(Child):
    """One such computer. What it is to do stands in its folder; what it writes and knows too."""

    def __init__(self, files: UmlFiles, switch: Namespace, folder: Path, name: str, number: int) -> None:
        """It is at a port of its own of the switch, with the address that ends with `number`."""
        super().__init__(outlives=False)
        self.name = name
        self.ipv4 = f"{NET4}.{number}"
        self.folder = folder
        self.console = folder / "console.log"
        self._files = files
        self._switch = switch
        self._number = number
        self._port = f"tap{number}"
        folder.mkdir(parents=True, exist_ok=True)
        switch.run("ip", "tuntap", "add", self._port, "mode", "tap", "vnet_hdr")
        switch.run("ip", "link", "set", self._port, "master", BRIDGE, "up")

    def start(self) -> None:
        """Switch it on; it is up when it has written its state."""
        with self._switch.entered():
            self.launch([*ALONE, sys.executable, "-I", str(START), *self._arguments()], self.console, self.folder)

    def signal(self, which: signal.Signals) -> None:
        """Send a signal to the kernel and all its processes, when it still runs."""
        if self._child is not None and self.running:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, which)

    def pull_out(self) -> None:
        """Cut its cable."""
        self._switch.run("ip", "link", "set", self._port, "down")

    def plug_in(self) -> None:
        """Have it be reached again."""
        self._switch.run("ip", "link", "set", self._port, "up")

    def written(self) -> str:
        """Return what it has written to its console, in all its lives."""
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def _arguments(self) -> list[str]:
        card = f"vec0:transport=tap,ifname={self._port},gro=0,mac=02:00:00:00:01:{self._number:02x}"
        settings = {
            "UML_ROOT": self._files.root, "UML_FOLDER": self.folder, "UML_NAME": self.name, "UML_ADDRESS": self.ipv4,
            "GLIBC_TUNABLES": TUNABLES, "OPENSSL_ia32cap": OPENSSL_CAPABILITIES,
        }
        return [
            str(self._files.kernel), f"mem={MEMORY}", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}",
            "quiet", "con=null", "con0=null,fd:1", f"uml_dir={self.folder}/", f"umid={self.name}", card,
            *(f"{name}={value}" for name, value in settings.items()),
        ]
