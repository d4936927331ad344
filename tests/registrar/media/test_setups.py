"""Tests of calls that are set up through media nodes: which node, which description, in which order (RFC 3264)."""

from attrs import evolve

from registrar.media.session import Session
from registrar.media.timers import GRACE_SECONDS
from rollcall.media.snapshot import DEFAULT_GROUP, Quality, Rule
from rollcall.sip.transaction import cancellation
from tests.flows import a_request
from tests.registrar.media.scripted import CALL_ID, MediaCase, a_node, a_node_in, address, sdp

WEBRTC = sdp("alice", media="audio 9 UDP/TLS/RTP/SAVPF 111 0")


class SetupTests(MediaCase):
    """Alice calls Bob."""

    def test_offer_and_answer(self) -> None:
        """Both phones get the node's address, whichever of them reads; the call is known with both of its sides."""
        self.assertEqual([answer.status for answer in self.call()], [100])
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.assertEqual(address(self.bob.requests["INVITE"]), "m1")
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((ok.status, address(ok), ok.get("Content-Length")), (200, "m1", str(len(ok.body))))
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m1 answer alice bob"])
        session = self.session
        self.assertEqual((session.node, session.caller.sdp, session.callee.sdp), ("m1", sdp("alice"), sdp("bob")))
        self.assertEqual((session.caller.tag, session.callee.tag, session.is_answered), ("alice", "bob", True))
        self.assertEqual((session.caller.group, session.callee.group), ("net/192.0.2.20", "net/192.0.2.4"))
        self.assertEqual(session.callee.routes, tuple(ok.values("Record-Route")))

    def test_the_same_branch(self) -> None:
        """The node hears offer and answer with one branch, and of the offer nothing that only an answer tells."""
        self.call()
        self.answers_with(self.bob, 200)
        offer, answer = self.nodes.arguments
        self.assertEqual((offer["via-branch"], offer["call-id"]), (answer["via-branch"], CALL_ID))
        self.assertEqual((offer["sdp"], answer["sdp"]), (sdp("alice"), sdp("bob")))
        self.assertNotIn("to-tag", offer)

    def test_early_media(self) -> None:
        """What a phone says when it rings is told to the node, too, and again when it answers."""
        self.call()
        (progress,) = self.answers_with(self.bob, 183)
        self.assertEqual((progress.status, address(progress)), (183, "m1"))
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual(address(ok), "m1")
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m1 answer alice bob", "m1 answer alice bob"])

    def test_answers_keep_their_order(self) -> None:
        """A 200 that comes while the node thinks about the 183 waits for it."""
        self.call()
        self.nodes.holds = True
        self.assertEqual(self.answers_with(self.bob, 183), [])
        self.assertEqual(self.answers_with(self.bob, 200), [])
        self.nodes.answer()
        self.assertEqual([answer.status for answer in self.answers()], [183])
        self.nodes.answer()
        self.assertEqual([answer.status for answer in self.answers()], [200])

    def test_said_again(self) -> None:
        """A 200 that comes again is the same again, and takes nothing back of what has become of the call since."""
        self.stands()
        session = evolve(self.session, node="m2", address="m2:22222", callee=self.session.callee.with_request(7))
        self.sessions._keep(session)
        body, self.nodes.dead = self.ok.body, {"m1"}
        self.bob.requests["INVITE"] = self.bobs_invite
        (again,) = self.answers_with(self.bob, 200)
        self.assertEqual((again.status, again.body, self.nodes.told()), (200, body, []))
        self.assertEqual((self.session, self.stranded), (session, []))

    def test_an_answer_that_waits_is_an_answer(self) -> None:
        """While the node thinks about one phone's 200, the refusal of the last other phone does not end the call."""
        carol = self.network.phone("carol")
        self.bind(self.bound(self.bob), self.bound(carol))
        self.call()
        carol.heard()
        self.nodes.holds = True
        self.answers_with(self.bob, 200)
        self.assertEqual(self.answers_with(carol, 486, b""), [])
        self.nodes.answer()
        self.assertEqual([answer.status for answer in self.answers()], [200])

    def test_answer_without_description(self) -> None:
        """A ringing phone that says nothing of media is passed on without a word to the node."""
        self.call()
        self.nodes.told()
        (ringing,) = self.answers_with(self.bob, 180, b"")
        self.assertEqual((ringing.status, self.nodes.told()), (180, []))

    def test_refused(self) -> None:
        """The node forgets a call that the phone refuses, and so do we."""
        self.call()
        (busy,) = self.answers_with(self.bob, 486, b"")
        self.assertEqual(busy.status, 486)
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m1 delete"])
        self.assertIsNone(self.sessions.known(CALL_ID))

    def test_cancelled(self) -> None:
        """The node forgets a call that its caller gives up."""
        self.call()
        self.answers_with(self.bob, 180, b"")
        self.ask(cancellation(self.invite))
        self.assertEqual(self.bob.heard(), ["CANCEL"])
        self.answers_with(self.bob, 487, b"")
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m1 delete"])
        self.assertEqual(len(self.sessions), 0)

    def test_cancelled_while_the_node_thinks(self) -> None:
        """No phone rings for a caller who gave up before the node answered, and the node is told."""
        self.nodes.holds = True
        self.call()
        answers = self.ask(cancellation(self.invite))
        self.assertEqual([answer.status for answer in answers], [200, 487])
        self.nodes.holds = False
        self.nodes.answer()
        self.assertEqual(self.bob.heard(), [])
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m1 delete alice"])
        self.assertEqual(len(self.sessions), 0)

    def test_multipart(self) -> None:
        """A description that is one part of the body is another one behind us; the other parts stay as they are."""
        body = (b"--frontier\r\nContent-Type: application/isup\r\n\r\n\x01\x02\r\n--frontier\r\n"
                b"Content-Type: application/sdp\r\n\r\n" + sdp("alice") + b"\r\n--frontier--\r\n")
        self.ask(a_request(headers=(("Content-Type", "multipart/mixed;boundary=frontier"),), body=body))
        self.bob.heard()
        self.assertEqual(self.bob.requests["INVITE"].body, body.replace(b"phone", b"m1"))

    def test_other_bodies(self) -> None:
        """What only the callee can read passes as it is, and no node is told."""
        self.ask(a_request(headers=(("Content-Type", "application/pkcs7-mime"),), body=b"secret"))
        self.bob.heard()
        self.assertEqual((self.bob.requests["INVITE"].body, self.nodes.told()), (b"secret", []))

    def test_caller_without_a_tag(self) -> None:
        """A caller of RFC 2543 is nobody that a node could know."""
        self.ask(a_request(caller="<sip:alice@example.com>", headers=(("Content-Type", "application/sdp"),),
                           body=sdp("alice")))
        self.bob.heard()
        self.assertEqual((address(self.bob.requests["INVITE"]), self.nodes.told()), ("phone", []))

    def test_other_methods(self) -> None:
        """A MESSAGE passes without a look at media."""
        self.ask(a_request("MESSAGE", headers=(("Content-Type", "application/sdp"),), body=sdp("alice")))
        self.bob.heard()
        self.assertEqual((self.bob.requests["MESSAGE"].body, self.nodes.told()), (sdp("alice"), []))

    def test_second_time(self) -> None:
        """A call that comes past us again goes through a node already."""
        self.call()
        self.bob.heard()
        self.nodes.told()
        again = a_request(branch="z9hG4bKagain", headers=(("Content-Type", "application/sdp"),), body=sdp("m1"))
        self.ask(again)
        self.bob.heard()
        self.assertEqual((address(self.bob.requests["INVITE"]), self.nodes.told()), ("phone", []))

    def test_late_offer(self) -> None:
        """A caller who offers nothing gets the phone's offer, and his ACK has the answer."""
        self.call(b"")
        self.bob.heard()
        self.bobs_invite = self.bob.requests["INVITE"]
        self.assertEqual(self.bobs_invite.body, b"")
        (self.ok,) = self.answers_with(self.bob, 200)
        self.assertEqual((address(self.ok), self.nodes.told()), ("m1", ["m1 offer bob alice"]))
        self.receive(self.from_alice("ACK", 1, sdp("alice")), self.alice.flow)
        self.assertEqual(self.bob.heard(), ["ACK"])
        self.assertEqual(address(self.bob.requests["ACK"]), "m1")
        self.assertEqual(self.nodes.told(), ["m1 answer bob alice"])
        self.assertEqual((self.session.caller.sdp, self.session.callee.sdp), (sdp("alice"), sdp("bob")))


class CodecTests(MediaCase):
    """The way to m1 loses a little; the one to m2 loses nothing and is longer."""

    def setUp(self) -> None:
        super().setUp()
        alice, bob = "net/192.0.2.20", "net/192.0.2.4"
        self.publish(a_node("m1"), a_node("m2"), rule=Rule(margin_r=0.0), paths={
            (alice, "m1"): Quality(0.0115, 30.0), (alice, "m2"): Quality(0.0, 160.0),
            (bob, "m1"): Quality(0.0, 0.0), (bob, "m2"): Quality(0.0, 0.0)})

    def chosen(self, codecs: str) -> str:
        """Return the node of a call that prefers these payload types, the first most."""
        self.call(sdp("alice", media=f"audio 4000 RTP/AVP {codecs}"))
        self.bob.heard()
        return address(self.bob.requests["INVITE"])

    def test_usual(self) -> None:
        """G.711 bears the loss rather than the delay."""
        self.assertEqual(self.chosen("0 18"), "m1")

    def test_bears_loss_worse(self) -> None:
        """G.729, where it is preferred, does not."""
        self.assertEqual(self.chosen("18 0"), "m2")


class ForkTests(MediaCase):
    """Bob has two phones."""

    def setUp(self) -> None:
        super().setUp()
        self.call_both()

    def test_legs(self) -> None:
        """Each phone has a branch of its own at the node, and the one that loses is forgotten there."""
        branches = [arguments["via-branch"] for arguments in self.nodes.arguments]
        self.assertEqual(len(set(branches)), 2)
        self.answers_with(self.bob, 200)
        self.nodes.told()
        self.answers_with(self.carol, 487, b"")
        self.assertEqual(self.nodes.told(), ["m1 delete alice"])
        self.assertEqual(self.nodes.arguments[-1]["via-branch"], branches[1])
        self.assertEqual(self.session.branch, branches[0])

    def test_both_early(self) -> None:
        """Whoever answers is heard, even if the other phone has rung with a sound of its own."""
        self.answers_with(self.bob, 183)
        self.answers_with(self.carol, 183)
        (ok,) = self.answers_with(self.bob, 200)
        self.assertEqual(address(ok), "m1")
        self.assertEqual(self.nodes.told()[2:], [
            "m1 answer alice bob", "m1 answer alice carol", "m1 answer alice bob"])

    def test_both_take_it(self) -> None:
        """A second phone that takes the call gets its answer through, but the call is the first one's."""
        self.answers_with(self.bob, 200)
        (second,) = self.answers_with(self.carol, 200)
        self.assertEqual((second.status, address(second), self.session.callee.tag), (200, "m1", "bob"))

    def test_nobody(self) -> None:
        """When both refuse, the last one takes the call with it at the node."""
        self.nodes.told()
        self.answers_with(self.bob, 486, b"")
        (busy,) = self.answers_with(self.carol, 486, b"")
        self.assertEqual((busy.status, self.nodes.told()), (486, ["m1 delete alice", "m1 delete"]))
        self.assertEqual(len(self.sessions), 0)


class WebRtcTests(MediaCase):
    """Browsers and phones call each other."""

    def test_browser_calls(self) -> None:
        """A phone is offered RTP by a browser, and the browser gets ICE and DTLS back."""
        browser = self.network.phone("browser", "WSS")
        self.call(WEBRTC, browser.flow)
        self.answers_with(self.bob, 200)
        offer, answer = self.nodes.arguments
        self.assertEqual((offer["transport-protocol"], offer["ICE"]), ("RTP/AVP", "remove"))
        self.assertEqual((answer["ICE"], answer["rtcp-mux"]), ("force", ["offer", "require"]))
        self.assertEqual((self.session.caller.is_webrtc, self.session.callee.is_webrtc), (True, False))

    def test_browser_is_called(self) -> None:
        """A browser is offered ICE and DTLS, and the phone gets RTP back."""
        browser = self.network.phone("browser", "WSS")
        self.bind(self.bound(browser))
        self.call()
        self.answers_with(browser, 200)
        offer, answer = self.nodes.arguments
        self.assertEqual((offer["transport-protocol"], offer["ICE"]), ("UDP/TLS/RTP/SAVPF", "force"))
        self.assertEqual(answer["ICE"], "remove")
        self.assertTrue(self.session.callee.is_webrtc)

    def test_phones(self) -> None:
        """Two phones keep what they speak, SRTP with keys in SDP too, but for ICE that would lead around the node."""
        self.call()
        (offer,) = self.nodes.arguments
        self.assertNotIn("transport-protocol", offer)
        self.assertEqual(offer["ICE"], "remove")

    def test_another_way(self) -> None:
        """A phone that is tried over another transport gets another offer, and the node forgets the first."""
        browser, phone = self.network.phone("browser", "WSS"), self.network.phone("carol")
        instance = "<urn:uuid:00000000-0000-1000-8000-000A95A0E128>"
        self.bind(self.bound(browser, instance=instance, refreshed_at=2.0, reg_id=1),
                  self.bound(phone, instance=instance, refreshed_at=1.0, reg_id=2))
        self.call()
        browser.heard()
        browser.answer(430)
        phone.heard()
        self.assertEqual(address(phone.requests["INVITE"]), "m1")
        self.assertEqual(self.nodes.told(), ["m1 offer alice", "m1 delete", "m1 offer alice"])
        self.assertEqual(self.nodes.arguments[-1]["ICE"], "remove")


class GroupTests(MediaCase):
    """Tenants have nodes of their own."""

    def test_group_of_a_tenant(self) -> None:
        """The callee's group of nodes counts before that of the domain."""
        groups = {"sip:bob@example.com": "robots", "example.com": "others"}
        self.publish(a_node("m1"), a_node_in("m3", "robots"), tenants=groups)
        self.call()
        self.assertEqual((self.nodes.told(), self.session.group), (["m3 offer alice"], "robots"))

    def test_switched(self) -> None:
        """A tenant that is switched to another group keeps its running call where it is."""
        self.publish(a_node("m1"), a_node_in("m3", "robots"))
        self.stands()
        self.publish(a_node("m1"), a_node_in("m3", "robots"), tenants={"example.com": "robots"})
        self.receive(self.from_alice("INVITE", body=sdp("alice", 2)), self.alice.flow)
        self.assertEqual((self.nodes.told(), self.session.group), (["m1 offer alice bob"], DEFAULT_GROUP))


class KnownTests(MediaCase):
    """What is noted of a call that is taken."""

    def test_session_timer(self) -> None:
        """What the 200 says of session timers is noted: the call is over then (RFC 4028)."""
        session = self._taken("1800;refresher=uas")
        over_at = self.registrar.clock.seconds() + 1800 + GRACE_SECONDS
        self.assertEqual((session.interval, session.refresher, session.expires_at), (1800, "callee", over_at))

    def test_no_session_timer(self) -> None:
        """Without session timers, or with nonsense in their place, a call has the configured time."""
        session = self._taken("soon")
        self.assertEqual((session.interval, session.refresher), (0, ""))
        self.assertEqual(session.expires_at, self.registrar.clock.seconds() + 14400)

    def _taken(self, expires: str) -> Session:
        self.call()
        self.answers_with(self.bob, 200, headers=(("Session-Expires", expires),))
        return self.session
