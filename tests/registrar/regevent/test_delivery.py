"""The way of NOTIFYs: to where a subscriber spoke from, or through the proxies and names that lead to it."""

from typing import Any

from rollcall.sip.targets import Target
from tests.flows import MemoryFlow, top_branch, top_via
from tests.registrar.examples import a_binding
from tests.registrar.network import Phone
from tests.registrar.regevent.case import ALICE, EventsCase, Subscriber

DESK = "sip:alice@192.0.2.4"
PROXY = "<sip:proxy.example.net;lr>"
VIA = "SIP/2.0/TCP 192.0.2.99:5060;branch=z9hG4bK-proxy{}, SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bK-app"


class DirectTests(EventsCase):
    def notified(self, contact: str) -> MemoryFlow:
        """Subscribe by datagrams with this Contact; return the flow that the NOTIFY took."""
        alice = self.subscriber(transport="UDP")
        alice.contact = contact
        self.assertEqual(alice.subscribe(), 200)
        elsewhere = [flow for flow in self.network.flows() if flow.written]
        self.assertEqual(len(elsewhere) + len(alice.notifies), 1)
        return elsewhere[0] if elsewhere else alice.phone.flow

    def test_same_flow(self) -> None:
        """A subscriber hears us over the connection that it spoke on, whatever its Contact says."""
        alice = self.subscriber(transport="WS")
        alice.contact = "<sip:alice@df7jal23ls0d.invalid;transport=ws>"
        alice.subscribe()
        (notify,) = alice.told()
        self.assertEqual((notify.uri, top_via(notify).transport), ("sip:alice@df7jal23ls0d.invalid;transport=ws", "WS"))

    def test_behind_nat(self) -> None:
        """One that sends datagrams from behind a NAT hears us where they came from."""
        for contact in ("<sip:alice@10.0.0.7:5060>", "<sip:alice@phone.example.net>"):
            with self.subTest(contact):
                self.assertEqual(self.notified(contact).peer, ("192.0.2.20", 49152))

    def test_another_port(self) -> None:
        """One that listens on another port of its address hears us there."""
        self.assertEqual(self.notified("<sip:alice@192.0.2.20:5070>").peer, ("192.0.2.20", 5070))

    def test_via(self) -> None:
        """A NOTIFY has one Via of ours, with a branch of its own each time, and hops to go."""
        alice = self.watching()
        self.wait(5)
        self.bind(a_binding(DESK))
        (first,) = alice.told()
        self.wait(5)
        self.bind()
        (second,) = alice.told()
        self.assertEqual((len(first.values("Via")), first.get("Max-Forwards")), (1, "70"))
        self.assertNotEqual(top_branch(first), top_branch(second))


class ProxiedTests(EventsCase):
    """An application server subscribes through a proxy that records its route."""

    def setUp(self) -> None:
        super().setUp()
        (self.proxy,) = self.network.server("proxy.example.net;lr", ("TCP", "192.0.2.99", 5060))
        self.came = 0

    def subscribe(self, *headers: tuple[str, str], **changes: Any) -> Subscriber:
        """Let the application server subscribe, and take the answer that its proxy gets."""
        self.came += 1
        app = self.subscriber(port=40000)
        app.contact = "<sip:app@10.0.0.1>"
        request = app.a_subscribe(*headers, via=VIA.format(self.came), **changes)
        app.send(request)
        assert app.answer is not None
        self.assertEqual(app.answer.status, 200)
        return app

    def notified(self, server: Phone) -> list[str]:
        """Return the methods that came to a server since the last look."""
        self.wait(0.5)
        return server.heard()

    def test_route_set(self) -> None:
        """The answer repeats the Record-Route, and NOTIFYs follow it."""
        app = self.subscribe(("Record-Route", PROXY), ("Record-Route", "<sip:edge.example.net;lr>"))
        assert app.answer is not None
        self.assertEqual(app.answer.get_all("Record-Route"), [PROXY, "<sip:edge.example.net;lr>"])
        self.assertEqual((self.notified(self.proxy), app.told()), (["NOTIFY"], []))
        notify = self.proxy.requests["NOTIFY"]
        self.assertEqual(notify.get_all("Route"), [PROXY, "<sip:edge.example.net;lr>"])
        self.assertEqual(notify.uri, "sip:app@10.0.0.1")
        self.proxy.answer(200, "NOTIFY")
        self.assertEqual(self.outcomes(), {("taken",): 1})

    def test_strict_router(self) -> None:
        """A strict router in the route set gets the request that it understands."""
        (strict,) = self.network.server("strict.example.net", ("TCP", "192.0.2.98", 5060))
        self.subscribe(("Record-Route", "<sip:strict.example.net>"))
        self.assertEqual(self.notified(strict), ["NOTIFY"])
        notify = strict.requests["NOTIFY"]
        self.assertEqual((notify.uri, notify.get_all("Route")), ("sip:strict.example.net", ["<sip:app@10.0.0.1>"]))

    def test_contact_by_name(self) -> None:
        """Without a Record-Route the Contact says where to go, and the next address is tried when one is dead."""
        self.network.resolver.known["sip:app@10.0.0.1"] = [
            Target("TCP", "192.0.2.50", 5060), Target("TCP", "192.0.2.99", 5060)]
        app = self.subscribe()
        self.assertEqual((self.notified(self.proxy), app.told()), (["NOTIFY"], []))
        self.assertEqual(self.network.transports.connected, [("TCP", "192.0.2.50", 5060), ("TCP", "192.0.2.99", 5060)])

    def test_no_way(self) -> None:
        """A subscriber that cannot be found is forgotten."""
        self.subscribe()
        self.wait(0.5)
        self.assertEqual((len(self.events.book), self.outcomes()), (0, {("unreachable",): 1}))

    def test_end_of_the_proxys_connection(self) -> None:
        """The end of the connection that a proxy used is not the end of the subscription."""
        app = self.subscribe(("Record-Route", PROXY))
        self.assertEqual(self.notified(self.proxy), ["NOTIFY"])
        self.proxy.answer(200, "NOTIFY")
        self.lose(app.phone.flow)
        self.wait(5)
        self.bind(a_binding(DESK))
        self.assertEqual(self.notified(self.proxy), ["NOTIFY"])

    def test_refresh_through_the_proxy(self) -> None:
        """A refresh that comes through the proxy leaves the way as it is."""
        app = self.subscribe(("Record-Route", PROXY))
        self.assertEqual(self.notified(self.proxy), ["NOTIFY"])
        self.proxy.answer(200, "NOTIFY")
        app.send(app.a_subscribe(via=VIA.format("again")))
        self.assertEqual((self.notified(self.proxy), app.told()), (["NOTIFY"], []))
        assert app.answer is not None
        self.assertEqual((app.answer.status, app.answer.get_all("Record-Route")), (200, []))
        self.assertEqual([subscription.aor for subscription in self.events.book], [ALICE])
