"""What the tests of calls through media nodes share: nodes that answer ng as a script says, phones that describe media.

A description is short, and says who made it; a node puts its own address into it and changes nothing else:

    self.call()
    self.assertEqual(self.nodes.told(), ["m1 offer alice"])
    self.assertEqual(address(self.bob.requests["INVITE"]), "m1")
"""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from registrar.media.calls import Calls
from registrar.media.choosing import Choosing
from registrar.media.config import MediaConfig
from registrar.media.relaying import Relaying
from registrar.media.sdp import described
from registrar.media.session import Session
from registrar.media.sessions import Sessions
from registrar.proxying import Media
from rollcall.media.ng import NgRefused, NgUnreachable
from rollcall.media.snapshot import MediaNode, NodeState, Snapshot
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Message, Request, Response
from tests.flows import Headers, MemoryFlow, a_request, an_answer
from tests.registrar.calls import ProxyCase
from tests.registrar.joined import Registrar
from tests.registrar.network import Phone

SDP_TYPE = ("Content-Type", "application/sdp")
CALL_ID = "call-1@192.0.2.10"
PHONES = "phone"


def sdp(who: str, version: int = 1, mode: str = "sendrecv", media: str = "audio 4000 RTP/AVP 0") -> bytes:
    """Return a description by `who`."""
    return (f"v=0\r\no={who} 7 {version} IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 {PHONES}\r\nt=0 0\r\n"
            f"m={media}\r\na={mode}\r\n").encode()


def address(message: Message) -> str:
    """Return where a description says that media go: the id of a node, or "phone"; empty without a description."""
    found = described(message)
    return "" if found is None else found.sdp.partition(b"c=IN IP4 ")[2].partition(b"\r\n")[0].decode()


def version(message: Message) -> int:
    """Return the version of a description."""
    return int(message.body.partition(b"o=")[2].split()[2])


class ScriptedNodes:
    """The ng side of media nodes m1, m2 …: what they were told, and who of them does not answer."""

    def __init__(self) -> None:
        self.dead: set[str] = set()
        self.full: set[str] = set()
        self.puzzled: set[str] = set()
        """Who understands no description."""
        self.holds = False
        self.arguments: list[Mapping[str, Any]] = []
        self._told: list[str] = []
        self._waiting: list[Deferred[None]] = []
        self._known: set[str] = set()

    async def ask(self, address: str, command: str, arguments: Mapping[str, Any], seconds: float,
                  is_tcp: bool = False) -> dict[str, Any]:
        """See Asks."""
        node = address.partition(":")[0]
        tags = [tag for tag in (arguments.get("from-tag"), arguments.get("to-tag")) if tag]
        self._told.append(" ".join([node, command, *tags]))
        self.arguments.append(arguments)
        if self.holds:
            gate: Deferred[None] = Deferred()
            self._waiting.append(gate)
            await gate
        if node in self.dead:
            raise NgUnreachable("no answer")
        if node in self.full and command == "offer" and "to-tag" not in arguments:
            raise NgRefused("Parallel session limit reached", is_full=True)
        if node in self.puzzled and command != "delete":
            raise NgRefused("Failed to parse SDP", is_full=False)
        if command == "offer":
            self._known.add(arguments["call-id"])
        elif arguments["call-id"] not in self._known:
            raise NgRefused("Unknown call-id", is_full=False)
        reply: dict[str, Any] = {"result": b"ok"}
        if "sdp" in arguments:
            reply["sdp"] = arguments["sdp"].replace(f"IN IP4 {PHONES}".encode(), f"IN IP4 {node}".encode())
        return reply

    def told(self) -> list[str]:
        """Return what they were told since the last look: node, command, tags."""
        told, self._told = self._told, []
        return told

    def forget(self) -> None:
        """Have all nodes started again."""
        self._known.clear()

    def answer(self) -> None:
        """Let what was asked first, of what waits, be answered."""
        self._waiting.pop(0).callback(None)


class MediaCase(ProxyCase):
    """Calls of Alice to Bob with media nodes m1 and m2, of which calls prefer m1."""

    when_none = "direct"

    def setUp(self) -> None:
        self.nodes = ScriptedNodes()
        self.stranded: list[str] = []
        super().setUp()
        self.publish(a_node("m1"), a_node("m2", sessions=500))

    def media(self) -> Callable[[Registrar], Media] | None:
        return self._calls

    def _calls(self, registrar: Registrar) -> Media:
        clock = registrar.clock.seconds
        config = MediaConfig(enabled=True, when_none=self.when_none)
        self.choosing = Choosing(clock, config.left_out_seconds, lambda: 0.0)
        self.sessions = Sessions(None, "n1:1", clock)
        self.relaying = Relaying(self.nodes, self.choosing, config.offer_seconds)
        return Calls(config, self.relaying, self.choosing, self.sessions, registrar.domains,
                     lambda host: f"net/{host}", self.stranded.append, clock, lambda: 17,
                     registrar.layer.wheel)

    def publish(self, *nodes: MediaNode, **changes: Any) -> None:
        """Have these nodes and no others."""
        self.choosing.followed(evolve(Snapshot(nodes={node.id: node for node in nodes}), **changes))

    @property
    def session(self) -> Session:
        """The call, as it is known."""
        session = self.sessions.known(CALL_ID)
        assert session is not None
        return session

    # --- Alice and Bob

    def call(self, body: bytes | None = None, flow: MemoryFlow | None = None, headers: Headers = ()) -> list[Response]:
        """Have Alice call Bob with this description (her usual one, none when empty); return what she hears at once."""
        body = sdp("alice") if body is None else body
        kind: Headers = (SDP_TYPE,) if body else ()
        contact = ("Contact", "<sip:alice@192.0.2.20:49152;transport=tcp>")
        self.invite = a_request(headers=(contact, *kind, *headers), body=body)
        return self.ask(self.invite, flow)

    def call_both(self) -> None:
        """Have Alice call Bob, who has a second phone that is called carol; both have heard it."""
        self.carol = self.network.phone("carol")
        self.bind(self.bound(self.bob), self.bound(self.carol))
        self.call()
        self.bob.heard()
        self.carol.heard()

    def answers_with(self, phone: Phone, status: int, body: bytes | None = None, method: str = "INVITE",
                     headers: Headers = ()) -> list[Response]:
        """Have a phone answer with this description (its usual one, none when empty); return what Alice hears."""
        phone.heard()
        body = sdp(phone.name) if body is None else body
        kind: Headers = (SDP_TYPE,) if body else ()
        request = phone.requests[method]
        recorded = tuple(("Record-Route", value) for value in request.values("Record-Route"))
        answer = an_answer(request, status, None, phone.name, (
            ("Contact", f"<{request.uri}>"), *recorded, *kind, *headers))
        answer.body = body
        phone.reply(answer)
        return self.answers()

    def stands(self, offer: bytes | None = None) -> None:
        """Have a call that Bob has taken and Alice has acknowledged."""
        self.call(offer)
        self.bob.heard()
        self.bobs_invite = self.bob.requests["INVITE"]
        (self.ok,) = self.answers_with(self.bob, 200)
        self.receive(self.from_alice("ACK", cseq=1), self.alice.flow)
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.nodes.told()

    def from_alice(self, method: str, cseq: int = 2, body: bytes = b"", headers: Headers = (),
                   callee: str = "bob") -> Request:
        """Return a request of Alice within the call."""
        routes: Headers = tuple(("Route", value) for value in self.ok.values("Record-Route")[::-1])
        kind: Headers = (SDP_TYPE,) if body else ()
        return a_request(
            method, parse_name_addr(self.ok.get("Contact") or "").uri, branch=f"z9hG4bKa{method}{cseq}",
            callee=f"<sip:bob@example.com>;tag={callee}", cseq=cseq, headers=(*routes, *kind, *headers), body=body)

    def from_bob(self, method: str, cseq: int = 1, body: bytes = b"", headers: Headers = ()) -> Request:
        """Return a request of Bob within the call."""
        routes: Headers = tuple(("Route", value) for value in self.bobs_invite.values("Record-Route"))
        kind: Headers = (SDP_TYPE,) if body else ()
        return a_request(
            method, parse_name_addr(self.bobs_invite.get("Contact") or "").uri, branch=f"z9hG4bKb{method}{cseq}",
            caller="<sip:bob@example.com>;tag=bob", callee="<sip:alice@example.com>;tag=alice", cseq=cseq,
            headers=(*routes, *kind, *headers), body=body)


def a_node(name: str, kind: Any = "rtpengine", sessions: int = 0, state: NodeState = NodeState.UP,
           address: str = "") -> MediaNode:
    """Return a node for 1000 calls."""
    return MediaNode(id=name, kind=kind, address=address or f"{name}:22222", sessions=sessions, state=state)


def a_node_in(name: str, group: str) -> MediaNode:
    """Return a node of one group only."""
    return evolve(a_node(name), groups=(group,))
