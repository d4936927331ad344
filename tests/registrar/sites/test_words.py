"""What sites say to each other, and what is no question or answer."""

import msgspec
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.sites.words import (
    CONTENT_TYPE,
    MOST_BODY_BYTES,
    MOST_NODES,
    Question,
    WordsNotUnderstood,
    is_question,
    nodes_answer,
    question_request,
    read_nodes,
    read_question,
    read_record,
    record_answer,
)
from rollcall.cluster.nodes import Node
from rollcall.net.flow import Listener
from rollcall.sip.message import Request, check_request, parse_message
from tests.flows import MemoryFlow
from tests.registrar.examples import NOW, a_binding, a_bound

INTERNAL = Listener(name="internal", transport="TCP", host="192.0.2.1", port=5070, local=("192.0.2.1", 5070))


def a_node(name: str = "a1", **changes: object) -> Node:
    """Return a node of ams."""
    return evolve(Node(node=name, epoch=7, host="192.0.2.7", port=5070, site="ams"), **changes)  # type: ignore[arg-type]


def a_member_flow(member: str = "f1") -> MemoryFlow:
    """Return a connection with another node; without a name, with a phone."""
    flow = MemoryFlow("TCP", ("192.0.2.9", 5070), INTERNAL)
    flow.member = member
    return flow


class QuestionTests(SynchronousTestCase):
    """Questions as requests."""

    def asked(self, question: Question) -> Request:
        """Return a question as it arrives."""
        request, branch = question_request(question, "ams", a_member_flow(), 0)
        message = parse_message(request.serialise())
        assert isinstance(message, Request)
        self.assertEqual(check_request(message).branch, branch)
        return message

    def test_question(self) -> None:
        """A question arrives as it was asked, of any name: a phone need not have said it in UTF-8."""
        for question in (Question(), Question(b"bob@example.com"), Question(b"b\xffb@example.com")):
            request = self.asked(question)
            self.assertEqual(read_question(request.body), question)
            self.assertTrue(is_question(request, a_member_flow()))
            self.assertEqual(request.get("Max-Forwards"), "1")

    def test_no_question(self) -> None:
        """What comes from a phone, what is routed to one, and whatever else it may be, is no question."""
        request = self.asked(Question())
        self.assertFalse(is_question(request, a_member_flow("")))
        routed = request.copy()
        routed.set("Route", "<sip:token@192.0.2.1;lr>")
        other, plain = request.copy(), request.copy()
        other.method = "MESSAGE"
        plain.set("Content-Type", "application/json")
        for each in (routed, other, plain):
            self.assertFalse(is_question(each, a_member_flow()))

    @given(st.binary(max_size=60))
    def test_noise(self, noise: bytes) -> None:
        """Whatever is in a body, nothing but WordsNotUnderstood is raised."""
        for read in (read_question, read_nodes, read_record):
            try:
                read(noise)
            except WordsNotUnderstood:
                continue

    def test_malformed(self) -> None:
        """What has another form is refused."""
        for body in (b"", b"[]", b'{"aor": 1}', b'{"aor": "%%%"}', b'{"other": 1}', b"\xff"):
            self.assertRaises(WordsNotUnderstood, read_question, body)


class AnswerTests(SynchronousTestCase):
    """Answers."""

    def test_nodes(self) -> None:
        """Who lives there is told whole."""
        nodes = (a_node("a1", draining=True, faces={"udp": "192.0.2.7:5060"}), a_node("a2", weight=20, of="a"))
        self.assertEqual(read_nodes(nodes_answer(nodes)), nodes)
        self.assertEqual(read_nodes(nodes_answer(())), ())

    def test_too_many_nodes(self) -> None:
        """Of a site with more nodes than fit a body, as many are told as do."""
        for number, name in ((MOST_NODES + 50, "a"), (MOST_NODES, "a" * 200)):
            body = nodes_answer(a_node(f"{name}{one}") for one in range(number))
            self.assertLessEqual(len(body), MOST_BODY_BYTES)
            self.assertLessEqual(10, len(read_nodes(body)))
            self.assertLessEqual(len(read_nodes(body)), MOST_NODES)

    def test_large_site(self) -> None:
        """A hundred nodes that have a lot to say of themselves are all told."""
        faces = dict.fromkeys(("udp", "tcp", "tls", "ws", "wss"), "203.0.113.110:5061")
        nodes = tuple(a_node(f"registrar-fra-{one}", faces=faces, admin="http://192.168.100.111:8060",
                             of="registrar-fra", site="fra", capacity=20_000, connections=12_345)
                      for one in range(100, 240))
        self.assertEqual(read_nodes(nodes_answer(nodes)), nodes)

    def test_no_nodes(self) -> None:
        """What no node can have written in a lease is not taken for one."""
        for lease in ({"node": "a1"}, {"node": "a1", "epoch": -1, "host": "h", "port": 1},
                      {"node": "a1", "epoch": 1, "host": "h>", "port": 1}, "a1"):
            self.assertRaises(WordsNotUnderstood, read_nodes, msgspec.json.encode({"nodes": [lease]}))

    def test_record(self) -> None:
        """Bindings, or when the last was lost, arrive as they are."""
        for found in (Snapshot(1, (a_binding(path=("<sip:p@192.0.2.1;lr>",)), a_bound("sip:a@192.0.2.5", 7))),
                      Snapshot(1, (), NOW), Snapshot()):
            self.assertEqual(read_record(record_answer(found)), found)

    def test_long_record(self) -> None:
        """Of a record that does not fit the contacts that were refreshed last are told."""
        bindings = tuple(a_binding(f"sip:{'x' * 9000}@192.0.2.{number}", refreshed_at=NOW - number)
                         for number in range(10))
        body = record_answer(Snapshot(1, bindings[::-1]))
        self.assertLessEqual(len(body), MOST_BODY_BYTES)
        self.assertEqual(read_record(body).bindings, bindings[:4])

    def test_no_record(self) -> None:
        """What no node can have written is no record."""
        self.assertRaises(WordsNotUnderstood, read_record, msgspec.json.encode({"record": b"anything"}))
        self.assertEqual(CONTENT_TYPE.partition("/")[0], "application")
