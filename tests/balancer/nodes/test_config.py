"""What an operator can set about media nodes."""

from twisted.trial.unittest import SynchronousTestCase

from balancer.nodes.config import NodeConfig, NodesConfig
from tests.balancer.nodes.examples import M1, M2


class NodeConfigTests(SynchronousTestCase):
    def test_host(self) -> None:
        """The host of an address stands without brackets."""
        self.assertEqual((M1.host, M2.host), ("192.0.2.1", "2001:db8::2"))

    def test_refused(self) -> None:
        """Values that no node can have are refused."""
        for wrong in ({"id": "a b"}, {"address": "192.0.2.1"}, {"capacity": 0}, {"weight": 0}, {"groups": ("a", "a")},
                      {"capture_id": -1}, {"capture_id": 2**32}, {"media_hosts": ("10.0.0.1/8",)}):
            self.assertRaises(ValueError, NodeConfig, **{"id": "m1", "address": "192.0.2.1:22222"} | wrong)

    def test_refusals_count_more_than_silence(self) -> None:
        """A node cannot be believed to be dead sooner by silence than by a refusal."""
        self.assertRaises(ValueError, NodesConfig, down_after=1, refused_after=2)
        self.assertEqual(NodesConfig(down_after=1, refused_after=1).down_after, 1)
