"""Answers that come to another node than the one that asked.

A phone whose connection breaks while it rings is waited for: it may answer over a new connection (RFC 3261 §18.2.2),
and that may be one to another node. Who has asked, the topmost Via says by the address that phones reach him by.

What strangers send is not passed on: nobody has asked them, and they may send without end.
"""

from collections.abc import Callable, Iterable

from twisted.logger import Logger
from twisted.python.failure import Failure

from registrar.sending import MemberFlows
from rollcall.cluster.nodes import Node
from rollcall.net.flow import ConnectFailed, Flow, FlowClosed
from rollcall.ops.coroutines import start
from rollcall.sip.forwarding import worker_of
from rollcall.sip.headers import parse_via
from rollcall.sip.message import Response

MAX_ASKED = 16
"""Nodes may share an address, that of a load-balancer before them; then each of so many gets the answer."""

HandOver = Callable[[str, Response, Flow], bool]


class Strays:
    """Gives answers to the node that they are for."""

    _log = Logger()

    def __init__(self, me: str, nodes: Callable[[], Iterable[Node]], members: MemberFlows,
                 admits: Callable[[Flow], bool], otherwise: HandOver) -> None:
        """`me` is our node, `nodes` are all that live; `admits` counts an answer that is passed on.

        One for none of them, and one of a stranger, is left to `otherwise`.
        """
        self._me = me
        self._nodes = nodes
        self._members = members
        self._admits = admits
        self._otherwise = otherwise

    def hand_over(self, branch: str, response: Response, flow: Flow) -> bool:
        """Give a response that we did not wait for to whoever may; False when that is nobody.

        What a node has sent us goes no further, and what comes over a connection on which nobody has registered.
        """
        if flow.member:
            return False
        if not flow.bound:
            return self._otherwise(branch, response, flow)
        sent_by = parse_via(response.first_value("Via") or "").sent_by.lower()
        meant = [node for node in self._nodes() if node.node != self._me and sent_by in node.faces.values()
                 and _worker(node) == worker_of(branch)]
        if not meant:
            return self._otherwise(branch, response, flow)
        if not self._admits(flow):
            return False
        data = response.serialise()
        for node in meant[:MAX_ASKED]:
            start(self._pass_on(node, data), self._broke)
        return True

    async def _pass_on(self, node: Node, data: bytes) -> None:
        try:
            (await self._members.flow(node.node, node.epoch, node.host, node.port)).write(data)
        except (ConnectFailed, FlowClosed) as problem:
            self._log.info("an answer for {node} was lost: {problem}", node=node.node, problem=str(problem),
                           log_rationed=True)

    def _broke(self, failure: Failure) -> None:
        self._log.failure("while an answer was passed on", failure)


def _worker(node: Node) -> int:
    """Return which worker of its registrar a node is, 0 for the only one."""
    number = node.node.rpartition("-")[2]
    return int(number) if node.of and number.isdigit() else 0
