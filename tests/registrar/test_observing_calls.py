"""What is noted of calls: the answer, the refusal and the end of each, once, by whoever hangs up."""

from json import loads
from typing import Any, ClassVar

from registrar.calls.parts import CallPart
from registrar.observing_calls import QUALITY_CHARS
from registrar.routing import ProxyConfig
from rollcall.sip.headers import parse_name_addr
from rollcall.sip.message import Request
from rollcall.sip.transaction import cancellation
from tests.flows import Headers, a_request, an_answer
from tests.registrar.calls import BOB, BOBS_TAG, CALLER, ProxyCase
from tests.registrar.examples import NOW
from tests.registrar.nodes import Call, NodesCase

ALICE = "sip:alice@example.com"
CALL_ID = "call-1@192.0.2.10"


class NotesCase(ProxyCase):
    """Alice calls Bob, and both see what is noted."""

    def noted(self) -> list[CallPart]:
        """Return what was noted since the last look."""
        noted = list(self.registrar.call_parts)
        self.registrar.call_parts.clear()
        return noted

    def only(self) -> CallPart:
        """Return the only thing that was noted."""
        (part,) = self.noted()
        return part

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.layer.wait(seconds)

    def call(self, **changes: Any) -> Request:
        """Let Alice's call ring at Bob's phone."""
        request = a_request(**changes)
        self.ask(request)
        self.bob.heard()
        return request

    def in_dialog(self, method: str, by_callee: bool = False, headers: Headers = (), branch: str = "z9hG4bK-in",
                  cseq: int = 2) -> Request:
        """Return a request within the call that Bob has answered."""
        invite = self.bob.requests["INVITE"]
        routes = invite.values("Record-Route")
        if by_callee:
            sender, other, uri = BOBS_TAG, CALLER, parse_name_addr(invite.get("Contact") or "").uri
        else:
            sender, other, uri, routes = CALLER, BOBS_TAG, invite.uri, routes[::-1]
        fields = (*(("Route", route) for route in routes), *headers)
        return a_request(method, uri, branch=branch, caller=sender, callee=other, cseq=cseq, headers=fields)

    def established(self) -> None:
        """Let Bob answer a call; what is noted of that is not looked at."""
        self.call(headers=(("Contact", "<sip:alice@192.0.2.20:49152;transport=tcp>"),))
        recorded = tuple(("Record-Route", value) for value in self.bob.requests["INVITE"].values("Record-Route"))
        self.bob.answer(200, headers=(("Contact", f"<{self.bob.requests['INVITE'].uri}>"), *recorded))
        self.answers()
        self.noted()


class AnswerTests(NotesCase):
    def test_answered(self) -> None:
        """A call that is answered is noted once: who, whom, when it began and when it was answered."""
        self.call()
        self.pass_time(7)
        self.bob.answer(180)
        self.assertEqual(self.noted(), [])
        self.bob.answer(200)
        self.bob.answer(200)
        self.assertEqual(self.only(), CallPart(
            call_id=CALL_ID, tag_low="alice", tag_high="bob", caller_tag="alice", caller=ALICE, callee=BOB,
            started_at=NOW, answered_at=NOW + 7, status=200, node="n1"))

    def test_sorted_tags(self) -> None:
        """Whichever tag sorts first, the caller's is known as hers."""
        self.call(caller=f"<{ALICE}>;tag=zoe")
        self.bob.answer(200)
        part = self.only()
        self.assertEqual((part.tag_low, part.tag_high, part.caller_tag), ("bob", "zoe", "zoe"))

    def test_addresses(self) -> None:
        """Who calls whom is noted without passwords, ports and parameters."""
        self.call(uri="sip:b%6Fb@example.com;user=phone",
                  caller="\"Alice\" <sip:alice:secret@example.com:5099;transport=tcp>;tag=alice")
        self.bob.answer(486)
        part = self.only()
        self.assertEqual((part.caller, part.callee), (ALICE, BOB))

    def test_again_within(self) -> None:
        """An INVITE within a call begins no other, whether it is taken or refused."""
        self.established()
        for status, branch in ((200, "z9hG4bK-one-more"), (488, "z9hG4bK-two-more")):
            self.ask(self.in_dialog("INVITE", branch=branch))
            self.bob.heard()
            self.bob.answer(status)
        self.assertEqual(self.noted(), [])

    def test_other_requests(self) -> None:
        """A message is no call."""
        self.ask(a_request("MESSAGE"))
        self.bob.heard()
        self.bob.answer(200, "MESSAGE")
        self.assertEqual(self.noted(), [])


class FailureTests(NotesCase):
    config = ProxyConfig(ring_seconds=20)

    def test_busy(self) -> None:
        """A call that is refused has begun and ended, and was never answered."""
        self.call()
        self.pass_time(3)
        self.bob.answer(486)
        self.assertEqual(self.only(), CallPart(
            call_id=CALL_ID, tag_low="", tag_high="alice", caller_tag="alice", caller=ALICE, callee=BOB,
            started_at=NOW, ended_at=NOW + 3, status=486, node="n1"))

    def test_cancelled(self) -> None:
        """A call that the caller gives up is noted with 487."""
        request = self.call()
        self.bob.answer(180)
        self.ask(cancellation(request))
        self.bob.heard()
        self.bob.answer(487)
        self.assertEqual(self.only().status, 487)

    def test_no_phone(self) -> None:
        """A call to who has no phone, or is unknown, is a call, too."""
        self.bind()
        self.call()
        self.call(uri="sip:nobody@example.com", branch="z9hG4bK-nobody", call_id="call-2")
        self.assertEqual([(part.callee, part.status) for part in self.noted()],
                         [(BOB, 480), ("sip:nobody@example.com", 404)])

    def test_forked(self) -> None:
        """A call that rings at two phones and is answered at one is noted once, and as answered."""
        desk = self.network.phone("desk")
        self.bind(self.bound(self.bob), self.bound(desk))
        self.call()
        self.assertEqual(desk.heard(), ["INVITE"])
        for phone in (self.bob, desk):
            phone.answer(180)
        desk.answer(200)
        self.assertEqual(self.bob.heard(), ["CANCEL"])
        self.bob.answer(487)
        part = self.only()
        self.assertEqual((part.status, part.tag_low, part.tag_high), (200, "alice", "desk"))

    def test_refused_everywhere(self) -> None:
        """A call that all phones refuse is noted once."""
        desk = self.network.phone("desk")
        self.bind(self.bound(self.bob), self.bound(desk))
        self.call()
        desk.heard()
        self.bob.answer(486)
        desk.answer(480)
        self.assertEqual(self.only().tag_low, "")

    def test_goes_on(self) -> None:
        """What the caller's phone does again by itself has not failed yet: it was asked for something."""
        for status in (401, 407, 422):
            self.call(branch=f"z9hG4bK-{status}")
            self.bob.answer(status)
        self.assertEqual(self.noted(), [])

    def test_not_forwarded(self) -> None:
        """What is no call of a subscriber leaves no trace: a loop, a hop too many, somebody else's domain."""
        self.ask(a_request(max_forwards=0))
        self.ask(a_request(uri="sip:bob@elsewhere.example", branch="z9hG4bK-elsewhere"))
        self.assertEqual((len(self.answers()), self.noted()), (0, []))

    def test_not_understood(self) -> None:
        """An answer whose To is no address reaches the caller all the same, and is noted without the callee's tag."""
        self.call()
        response = an_answer(self.bob.requests["INVITE"], 200)
        response.set("To", "<sip:bob@example.com;tag=bob")
        self.bob.reply(response)
        part = self.only()
        self.assertEqual((part.status, part.tag_low, part.tag_high), (200, "", "alice"))


class PasswordTests(NotesCase):
    with_passwords = True

    def test_no_proof(self) -> None:
        """A call of which nobody proved who makes it is not noted."""
        self.assertEqual((self.status(a_request()), self.noted()), (407, []))


class HangUpTests(NotesCase):
    def setUp(self) -> None:
        super().setUp()
        self.established()
        self.pass_time(60)

    def hang_up(self, by_callee: bool = False, status: int | None = 200, headers: Headers = (),
                answer_headers: Headers = ()) -> Request:
        """Let one side send a BYE and the other answer it, unless it says nothing."""
        bye = self.in_dialog("BYE", by_callee, headers)
        self.receive(bye, self.bob.flow if by_callee else self.alice.flow)
        other = self.alice if by_callee else self.bob
        self.assertEqual(other.heard(), ["BYE"])
        if status is not None:
            other.answer(status, "BYE", headers=answer_headers)
        return bye

    def test_by_the_caller(self) -> None:
        """The BYE of the caller ends the call at the moment that it comes."""
        self.hang_up()
        self.assertEqual(self.only(), CallPart(
            call_id=CALL_ID, tag_low="alice", tag_high="bob", started_at=NOW + 60, ended_at=NOW + 60,
            hung_up_tag="alice"))

    def test_by_the_callee(self) -> None:
        """That of the callee is told from it by its tag."""
        self.hang_up(by_callee=True)
        part = self.only()
        self.assertEqual((part.tag_low, part.tag_high, part.hung_up_tag), ("alice", "bob", "bob"))

    def test_other_side_forgot(self) -> None:
        """A BYE ends a call whose other side does not know of it any more."""
        self.hang_up(status=481)
        self.assertEqual(self.only().hung_up_tag, "alice")

    def test_nobody_answers(self) -> None:
        """So does one that nobody answers, once it is known that nobody does; the end is when it came."""
        self.hang_up(status=None)
        self.assertEqual(self.noted(), [])
        self.pass_time(65)
        self.assertEqual(self.only().ended_at, NOW + 60)

    def test_repeated(self) -> None:
        """A BYE that is sent again is noted once."""
        bye = self.in_dialog("BYE")
        for _ in range(3):
            self.receive(bye, self.alice.flow)
        self.bob.heard()
        self.bob.answer(200, "BYE")
        self.receive(bye, self.alice.flow)
        self.assertEqual(len(self.noted()), 1)

    def test_asked_for_a_password(self) -> None:
        """A phone that wants to know who hangs up has not ended the call yet."""
        self.hang_up(status=401)
        self.assertEqual(self.noted(), [])

    def test_flow_is_gone(self) -> None:
        """A BYE to a phone whose connection is gone ends the call."""
        self.registrar.lose(self.bob.flow)
        self.assertEqual([answer.status for answer in self.ask(self.in_dialog("BYE"))][-1:], [430])
        self.assertEqual(self.only().hung_up_tag, "alice")

    def test_quality(self) -> None:
        """What both phones report of the sound is kept, as long as it is no more than a report."""
        self.hang_up(headers=(("P-RTP-Stat", "PS=1500,OS=240000"), ("X-RTP-Stat", "x" * 2000)),
                     answer_headers=(("RTP-Stat", "EX=Ünicode"),))
        self.assertEqual(loads(self.only().quality or ""), {
            "hung up": {"X-RTP-Stat": "x" * QUALITY_CHARS, "P-RTP-Stat": "PS=1500,OS=240000"},
            "other": {"RTP-Stat": "EX=Ünicode"}})


class NodesTests(NodesCase):
    """Alice is connected to one node and Bob to another."""

    both: ClassVar[tuple[str, str]] = ("n1", "n2")

    def test_over_two_nodes(self) -> None:
        """Each event is noted by one node, that of the phone that began or ended the call."""
        alice, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        call = self.established(alice, bob)
        self.exchange(call, "BYE", bob, alice)
        noted = {name: self.nodes[name].call_parts for name in ("n1", "n2", "n3")}
        self.assertEqual([len(parts) for parts in noted.values()], [1, 1, 0])
        answer, end = noted["n1"][0], noted["n2"][0]
        self.assertEqual((answer.node, answer.status, end.hung_up_tag), ("n1", 200, "bob"))
        self.assertEqual((answer.call_id, answer.tag_low, answer.tag_high), (end.call_id, end.tag_low, end.tag_high))

    def test_refused_over_two_nodes(self) -> None:
        """So is a refusal."""
        alice, bob = self.nodes.phone("alice", "n1"), self.nodes.phone("bob", "n2")
        call = Call(alice, bob)
        call.invite()
        bob.heard()
        bob.answer(603)
        self.assertEqual([[part.status for part in self.nodes[name].call_parts] for name in self.both], [[603], []])
