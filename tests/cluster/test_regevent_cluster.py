"""Subscriptions to registrations in a cluster: whoever watches on one node is told of what happens on the others."""

from time import monotonic
from typing import ClassVar

from tests.cluster.case import ClusterCase, spread
from tests.interop.phone import Phone, Silence
from tests.interop.watcher import Watcher
from tools.laboratory.filling import LabUser
from tools.laboratory.lab import DOMAIN
from tools.laboratory.node import Node

GATEWAY = "user1"
INTERVAL_SECONDS = 0.5
LEASE_SECONDS = 1.5
CHANGES = 20


class RegEventCase(ClusterCase):
    """A gateway that may watch everybody, and phones, each of another user."""

    users = 20
    sections = f"""
[bindings]
expiry_jitter = 0.0
min_expires_seconds = 1

[regevent]
watchers = ["sip:{GATEWAY}@{DOMAIN}"]
notify_interval_seconds = {INTERVAL_SECONDS}

[cluster]
lease_seconds = {LEASE_SECONDS}
renew_seconds = 0.5
"""
    _next_user: ClassVar[int] = 1

    def user(self) -> LabUser:
        """Return a user whom no other test knows."""
        user = self.lab.users[RegEventCase._next_user]
        RegEventCase._next_user += 1
        return user

    def phone(self, user: LabUser, node: int, transport: str = "TCP") -> Phone:
        """Return a phone that is connected to a node."""
        phone = Phone(transport, self.lab.registrars[node].tcp, user.username, self.lab.domain, user.password)
        self.addCleanup(phone.close)
        return phone

    def registered(self, user: LabUser, node: int, transport: str = "TCP", expires: int = 600) -> Phone:
        """Return a phone that has registered at a node."""
        phone = self.phone(user, node, transport)
        answer = phone.register(expires)
        self.assertEqual(answer.status, 200)
        return phone

    def watcher(self, watched: LabUser, node: int, transport: str = "TCP") -> Watcher:
        """Return the gateway, which watches somebody on a node and was told everything."""
        watcher = Watcher(self.phone(self.lab.users[0], node, transport), f"sip:{watched.username}@{self.lab.domain}")
        self.assertEqual(watcher.subscribe().status, 200)
        document = watcher.told()[1]
        assert document is not None
        self.assertTrue(document.is_full)
        return watcher


class NodesTests(RegEventCase):
    """All nodes live."""

    def test_registered_elsewhere(self) -> None:
        """Who watches on one node is told of a phone that registers on another, refreshed there or on a third."""
        for transport in ("TCP", "UDP"):
            with self.subTest(transport):
                user = self.user()
                watcher = self.watcher(user, 0, transport)
                phone = self.registered(user, 1)
                self.assertEqual(watcher.events(), [(phone.contact, "active", "registered")])
                other = self.registered(user, 2)
                self.assertEqual(watcher.events()[-1], (other.contact, "active", "registered"))
                self.assertEqual(set(watcher.table.active.values()), {phone.contact, other.contact})
                self.assertEqual(phone.register(0).status, 200)
                self.assertEqual(watcher.events(), [(phone.contact, "terminated", "unregistered")])
                other.close()
                self.assertEqual(watcher.events(), [(other.contact, "terminated", "deactivated")])
                self.assertEqual(watcher.table.state, "terminated")

    def test_time(self) -> None:
        """A change on another node is told within the pause between two NOTIFYs, at once after a rest."""
        user = self.user()
        watcher, phone = self.watcher(user, 0), self.phone(user, 1, "UDP")
        times = []
        for number in range(CHANGES):
            # Longer than the pause: what is measured is the way from node to node.
            self._rest(watcher)
            began = monotonic()
            self.assertEqual(phone.register(0 if number % 2 else 600).status, 200)
            watcher.told()
            times.append(watcher.notified_at - began)
        self.figure(f"from a REGISTER on one node to the NOTIFY of another: {spread(times)}")
        self.assertLess(sorted(times)[CHANGES // 2], INTERVAL_SECONDS / 2)

    def _rest(self, watcher: Watcher) -> None:
        with self.assertRaises(Silence):
            watcher.phone.receive(INTERVAL_SECONDS + 0.1)

    def test_lapse(self) -> None:
        """A binding that lapses is told on whatever node it was made."""
        user = self.user()
        phone = self.registered(user, 1, "UDP", expires=2)
        watcher = self.watcher(user, 2)
        self.assertEqual(watcher.events(), [(phone.contact, "terminated", "expired")])

    def test_refreshed_through_another_node(self) -> None:
        """A refresh that comes to another node is answered by the one that has the subscription."""
        user = self.user()
        watcher, phone = self.watcher(user, 0), self.registered(user, 1)
        watcher.told()
        other = self.phone(self.lab.users[0], 2)
        answer = watcher.subscribe(120, over=other)
        self.assertEqual((answer.status, answer.get("Expires")), (200, "120"))
        notify, document = watcher.told()
        assert document is not None
        self.assertTrue(document.is_full)
        self.assertIn("active;expires=1", notify.get("Subscription-State") or "")
        self.assertEqual(document.events, [(phone.contact, "active", "registered")])
        self.assertEqual([len(self.shown(node, user)) for node in range(3)], [1, 0, 0])
        self.assertEqual(watcher.subscribe(0, over=other).status, 200)
        self.assertEqual(watcher.told()[0].get("Subscription-State"), "terminated;reason=timeout")

    def shown(self, node: int, user: LabUser) -> list[object]:
        """Return what a node's admin site shows of who watches somebody."""
        answer = self.lab.registrars[node].get(f"/v1/subscriptions?aor=sip:{user.username}@{self.lab.domain}")
        return list(answer["subscriptions"])


class RedisAwayTests(RegEventCase):
    """Redis hangs for a while."""

    def test_told_afterwards(self) -> None:
        """What happens elsewhere while Redis hangs is told when it is back; what is bound here is told at once."""
        user, near = self.user(), self.user()
        watcher, other = self.watcher(user, 0), self.watcher(near, 0)
        redis = self.lab.redis.servers[0].pid
        self.lab.redis.pause(redis)
        self.addCleanup(self.lab.redis.resume, redis)
        phone, here = self.registered(user, 1), self.registered(near, 0)
        self.assertEqual(other.events(), [(here.contact, "active", "registered")])
        with self.assertRaises(Silence):
            watcher.phone.receive(INTERVAL_SECONDS)
        self.lab.redis.resume(redis)
        began = monotonic()
        self.assertEqual(watcher.events(), [(phone.contact, "active", "registered")])
        self.figure(f"{(watcher.notified_at - began) * 1000:.0f} ms from the return of Redis to the NOTIFY")


class DeathTests(RegEventCase):
    """Nodes end."""

    def node_that_ends(self, number: int) -> Node:
        """Return a node that runs again after the test."""
        node = self.lab.registrars[number]
        self.addCleanup(lambda: None if node.running else node.start())
        return node

    def test_phones_node_dies(self) -> None:
        """When a node dies its phones are told to be gone, with the lease at the latest, and then to be back."""
        user, stays = self.user(), self.user()
        phone, datagrams = self.registered(user, 1), self.registered(stays, 1, "UDP")
        watcher, other = self.watcher(user, 0), self.watcher(stays, 2)
        began = monotonic()
        self.node_that_ends(1).kill()
        self.assertEqual(watcher.events(), [(phone.contact, "terminated", "deactivated")])
        self.figure(f"{(watcher.notified_at - began) * 1000:.0f} ms from a node's death to the NOTIFY of another node, "
                    f"with a lease of {LEASE_SECONDS} s")
        self.assertLess(watcher.notified_at - began, 2 * LEASE_SECONDS)
        back = self.registered(user, 2)
        self.assertEqual(watcher.events(), [(back.contact, "active", "registered")])
        # What came in datagrams outlives the node.
        self.assertEqual(list(other.table.active.values()), [datagrams.contact])
        with self.assertRaises(Silence):
            other.phone.receive(INTERVAL_SECONDS)

    def test_watchers_node_dies(self) -> None:
        """When the node of a subscription dies, a refresh elsewhere is told that it is gone, and a new one is made."""
        user = self.user()
        watcher = self.watcher(user, 0)
        self.node_that_ends(0).kill()
        other = self.phone(self.lab.users[0], 1)
        deadline = monotonic() + 4 * LEASE_SECONDS
        while (status := watcher.subscribe(over=other).status) == 503 and monotonic() < deadline:
            continue
        self.assertEqual(status, 481)
        self.lab.registrars[0].start()
        again = self.phone(self.lab.users[0], 0)
        self.assertEqual(watcher.subscribe(over=again).status, 481)
        self.assertEqual(list(self.watcher(user, 0).table.active), [])

    def test_watchers_node_stops(self) -> None:
        """A node that is stopped tells its subscribers to subscribe again, and another takes them."""
        user = self.user()
        phone = self.registered(user, 1)
        watcher = self.watcher(user, 2)
        self.node_that_ends(2).stop()
        # Nobody waits for an answer any more.
        self.assertEqual(watcher.phone.request().get("Subscription-State"), "terminated;reason=deactivated")
        self.assertEqual(list(self.watcher(user, 0).table.active.values()), [phone.contact])
