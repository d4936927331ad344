"""What a director writes of itself is read as it was meant; the directors themselves are tried by tests/lvs."""

from twisted.trial.unittest import SynchronousTestCase

from tools.laboratory.uml_director import Flow, RealServer, State, parsed

RECORDED = """\
[addresses]
2: eth0    inet 10.77.0.21/24 scope global eth0\\       valid_lft forever preferred_lft forever
2: eth0    inet 10.77.0.200/32 scope global eth0\\       valid_lft forever preferred_lft forever
[services]
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.77.0.200:5060 wrr
  -> 10.77.0.11:5060              Route   50     3          1
  -> 10.77.0.12:5060              Route   0      2          0
UDP  10.77.0.200:5060 wrr
[flows]
Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP 0A4D0065 B0C1 0A4D00C8 13C4 0A4D000B 13C4 ESTABLISHED     896
"""


class ParsedTests(SynchronousTestCase):
    """The output of ipvsadm(8), ip(8) and /proc/net/ip_vs_conn becomes values."""

    def test_recorded(self) -> None:
        """Services have their real servers with weights and connections, also a service that has none left."""
        state = parsed(RECORDED)
        self.assertEqual(state.addresses, {"10.77.0.21", "10.77.0.200"})
        self.assertEqual(state.services, {
            "TCP 10.77.0.200:5060": {"10.77.0.11:5060": RealServer(50, 3, 1), "10.77.0.12:5060": RealServer(0, 2, 0)},
            "UDP 10.77.0.200:5060": {},
        })
        self.assertEqual(state.flows, (Flow("TCP", "10.77.0.101:45249", "10.77.0.11:5060", "ESTABLISHED"),))

    def test_trouble(self) -> None:
        """What is no table, such as a program's complaint, is no service and no flow."""
        state = parsed("[addresses]\n[services]\nCan't initialize ipvs: Protocol not there\n[flows]\ncat: no file\n")
        self.assertEqual((state.addresses, state.services, state.flows), (State().addresses, {}, ()))
