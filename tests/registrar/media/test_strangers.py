"""Who knows something of a call that is not his: its Call-ID, or one of its tags. None of it moves or ends the call."""

from attrs import evolve

from registrar.media.calls import LOOK_SECONDS
from registrar.media.kept import call_key, value_of
from rollcall.sip.message import Request
from tests.flows import a_request
from tests.registrar.media.examples import a_session
from tests.registrar.media.redis_model import ModelRedis, ModelServer
from tests.registrar.media.scripted import CALL_ID, SDP_TYPE, MediaCase, address, sdp


class WithinTests(MediaCase):
    """Alice and Bob talk. Mallory has heard of their call."""

    def setUp(self) -> None:
        super().setUp()
        self.stands()
        self.mallory = self.network.phone("mallory")
        self.before = self.session

    def test_offers(self) -> None:
        """An offer with one tag of the call, or with none, is not told to its node, which would send him the sound."""
        for caller, callee in (("mallory", "bob"), ("alice", "mallory"), ("mallory", "alice"), ("mallory", "nobody")):
            for method in ("INVITE", "UPDATE", "PRACK"):
                self.receive(self._request(method, caller, callee), self.mallory.flow)
                self.bob.heard()
                self.assertEqual(address(self.bob.requests[method]), "phone", (caller, callee, method))
                self.answers_with(self.bob, 200, sdp("mallory"), method)
        self.assertEqual((self.nodes.told(), self.session), ([], self.before))

    def test_answers(self) -> None:
        """What he writes into an ACK within a dialog of his own, under the same Call-ID, is told to no node."""
        self.ok.set("To", "<sip:bob@example.com>;tag=carol")
        self.receive(self.from_alice("ACK", 1, sdp("mallory"), callee="carol"), self.alice.flow)
        self.assertEqual((self.nodes.told(), self.session, self.stranded), ([], self.before, []))

    def test_ends(self) -> None:
        """A BYE with one tag of the call ends nothing."""
        for number, (caller, callee) in enumerate((("mallory", "bob"), ("alice", "mallory"))):
            self.receive(self._request("BYE", caller, callee, f"bye{number}"), self.mallory.flow)
            self.bob.heard()
            self.answers_with(self.bob, 481, b"", "BYE")
        self.assertEqual((self.nodes.told(), self.session), ([], self.before))

    def _request(self, method: str, caller: str, callee: str, branch: str = "") -> Request:
        body = b"" if method == "BYE" else sdp("mallory")
        return a_request(
            method, branch=f"z9hG4bK{method}{caller}{callee}{branch}", cseq=7, headers=(SDP_TYPE,) if body else (),
            caller=f"<sip:mallory@elsewhere.example>;tag={caller}", callee=f"<sip:bob@example.com>;tag={callee}",
            body=body)


class RingingTests(MediaCase):
    """Bob has two phones, and a call rings at both."""

    def setUp(self) -> None:
        super().setUp()
        self.call_both()
        self.bobs_invite = self.carol.requests["INVITE"]

    def test_hangs_up(self) -> None:
        """A phone that only rings cannot end the call for the other one."""
        self.receive(self._from_carol("BYE"), self.carol.flow)
        self.alice.heard()
        self.answers_with(self.alice, 200, b"", "BYE")
        (ok,) = [answer for answer in self.answers_with(self.bob, 200) if answer.status == 200]
        self.assertEqual((address(ok), self.session.is_answered, self.stranded), ("m1", True, []))

    def test_offers_once_it_is_late(self) -> None:
        """A phone that has not got the call cannot lead its sound to itself."""
        self.answers_with(self.bob, 200)
        self.nodes.told()
        self.receive(self._from_carol("UPDATE"), self.carol.flow)
        self.alice.heard()
        self.answers_with(self.alice, 481, b"", "UPDATE")
        self.assertEqual(self.nodes.told(), [])

    def _from_carol(self, method: str) -> Request:
        request = self.from_bob(method, 1, b"" if method == "BYE" else sdp("carol"))
        request.set("From", "<sip:bob@example.com>;tag=carol")
        return request


class CallIdTests(MediaCase):
    """Another call has the same Call-ID."""

    def test_at_another_registrar(self) -> None:
        """A call that another registrar has led through a node already is led through none here."""
        server = ModelServer(self.registrar.clock.seconds)
        self.sessions._redis = redis = ModelRedis(server)
        until = self.registrar.clock.seconds() + 600
        server.kept[call_key(CALL_ID)] = value_of(a_session(call_id=CALL_ID, owner="n2:1", expires_at=until)), until
        self.call()
        while redis.asked or redis.replies:
            redis.reach_server()
            redis.reach_client()
        self.bob.heard()
        self.assertEqual((address(self.bob.requests["INVITE"]), self.nodes.told()), ("phone", []))

    def test_silent_redis(self) -> None:
        """A new call does not wait long for a Redis that does not answer, and its late answer changes nothing."""
        self.sessions._redis = redis = ModelRedis(ModelServer(self.registrar.clock.seconds))
        self.call()
        self.assertEqual(self.bob.heard(), [])
        self.layer.wait(LOOK_SECONDS + 0.1)
        self.assertEqual((self.bob.heard(), self.nodes.told()), (["INVITE"], ["m1 offer alice"]))
        while redis.asked or redis.replies:
            redis.reach_server()
            redis.reach_client()
        *_, ok = self.answers_with(self.bob, 200)
        self.assertEqual((ok.status, address(ok), self.session.is_answered), (200, "m1", True))

    def test_at_the_same_moment(self) -> None:
        """Of two calls that begin at once the one that was first counts; when the other ends the node keeps it."""
        self.nodes.holds = True
        self.call()
        again = a_request(branch="z9hG4bKagain", headers=(SDP_TYPE,), body=sdp("mallory"))
        self.receive(again, self.alice.flow)
        self.nodes.answer()
        self.nodes.answer()
        self.nodes.holds = False
        first = self.session
        self.assertEqual(first.caller.sdp, sdp("alice"))
        self.nodes.told()
        self.assertEqual(self.bob.heard(), ["INVITE", "INVITE"])
        self.answers_with(self.bob, 486, b"")
        self.assertEqual((self.nodes.told(), self.session), (["m1 delete alice"], first))

    def test_changes(self) -> None:
        """What passes within a call that has ended does not change the next one of its Call-ID."""
        self.stands()
        self.ask(self.from_alice("INVITE", body=sdp("alice", 2)))
        self.bob.heard()
        other = evolve(self.session, id="another")
        self.sessions._keep(other)
        self.answers_with(self.bob, 200, sdp("bob", 2))
        self.assertEqual(self.session, other)


class SpiralTests(MediaCase):
    """A request within a call comes past us a second time."""

    def test_offer(self) -> None:
        """Its description is the node's already."""
        self.stands()
        request = self.from_alice("INVITE", body=sdp("alice", 2))
        mine = self.ok_via()
        request.set_values("Via", [*request.values("Via"), mine, "nonsense"])
        self.receive(request, self.alice.flow)
        self.bob.heard()
        self.assertEqual((address(self.bob.requests["INVITE"]), self.nodes.told()), ("phone", []))

    def ok_via(self) -> str:
        """Return the Via that we have given Bob."""
        return self.bobs_invite.values("Via")[0].replace("branch=", "branch=z9hG4bKbefore;x=")
