"""What nodes of different sites say to each other: a question as an OPTIONS with a JSON body, and its answer.

    {}                                       who lives there?
    {"aor": base64 of "bob@example.com"}     what is bound there?

    {"nodes": [leases]}                      see rollcall.cluster.nodes
    {"record": base64, empty: nothing}       see registrar.location.shared_form

Both come over connections between members only, and are read as if a stranger had written them all the same.
"""

from collections.abc import Iterable
from typing import TypeVar

import msgspec

from registrar.location.contract import Snapshot
from registrar.location.shared_form import snapshot_of, value_of
from rollcall.cluster.nodes import Node, decode_lease, encode_lease
from rollcall.net.flow import Flow
from rollcall.sip.chance import random_name
from rollcall.sip.forwarding import loop_mark, new_branch
from rollcall.sip.message import Request

METHOD = "OPTIONS"

CONTENT_TYPE = "application/vnd.rollcall.site+json"

MOST_BODY_BYTES = 60_000
"""Of a question or an answer: it fits what members take from each other, whatever phones may send."""

MOST_RECORD_BYTES = 40_000
"""Of a record, which grows by a third in base64."""

MOST_NODES = 256
"""Of one site, if their leases fit."""

MOST_NODES_BYTES = 58_000
"""Of all leases: those of 140 nodes with five listeners each."""


class WordsNotUnderstood(ValueError):
    """A question or an answer is none; says why."""


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node of another site wants to know."""

    aor: bytes | None = None
    """The key of a record, see `registrar.records.record_key`; None: who lives there."""


class Answer(msgspec.Struct, frozen=True):
    """What it is told."""

    nodes: list[msgspec.Raw] = []
    record: bytes = b""


Struct = TypeVar("Struct", Question, Answer)

_QUESTIONS = msgspec.json.Decoder(Question)
_ANSWERS = msgspec.json.Decoder(Answer)


def question_request(question: Question, site: str, flow: Flow, worker: int) -> tuple[Request, str]:
    """Return a question as a request that leaves over `flow`, and its branch."""
    me, there = f"sip:site@{_host_port(flow)}", f"sip:site@{site}.invalid"
    request = Request.new(METHOD, there, [
        ("Max-Forwards", "1"), ("From", f"<{me}>;tag={random_name()}"), ("To", f"<{there}>"),
        ("Call-ID", random_name()), ("CSeq", f"1 {METHOD}"), ("Content-Type", CONTENT_TYPE),
    ], msgspec.json.encode(question))
    branch = new_branch(loop_mark(request), worker)
    request.prepend("Via", f"SIP/2.0/{flow.transport} {_host_port(flow)};branch={branch}")
    return request, branch


def is_question(request: Request, flow: Flow) -> bool:
    """Say whether a member asks us, and does not send on what a phone has said: that has a Route (RFC 5626 §5.3)."""
    return (bool(flow.member) and request.method == METHOD and request.get("Content-Type") == CONTENT_TYPE
            and request.get("Route") is None)


def read_question(body: bytes) -> Question:
    """Return what is asked. Raises WordsNotUnderstood."""
    return _decoded(_QUESTIONS, body)


def nodes_answer(nodes: Iterable[Node]) -> bytes:
    """Return the answer to who lives here; of nodes beyond what fits nothing is said."""
    told: list[msgspec.Raw] = []
    size = 0
    for node in nodes:
        lease = encode_lease(node)
        size += len(lease) + 1
        if size > MOST_NODES_BYTES or len(told) >= MOST_NODES:
            break
        told.append(msgspec.Raw(lease))
    return msgspec.json.encode(Answer(nodes=told))


def record_answer(found: Snapshot) -> bytes:
    """Return the answer to what is bound here: of a record that is too long the contacts that were refreshed last."""
    bindings = sorted(found.bindings, key=lambda binding: -binding.refreshed_at)
    if not bindings and not found.lost_at:
        return msgspec.json.encode(Answer())
    while len(value := value_of(Snapshot(1, tuple(bindings), found.lost_at))) > MOST_RECORD_BYTES:
        bindings.pop()
    return msgspec.json.encode(Answer(record=value))


def read_nodes(body: bytes) -> tuple[Node, ...]:
    """Return who lives there. Raises WordsNotUnderstood."""
    raw = _decoded(_ANSWERS, body).nodes[:MOST_NODES]
    try:
        leases = [decode_lease(bytes(each)) for each in raw]
    except ValueError as problem:
        raise WordsNotUnderstood(str(problem)) from problem
    return tuple(lease for lease in leases if isinstance(lease, Node))


def read_record(body: bytes) -> Snapshot:
    """Return what is bound there. Raises WordsNotUnderstood."""
    record = _decoded(_ANSWERS, body).record
    found = snapshot_of(record) if record else Snapshot()
    if found is None:
        raise WordsNotUnderstood("what is bound there cannot be read")
    return found


def _decoded(decoder: "msgspec.json.Decoder[Struct]", body: bytes) -> Struct:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise WordsNotUnderstood(str(problem)) from problem


def _host_port(flow: Flow) -> str:
    listener = flow.listener
    assert listener is not None, "a member's connection has a listener"
    return f"{listener.host}:{listener.port}"
