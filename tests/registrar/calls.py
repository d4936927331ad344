"""What the tests of calls share: Alice, Bob whose phone is bound to its connection, and the registrar between them."""

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from registrar.diverting import Entries
from registrar.location.contract import Snapshot
from registrar.proxying import Media
from registrar.records import Binding
from registrar.routing import ProxyConfig
from rollcall.sip.message import Request, Response
from tests.flows import MemoryFlow
from tests.registrar.examples import a_bound
from tests.registrar.joined import Registrar
from tests.registrar.network import Phone

ALIAS = "sip.example.com"
BOB = "sip:bob@example.com"
CALLER = "<sip:alice@example.com>;tag=alice"
BOBS_TAG = "<sip:bob@example.com>;tag=bob"


class ProxyCase(SynchronousTestCase):
    """Alice calls Bob, whose phone is bound to its connection, on a node that asks nobody for a password."""

    with_passwords = False
    config = ProxyConfig()

    def setUp(self) -> None:
        self.registrar = Registrar(proxy=self.config, with_passwords=self.with_passwords, entries=self.entries(),
                                   media=self.media())
        self.layer, self.network = self.registrar.layer, self.registrar.network
        self.alice, self.bob = self.network.phone("alice"), self.network.phone("bob")
        self.bind(self.bound(self.bob))

    def entries(self) -> Entries | None:
        """Return who knows aliases and forwardings."""
        return None

    def media(self) -> Callable[[Registrar], Media] | None:
        """Return what leads calls through media nodes."""
        return None

    def bind(self, *bindings: Binding, aor: str = BOB) -> None:
        """Have these bindings in the place of those there were."""
        before = self.registrar.location.peek(aor)
        self.registrar.location.put(aor, Snapshot(before.version + 1, bindings))

    def receive(self, message: Request | Response, flow: MemoryFlow) -> None:
        """Let `message` come over `flow`."""
        self.registrar.requests.message_received(message.serialise(), flow)

    def bound(self, phone: Phone, **changes: object) -> Binding:
        """Return the binding of `phone` over its connection."""
        host, port = phone.flow.peer
        return a_bound(f"sip:{phone.name}@{host}:{port};transport=tcp", phone.flow.id, **changes)

    def ask(self, request: Request, flow: MemoryFlow | None = None) -> list[Response]:
        """Let `request` come over Alice's flow or another; return what is answered at once."""
        flow = flow or self.alice.flow
        self.receive(request, flow)
        return self.answers(flow)

    def answers(self, flow: MemoryFlow | None = None) -> list[Response]:
        """Return what was answered over Alice's flow, or another, since the last look."""
        answers = (flow or self.alice.flow).take()
        return [answer for answer in answers if isinstance(answer, Response)]

    def status(self, request: Request) -> int:
        """Return the only answer to `request`."""
        (answer,) = self.ask(request)
        return answer.status

    def assert_released(self) -> None:
        """See that nothing is left when the last repetitions are over."""
        self.assertEqual(self.registrar.end_transactions(), 0)
