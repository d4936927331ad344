"""A SUBSCRIBE within a dialog that comes to another node than the one that has the subscription."""

from registrar.regevent.passing import ToMembers
from rollcall.net.flow import ConnectFailed, Flow
from rollcall.sip.message import Request
from tests.flows import an_answer
from tests.registrar.joined import EPOCH, NODE
from tests.registrar.regevent.case import EventsCase, Subscriber

OTHER = ("n2", 7)


class PassingTests(EventsCase):
    """The subscription is on n2; Alice's refresh comes to n1."""

    def setUp(self) -> None:
        super().setUp()
        self.dead = {("n1", EPOCH - 1)}
        self.member = self.network.phone("n2")
        self.is_reachable = True
        passing = ToMembers(lambda node, epoch: (node, epoch) not in self.dead, self.flow_to, self.delivery(),
                            lambda: 17)
        self.ours, self.theirs = self.made(NODE, EPOCH, passing), self.made(*OTHER)
        self.alice = self.subscribed_there()

    async def flow_to(self, node: str, epoch: int) -> Flow:
        """Return the connection to n2."""
        self.assertEqual((node, epoch), OTHER)
        if not self.is_reachable:
            raise ConnectFailed("n2 is far")
        return self.member.flow

    def subscribed_there(self) -> Subscriber:
        """Let Alice subscribe at n2, and then speak to n1."""
        self.registrar.requests.serve_events(self.theirs)
        alice = self.watching()
        self.registrar.requests.serve_events(self.ours)
        return alice

    def refresh(self, max_forwards: int = 70) -> Request:
        """Let Alice refresh at n1."""
        request = self.alice.a_subscribe(("Expires", "600"), max_forwards=max_forwards)
        self.alice.answer = None
        self.alice.phone.receive_whole(request.serialise())
        return request

    def answered(self) -> int:
        """Return the status that Alice got."""
        self.alice.look()
        assert self.alice.answer is not None
        return self.alice.answer.status

    def test_passed_on(self) -> None:
        """It goes to that node as it is, one hop further, and the answer goes back to the subscriber."""
        sent = self.refresh()
        self.assertEqual(self.member.heard(), ["SUBSCRIBE"])
        passed = self.member.requests["SUBSCRIBE"]
        self.assertEqual((passed.uri, passed.get("To"), passed.get("Max-Forwards")),
                         (sent.uri, sent.get("To"), "69"))
        self.assertEqual((len(passed.values("Via")), passed.get("Record-Route")), (2, None))
        self.member.answer(200, "SUBSCRIBE", headers=(("Expires", "600"), ("Contact", "<sip:there@192.0.2.1>")))
        self.assertEqual(self.answered(), 200)
        assert self.alice.answer is not None
        self.assertEqual(len(self.alice.answer.values("Via")), 1)

    def test_at_the_owner(self) -> None:
        """There it is an ordinary refresh, and the NOTIFY still goes to the subscriber, not to the node in between."""
        self.refresh()
        self.member.heard()
        passed = self.member.requests["SUBSCRIBE"]
        self.registrar.requests.serve_events(self.theirs)
        self.registrar.requests.message_received(passed.serialise(), self.member.flow)
        answer = self.member.flow.take_response()
        self.assertEqual((answer.status, answer.get("Expires")), (200, "600"))
        self.assertEqual(len(self.alice.told()), 1)
        self.assertEqual(self.alice.table.version, 1)

    def test_through_an_outbound_proxy(self) -> None:
        """The Route by which a phone reaches us is not one for the other node."""
        self.alice.phone.receive_whole(self.alice.a_subscribe(("Route", "<sip:192.0.2.1;lr>")).serialise())
        self.assertEqual(self.member.heard(), ["SUBSCRIBE"])
        self.assertEqual(self.member.requests["SUBSCRIBE"].get_all("Route"), [])

    def test_what_members_may_not(self) -> None:
        """Over a connection of a member nothing begins, and nothing is passed on once more."""
        self.member.flow.member = "n2"
        begun = self.alice.a_subscribe(callee="<sip:alice@example.com>")
        begun.uri = "sip:alice@example.com"
        for request, status in ((begun, 403), (self.alice.a_subscribe(), 481)):
            self.registrar.requests.message_received(request.serialise(), self.member.flow)
            self.assertEqual(self.member.flow.take_response().status, status)

    def test_challenge(self) -> None:
        """Its challenge goes back as well."""
        self.refresh()
        self.member.heard()
        challenge = ("WWW-Authenticate", 'Digest realm="example.com", nonce="1"')
        self.member.reply(an_answer(self.member.requests["SUBSCRIBE"], 401, headers=(challenge,)))
        self.assertEqual(self.answered(), 401)
        assert self.alice.answer is not None
        self.assertEqual(self.alice.answer.get("WWW-Authenticate"), challenge[1])

    def test_dead_node(self) -> None:
        """The subscriptions of a node that has died are gone, and those of our own last life."""
        self.dead.add(OTHER)
        self.refresh()
        self.assertEqual((self.answered(), self.member.heard()), (481, []))

    def test_own_last_life(self) -> None:
        """What we had before we were restarted is gone."""
        self.registrar.requests.serve_events(self.made("n1", EPOCH - 1))
        self.alice = self.watching()
        self.registrar.requests.serve_events(self.ours)
        self.refresh()
        self.assertEqual(self.answered(), 481)

    def test_unreachable(self) -> None:
        """While it lives but cannot be reached, the subscriber is to ask again."""
        self.is_reachable = False
        self.refresh()
        self.assertEqual(self.answered(), 503)

    def test_no_answer(self) -> None:
        """The same when it does not answer."""
        self.refresh()
        self.lose(self.member.flow)
        self.assertEqual(self.answered(), 503)

    def test_too_many_hops(self) -> None:
        """A request that may go no further does not."""
        self.refresh(max_forwards=0)
        self.assertEqual((self.answered(), self.member.heard()), (483, []))

    def test_without_a_cluster(self) -> None:
        """A registrar that knows no other nodes has no such subscription."""
        self.registrar.requests.serve_events(self.made(NODE, EPOCH))
        self.refresh()
        self.assertEqual(self.answered(), 481)
