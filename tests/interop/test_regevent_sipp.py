"""Subscriptions to registrations (RFC 3680): a subscriber is told everything, then what changes, until it is over.

Whoever subscribes here is sipp; what it is told it compares with what it has just registered itself.
"""

import json
from typing import Any, ClassVar

from tests.interop.script import ANY, DOMAIN, HERE, Script, has, lacks, literal, never_says, says
from tests.interop.sipp_case import EVERYBODY, EXACT, TRANSPORTS, SippCase

BRIEF = """
[bindings]
expiry_jitter = 0.0
min_expires_seconds = 1

[regevent]
min_expires_seconds = 1
notify_interval_seconds = 0.3
"""
WATCHER = "gateway-watcher"
EVENT = "Event: reg"
PHONE = "sip:phone@192.0.2.1"


def state(text: str) -> str:
    """Check what a NOTIFY says of the subscription."""
    return has("Subscription-State", text)


def document(version: int, kind: str, registration: str) -> str:
    """Check which document a NOTIFY brings, and the state of the registration in it."""
    return (says(f'<reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="{version}" state="{kind}">')
            + says(f'<registration {ANY} state="{registration}"') + has("Content-Type", "application/reginfo[+]xml"))


def contact(uri: str, status: str, event: str) -> str:
    """Check that a document tells of this contact."""
    return says(f'state="{status}" event="{event}"{ANY}<uri>{literal(uri)}</uri>')


class Watcher(Script):
    """A script that subscribes."""

    def subscribe(self, *fields: str, to: str = "", sender: str = "") -> None:
        """Ask to be told of somebody, oneself if nobody is named."""
        self.request("SUBSCRIBE", to or self.address, f"Contact: {HERE.format(user=self.user)}", EVENT, *fields,
                     sender=sender or self.address)

    def accepted(self, seconds: int) -> None:
        """Be accepted for so long, by somebody who can be asked again."""
        self.expect(200, has("Expires", str(seconds)), has("Allow-Events", "reg"), has("Contact", f"<sip:{ANY}>"),
                    lacks("Record-Route"))
        self.in_dialog()

    def told(self, *checks: str, status: int = 200) -> None:
        """Be told, and say so."""
        self.receive("NOTIFY", has("Event", "reg"), *checks)
        self.answer(status)


class RegEventTests(SippCase):
    sections: ClassVar[str] = EVERYBODY + BRIEF

    def setUp(self) -> None:
        super().setUp()
        self.alice = Watcher(self.script("alice").user)

    def register(self, expires: int = 600) -> None:
        """Register a phone, or take it away again."""
        self.alice.register(f"Contact: <{PHONE}>;expires={expires}")
        self.alice.expect(200)

    def shown(self, user: str) -> list[dict[str, Any]]:
        """Return what the admin site shows of who watches somebody."""
        answer = json.loads(self.registrar.get(f"/v1/subscriptions?aor=sip:{user}@{DOMAIN}"))
        return list(answer["subscriptions"])

    def play_everywhere(self) -> None:
        """Play the script over each transport; nobody is watched afterwards."""
        for transport in TRANSPORTS:
            self.play(self.alice, transport)
            self.assertEqual(self.shown(self.alice.user), [])

    def end(self) -> None:
        """Unsubscribe."""
        self.alice.within("SUBSCRIBE", EVENT, "Expires: 0")
        self.alice.expect(200)
        self.alice.told(state("terminated;reason=timeout"))

    def test_full_and_partial(self) -> None:
        """First everything is told, then each change with its reason, in documents that follow one another."""
        self.alice.subscribe("Expires: 60")
        self.alice.accepted(60)
        self.alice.told(state("active;expires=(59|60)"), document(0, "full", "init"), never_says("<contact "))
        self.register()
        self.alice.told(document(1, "partial", "active"), contact(PHONE, "active", "registered"))
        self.register(0)
        self.alice.told(document(2, "partial", "terminated"), contact(PHONE, "terminated", "unregistered"))
        self.end()
        self.play_everywhere()

    def test_refresh(self) -> None:
        """A refresh brings everything anew; so does the end of the subscription."""
        self.register()
        self.alice.subscribe("Expires: 30")
        self.alice.accepted(30)
        self.alice.told(document(0, "full", "active"), contact(PHONE, "active", "registered"))
        self.alice.within("SUBSCRIBE", EVENT, "Expires: 90")
        self.alice.expect(200, has("Expires", "90"))
        self.alice.told(state("active;expires=(89|90)"), document(1, "full", "active"))
        self.alice.within("SUBSCRIBE", EVENT, "Expires: 0")
        self.alice.expect(200, has("Expires", "0"))
        self.alice.told(state("terminated;reason=timeout"), document(2, "full", "active"),
                        contact(PHONE, "active", "registered"))
        self.alice.within("SUBSCRIBE", EVENT, "Expires: 60")
        self.alice.expect(481)
        self.register(0)
        self.play_everywhere()

    def test_expiry(self) -> None:
        """Who does not refresh in time is told that it is over, and nothing after that."""
        self.alice.subscribe("Expires: 1")
        self.alice.accepted(1)
        self.alice.told(document(0, "full", "init"))
        self.alice.told(state("terminated;reason=timeout"))
        self.register()
        self.register(0)
        self.alice.pause(800)
        self.play_everywhere()

    def test_fetch(self) -> None:
        """Expires 0 asks once."""
        self.register()
        self.alice.subscribe("Expires: 0")
        self.alice.accepted(0)
        self.alice.told(state("terminated;reason=timeout"), document(0, "full", "active"),
                        contact(PHONE, "active", "registered"))
        self.register(0)
        self.alice.pause(600)
        self.play_everywhere()

    def test_lapse(self) -> None:
        """A binding that lapses is told, about when it does."""
        self.register(2)
        self.alice.subscribe("Expires: 60")
        self.alice.accepted(60)
        self.alice.told(document(0, "full", "active"))
        self.alice.told(document(1, "partial", "terminated"), contact(PHONE, "terminated", "expired"))
        self.end()
        self.play_everywhere()

    def test_forgotten(self) -> None:
        """Who answers 481 is told no more."""
        self.alice.subscribe("Expires: 60")
        self.alice.accepted(60)
        self.alice.told(document(0, "full", "init"), status=481)
        self.register()
        self.register(0)
        self.alice.pause(800)
        self.play_everywhere()

    def test_shown(self) -> None:
        """The admin site shows who watches whom; a connection that ends takes the subscription with it."""
        self.alice.subscribe("Expires: 60")
        self.alice.accepted(60)
        self.alice.told(document(0, "full", "init"))
        self.alice.ready()
        self.alice.pause(1000)
        running = self.serve(self.alice, "tcp")
        (shown,) = self.shown(self.alice.user)
        self.assertEqual((shown["watcher"], shown["transport"], shown["call_id"]),
                         (self.alice.address, "TCP", self.call_id))
        running.check()
        self.assertEqual(self.shown(self.alice.user), [])

    def test_refusals(self) -> None:
        """Other events, other documents and times that are too short are refused, each with what would do."""
        self.alice.request("SUBSCRIBE", f"sip:{DOMAIN}", f"Contact: {HERE.format(user='alice')}", "Event: dialog")
        self.alice.expect(489, has("Allow-Events", "reg"))
        self.alice.subscribe("Accept: text/plain")
        self.alice.expect(406, has("Accept", "application/reginfo[+]xml"))
        self.alice.subscribe("Expires: 60", to=f"sip:somebody-else@{DOMAIN}")
        self.alice.expect(403)
        self.alice.request("OPTIONS", f"sip:{DOMAIN}")
        self.alice.expect(200, has("Allow-Events", "reg"))
        self.play_everywhere()


class WatcherTests(SippCase):
    """With passwords, and a gateway that may watch everybody."""

    sections: ClassVar[str] = EXACT + f'[regevent]\nwatchers = ["sip:{WATCHER}@{DOMAIN}"]\n'

    def watcher(self, user: str) -> Watcher:
        """Return a script of somebody who has an account."""
        return Watcher(self.subscriber(user, "secret").user)

    def asks(self, script: Watcher, aor: str) -> None:
        """Subscribe, be asked for a password, and give it."""
        script.subscribe("Expires: 60", to=aor)
        script.expect(401)
        script.subscribe("Expires: 60", "[authentication]", to=aor)

    def test_oneself(self) -> None:
        """A subscriber may watch himself, once he has proved who he is."""
        alice = self.watcher("alice")
        self.asks(alice, alice.address)
        alice.accepted(60)
        alice.told(document(0, "full", "init"))
        self.play(alice, "tcp", password="secret", auth_uri=alice.address.removeprefix("sip:"))

    def test_nobody_else(self) -> None:
        """Another subscriber he may not."""
        alice, bob = self.watcher("alice"), self.watcher("bob")
        self.asks(alice, bob.address)
        alice.expect(403)
        self.play(alice, "tcp", password="secret", auth_uri=bob.address.removeprefix("sip:"))

    def test_gateway(self) -> None:
        """The gateway may watch anybody who has an account, registered or not."""
        bob, gateway, again = self.watcher("bob"), Watcher(WATCHER), Watcher(WATCHER)
        self.registrar.add_users([(WATCHER, "secret")])
        self.asks(gateway, bob.address)
        gateway.accepted(60)
        gateway.told(document(0, "full", "init"), says(f'aor="{literal(bob.address)}"'))
        self.play(gateway, "udp", password="secret", auth_uri=bob.address.removeprefix("sip:"))
        self.asks(again, f"sip:nobody@{DOMAIN}")
        again.expect(404)
        self.play(again, "udp", password="secret", auth_uri=f"nobody@{DOMAIN}")
