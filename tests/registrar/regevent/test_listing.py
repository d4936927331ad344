"""What operators are shown of subscriptions."""

from typing import Any

from registrar.regevent.listing import Listed
from rollcall.ops.api import ApiError, Call
from tests.registrar.regevent.case import ALICE, BOB, EventsCase


class ListingTests(EventsCase):
    def ask(self, **query: str) -> dict[str, Any]:
        """Return what the admin site answers."""
        answer = self.listed.subscriptions(Call({}, query)).value
        assert isinstance(answer, dict)
        return answer

    def setUp(self) -> None:
        super().setUp()
        self.listed = Listed(self.events, self.clock.seconds)

    def test_one(self) -> None:
        """A subscription is shown with who watches whom, from where, and how long still."""
        bob = self.watching("bob", port=49170)
        self.wait(10)
        (shown,) = self.ask()["subscriptions"]
        self.assertEqual(shown, {
            "aor": ALICE, "watcher": BOB, "contact": "sip:bob@192.0.2.20:49170;transport=TCP", "call_id": bob.call_id,
            "transport": "TCP", "host": "192.0.2.20", "port": 49170, "flow": bob.phone.flow.id,
            "began_at": self.clock.seconds() - 10, "expires_seconds": 3751, "notifies": 1, "state": "resting",
        })

    def test_of_one_user(self) -> None:
        """Those to one address-of-record can be asked for, whichever way it is spelt."""
        self.watching()
        self.watching("bob", aor=BOB)
        self.assertEqual([each["aor"] for each in self.ask(aor="sips:bob@EXAMPLE.com")["subscriptions"]], [BOB])

    def test_pages(self) -> None:
        """All come page by page, each once; what has ended meanwhile is left out."""
        watching = [self.watching(transport="UDP", port=49200 + number) for number in range(3)]
        first = self.ask(size="2")
        watching[2].subscribe(("Expires", "0"))
        second = self.ask(size="2", after=first["next"])
        self.assertEqual([each["port"] for each in first["subscriptions"] + second["subscriptions"]], [49200, 49201])
        self.assertIsNone(second["next"])
        with self.assertRaises(ApiError):
            self.ask(after=first["next"])

    def test_metrics(self) -> None:
        """Prometheus reads how many there are."""
        self.watching()
        self.assertEqual(self.registrar.counted("rollcall_reg_subscriptions"), 1)
