"""Who hears of connections that turn out to be of use, and which of them have no proxy in between."""

from rollcall.net.connection import ConnectionFlow
from rollcall.net.flow import Flow
from tests.rollcall.net.engines import EngineTestCase
from tests.rollcall.net.fakes import OPTIONS
from tests.rollcall.net.phones import a_usual_register
from tests.rollcall.net.test_accepting import AcceptingTestCase
from tests.rollcall.net.test_proxy_protocol import header


class Told:
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Flow]] = []

    def confirmed(self, flow: ConnectionFlow) -> None:
        """See FlowWatcher."""
        self.heard.append(("confirmed", flow))

    def gone(self, flow: ConnectionFlow) -> None:
        """See FlowWatcher."""
        self.heard.append(("gone", flow))


class EngineWatchingTests(EngineTestCase):
    def test_usual_registers(self) -> None:
        """The first REGISTER of a connection is told and no further one, and so is its end."""
        told = self.connections.watcher = Told()
        phone = self.phone()
        self.until(self.connections.flows)
        (flow,) = self.connections.flows()
        self.assertEqual(told.heard, [])
        for _ in range(3):
            phone.send(a_usual_register())
            self.until(phone.look)
        self.assertEqual(told.heard, [("confirmed", flow)])
        self.assertEqual((flow.came_directly, flow.local), (True, self.address))
        phone.socket.close()
        self.until(lambda: len(told.heard) > 1)
        self.assertEqual(told.heard[1:], [("gone", flow)])


class WatchingTests(AcceptingTestCase):
    def test_behind_a_proxy(self) -> None:
        """A connection whose client a PROXY header names has come by another kernel; the proxy's own has not."""
        self.listen(proxy_protocol_from=("10.0.0.0/8",))
        for preface, is_direct in ((header(), False), (header(b"", command=0x20), True)):
            wire = self.connect("10.1.2.3", 1)
            assert wire is not None
            wire.receive(preface + OPTIONS)
            _, flow = self.net.user.messages[-1]
            assert isinstance(flow, ConnectionFlow)
            self.assertIs(flow.came_directly, is_direct)
            wire.end()

    def test_nobody_watches(self) -> None:
        """Without a watcher a first request and the end of its connection are as ever."""
        self.listen()
        wire = self.connect()
        assert wire is not None
        wire.receive(OPTIONS)
        ((_, flow),) = self.net.user.messages
        flow.confirm()
        wire.end()
        self.assertEqual(self.net.user.closed, [(flow, "closed by the peer")])
