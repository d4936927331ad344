"""Aliases and forwarded calls, as callers and phones see them."""

from prometheus_client.parser import text_string_to_metric_families

from registrar.directory.entries import ALWAYS, BUSY, NO_ANSWER, NOTHING, UNREACHABLE, Entry, Forwarding
from registrar.diverting import Entries, kind_of, watch_diverting
from registrar.gruu import GruuMaker
from registrar.routing import ProxyConfig
from rollcall.ops.metrics import Metrics
from rollcall.sip.message import Request, Response
from tests.flows import a_request
from tests.registrar.calls import BOB, ProxyCase
from tests.registrar.examples import PHONE
from tests.registrar.network import Phone

CAROL = "sip:carol@example.com"
DAVE = "sip:dave@example.com"
MOBILE = "sip:+4917012345@gw.example.net"


class Book:
    """Entries out of a dictionary, which counts how often it is asked."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.asked: list[str] = []

    @property
    def is_used(self) -> bool:
        """Whether there is any."""
        return bool(self.entries)

    async def find(self, aor: str) -> Entry:
        """Return the entry."""
        self.asked.append(aor)
        return self.entries.get(aor, NOTHING)


class DivertingCase(ProxyCase):
    """Alice calls Bob; Carol and Dave have a phone each, and there is a gateway elsewhere."""

    def setUp(self) -> None:
        super().setUp()
        self.carol, self.dave = self.network.phone("carol"), self.network.phone("dave")
        self.bind(self.bound(self.carol), aor=CAROL)
        self.bind(self.bound(self.dave), aor=DAVE)
        self.network.server("+4917012345@gw.example.net", ("TCP", "192.0.2.99", 5060))
        self.gateway = Phone(self.layer, "gateway")
        self.network.transports.reachable["TCP", "192.0.2.99", 5060] = self.gateway.flow

    def entries(self) -> Entries:
        """Begin with none."""
        self.book = Book()
        return self.book

    def forward(self, kind: str, target: str, seconds: int | None = None, aor: str = BOB) -> None:
        """Have calls go elsewhere."""
        before = self.book.entries.get(aor, NOTHING)
        self.book.entries[aor] = Entry(before.alias, (*before.forwardings, Forwarding(kind, target, seconds)))

    def alias(self, name: str, target: str) -> None:
        """Have one name stand for another."""
        self.book.entries[name] = Entry(target)

    def call(self, uri: str = BOB, **changes: object) -> list[int]:
        """Call; return what is heard at once."""
        return self.statuses(self.ask(a_request("INVITE", uri, **changes)))  # type: ignore[arg-type]

    def heard(self) -> list[int]:
        """Return what Alice heard since the last look."""
        return self.statuses(self.answers())

    @staticmethod
    def statuses(answers: list[Response]) -> list[int]:
        """Return the statuses of answers."""
        return [answer.status for answer in answers]

    def invite_of(self, phone: Phone) -> Request:
        """Return the INVITE that a phone has got."""
        self.assertEqual(phone.heard(), ["INVITE"])
        return phone.requests["INVITE"]


class AliasTests(DivertingCase):
    def test_ours(self) -> None:
        """An alias stands for a user of ours, whatever the request is, and nothing is said of it."""
        self.alias("sip:+4930123@example.com", BOB)
        for method in ("INVITE", "MESSAGE", "OPTIONS"):
            self.ask(a_request(method, "sip:+4930123@example.com", branch=f"z9hG4bK{method}"))
            self.assertEqual(self.bob.heard(), [method])
            request = self.bob.requests[method]
            self.assertIn("sip:bob@", request.uri)
            self.assertEqual((request.get("Diversion"), request.get("History-Info")), (None, None))

    def test_domain_alias(self) -> None:
        """The other names of a domain mean the same."""
        self.alias("sip:sales@example.com", BOB)
        self.call("sip:sales@sip.example.com")
        self.assertEqual(self.bob.heard(), ["INVITE"])

    def test_elsewhere(self) -> None:
        """An alias may lead to another domain: there the target is called."""
        self.alias("sip:mobile@example.com", MOBILE)
        self.assertEqual(self.call("sip:mobile@example.com"), [100])
        self.assertEqual(self.invite_of(self.gateway).uri, MOBILE)

    def test_written_by_hand(self) -> None:
        """What plain SQL wrote into the tables says where a request goes, and puts nothing else into it."""
        self.alias("sip:mobile@example.com", f"{MOBILE}?Route=%3Csip:192.0.2.66%3E&Subject=x")
        self.call("sip:mobile@example.com")
        self.assertEqual(self.invite_of(self.gateway).uri, MOBILE)
        for number, target in enumerate((f"{MOBILE}\r\nSubject: x", f"{MOBILE}>;x=<sip:y", "sip:a b@example.com", "")):
            self.alias("sip:bad@example.com", target)
            self.assertEqual(self.call("sip:bad@example.com", branch=f"z9hG4bKbad{number}"), [404])
        self.forward(ALWAYS, f"{MOBILE}?Subject=x")
        self.call(branch="z9hG4bKcarol")
        self.assertEqual(self.statuses(self.answers()), [])
        invite = self.gateway.requests["INVITE"]
        self.assertEqual((invite.uri, "Subject" in str(invite.get("History-Info"))), (MOBILE, False))

    def test_chain(self) -> None:
        """Three aliases in a row are followed, four are not."""
        for name, target in (("a", "b"), ("b", "c"), ("c", "bob"), ("z", "a")):
            self.alias(f"sip:{name}@example.com", f"sip:{target}@example.com")
        self.call("sip:a@example.com")
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.assertEqual(self.call("sip:z@example.com", branch="z9hG4bKz"), [482])

    def test_circle(self) -> None:
        """Aliases of one another end in 482."""
        self.alias("sip:a@example.com", "sip:b@example.com")
        self.alias("sip:b@example.com", "sip:a@example.com")
        self.assertEqual(self.call("sip:a@example.com"), [482])

    def test_nobody(self) -> None:
        """An alias of nobody, or of what is no SIP URI, is 404."""
        self.alias("sip:a@example.com", "sip:nobody@example.com")
        self.alias("sip:b@example.com", "tel:+4930123")
        self.assertEqual(self.call("sip:a@example.com"), [404])
        self.assertEqual(self.call("sip:b@example.com", branch="z9hG4bKb"), [404])

    def test_within_dialogs(self) -> None:
        """A request within a dialog goes where its Routes say: nobody looks for an alias."""
        self.forward(ALWAYS, CAROL)
        self.call()
        recorded = self.invite_of(self.carol).values("Record-Route")
        routes = tuple(("Route", value) for value in reversed(recorded))
        self.carol.answer(200)
        self.book.asked.clear()
        self.ask(a_request("BYE", "sip:carol@192.0.2.20", branch="z9hG4bKbye", headers=routes,
                           callee="<sip:bob@example.com>;tag=carol"))
        self.assertEqual((self.book.asked, self.carol.heard()), ([], ["BYE"]))

    def test_dialog_without_a_route(self) -> None:
        """An INVITE within a dialog that has lost its Routes is nobody's new call: it is not forwarded."""
        self.forward(ALWAYS, CAROL)
        self.call(callee="<sip:bob@example.com>;tag=bob")
        self.assertEqual((self.bob.heard(), self.carol.heard()), (["INVITE"], []))

    def test_gruu(self) -> None:
        """Who calls one phone by its GRUU means that phone."""
        self.forward(ALWAYS, CAROL)
        self.bind(self.bound(self.bob, instance=PHONE))
        gruu = GruuMaker([b"a secret for gruus"]).public(BOB, PHONE)
        self.call(gruu)
        self.assertEqual((self.bob.heard(), self.carol.heard()), (["INVITE"], []))


class ForwardingTests(DivertingCase):
    def test_unused(self) -> None:
        """Without any entry nothing is looked up."""
        self.call()
        self.assertEqual((self.bob.heard(), self.book.asked), (["INVITE"], []))

    def test_always(self) -> None:
        """Calls go to the other one, who sees for whom they were; everything else goes to the phone."""
        self.forward(ALWAYS, CAROL)
        self.assertEqual(self.call(), [100])
        invite = self.invite_of(self.carol)
        self.assertEqual(invite.get("Diversion"), f"<{BOB}>;reason=unconditional;privacy=off;counter=1")
        self.assertEqual(invite.values("History-Info"), [
            f"<{BOB}?Reason=SIP%3Bcause%3D302>;index=1", f"<{CAROL}>;index=1.1;mp=1"])
        self.assertEqual(invite.get("To"), "<sip:bob@example.com>")
        self.ask(a_request("MESSAGE", branch="z9hG4bKm"))
        self.assertEqual(self.bob.heard(), ["MESSAGE"])

    def test_busy(self) -> None:
        """486 sends a call on: the caller hears that, then the other phone, and gets its answer."""
        self.forward(BUSY, CAROL)
        self.call()
        self.bob.answer(486)
        self.assertEqual(self.heard(), [181])
        invite = self.invite_of(self.carol)
        self.assertEqual(invite.get("Diversion"), f"<{BOB}>;reason=user-busy;privacy=off;counter=1")
        self.carol.answer(180)
        self.carol.answer(200)
        self.assertEqual(self.heard(), [180, 200])

    def test_other_refusals(self) -> None:
        """Who declines, or is not acceptable, is not busy."""
        self.forward(BUSY, CAROL)
        for status in (603, 488):
            self.call(branch=f"z9hG4bK{status}")
            self.bob.answer(status)
            self.assertEqual((self.heard(), self.carol.heard()), ([status], []))

    def test_no_answer(self) -> None:
        """After its seconds of ringing a call goes on, and the phone that rang is told to stop."""
        self.forward(NO_ANSWER, CAROL, 20)
        self.call()
        self.layer.wait(5)
        self.bob.answer(180)
        self.layer.wait(19)
        self.assertEqual((self.heard(), self.carol.heard()), ([180], []))
        self.layer.wait(2)
        self.assertEqual(self.heard(), [181])
        self.assertEqual(self.bob.heard(), ["INVITE", "CANCEL"])
        self.assertIn("no-answer", self.invite_of(self.carol).get("Diversion") or "")
        self.bob.answer(200, "CANCEL")
        self.bob.answer(487)
        self.carol.answer(200)
        self.assertEqual(self.heard(), [200])

    def test_seconds_written_by_hand(self) -> None:
        """However long plain SQL lets them ring, phones ring for a second at least and ten minutes at most."""
        self.forward(NO_ANSWER, DAVE, -5)
        self.call()
        self.bob.answer(180)
        self.layer.wait(0.9)
        self.assertEqual(self.dave.heard(), [])
        self.layer.wait(0.2)
        self.assertEqual(self.dave.heard(), ["INVITE"])

    def test_answered_at_last(self) -> None:
        """Who answers just as the call goes on gets it, and the other phone is told to stop."""
        self.forward(NO_ANSWER, CAROL, 20)
        self.call()
        self.bob.answer(180)
        self.layer.wait(21)
        self.carol.answer(180)
        self.bob.answer(200)
        self.assertEqual(self.heard(), [180, 181, 180, 200])
        self.assertEqual(self.carol.heard(), ["INVITE", "CANCEL"])

    def test_answered_in_time(self) -> None:
        """Who answers in time keeps the call."""
        self.forward(NO_ANSWER, CAROL, 20)
        self.call()
        self.bob.answer(180)
        self.bob.answer(200)
        self.layer.wait(30)
        self.assertEqual((self.heard(), self.carol.heard()), ([180, 200], []))

    def test_gave_up_ringing(self) -> None:
        """A phone that rang and says 480 has not answered; without seconds only that counts."""
        self.forward(NO_ANSWER, CAROL)
        self.call()
        self.bob.answer(180)
        self.layer.wait(100)
        self.assertEqual(self.heard(), [180])
        self.bob.answer(480)
        self.assertEqual(self.heard(), [181])
        self.assertEqual(self.carol.heard(), ["INVITE"])

    def test_unreachable(self) -> None:
        """Without a phone, or when it is lost or says 480 at once, calls go on; who rang in vain is no such case."""
        self.forward(UNREACHABLE, CAROL)
        self.call()
        self.bob.answer(480)
        self.assertEqual((self.heard(), self.carol.heard()), ([181], ["INVITE"]))
        self.call(branch="z9hG4bKrang")
        self.bob.answer(180)
        self.bob.answer(480)
        self.assertEqual((self.heard(), self.carol.heard()), ([180, 480], []))
        self.bob.flow.close("lost")
        self.call(branch="z9hG4bKlost")
        self.assertEqual((self.heard(), self.carol.heard()), ([], ["INVITE"]))
        self.bind()
        self.call(branch="z9hG4bKnone")
        invite = self.invite_of(self.carol)
        self.assertIn("reason=unavailable", invite.get("Diversion") or "")

    def test_user_without_account(self) -> None:
        """An address needs no subscriber to be forwarded."""
        self.forward(UNREACHABLE, CAROL, aor="sip:voicemail@example.com")
        self.call("sip:voicemail@example.com")
        self.assertEqual(self.carol.heard(), ["INVITE"])

    def test_nobody_there_either(self) -> None:
        """When nobody is at the other end, the first answer stands."""
        self.forward(BUSY, "sip:nobody@example.com")
        self.call()
        self.bob.answer(486)
        self.assertEqual(self.heard(), [486])

    def test_rings_on(self) -> None:
        """When nobody is at the other end, the phones ring on."""
        self.forward(NO_ANSWER, "sip:nobody@example.com", 20)
        self.call()
        self.bob.answer(180)
        self.layer.wait(40)
        self.assertEqual(self.bob.heard(), ["INVITE"])
        self.bob.answer(200)
        self.assertEqual(self.heard(), [180, 200])

    def test_unregistered_target(self) -> None:
        """Calls that always go to somebody who is not there are 480: who was called does exist."""
        self.forward(ALWAYS, "sip:nobody@example.com")
        self.assertEqual(self.call(), [480])

    def test_second_answer_counts(self) -> None:
        """What the second one answers is what the caller gets."""
        self.forward(BUSY, CAROL)
        self.call()
        self.bob.answer(486)
        self.carol.answer(603)
        self.assertEqual(self.heard(), [181, 603])

    def test_cancel(self) -> None:
        """A caller who gives up ends the second call, too."""
        self.forward(BUSY, CAROL)
        self.call()
        self.bob.answer(486)
        self.carol.answer(180)
        self.heard()
        self.assertEqual([answer.status for answer in self.ask(a_request("CANCEL"))], [200])
        self.assertEqual(self.carol.heard(), ["INVITE", "CANCEL"])
        self.carol.answer(200, "CANCEL")
        self.carol.answer(487)
        self.assertEqual(self.heard(), [487])

    def test_cancelled_is_not_forwarded(self) -> None:
        """A caller who gives up while it rings is not sent on."""
        self.forward(NO_ANSWER, CAROL, 20)
        self.forward(UNREACHABLE, CAROL)
        self.call()
        self.bob.answer(180)
        self.ask(a_request("CANCEL"))
        self.bob.answer(200, "CANCEL")
        self.bob.answer(487)
        self.layer.wait(30)
        self.assertEqual(self.carol.heard(), [])


class FurtherTests(DivertingCase):
    """Calls that go on from one to the next, and how far."""

    def test_chain(self) -> None:
        """Each address has its own forwardings, and the history tells of all."""
        self.forward(ALWAYS, CAROL)
        self.forward(BUSY, DAVE, aor=CAROL)
        self.call()
        self.carol.answer(486)
        invite = self.invite_of(self.dave)
        self.assertEqual([value.partition(";")[0] for value in invite.values("Diversion")], [f"<{CAROL}>", f"<{BOB}>"])
        self.assertEqual(invite.values("History-Info"), [
            f"<{BOB}?Reason=SIP%3Bcause%3D302>;index=1", f"<{CAROL}?Reason=SIP%3Bcause%3D486>;index=1.1;mp=1",
            f"<{DAVE}>;index=1.1.1;mp=1.1"])

    def test_circle(self) -> None:
        """Two who forward to one another: the second one's phone rings."""
        self.forward(ALWAYS, CAROL)
        self.forward(ALWAYS, BOB, aor=CAROL)
        self.call()
        self.assertEqual((self.carol.heard(), self.bob.heard()), (["INVITE"], []))

    def test_came_back(self) -> None:
        """A call that has come back to who forwarded it is not forwarded again."""
        self.forward(ALWAYS, MOBILE)
        self.call(headers=(("Diversion", f"<{BOB}>;reason=unconditional"),))
        self.assertEqual((self.bob.heard(), self.gateway.heard()), (["INVITE"], []))

    def test_at_most_five(self) -> None:
        """After five diversions, those of others included, a call stays where it is."""
        self.forward(ALWAYS, CAROL)
        self.call(headers=(("Diversion", "<sip:x@example.net>;counter=4"),))
        self.assertEqual(self.carol.heard(), ["INVITE"])
        self.call(headers=(("Diversion", "<sip:x@example.net>;counter=5"),), branch="z9hG4bK5")
        self.assertEqual((self.bob.heard(), self.carol.heard()), (["INVITE"], []))

    def test_to_an_alias(self) -> None:
        """A call may be forwarded to an alias, and the history has both."""
        self.forward(ALWAYS, "sip:desk@example.com")
        self.alias("sip:desk@example.com", CAROL)
        self.call()
        self.assertEqual(self.invite_of(self.carol).values("History-Info"), [
            f"<{BOB}?Reason=SIP%3Bcause%3D302>;index=1", "<sip:desk@example.com>;index=1.1;mp=1",
            f"<{CAROL}>;index=1.1.1;mp=1.1"])

    def test_elsewhere(self) -> None:
        """A call goes on to another domain, where its Request-URI is the target."""
        self.forward(BUSY, MOBILE)
        self.call()
        self.bob.answer(486)
        self.assertEqual(self.invite_of(self.gateway).uri, MOBILE)
        self.gateway.answer(200)
        self.assertEqual(self.heard(), [181, 200])

    def test_secure(self) -> None:
        """A call to a sips URI stays one."""
        self.forward(ALWAYS, MOBILE)
        self.call("sips:bob@example.com")
        self.assertEqual(self.network.resolver.asked, [MOBILE.replace("sip:", "sips:")])

    def test_counts(self) -> None:
        """Calls that went elsewhere are counted by why."""
        self.forward(BUSY, CAROL)
        self.call()
        self.bob.answer(486)
        metrics = Metrics(process=False)
        assert self.registrar.diverting is not None
        watch_diverting(metrics, self.registrar.diverting)
        counted = {sample.labels["kind"]: sample.value
                   for family in text_string_to_metric_families(metrics.render().decode()) for sample in family.samples}
        self.assertEqual(counted, {"always": 0, "busy": 1, "no-answer": 0, "unreachable": 0})

    def test_released(self) -> None:
        """Nothing is left of forwarded calls."""
        self.forward(NO_ANSWER, CAROL, 20)
        self.call()
        self.bob.answer(180)
        self.layer.wait(21)
        self.bob.answer(200, "CANCEL")
        self.bob.answer(487)
        self.carol.answer(486)
        self.assertEqual(self.heard(), [180, 181, 486])
        self.assert_released()


class NoRelayTests(DivertingCase):
    """Subscribers may not call other domains."""

    config = ProxyConfig(relay_subscribers=False)

    def test_elsewhere(self) -> None:
        """Neither may their calls be forwarded there, nor an alias lead there."""
        self.forward(ALWAYS, MOBILE)
        self.call()
        self.assertEqual((self.bob.heard(), self.gateway.heard()), (["INVITE"], []))
        self.alias("sip:mobile@example.com", MOBILE)
        self.assertEqual(self.call("sip:mobile@example.com", branch="z9hG4bKm"), [404])


class PasswordTests(DivertingCase):
    """Callers have to prove who they are."""

    with_passwords = True

    def test_asked_first(self) -> None:
        """Nobody gets anywhere by a forwarding who may not call at all."""
        self.forward(ALWAYS, MOBILE)
        self.assertEqual(self.call(), [407])
        self.assertEqual(self.book.asked, [])


class KindTests(ProxyCase):
    def test_kinds(self) -> None:
        """What each final status means, without ringing and after it."""
        for status, silent, rang in ((486, BUSY, BUSY), (600, BUSY, BUSY), (480, UNREACHABLE, NO_ANSWER),
                                     (408, UNREACHABLE, NO_ANSWER), (430, UNREACHABLE, None), (503, UNREACHABLE, None),
                                     (603, None, None), (404, None, None), (487, None, None), (488, None, None)):
            self.assertEqual((kind_of(status, False), kind_of(status, True)), (silent, rang), status)
