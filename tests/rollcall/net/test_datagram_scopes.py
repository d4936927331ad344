"""Link-local peers: what comes from one must go back over the same interface (RFC 4007 §6).

Loopback has no such address, so each test runs in a network of its own, where loopback is given one.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest import SkipTest, skipIf

from twisted.trial.unittest import SynchronousTestCase

from rollcall.sip.compiled import compiled_module

ROOT = Path(__file__).parents[3]
ALONE = ("unshare", "--user", "--map-root-user", "--net")

# netdevice(7), linux/sockios.h: bring loopback up, and give it fe80::1/64.
PROGRAM = """
import fcntl, struct, time
from socket import AF_INET6, SOCK_DGRAM, if_nametoindex, inet_pton, socket
from rollcall.net import batches
from rollcall.net.flow import pack_address

scope = if_nametoindex("lo")
ours, theirs = socket(AF_INET6, SOCK_DGRAM), socket(AF_INET6, SOCK_DGRAM)
fcntl.ioctl(ours, 0x8914, struct.pack("16sh14x", b"lo", 0x41))
fcntl.ioctl(ours, 0x8916, inet_pton(AF_INET6, "fe80::1") + struct.pack("Ii", 64, scope))
ours.bind(("::", 0))
for _ in range(500):
    try:
        theirs.bind(("fe80::1", 0, 0, scope))
        break
    except OSError:  # the kernel gets the address ready in the background
        time.sleep(0.01)
theirs.sendto(b"hello", ("fe80::1", ours.getsockname()[1], 0, scope))
batch = batches.receive(ours, 64)
assert batch == [(b"hello", pack_address("fe80::1", theirs.getsockname()[1]) + scope.to_bytes(4))], batch
assert batches.send(ours, batch) == []
assert theirs.recv(100) == b"hello"
print("compiled" if batches.COMPILED else "plain")
"""


class ScopeTests(SynchronousTestCase):
    def setUp(self) -> None:
        trial = [*ALONE, "true"]
        if shutil.which(ALONE[0]) is None or subprocess.run(trial, check=False, capture_output=True).returncode != 0:
            raise SkipTest("networks of one's own need unshare(1) and user namespaces")

    def answered(self, pure: str) -> str:
        environment = {**os.environ, "ROLLCALL_PURE": pure, "PYTHONPATH": str(ROOT)}
        program = [*ALONE, sys.executable, "-c", PROGRAM]
        made = subprocess.run(program, check=False, env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        return made.stdout.strip()

    def test_plain(self) -> None:
        """Without a compiled part a link-local source comes with its interface, over which the answer reaches it."""
        self.assertEqual(self.answered("1"), "plain")

    @skipIf(compiled_module("rollcall.net._datagrams") is None, "not compiled, or the twins are asked for")
    def test_compiled(self) -> None:
        """With one it is the same."""
        self.assertEqual(self.answered(""), "compiled")
