"""Subscriptions to registrations at a registrar with two workers: each is told of what happens on the other."""

import json
from itertools import product
from typing import ClassVar

from tests.interop.phone import Phone, Silence
from tests.interop.test_workers import DOMAIN, SECTIONS, WorkersCase
from tests.interop.watcher import Watcher

INTERVAL_SECONDS = 0.3


class RegEventTests(WorkersCase):
    sections: ClassVar[str] = SECTIONS + f"[regevent]\nnotify_interval_seconds = {INTERVAL_SECONDS}\n"

    def phone(self, user: str, transport: str, worker: int) -> Phone:
        """Return a phone that is registered through a worker; its socket is closed with the test."""
        phone = self.registrar.phone(user, transport, worker)
        self.addCleanup(phone.close)
        return phone

    def test_told_of_the_other_worker(self) -> None:
        """Who subscribed at one worker is told of a phone that comes to and leaves another, again and again."""
        for number, (transport, worker) in enumerate(product(("TCP", "UDP"), (1, 2))):
            with self.subTest(transport=transport, worker=worker):
                user = f"watched{number}"
                watcher = Watcher(self.phone(f"watched{number}", transport, worker), f"sip:{user}@{DOMAIN}")
                own = watcher.phone.contact
                self.assertEqual(watcher.subscribe().status, 200)
                watcher.told()
                for _ in range(2):
                    other = self.phone(user, transport, 3 - worker)
                    self.settle(watcher)
                    self.assertEqual(set(watcher.table.active.values()), {own, other.contact})
                    self.assertEqual(other.register(0).status, 200)
                    self.settle(watcher)
                    self.assertEqual(list(watcher.table.active.values()), [own])

    def test_shown(self) -> None:
        """The admin site shows the subscriptions of both workers, those to one user too."""
        watchers = [Watcher(self.phone(f"shown{worker}", "TCP", worker), f"sip:shown{worker}@{DOMAIN}")
                    for worker in (1, 2)]
        for watcher in watchers:
            self.assertEqual(watcher.subscribe().status, 200)
            watcher.told()
        one = json.loads(self.registrar.get(f"/v1/subscriptions?aor=sip:shown2@{DOMAIN}"))
        self.assertEqual([each["watcher"] for each in one["subscriptions"]], [f"sip:shown2@{DOMAIN}"])
        seen, place = [], ""
        while True:
            page = json.loads(self.registrar.get(f"/v1/subscriptions?size=100{place}"))
            seen += [each["watcher"] for each in page["subscriptions"]]
            if page["next"] is None:
                break
            place = f"&after={page['next']}"
        self.assertLessEqual({f"sip:shown{worker}@{DOMAIN}" for worker in (1, 2)}, set(seen))

    def settle(self, watcher: Watcher) -> None:
        """Let a watcher take what it is told until it is told no more: a phone may try the wrong worker first."""
        watcher.told()
        try:
            while True:
                watcher.told(3 * INTERVAL_SECONDS)
        except Silence:
            return
