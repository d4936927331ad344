"""SUBSCRIBE for the reg event package: who is told, how long, and what is refused (RFC 6665 §4.2.1, RFC 3680 §4)."""

from rollcall.sip.headers import parse_name_addr
from tests.flows import LISTENERS, MemoryFlow
from tests.registrar.examples import a_binding
from tests.registrar.joined import EPOCH, NODE, PASSWORDS
from tests.registrar.regevent.case import ALICE, BOB, EventsCase, state_of

DESK = "sip:alice@192.0.2.4"
CAROL = "sip:carol@example.com"


class SubscribeTests(EventsCase):
    def test_nobody_registered(self) -> None:
        """A subscriber is accepted for the time asked for and told at once, here that nobody is registered."""
        alice = self.subscriber()
        self.assertEqual(alice.subscribe(("Expires", "600")), 200)
        assert alice.answer is not None
        self.assertEqual([alice.answer.get(name) for name in ("Expires", "Allow-Events")], ["600", "reg"])
        (notify,) = alice.told()
        self.assertEqual((notify.method, notify.uri), ("NOTIFY", parse_name_addr(alice.contact).uri))
        self.assertEqual([notify.get(name) for name in ("Event", "Subscription-State", "Content-Type")],
                         ["reg", "active;expires=600", "application/reginfo+xml"])
        self.assertEqual((alice.table.version, alice.table.state, alice.table.active), (0, "init", {}))

    def test_dialog(self) -> None:
        """The NOTIFY is of the dialog that the answer began: tags, Call-ID, Contact; its CSeq is ours."""
        alice = self.subscriber()
        alice.subscribe()
        assert alice.answer is not None
        (notify,) = alice.told()
        self.assertEqual(notify.get("From"), alice.answer.get("To"))
        self.assertEqual(notify.get("To"), f"<{ALICE}>;tag=alice")
        self.assertEqual((notify.get("Call-ID"), notify.get("CSeq")), (alice.call_id, "1 NOTIFY"))
        self.assertEqual(notify.get("Contact"), alice.answer.get("Contact"))
        self.assertIn("@192.0.2.1:5060;transport=tcp", alice.target)

    def test_everything_is_told(self) -> None:
        """The first NOTIFY has every contact."""
        self.bind(a_binding(DESK), a_binding("sip:alice@192.0.2.5"))
        alice = self.watching()
        self.assertEqual((alice.table.state, len(alice.table.active)), ("active", 2))

    def test_default_time(self) -> None:
        """Who names no time gets the package's, and a longer wish is cut."""
        for wish, granted in (((), "3761"), ((("Expires", "99999"),), "7200")):
            with self.subTest(granted):
                alice = self.subscriber()
                self.assertEqual(alice.subscribe(*wish), 200)
                assert alice.answer is not None
                self.assertEqual(alice.answer.get("Expires"), granted)

    def test_event_id(self) -> None:
        """The id by which a subscriber tells his subscriptions apart stands in his NOTIFYs."""
        alice = self.subscriber()
        alice.subscribe(event="reg;id=7;x=y")
        self.assertEqual(alice.told()[0].get("Event"), "reg;id=7")

    def test_alias_of_the_domain(self) -> None:
        """An alias of the domain means the same address-of-record."""
        self.bind(a_binding(DESK))
        alice = self.watching(aor="sip:alice@sip.example.com")
        self.assertEqual(list(alice.table.active.values()), [DESK])

    def test_refused_at_sight(self) -> None:
        """What cannot be done is refused with the status that says why, and nothing is kept."""
        brief, plain = ("Expires", "59"), ("Accept", "text/plain")
        for status, headers, changes in (
            (423, (brief,), {}), (406, (plain,), {}), (420, (("Require", "eventlist"),), {}),
            (400, (("Expires", "soon"),), {}), (400, (("Contact", "<sip:two@192.0.2.9>"),), {}),
            (415, (), {"body": b"<filter/>"}),
        ):
            with self.subTest(status=status, headers=headers):
                self.assertEqual(self.subscriber().subscribe(*headers, **changes), status)
        self.assertEqual(len(self.events.book), 0)

    def test_refusals_say_what_is_allowed(self) -> None:
        """A refusal says what would do."""
        alice = self.subscriber()
        for headers, name, value in (((("Expires", "1"),), "Min-Expires", "60"),
                                     ((("Accept", "a/b"),), "Accept", "application/reginfo+xml"),
                                     ((("Require", "eventlist, gruu"),), "Unsupported", "eventlist")):
            alice.subscribe(*headers)
            assert alice.answer is not None
            self.assertEqual(alice.answer.get(name), value)

    def test_accepted_variants(self) -> None:
        """Wildcards accept our documents, an optional body need not be understood, and an hour is never too brief."""
        for headers, changes in (((("Accept", "text/plain, application/*"),), {}), ((("Accept", "*/*"),), {}),
                                 ((("Content-Disposition", "session; handling=optional"),), {"body": b"x"})):
            with self.subTest(headers):
                self.assertEqual(self.subscriber().subscribe(*headers, **changes), 200)

    def test_limits(self) -> None:
        """Only so many may watch one address-of-record, and only so many subscriptions are kept in all."""
        others = [self.watching() for _ in range(3)]
        self.assertEqual(self.subscriber().subscribe(), 403)
        self.assertEqual([self.subscriber("bob", aor=BOB).subscribe() for _ in range(3)], [200, 200, 503])
        others[0].subscribe(("Expires", "0"))
        self.assertEqual(self.subscriber().subscribe(), 200)

    def test_store_is_away(self) -> None:
        """While bindings cannot be read, the answer is 503 with a time to come back, and nothing is kept."""
        self.registrar.location.down = True
        alice = self.subscriber()
        self.assertEqual(alice.subscribe(), 503)
        assert alice.answer is not None
        self.assertEqual((alice.answer.get("Retry-After"), len(self.events.book)), ("17", 0))

    def test_lost_while_looking(self) -> None:
        """A subscriber whose connection ends while the record is on its way is not kept."""
        self.registrar.location.holds = True
        alice = self.subscriber()
        alice.phone.receive_whole(alice.a_subscribe().serialise())
        self.assertEqual(len(self.events.book), 1)
        self.lose(alice.phone.flow)
        self.registrar.location.let_pass()
        self.assertEqual((len(self.events.book), alice.phone.flow.holds), (0, 0))

    def test_change_while_looking(self) -> None:
        """What changes while the first look at the record is under way is told afterwards."""
        self.registrar.location.holds = True
        alice = self.subscriber()
        alice.phone.receive_whole(alice.a_subscribe().serialise())
        self.changes.tell(b"alice@example.com")
        self.registrar.location.let_pass()
        self.registrar.location.holds = False
        alice.look()
        self.bind(a_binding(DESK), tells=False)
        self.wait(6)
        alice.look()
        self.assertEqual(list(alice.table.active.values()), [DESK])


class RefreshTests(EventsCase):
    def test_refresh(self) -> None:
        """A refresh makes it last longer and brings everything anew."""
        self.bind(a_binding(DESK))
        alice = self.watching()
        self.wait(100)
        self.assertEqual(alice.subscribe(("Expires", "900")), 200)
        (notify,) = alice.told()
        self.assertEqual(state_of(notify), "active;expires=900")
        self.assertEqual((alice.table.version, list(alice.table.active.values())), (1, [DESK]))
        self.assertEqual(len(self.events.book), 1)

    def test_unsubscribe(self) -> None:
        """Expires 0 ends it, with everything told for the last time."""
        self.bind(a_binding(DESK))
        alice = self.watching()
        self.assertEqual(alice.subscribe(("Expires", "0")), 200)
        (notify,) = alice.told()
        self.assertEqual((state_of(notify), alice.table.version), ("terminated;reason=timeout", 1))
        self.assertEqual((len(self.events.book), self.ended()), (0, {("unsubscribed",): 1}))
        self.assertEqual(alice.subscribe(), 481)
        self.assertEqual(len(self.changes), 0)

    def test_fetch(self) -> None:
        """Who asks for no time is told once."""
        self.bind(a_binding(DESK))
        alice = self.subscriber()
        self.assertEqual(alice.subscribe(("Expires", "0")), 200)
        (notify,) = alice.told()
        self.assertEqual((state_of(notify), list(alice.table.active.values())), ("terminated;reason=timeout", [DESK]))
        self.assertEqual(len(self.events.book), 0)

    def test_expiry(self) -> None:
        """Who does not refresh is told that it is over."""
        alice = self.subscriber()
        alice.subscribe(("Expires", "60"))
        alice.told()
        self.wait(59)
        self.assertEqual(alice.told(), [])
        self.wait(2)
        (notify,) = alice.told()
        self.assertEqual((state_of(notify), notify.body), ("terminated;reason=timeout", b""))
        self.assertEqual((len(self.events.book), self.ended()), (0, {("timeout",): 1}))

    def test_another_connection(self) -> None:
        """A phone that refreshes over another connection is told there from now on, and outlives the old one."""
        alice = self.watching()
        old = alice.phone.move()
        self.assertEqual(alice.subscribe(), 200)
        self.assertEqual((old.holds, alice.phone.flow.holds > 0, len(alice.told())), (0, True, 1))
        self.lose(old)
        self.assertEqual(len(self.events.book), 1)

    def test_not_of_the_dialog(self) -> None:
        """Another's tag, an unknown tag, another event id: there is no such subscription."""
        alice = self.watching()
        known = alice.to
        for to, changes in ((f"<{ALICE}>;tag=unknown", {}), (known, {"caller": f"<{ALICE}>;tag=other"}),
                            (known, {"call_id": "other"}), (known, {"event": "reg;id=2"})):
            with self.subTest(changes, to=to):
                alice.to = to
                self.assertEqual(alice.subscribe(**changes), 481)
        alice.to = known
        self.assertEqual(alice.subscribe(), 200)

    def test_out_of_order(self) -> None:
        """A refresh whose CSeq is not above the last is refused, and changes nothing."""
        alice = self.watching()
        self.assertEqual(alice.subscribe(cseq=1), 500)
        self.assertEqual(alice.told(), [])

    def test_lost_while_refreshing(self) -> None:
        """A subscription that ends while its refresh waits for the record is not there any more."""
        alice = self.subscriber()
        alice.subscribe(("Expires", "60"))
        self.registrar.location.holds = True
        alice.phone.receive_whole(alice.a_subscribe().serialise())
        self.wait(61)
        self.registrar.location.let_pass()
        alice.look()
        assert alice.answer is not None
        self.assertEqual(alice.answer.status, 481)

    def test_held_connection(self) -> None:
        """A connection that somebody subscribed over is needed until the subscription and its last NOTIFY are over."""
        alice = self.watching()
        self.assertEqual(alice.phone.flow.holds, 1)
        alice.subscribe(("Expires", "0"))
        self.assertEqual(alice.phone.flow.holds, 0)


class WhoseTests(EventsCase):
    def test_others_events_go_to_phones(self) -> None:
        """Other packages, and GRUUs, are for the phones themselves."""
        bob = self.registrar.client("bob")
        self.assertEqual(bob.register("sip:bob@192.0.2.20:49152;transport=tcp", instance="urn:x:y").status, 200)
        alice = self.subscriber(port=49153)
        for event, uri in (("presence", BOB), ("reg", f"{BOB};gr=urn:x:y")):
            alice.phone.receive_whole(alice.a_subscribe(event=event, callee=f"<{uri}>").serialise().replace(
                ALICE.encode(), uri.encode(), 1))
            self.assertEqual(bob.flow.take_request().method, "SUBSCRIBE", event)

    def test_the_server_itself(self) -> None:
        """A SUBSCRIBE that names no user is told which events there are, or that there is no such resource."""
        alice = self.subscriber()
        for event, status in (("presence", 489), ("", 489), ("reg", 404)):
            request = alice.a_subscribe(event=event)
            request.uri = "sip:example.com"
            self.assertEqual(alice.send(request), status, event)
            assert alice.answer is not None
            self.assertEqual(alice.answer.get("Allow-Events"), "reg" if status == 489 else None)

    def test_routes(self) -> None:
        """A Route that names us changes nothing; one that names another server takes the request there."""
        alice = self.subscriber()
        self.assertEqual(alice.subscribe(("Route", "<sip:192.0.2.1;lr>")), 200)
        other = self.subscriber(port=49155)
        self.assertEqual(other.send(other.a_subscribe(("Route", "<sip:proxy.example.net;lr>"))), 403)

    def test_malformed(self) -> None:
        """What cannot be read is refused as malformed."""
        alice = self.subscriber()
        self.assertEqual(alice.send(alice.a_subscribe(("Route", "<sip:192.0.2.1;lr"))), 400)

    def test_options(self) -> None:
        """OPTIONS says which events there are."""
        prober = self.registrar.client("prober", port=50000)
        prober.send(prober.request("OPTIONS", "sip:example.com"))
        self.assertEqual(prober.flow.take_response().get("Allow-Events"), "reg")


class PermissionTests(EventsCase):
    """With passwords: Alice may watch herself, Bob everybody."""

    with_passwords = True

    def test_password(self) -> None:
        """A subscriber proves who it is, at the first request and at each refresh."""
        alice = self.subscriber()
        self.assertEqual(alice.send(alice.a_subscribe()), 401)
        self.assertEqual(alice.subscribe(), 200)
        alice.phone.challenge = {}
        self.assertEqual(alice.send(alice.a_subscribe()), 401)
        self.assertEqual(alice.subscribe(), 200)

    def test_wrong_password(self) -> None:
        """A wrong password is refused as every other."""
        alice = self.subscriber()
        alice.phone.password = PASSWORDS["bob"]
        self.assertEqual(alice.subscribe(), 401)
        self.assertEqual(len(self.events.book), 0)

    def test_watcher(self) -> None:
        """A configured watcher may watch anybody, with its own password."""
        bob = self.subscriber("bob")
        self.assertEqual(bob.subscribe(), 200)
        (subscription,) = self.events.book
        self.assertEqual((subscription.watcher, subscription.aor), (BOB, ALICE))

    def test_unknown_user(self) -> None:
        """Who has neither an account nor a contact is not found; where nobody needs one, everybody may come."""
        bob = self.subscriber("bob", aor=CAROL)
        self.assertEqual((bob.subscribe(), len(self.events.book)), (404, 0))
        self.bind(a_binding("sip:carol@192.0.2.7"), aor=CAROL)
        self.assertEqual(bob.subscribe(), 200)
        self.with_passwords = False
        self.registrar.requests.serve_events(self.made(NODE, EPOCH))
        self.assertEqual(self.subscriber("dora", aor="sip:dora@example.com").subscribe(), 200)

    def test_not_yours(self) -> None:
        """Anybody else may watch himself only."""
        alice = self.subscriber("alice", aor=BOB)
        self.assertEqual(alice.subscribe(), 403)

    def test_anothers_subscription(self) -> None:
        """Nobody refreshes another's subscription, even if he may watch the same."""
        alice, bob = self.watching(), self.subscriber("bob")
        bob.subscribe()
        bob.to, bob.target, bob.call_id = alice.to, alice.target, alice.call_id
        self.assertEqual(bob.subscribe(caller=f"<{BOB}>;tag=alice"), 403)

    def test_subscribers_cannot_be_asked(self) -> None:
        """While passwords cannot be looked up, the answer is 503."""
        alice = self.watching()
        self.registrar.subscribers.unavailable = "gone"
        self.assertEqual(alice.subscribe(), 503)


class LeavingTests(EventsCase):
    def test_stop(self) -> None:
        """When the node ends, its subscribers are told to subscribe again."""
        alice, bob = self.watching(), self.watching("bob")
        self.events.stop()
        for subscriber in (alice, bob):
            self.assertEqual([state_of(each) for each in subscriber.told()], ["terminated;reason=deactivated"])
        self.assertEqual((len(self.events.book), self.ended()), (0, {("stopped",): 2}))

    def test_leave(self) -> None:
        """When the node shall be left, they are told so at a pace, and new ones are sent elsewhere."""
        watching = [self.watching() for _ in range(3)]
        self.is_left = True
        self.events.leave(2)
        self.assertEqual([len(each.told()) for each in watching], [1, 1, 0])
        self.wait(1.25)
        self.assertEqual([len(each.told()) for each in watching], [0, 0, 1])
        self.assertEqual(self.subscriber().subscribe(), 503)
        self.wait(10)
        self.assertEqual(len(self.registrar.layer.wheel), 0)

    def test_stays_after_all(self) -> None:
        """When the node shall not be left any more, whoever is still there stays."""
        watching = [self.watching() for _ in range(3)]
        self.is_left = True
        self.events.leave(1)
        self.is_left = False
        self.wait(5)
        self.assertEqual([len(each.told()) for each in watching], [1, 0, 0])

    def test_connection_ends(self) -> None:
        """A subscriber whose connection has ended is forgotten, and only that one."""
        alice, bob = self.watching(port=49160), self.watching("bob", port=49161)
        self.lose(alice.phone.flow)
        self.assertEqual([each.watcher for each in self.events.book], [BOB])
        self.bind(a_binding(DESK))
        self.wait(6)
        self.assertEqual((len(bob.told()), self.ended()), (1, {("closed",): 1}))


class FacesTests(EventsCase):
    def test_sips(self) -> None:
        """Who subscribes to a sips URI is given a sips Contact."""
        alice = self.subscriber(transport="TLS")
        request = alice.a_subscribe()
        request.uri = "sips:alice@example.com"
        self.assertEqual(alice.send(request), 200)
        self.assertEqual(alice.target.partition(":")[0], "sips")

    def test_every_transport(self) -> None:
        """Our Contact names the listener that the SUBSCRIBE came to."""
        for transport, port in (("UDP", 5060), ("TCP", 5060), ("WS", 5080)):
            with self.subTest(transport):
                alice = self.watching(transport=transport)
                self.assertIn(f"@{LISTENERS[transport].host}:{port}", alice.target)
                self.assertIsInstance(alice.phone.flow, MemoryFlow)
