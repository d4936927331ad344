"""What the tests of subscriptions share: a whole registrar in memory, and subscribers who keep what they were told."""

from collections.abc import Callable
from itertools import count
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from registrar.auth import AuthConfig, Authentication
from registrar.gruu import GruuMaker
from registrar.location.changes import Changes
from registrar.location.contract import Snapshot
from registrar.records import Binding, record_key
from registrar.regevent.asking import RegEventConfig
from registrar.regevent.conversation import Parts, RegEvents
from registrar.regevent.delivery import Delivery
from registrar.regevent.listing import watch_events
from registrar.regevent.passing import Elsewhere, Nowhere
from registrar.regevent.tags import Tags
from registrar.regevent.watching import Watchers
from rollcall.net.transports import Transports
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request, Response
from tests.flows import Headers, MemoryFlow, an_answer
from tests.registrar.joined import EPOCH, NODE, RETRY_AFTER, Client, HeldLocation, Registrar
from tests.registrar.reginfo import Reginfo, Table

ALICE, BOB = "sip:alice@example.com", "sip:bob@example.com"
KEY = b"the key of tags in tests"
CONFIG = RegEventConfig(watchers=(BOB,), max_per_aor=3, max_subscriptions=5)


class FarLocation(HeldLocation):
    """A location whose answers may be old when they arrive."""

    async def load(self, aor: str) -> Snapshot:
        """Return what was bound when it was asked."""
        snapshot = self.peek(aor)
        await self._pass("load")
        return snapshot


class Subscriber:
    """Somebody who subscribes over a phone's flow, answers NOTIFYs, and does what RFC 3680 §5.2 says with them."""

    _calls = count(1)

    def __init__(self, phone: Client, aor: str = ALICE) -> None:
        self.phone = phone
        self.aor = aor
        self.call_id = f"watch-{next(self._calls)}"
        self.contact = f"<sip:{phone.name}@{phone.flow.peer[0]}:{phone.flow.peer[1]};transport={phone.flow.transport}>"
        self.cseq = 0
        self.to = f"<{aor}>"
        self.target = aor
        self.answer: Response | None = None
        self.notifies: list[Request] = []
        self.table = Table()
        self.answers_with: int | None = 200
        self.answer_headers: Headers = ()

    def a_subscribe(self, *headers: tuple[str, str], event: str = "reg", **changes: Any) -> Request:
        """Return the next SUBSCRIBE, within the dialog if there is one."""
        self.cseq += 1
        fields = [("Contact", self.contact), ("Event", event), *headers]
        if self.phone.challenge:
            fields.append(("Authorization", self.phone.credentials("SUBSCRIBE", self.target)))
        usual: dict[str, Any] = {"cseq": self.cseq, "call_id": self.call_id, "callee": self.to}
        return self.phone.request("SUBSCRIBE", self.target, headers=tuple(fields), **{**usual, **changes})

    def subscribe(self, *headers: tuple[str, str], **changes: Any) -> int:
        """Subscribe, or refresh, and return the status; a challenge is answered."""
        status = self.send(self.a_subscribe(*headers, **changes))
        if status == 401 and not self.phone.challenge:
            assert self.answer is not None
            self.phone.take_challenge(self.answer)
            status = self.send(self.a_subscribe(*headers, **changes))
        return status

    def send(self, request: Request) -> int:
        """Send this SUBSCRIBE and return the status."""
        self.answer = None
        self.phone.receive_whole(request.serialise())
        self.look()
        assert self.answer is not None, "no answer"
        return int(self.answer.status)

    def look(self) -> None:
        """Take what came: the answer, and NOTIFYs, which are answered."""
        for message in self.phone.flow.take():
            if isinstance(message, Response):
                self.answer = message
                if message.status == 200:
                    self.to = message.get("To") or ""
                    self.target = parse_name_addr(message.get("Contact") or "").uri
            else:
                self._notified(message)

    def _notified(self, notify: Request) -> None:
        self.notifies.append(notify)
        if notify.body and self.answers_with == 200:
            self.table.apply(Reginfo(notify.body))
        if self.answers_with is not None:
            answer = an_answer(notify, self.answers_with, None, "watcher", self.answer_headers)
            self.phone.receive_whole(answer.serialise())

    def told(self) -> list[Request]:
        """Return the NOTIFYs since the last look."""
        self.look()
        notifies, self.notifies = self.notifies, []
        return notifies

    def document(self) -> Reginfo:
        """Return what the one NOTIFY since the last look said."""
        (notify,) = self.told()
        return Reginfo(notify.body)


def state_of(notify: Request) -> str:
    """Return what a NOTIFY says of its subscription."""
    return notify.get("Subscription-State") or ""


class EventsCase(SynchronousTestCase):
    """Alice's phone, and the registrar that tells of her."""

    with_passwords = False
    config = CONFIG
    location: type[HeldLocation] = HeldLocation

    def setUp(self) -> None:
        self.registrar = Registrar(with_passwords=self.with_passwords, location=self.location)
        self.clock, self.network = self.registrar.clock, self.registrar.network
        self.changes = Changes(lambda call: self.clock.callLater(0, call))
        self.later: Callable[[Callable[[], None]], object] = lambda call: self.clock.callLater(0, call)
        self.dead: set[tuple[str, int]] = set()
        self.is_left = False
        self.events = self.made(NODE, EPOCH)
        self.registrar.requests.serve_events(self.events)
        watch_events(self.registrar.metrics, self.events)

    def made(self, node: str, epoch: int, elsewhere: Elsewhere | None = None) -> RegEvents:
        """Return the subscriptions of a node over our registrar's network and bindings."""
        registrar, layer = self.registrar, self.registrar.layer
        authentication = None
        if self.with_passwords:
            authentication = Authentication.with_secrets(registrar.subscribers.find, [b"a secret for nonces"],
                                                         AuthConfig())
        watchers = Watchers(registrar.domains, authentication, self.config, self.clock.seconds,
                            registrar.observing.authenticated)
        return RegEvents(Parts(
            domains=registrar.domains, location=registrar.location, changes=self.changes, watchers=watchers,
            exists=registrar._exists, gruus=GruuMaker([b"a secret for gruus"]), tags=Tags(KEY, node, epoch),
            delivery=self.delivery(), wheel=layer.wheel, later=self.soon,
            retry_after=lambda: RETRY_AFTER, is_living=lambda node, epoch: (node, epoch) not in self.dead,
            refuses_new=lambda: self.is_left, elsewhere=elsewhere or Nowhere()), self.config, node, epoch)

    def delivery(self) -> Delivery:
        """Return the way out over the network in memory."""
        return Delivery(cast(Transports, self.network.transports), self.network.sending,
                        self.registrar.layer.transactions)

    def soon(self, call: Callable[[], None]) -> None:
        """Call in a later turn of the reactor, or when a test has it so."""
        self.later(call)

    def subscriber(self, name: str = "alice", transport: str = "TCP", aor: str = ALICE,
                   port: int = 49152) -> Subscriber:
        """Return somebody who has not subscribed yet, over a connection of his own."""
        return Subscriber(self.registrar.client(name, transport, port=port), aor)

    def watching(self, name: str = "alice", **changes: Any) -> Subscriber:
        """Return somebody who has subscribed and was told everything."""
        subscriber = self.subscriber(name, **changes)
        self.assertEqual(subscriber.subscribe(), 200)
        self.assertEqual(len(subscriber.told()), 1)
        return subscriber

    def bind(self, *bindings: Binding, aor: str = ALICE, lost_at: float = 0.0, tells: bool = True) -> None:
        """Have these bindings in the place of those there were."""
        before = self.registrar.location.peek(aor)
        self.registrar.location.put(aor, Snapshot(before.version + 1, bindings, lost_at))
        if tells:
            self.changes.tell(record_key(aor))
            self.clock.advance(0)

    def wait(self, seconds: float) -> None:
        """Let time pass, and what falls due in it happen."""
        for _ in range(int(seconds / 0.25)):
            self.clock.advance(0.25)

    def ended(self) -> dict[tuple[str, ...], float]:
        """Return how many subscriptions ended for which reason."""
        return self.registrar.counts("rollcall_reg_subscriptions_ended_total")

    def outcomes(self) -> dict[tuple[str, ...], float]:
        """Return what became of NOTIFYs."""
        return self.registrar.counts("rollcall_reg_notifies_total")

    def lose(self, flow: MemoryFlow) -> None:
        """Break a connection."""
        self.registrar.lose(flow)


