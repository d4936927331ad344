"""A whole registrar over a network in memory: real conversations, transactions, passwords and bindings on one clock.

A Client is a phone with a password. It registers and calls as its user would see it, so that a test reads as a
transcript:

    alice = self.registrar.client("alice")
    self.assertEqual(alice.register("sip:alice@192.0.2.20").status, 200)
    self.assertEqual(self.registrar.bound("alice"), ["sip:alice@192.0.2.20"])
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import count
from typing import Any, TypeVar, cast

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred

from registrar.admission import Admission, AdmissionConfig
from registrar.answering_later import AnsweringLater
from registrar.auth import AuthConfig, Authentication
from registrar.authorising import Callers
from registrar.bans import BansConfig
from registrar.calls.parts import CallPart
from registrar.diverting import Diverting, Entries
from registrar.forking import Fork
from registrar.gruu import GruuMaker
from registrar.guarding import Guarding, watch_bans
from registrar.location.contract import LocationUnavailable, Snapshot
from registrar.location.memory import MemoryLocation
from registrar.observing import Observing, watch_admission
from registrar.observing_calls import CallNotes
from registrar.proxying import Media, Proxying
from registrar.reconnecting import Reconnecting
from registrar.records import Binding, BindingConfig
from registrar.registering import Registering
from registrar.requests import Requests
from registrar.routing import Domains, ProxyConfig, ServedDomain
from registrar.short_way import ShortWay
from registrar.subscribers.memory import MemorySubscribers
from rollcall.net.flow import Flow, Listener, PackedAddress, unpack_address
from rollcall.net.transports import Transports
from rollcall.ops.metrics import Metrics
from rollcall.sip.digest import Credentials, expected_response, ha1
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Request, Response
from rollcall.sip.scanner import scan_register
from rollcall.sip.uri import parse_sip_uri, unescape
from tests.flows import Headers, MemoryFlow, a_flow, a_request
from tests.layers import Layer
from tests.registrar.examples import EXACT, NOW
from tests.registrar.network import Network

DOMAIN = "example.com"
PASSWORDS = {"alice": "wonderland-7", "bob": "builder-8"}
RETRY_AFTER = 17
NODE, EPOCH = "n1", 1

T = TypeVar("T")


def done(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns that must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    raise AssertionError("it waits")


class HeldLocation(MemoryLocation):
    """A MemoryLocation behind a wire: while `holds`, every load and save waits until the test lets it pass."""

    holds = False
    down = False

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer.wheel, layer.clock.seconds)
        self.waiting: list[tuple[str, Deferred[None]]] = []
        self.saves = 0

    def takes_at_once(self, key: bytes, connection_bound: bool) -> bool:
        """Say no while anything has to wait."""
        return not (self.holds or self.down) and super().takes_at_once(key, connection_bound)

    def refresh(self, key: bytes, record: bytes) -> None:
        """Count it as a save."""
        self.saves += 1
        super().refresh(key, record)

    def insert(self, key: bytes, record: bytes, transport: str) -> None:
        """Count it as a save."""
        self.saves += 1
        super().insert(key, record, transport)

    async def load(self, aor: str) -> Snapshot:
        """Return the bindings, once the test lets it."""
        await self._pass("load")
        return self.peek(aor)

    async def save(self, aor: str, new: Snapshot) -> None:
        """Replace the bindings, once the test lets it."""
        await self._pass("save")
        self.saves += 1
        self.put(aor, new)

    def let_pass(self) -> list[str]:
        """Let what waits now go on, in its order; return what it was."""
        waiting, self.waiting = self.waiting, []
        for _, gate in waiting:
            gate.callback(None)
        return [what for what, _ in waiting]

    async def _pass(self, what: str) -> None:
        if self.holds:
            gate: Deferred[None] = Deferred()
            self.waiting.append((what, gate))
            await gate
        if self.down:
            raise LocationUnavailable("the disk is full")


class LaterLocation(HeldLocation):
    """A LaterStore: what is kept at once waits until the test says what became of it."""

    keeps_later = True

    def __init__(self, layer: Layer) -> None:
        super().__init__(layer)
        self.kept_later: list[tuple[bytes, bytes | None, bytes, str, Callable[[bool], None]]] = []

    def keep(self, key: bytes, old: bytes | None, new: bytes, transport: str, kept: Callable[[bool], None]) -> None:
        """Wait for `settle`."""
        self.kept_later.append((key, old, new, transport, kept))

    def settle(self, is_kept: bool) -> None:
        """Keep what waits, or say that it could not be."""
        waiting, self.kept_later = self.kept_later, []
        for key, old, new, transport, kept in waiting:
            if is_kept and old is None:
                self.insert(key, new, transport)
            elif is_kept:
                self.refresh(key, new)
            kept(is_kept)


class Registrar:
    """All parts of a registrar but its sockets, joined as the service joins them."""

    def __init__(self, *, bindings: BindingConfig = EXACT, proxy: ProxyConfig | None = None,
                 admission: AdmissionConfig | None = None, with_passwords: bool = True,
                 takes_short_way: bool = True, location: type[HeldLocation] = HeldLocation,
                 network: Network | None = None, reconnecting: Reconnecting | None = None,
                 bans: BansConfig | None = None, entries: Entries | None = None,
                 media: Callable[["Registrar"], Media] | None = None) -> None:
        """Without a `network` the registrar is alone, at NOW; `reconnecting` has the location that nodes share.

        `entries` knows aliases and forwardings; `media` leads calls through media nodes.
        """
        self.media = media
        self.takes_short_way = takes_short_way
        if network is None:
            network = Network(Layer())
            network.layer.clock.advance(NOW)
        self.network = network
        self.layer = layer = network.layer
        self.clock = layer.clock
        self.metrics = Metrics(process=False)
        self.reconnecting = reconnecting
        self.entries = entries
        self.diverting: Diverting | None = None
        self.location = location(layer) if reconnecting is None else cast(HeldLocation, reconnecting.location)
        self.is_draining = False
        self.ended: set[tuple[str, int]] = set()
        self.subscribers = MemorySubscribers()
        done(self.subscribers.start())
        for name, password in PASSWORDS.items():
            done(self.subscribers.add(name, DOMAIN, password))
        self.domains = Domains([ServedDomain(DOMAIN, ("sip.example.com",)), ServedDomain("example.org")])
        for listener in self.network.transports.listeners.values():
            self.domains.answer_at(listener.host, listener.port)
        self.observing = Observing(self.metrics, self.clock.seconds, lambda call: layer.wheel.call_later(0, call))
        layer.transactions.answered = self.observing.answered
        self.call_parts: list[CallPart] = []
        self.notes = CallNotes(self.call_parts.append, network.node, self.clock.seconds)
        self.admission = Admission(admission or AdmissionConfig())
        self.requests = Requests(layer.transactions, self.domains, self.observing.malformed, self.admission,
                                 lambda: RETRY_AFTER, self.clock.seconds)
        watch_admission(self.metrics, self.admission)
        self.guarding = Guarding(bans or BansConfig(), self.location)
        watch_bans(self.metrics, self.guarding.bans, self.clock.seconds)
        authentication = None
        if with_passwords:
            authentication = Authentication.with_secrets(self.subscribers.find, [b"a secret for nonces"], AuthConfig(),
                                                         self.subscribers.peek, guard=self.guarding)
        self._join(authentication, bindings, proxy or ProxyConfig())

    def _join(self, authentication: Authentication | None, bindings: BindingConfig, proxy: ProxyConfig) -> None:
        transactions, transports, now = self.layer.transactions, self.network.transports, self.clock.seconds
        gruus = GruuMaker([b"a secret for gruus"])
        callers = Callers(self.domains, authentication, proxy, DOMAIN, now, self.observing.authenticated)
        registering = Registering(
            domains=self.domains, location=self.location, authentication=authentication, gruus=gruus, config=bindings,
            node=self.network.node, epoch=self.network.epoch, find_flow=transports.flow, now=now,
            retry_after=lambda: RETRY_AFTER,
            observing=self.observing, refuses_new=lambda: self.is_draining, there=self._there,
            left=self.guarding.left)
        if self.entries is not None:
            self.diverting = Diverting(self.entries, self.domains, proxy)
        self.proxying = proxying = Proxying(
            diverting=self.diverting,
            domains=self.domains, location=self.location, callers=callers, exists=self._exists, gruus=gruus,
            tokens=self.network.tokens, transactions=transactions, sender=self.network.sending, config=proxy, now=now,
            retry_after=lambda: RETRY_AFTER, ended=self._call_ended, refused=self.notes.refused,
            reconnecting=self.reconnecting, wants_nobody=lambda: self.is_draining,
            media=None if self.media is None else self.media(self))
        short_way = ShortWay(
            domains=self.domains, location=self.location, authentication=authentication, admits=self.admission.admits,
            refuse=self.requests.refuse_register, config=bindings, node=self.network.node, epoch=self.network.epoch,
            transactions=transactions, now=now, observing=self.observing,
            later=self._answering_later(authentication, registering), refuses_new=lambda: self.is_draining)
        self.requests.serve(cast(Transports, transports), short_way, registering, proxying)
        transactions.user = self.requests

    def _call_ended(self, fork: Fork, status: int) -> None:
        self.observing.call_ended(fork, status)
        self.notes.ended(fork, status)

    def _there(self, bindings: tuple[Binding, ...]) -> tuple[Binding, ...]:
        ended = self.ended
        return tuple(binding for binding in bindings if (binding.source.node, binding.source.epoch) not in ended)

    def _answering_later(self, authentication: Authentication | None,
                         registering: Registering) -> AnsweringLater | None:
        if not isinstance(self.location, LaterLocation):
            return None
        return AnsweringLater(
            location=self.location, authentication=authentication, whole_way=self.requests.message_received,
            answer=self._answer, flow_to=self._flow_to, flow_closed=registering.flow_closed)

    def _answer(self, data: bytes, listener: Listener, address: PackedAddress) -> None:
        flow = self._flow_to(listener, address)
        assert flow is not None
        flow.write(data)

    def _flow_to(self, listener: Listener, address: PackedAddress) -> Flow | None:
        return self.network.transports.datagram_flow(listener.name, *unpack_address(address))

    async def _exists(self, aor: str) -> bool:
        uri = parse_sip_uri(aor)
        return await self.subscribers.find(unescape(uri.user or ""), uri.host) is not None

    def flow(self, transport: str = "TCP", host: str = "192.0.2.20", port: int = 49152) -> MemoryFlow:
        """Return a new connection, or the datagram flow of this peer."""
        if transport == "UDP":
            flow = self.network.transports.datagram_flow("udp", host, port)
            assert isinstance(flow, MemoryFlow)
            return flow
        flow = a_flow(transport, host, port)
        self.network.transports.flows[flow.id] = flow
        return flow

    def client(self, name: str = "alice", transport: str = "TCP", **place: Any) -> "Client":
        """Return a phone that is connected."""
        return Client(self, name, self.flow(transport, **place))

    def lose(self, flow: MemoryFlow) -> None:
        """Break a connection, as the reactor would report it."""
        flow.close("lost")
        self.requests.flow_closed(flow, "lost")

    def bound(self, name: str, domain: str = DOMAIN) -> list[str]:
        """Return the contacts of a user."""
        return [binding.contact for binding in self.location.peek(f"sip:{name}@{domain}").bindings]

    def counted(self, name: str, **labels: str) -> float:
        """Return the value of one metric as Prometheus reads it; 0 when it is not there yet."""
        for sample, found, value in self._samples():
            if sample == name and found == labels:
                return value
        return 0

    def counts(self, name: str) -> dict[tuple[str, ...], float]:
        """Return the values of a metric by those of its labels, where something was counted."""
        return {tuple(labels.values()): value for sample, labels, value in self._samples() if sample == name and value}

    def _samples(self) -> Iterable[tuple[str, Mapping[str, str], float]]:
        for family in text_string_to_metric_families(self.metrics.render().decode()):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value

    def end_transactions(self) -> int:
        """Let all transactions end that can; return how many cannot."""
        for _ in range(8):
            self.clock.advance(32)
        return len(self.layer.transactions)


class Client:
    """A phone: it makes requests, and answers a challenge with its password."""

    _branches = count(1)

    def __init__(self, registrar: Registrar, name: str, flow: MemoryFlow) -> None:
        self.registrar = registrar
        self.name = name
        self.password = PASSWORDS.get(name, "")
        self.aor = f"sip:{name}@{DOMAIN}"
        self.flow = flow
        self.call_id = f"{name}@{flow.peer[0]}"
        self.cseq = 0
        self.challenge: dict[str, str] = {}
        self.nc = 0

    def register(self, *contacts: str, **changes: Any) -> Response:
        """Register and return the final answer, that to the password if one was asked for."""
        request = self.a_register(*contacts, **changes)
        self.send(request)
        answer = self.flow.take_response()
        if answer.status == 401 and not request.get("Authorization"):
            self.take_challenge(answer)
            self.send(self.a_register(*contacts, **changes))
            answer = self.flow.take_response()
        return answer

    def a_register(self, *contacts: str, expires: int | None = 3600, uri: str = f"sip:{DOMAIN}", to: str | None = None,
                   headers: Headers = (), instance: str | None = None, **changes: Any) -> Request:
        """Return the next REGISTER of this phone, with its password once it was challenged."""
        self.cseq += 1
        fields = [("Contact", _contact(contact, instance)) for contact in contacts]
        if expires is not None:
            fields.append(("Expires", str(expires)))
        if self.challenge:
            fields.append(("Authorization", self.credentials("REGISTER", uri)))
        return self.request("REGISTER", uri, headers=(*fields, *headers), callee=f"<{to or self.aor}>", **changes)

    def request(self, method: str, uri: str, **changes: Any) -> Request:
        """Return a request of a new transaction."""
        host, port = self.flow.peer
        usual: dict[str, Any] = {
            "branch": f"z9hG4bK-{next(self._branches)}", "sent_by": f"{host}:{port}", "cseq": self.cseq,
            "transport": self.flow.transport, "caller": f"<{self.aor}>;tag={self.name}", "call_id": self.call_id,
        }
        return a_request(method, uri, **{**usual, **changes})

    def send(self, request: Request) -> None:
        """Send a request as bytes."""
        self.receive(request.serialise())

    def receive(self, data: bytes) -> None:
        """Let the registrar receive these bytes from this phone, as a transport would."""
        answer = self.offer(data) if self.registrar.takes_short_way else None
        if answer is None:
            self.receive_whole(data)
        else:
            self.flow.confirm()
            if answer:
                self.flow.write(answer)

    def receive_whole(self, data: bytes) -> None:
        """Let it receive them by the whole way."""
        self.registrar.requests.message_received(data, self.flow)

    def offer(self, data: bytes) -> bytes | None:
        """Return what the short way answers to these bytes."""
        register, now, requests = scan_register(data), self.registrar.clock.seconds(), self.registrar.requests
        if register is None:
            return None
        if self.flow.reliable:
            return requests.short_way(register, self.flow, now)
        assert self.flow.listener is not None
        return requests.datagram_short_way(register, self.flow.listener, self.flow.address, now)

    def statuses(self) -> list[int]:
        """Return the statuses of the answers since the last look."""
        return [message.status for message in self.flow.take() if isinstance(message, Response)]

    def take_challenge(self, answer: Response) -> None:
        """Keep the last challenge of an answer, as phones do that know MD5 only."""
        value = (answer.get_all("WWW-Authenticate") or answer.get_all("Proxy-Authenticate"))[-1]
        self.challenge = parse_authorization(value).params
        self.nc = 0

    def credentials(self, method: str, uri: str) -> str:
        """Return what proves the password."""
        self.nc += 1
        realm, nonce = self.challenge["realm"], self.challenge["nonce"]
        own = Credentials(self.name, realm, nonce, uri, "", "MD5", "auth", f"{self.nc:08x}", "0a4f113b")
        response = expected_response(own, method, ha1("MD5", self.name, realm, self.password))
        return (f'Digest username="{self.name}", realm="{realm}", nonce="{nonce}", uri="{uri}", algorithm=MD5, '
                f'response="{response}", qop=auth, nc={own.nc}, cnonce="{own.cnonce}"')

    def move(self, port: int = 49153) -> MemoryFlow:
        """Open another connection and use it from now on; return the old one."""
        old, self.flow = self.flow, self.registrar.flow(self.flow.transport, self.flow.peer[0], port)
        return old


def _contact(text: str, instance: str | None) -> str:
    if text == "*" or "<" in text:
        return text
    return f"<{text}>" + (f';+sip.instance="<{instance}>"' if instance else "")
