"""Workers among each other: connections, responses and datagrams that another worker has, or should have."""

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from registrar.location.contract import Snapshot
from registrar.records import record_key
from registrar.workers.hub import NoAnswer
from registrar.workers.messages import Drain, GiveBack, Granted, Passed, Write, encode
from rollcall.net.flow import Flow, FlowClosed
from rollcall.net.remote import RemoteFlow
from rollcall.net.transactions import ClientTransaction
from rollcall.ops.api import ApiError, Call, Reply
from rollcall.sip.forwarding import new_branch
from rollcall.sip.transaction import cancellation
from tests.flows import MemoryFlow, a_flow, a_request, an_answer
from tests.layers import RecordingClient
from tests.registrar.examples import ALICE, NOW, A, B, a_binding, over_tcp
from tests.registrar.workers.joined import WorkerInMemory, Workers

KEY = record_key(ALICE)


class WorkersCase(SynchronousTestCase):
    """Two workers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW)
        self.workers = Workers(self.clock)
        self.one, self.two = self.workers.start(1), self.workers.start(2)

    def remote(self, flow: MemoryFlow) -> RemoteFlow:
        """Return a connection of worker 2 as worker 1 sees it."""
        found = self.one.siblings.flow("n-2", self.two.membership.me.epoch, flow.id, "TCP", "tcp", flow.peer)
        assert isinstance(found, RemoteFlow)
        return found


class FlowTests(WorkersCase):
    def test_written(self) -> None:
        """What is written to a connection of another worker leaves over it."""
        phone = self.two.phone()
        remote = self.remote(phone)
        self.assertEqual((remote.listener, remote.peer, remote.transport), (phone.listener, phone.peer, "TCP"))
        remote.write(b"hello")
        self.workers.deliver()
        self.assertEqual(phone.written, [b"hello"])

    def test_unknown(self) -> None:
        """A worker that does not live, or not in that life, has no connections; its name is known all the same."""
        siblings, epoch = self.one.siblings, self.two.membership.me.epoch
        self.assertIsNone(siblings.flow("n-2", epoch + 1, 7, "TCP", "tcp"))
        self.assertIsNone(siblings.flow("n-3", epoch, 7, "TCP", "tcp"))
        self.assertTrue(siblings.knows("n-3"))
        for other in ("n-1", "m-2", "n-two", "n", ""):
            self.assertFalse(siblings.knows(other), other)

    def test_already_gone(self) -> None:
        """A request over a connection that has ended meanwhile fails, as if it had been ours."""
        phone = self.two.phone()
        remote, user = self.remote(phone), RecordingClient()
        phone.close("lost")
        self.send(remote, user)
        self.workers.deliver()
        self.assertEqual((user.failures, remote.is_open), (["broken flow"], False))
        self.assertRaises(FlowClosed, remote.write, b"more")

    def send(self, flow: Flow, user: RecordingClient, method: str = "MESSAGE") -> ClientTransaction:
        """Send a request from worker 1."""
        branch = new_branch("m", 1)
        return self.one.layer.transactions.send(a_request(method, branch=branch), branch, flow, user)

    def test_ends_while_waiting(self) -> None:
        """Whoever waits for an answer over a connection hears of its end; until then it is held."""
        phone = self.two.phone()
        user = RecordingClient()
        self.send(self.remote(phone), user)
        self.workers.deliver()
        self.assertEqual((phone.holds, self.two.siblings.held_here), (1, 1))
        self.two.lose(phone)
        self.workers.deliver()
        self.assertEqual((user.failures, self.two.user.closed), (["broken flow"], [phone]))
        self.assertEqual(self.two.siblings.held_here, 0)

    def test_let_go(self) -> None:
        """A connection is held until the last of the other worker's conversations over it is over."""
        phone = self.two.phone()
        remote = self.remote(phone)
        first, second = (self.send(remote, RecordingClient()) for _ in range(2))
        self.workers.deliver()
        first.abandon()
        self.workers.deliver()
        self.assertEqual(phone.holds, 1)
        second.abandon()
        self.workers.deliver()
        self.assertEqual((phone.holds, self.two.siblings.held_here), (0, 0))

    def test_worker_ends(self) -> None:
        """When a worker ends, requests over its connections fail, and what it held is let go of."""
        theirs, ours, user = self.two.phone(), self.one.phone(), RecordingClient()
        remote = self.remote(theirs)
        self.send(remote, user)
        back = self.two.siblings.flow("n-1", self.one.membership.me.epoch, ours.id, "TCP", "tcp")
        assert isinstance(back, RemoteFlow)
        back.holds += 1
        self.workers.deliver()
        self.assertEqual(ours.holds, 1)
        self.workers.end(2)
        self.assertEqual((user.failures, remote.is_open, ours.holds), (["broken flow"], False, 0))
        self.workers.start(2)
        self.assertRaises(FlowClosed, remote.write, b"more")

    def test_earlier_life(self) -> None:
        """What was on its way to a worker that has ended does not reach the next one of its number."""
        phone = self.two.phone()
        remote = self.remote(phone)
        self.workers.end(2)
        again = self.workers.start(2)
        again.transports.flows[phone.id] = phone
        message = Passed(2, remote.epoch, encode(Write(phone.id, b"for somebody else")))
        self.one.membership.link.send(message)
        self.workers.deliver()
        self.assertEqual(phone.written, [])

    def test_behind(self) -> None:
        """While the supervisor does not keep up, connections of others cannot be written to."""
        remote = self.remote(self.two.phone())
        self.one.membership.link.pauseProducing()
        remote.write(b"x" * 1_000_001)
        self.assertTrue(self.one.membership.is_behind)
        self.assertRaises(FlowClosed, remote.write, b"more")
        self.one.membership.link.resumeProducing()
        remote.write(b"more")


class ResponseTests(WorkersCase):
    def answered(self, flow: MemoryFlow, branch: str) -> bool:
        """Let worker 2 get a response; say whether it dropped it."""
        self.two.layer.answer(an_answer(a_request(branch=branch), 180), flow)
        return not self.two.wire.waiting

    def test_handed_over(self) -> None:
        """A response goes to the worker that its branch names, be it a datagram or over a connection."""
        user = RecordingClient()
        for flow in (a_flow("UDP"), self.two.phone()):
            branch = new_branch("m", 1)
            self.one.layer.transactions.send(a_request(branch=branch), branch, a_flow("UDP"), user)
            self.assertFalse(self.answered(flow, branch))
            self.workers.deliver()
        self.assertEqual(user.statuses, [180, 180])

    def test_nobodys(self) -> None:
        """A response that names no living worker, or the one it came to, is dropped; nothing goes round in circles."""
        for branch in (new_branch("m"), new_branch("m", 2), new_branch("m", 3)):
            self.assertTrue(self.answered(a_flow("UDP"), branch))
        self.assertFalse(self.answered(a_flow("UDP"), new_branch("m", 1)))
        self.workers.deliver()
        self.assertEqual(len(self.one.layer.transactions), 0)


class DatagramTests(WorkersCase):
    def setUp(self) -> None:
        super().setUp()
        self.peer = a_flow("UDP")
        self.invite = a_request("INVITE", branch="z9hG4bK-in")

    def received(self, worker: WorkerInMemory) -> list[str]:
        """Return the first words of what a worker's user has got."""
        self.workers.deliver()
        received, worker.user.received = worker.user.received, []
        return [data.split()[0].decode() for data, _ in received]

    def test_cancel_elsewhere(self) -> None:
        """A CANCEL is shown to the worker that has the INVITE; the one it came to has its own say, too."""
        self.one.layer.arrive(self.invite, self.peer)
        cancel = cancellation(self.invite).serialise()
        self.two.receiving.message_received(cancel, self.peer)
        self.assertEqual((self.received(self.one), self.received(self.two)), (["CANCEL"], ["CANCEL"]))

    def test_cancel_here(self) -> None:
        """A CANCEL of what is here, or one that nobody knows, is nobody else's."""
        self.two.layer.arrive(self.invite, self.peer)
        for branch in ("z9hG4bK-in", "z9hG4bK-unknown"):
            cancel = cancellation(a_request("INVITE", branch=branch)).serialise()
            self.two.receiving.message_received(cancel, self.peer)
        self.assertEqual((self.received(self.one), self.received(self.two)), ([], ["CANCEL", "CANCEL"]))

    def test_ending(self) -> None:
        """A worker that is about to end keeps what belongs to what it has begun, and passes on what is new."""
        self.two.layer.arrive(self.invite, self.peer)
        receiving = self.two.receiving
        self.assertEqual(receiving.datagram_short_way(None, None, b"", 0.0), b"short")  # type: ignore[arg-type]
        receiving.pass_on()
        self.assertIsNone(receiving.datagram_short_way(None, None, b"", 0.0))  # type: ignore[arg-type]
        new = a_request("MESSAGE", branch="z9hG4bK-new")
        for data in (self.invite.serialise(), new.serialise(), an_answer(self.invite, 200).serialise(), b"nonsense"):
            receiving.message_received(data, self.peer)
        receiving.message_received(new.serialise(), self.two.phone())
        self.assertEqual(self.received(self.two), ["INVITE", "SIP/2.0", "nonsense", "MESSAGE"])
        ((data, flow),) = self.one.user.received
        self.assertEqual((data, flow.peer, cast(MemoryFlow, flow).transport), (new.serialise(), self.peer.peer, "UDP"))

    def test_last_one(self) -> None:
        """The last worker keeps everything, though it is about to end."""
        self.workers.end(1)
        self.two.receiving.pass_on()
        self.two.receiving.message_received(a_request("MESSAGE").serialise(), self.peer)
        self.assertEqual(self.received(self.two), ["MESSAGE"])


class RecordTests(WorkersCase):
    def load(self, worker: WorkerInMemory) -> Snapshot:
        """Return what a worker finds."""
        loading = Deferred.fromCoroutine(worker.location.load(ALICE))
        self.workers.deliver()
        return self.successResultOf(loading)

    def add(self, worker: WorkerInMemory, flow: MemoryFlow, contact: str) -> None:
        """Bind a contact to a connection of a worker."""
        me, old = worker.membership.me, self.load(worker)
        source = over_tcp(flow.id, me.node, me.epoch)
        binding = a_binding(contact, source=source, connection_bound=True)
        flow.bound = KEY
        self.successResultOf(Deferred.fromCoroutine(
            worker.location.save(ALICE, old.followed_by((*old.bindings, binding)))))

    def test_moves(self) -> None:
        """A record goes through the hub to the worker that asks for it."""
        self.add(self.one, self.one.phone(), A)
        self.add(self.two, self.two.phone(), B)
        self.assertEqual([binding.contact for binding in self.load(self.one).bindings], [A, B])
        self.assertEqual(self.workers.hub.directory.holder(KEY), 1)

    def test_together(self) -> None:
        """What is needed in one turn is asked for and granted together, and what must be released in its order."""
        loading = [Deferred.fromCoroutine(self.one.location.load(f"sip:{number}@example.com")) for number in range(9)]
        before = self.workers.hub.messages
        self.workers.deliver()
        for each in loading:
            self.successResultOf(each)
        self.assertEqual(self.workers.hub.messages - before, 2)
        theirs = [Deferred.fromCoroutine(self.two.location.load(f"sip:{number}@example.com")) for number in range(9)]
        back = [Deferred.fromCoroutine(self.one.location.load(f"sip:{number}@example.com")) for number in range(9)]
        self.workers.deliver()
        for each in (*theirs, *back):
            self.successResultOf(each)

    def test_broken_record(self) -> None:
        """In the place of a record that cannot be understood is what the file has, here nothing; the log says so."""
        loading = [Deferred.fromCoroutine(self.one.location.load(aor)) for aor in (ALICE, "sip:bob@example.com")]
        with capturedLogs() as events:
            self.one.membership._received(Granted(((KEY, (1, "[{")), (b"bob@example.com", (1, "[]")))))
        for each in loading:
            self.assertEqual(self.successResultOf(each).bindings, ())
        self.assertEqual(len(events), 1)

    def test_superseded(self) -> None:
        """A connection of the other worker that lost its last binding is closed there, unless somebody waits on it."""
        free, held = self.one.phone(), self.one.phone()
        held.holds = 1
        self.add(self.one, free, A)
        self.add(self.one, held, B)
        kept = self.load(self.two)
        self.successResultOf(Deferred.fromCoroutine(self.two.location.save(ALICE, kept.followed_by(()))))
        self.workers.deliver()
        self.assertEqual((free.is_open, free.bound, held.is_open, held.bound), (False, None, True, None))

    def test_holder_ends(self) -> None:
        """A connection whose record ended with another worker is closed, so that its phone comes back."""
        phone = self.one.phone()
        self.add(self.one, phone, A)
        self.load(self.two)
        with capturedLogs() as events:
            self.workers.end(2)
        self.assertFalse(phone.is_open)
        self.assertEqual([event["count"] for event in events if "worker" in event], [1])

    def test_owner_ends(self) -> None:
        """What lived on connections of a worker that ended is gone from records that others hold."""
        self.add(self.one, self.one.phone(), A)
        self.add(self.two, self.two.phone(), B)
        self.workers.end(1)
        self.assertEqual([binding.contact for binding in self.load(self.two).bindings], [B])


class AskingTests(WorkersCase):
    def ask(self, index: int, path: str) -> "Deferred[tuple[int, bytes]]":
        """Ask a worker, and have it answer."""
        asking = self.workers.hub.ask(index, path, {"size": "3"})
        answered: Deferred[tuple[int, bytes]] = asking.addCallback(lambda answer: (answer.status, answer.content))
        self.workers.deliver()
        return answered

    def test_answers(self) -> None:
        """A worker answers as an admin site would: at once or later, well or not."""
        later: Deferred[Reply] = Deferred()

        async def answer_later(call: Call) -> Reply:
            return await later

        def refuse(call: Call) -> Reply:
            raise ApiError(410, "over")

        def fail(call: Call) -> Reply:
            raise RuntimeError("broken")

        self.one.routes.get("/now", lambda call: {"size": call.text("size")})
        self.one.routes.get("/later", answer_later)
        self.one.routes.get("/refused", refuse)
        self.one.routes.get("/broken", fail)
        self.assertEqual(self.successResultOf(self.ask(1, "/now")), (200, b'{"size":"3"}\n'))
        asking = self.ask(1, "/later")
        self.assertNoResult(asking)
        later.callback(Reply(b"page", content_type="text/plain"))
        self.workers.deliver()
        self.assertEqual(self.successResultOf(asking), (200, b"page"))
        self.assertEqual(self.successResultOf(self.ask(1, "/refused")), (410, b'{"error":"over"}\n'))
        self.assertEqual(self.successResultOf(self.ask(1, "/nothing"))[0], 404)
        self.assertEqual(self.successResultOf(self.ask(1, "/broken")), (500, b""))
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_no_answer(self) -> None:
        """Whoever asks a worker that is not there, that ends, or that takes too long, is told so."""
        self.assertRaises(NoAnswer, self.workers.hub.ask, 3, "/now")
        slow, ending = self.workers.hub.ask(1, "/now"), self.workers.hub.ask(2, "/now")
        self.workers.hub.leave(2)
        self.failureResultOf(ending, NoAnswer)
        self.clock.advance(5.1)
        self.failureResultOf(slow, NoAnswer)
        self.workers.deliver()

    def test_drain(self) -> None:
        """A worker hears that it shall end."""
        self.workers.hub.send(1, Drain())
        self.workers.deliver()
        self.assertEqual((self.one.drained, self.two.drained), (1, 0))

    def test_state(self) -> None:
        """The supervisor hears how each worker is, and that a link is gone."""
        self.assertEqual(self.workers.hub.not_ready(1), "starting")
        for state in ("bindings cannot be written", None):
            self.one.membership.tell_state(state)
            self.workers.deliver()
            self.assertEqual(self.workers.hub.not_ready(1), state)
        self.one.far_link.connectionLost()
        self.assertEqual((self.workers.hub.not_ready(1), self.workers.changed), ("ending", [1, 1, 1]))
        self.one.membership.link.connectionLost()
        self.assertTrue(self.one.is_alone)

    def test_many_at_once(self) -> None:
        """What is said in heaps is done in its order, and not all in one turn of the reactor."""
        done: list[str] = []

        def slow(call: Call) -> object:
            done.append(str(call.text("number")))
            self.clock.rightNow += 0.004
            return {}

        self.one.routes.get("/slow", slow)
        for number in range(7):
            self.workers.hub.ask(1, "/slow", {"number": str(number)})
        self.workers.pass_on()
        self.assertEqual(done, ["0", "1", "2"])
        self.workers.hub.ask(1, "/slow", {"number": "7"})
        self.workers.pass_on()
        self.assertEqual(len(done), 3)
        self.clock.advance(0)
        self.assertEqual(done[3:], ["3", "4", "5", "6", "7"])

    def test_misplaced(self) -> None:
        """What is not for whom it came to is logged and dropped."""
        with capturedLogs() as events:
            self.one.membership.link.send(Drain())
            self.workers.hub.send(1, GiveBack(()))
            self.one.siblings.received(Drain(), 2)
            self.workers.deliver()
        self.assertEqual(len([event for event in events if event["log_level"].name == "critical"]), 3)
