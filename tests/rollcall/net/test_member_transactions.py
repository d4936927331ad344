"""Tests of transactions over the connection with another node of ours, and of what is left of them when it breaks."""

from tests.flows import LISTENERS, MemoryFlow, a_request
from tests.rollcall.net.test_client_transactions import ClientCase


class InternalFlow(MemoryFlow):
    """The connection with another node of ours."""

    member = "n2"


class MemberTests(ClientCase):
    """Another node of ours that is gone never answers over a new connection."""

    def setUp(self) -> None:
        super().setUp()
        self.node = InternalFlow("TCP", ("192.0.2.2", 5070), LISTENERS["TCP"])

    def test_ringing(self) -> None:
        """An INVITE fails with the connection, also when the phone behind it rings."""
        for statuses in ((), (100,), (100, 180)):
            self.answer(self.send("INVITE", self.node), *statuses)
            self.layer.transactions.flow_closed(self.node)
            self.assertEqual(self.user.failures, ["broken flow"], statuses)
            self.user.failures.clear()
        self.assert_released()
        self.assertEqual(self.node.holds, 0)

    def test_answered(self) -> None:
        """What has its final answer does not fail any more."""
        for method in ("INVITE", "BYE"):
            self.answer(self.send(method, self.node, f"z9hG4bK-{method}"), 200)
        self.layer.transactions.flow_closed(self.node)
        self.assertEqual((self.user.failures, self.user.statuses), ([], [200, 200]))

    def test_other_requests(self) -> None:
        """Whatever else waits for an answer fails once."""
        self.answer(self.send("INFO", self.node), 100)
        self.layer.transactions.flow_closed(self.node)
        self.assertEqual(self.user.failures, ["broken flow"])

    def test_what_it_asked_for(self) -> None:
        """What it has sent us is cancelled, unless it has its answer or cannot be cancelled."""
        cancelled: list[str] = []
        for number, (method, is_answered) in enumerate((("INVITE", False), ("INVITE", True), ("BYE", False))):
            server = self.layer.begin(a_request(method, branch=f"z9hG4bK-{number}", transport="TCP"), self.node)
            if method == "INVITE":
                server.on_cancel = lambda cancel, number=number: cancelled.append(f"{number} {cancel.method}")
            if is_answered:
                server.refuse(200)
        self.layer.transactions.flow_closed(self.node)
        self.assertEqual(cancelled, ["0 CANCEL"])
