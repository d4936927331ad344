"""The arithmetic of the demonstration with very many phones."""

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from tests.tools.bench.samples import TALLY
from tools.bench.hold import Held, Look, kernel_memory
from tools.bench.processes import listening

MEBIBYTE = 2**20

LISTENING = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:5209 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:5209 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1 0 100 0 0 10 0
   2: 0100007F:5209 0101007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0100007F:0277 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1 0 100 0 0 10 0
"""


def a_look(server: int, cpu: float, kernel: int) -> Look:
    """What was in use at a moment, memory in MiB."""
    return Look(server_bytes=server * MEBIBYTE, server_cpu_us=cpu, kernel_bytes=kernel * MEBIBYTE, largest=19_000)


class HoldTests(SynchronousTestCase):
    """What is read, and what is said."""

    def test_listeners(self) -> None:
        """Sockets that listen on the port are counted, connections to it and other listeners are not."""
        self.assertEqual(listening(LISTENING, 21_001), 2)

    def test_kernel_memory(self) -> None:
        """The kernel's own memory is slab, page tables and stacks."""
        text = "MemTotal:  100 kB\nSlab:   7 kB\nSReclaimable:  3 kB\nKernelStack: 2 kB\nPageTables:  1 kB\n"
        self.assertEqual(kernel_memory(text), 10 * 1024)

    def test_sentences(self) -> None:
        """Figures are per phone, and what was there before is not counted."""
        held = Held(
            phones=10,
            workers=2,
            registering=TALLY,
            refreshing=evolve(TALLY, seconds=4.0),
            looks=(a_look(50, 100.0, 10), a_look(60, 1_100.0, 50), a_look(70, 1_200.0, 50)),
            opened_seconds=3.0,
        )
        text = "\n".join(held.sentences())
        for said in (
            "10 of 10 phones registered in 3 s (100.0 µs",
            f"60 MiB with all ({MEBIBYTE} bytes per phone), 70 MiB after the refreshes ({2 * MEBIBYTE})",
            f"40 MiB ({4 * MEBIBYTE} bytes per phone)",
            "10 refreshed in 4 s, 10.0 µs each, p50 0.5 ms, p99 2.0 ms",
        ):
            self.assertIn(said, text)
        self.assertTrue(held.clean)
        self.assertFalse(evolve(held, phones=11).clean)
