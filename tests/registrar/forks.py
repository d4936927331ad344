"""What the tests of forks share: a caller, phones, and a look at what is left in the end."""

from twisted.trial.unittest import SynchronousTestCase

from registrar.forking import Fork
from registrar.routing import ProxyConfig
from registrar.sending import Attempt, Forwarded
from rollcall.net.transactions import ServerTransaction
from rollcall.sip.forwarding import loop_mark
from rollcall.sip.message import Request, Response
from rollcall.sip.transaction import TransactionConfig
from tests.flows import Headers, a_flow, a_request
from tests.layers import Layer
from tests.registrar.network import Network, Phone

CONFIG = ProxyConfig(timer_c_seconds=185, ring_seconds=20)


class ForkCase(SynchronousTestCase):
    """A caller, phones, and a fork between them; whatever a test does, nothing may be left of it."""

    config = TransactionConfig()

    def setUp(self) -> None:
        self.layer = Layer(self.config)
        self.network = Network(self.layer)
        self.caller = a_flow("UDP")
        self.ended: list[int] = []

    def tearDown(self) -> None:
        """See that the fork has ended once, and that all is released when the last repetitions are over."""
        self.layer.wait(65)
        self.assertEqual(self.layer.left(), (0, 0, 0))
        self.assertEqual([flow.holds for flow in self.network.flows()], [0] * len(self.network.flows()))
        self.assertEqual(len(self.ended), 1)

    def fork(self, request: Request, *groups: list[Phone | Attempt]) -> ServerTransaction:
        """Let `request` come from the caller and go to these phones or ways, group after group."""
        server = self.layer.begin(request, self.caller)
        forwarded = Forwarded(server.request, self.caller, loop_mark(server.request), True, b"call-1", 60)
        attempts = [[way.attempt() if isinstance(way, Phone) else way for way in group] for group in groups]
        Fork(server, forwarded, attempts, self.network.sending, self.layer.transactions, CONFIG, self._end).start()
        return server

    def call(self, *groups: list[Phone | Attempt], headers: Headers = ()) -> ServerTransaction:
        """Call these; the caller hears 100 at once."""
        server = self.fork(a_request("INVITE", headers=headers), *groups)
        self.assertEqual(self.hears(), [100])
        return server

    def message(self, *groups: list[Phone | Attempt]) -> ServerTransaction:
        """Send a MESSAGE to these; nothing is heard at once."""
        server = self.fork(a_request("MESSAGE"), *groups)
        self.assertEqual(self.hears(), [])
        return server

    def hears(self) -> list[int]:
        """Return the statuses that the caller heard since the last look."""
        return [response.status for response in self.responses()]

    def responses(self) -> list[Response]:
        """Return the responses that the caller got since the last look."""
        responses = [message for message in self.caller.take() if isinstance(message, Response)]
        for response in responses:
            self.assertEqual(response.get_all("Via"), ["SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-one"])
        return responses

    def hangs_up(self, server: ServerTransaction, *reasons: str) -> None:
        """Cancel the call, as the conversation does when the caller's CANCEL has come."""
        headers = tuple(("Reason", reason) for reason in reasons)
        assert server.on_cancel is not None
        server.on_cancel(a_request("CANCEL", headers=headers))

    def acknowledge(self) -> None:
        """Let the caller acknowledge a refusal, which stops its repetitions."""
        self.layer.arrive(a_request("ACK"), self.caller)

    def _end(self, fork: Fork, status: int) -> None:
        self.ended.append(status)
