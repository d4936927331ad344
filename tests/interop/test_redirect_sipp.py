"""A balancer redirects calls of carriers' proxies: of sipp, and of a Kamailio that follows to the node it is told."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.capture import Capture
from tests.interop.case import TROUBLE
from tests.interop.process import LOOPBACK, Process, free_ports, wait_until
from tests.interop.script import HERE, Script, has
from tests.interop.sipp import Sipp
from tools.laboratory.balancer_node import BalancerNode

B2BUA = Path(__file__).parent / "scenarios" / "b2bua.xml"
TRANSPORTS = ("udp", "tcp")
NODES = ("fs1", "fs2")

# sipp ends after so many calls, of which each OPTIONS is one.
ENDLESS = 1_000_000

PROXY = """
listen=udp:{host}:{port}
children=1
log_stderror=yes
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "rr.so"
loadmodule "siputils.so"
loadmodule "textops.so"
loadmodule "acc.so"
loadmodule "uac_redirect.so"
request_route {{
  if (has_totag()) {{
    loose_route();
    t_relay();
    exit;
  }}
  if (is_method("CANCEL")) {{
    t_relay();
    exit;
  }}
  record_route();
  $du = "sip:{host}:{balancer}";
  t_on_failure("REDIRECTED");
  t_relay();
}}
failure_route[REDIRECTED] {{
  if (t_check_status("302")) {{
    get_redirects("1:1");
    t_relay();
  }}
}}
"""


class RedirectTests(SynchronousTestCase):
    """One balancer with two nodes that take calls."""

    balancer: ClassVar[BalancerNode]
    nodes: ClassVar[dict[str, Sipp]]
    places: ClassVar[dict[str, str]]
    port: ClassVar[int]
    _folder: ClassVar[Path]
    _runs: ClassVar[Iterator[int]]

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls._folder = Path(folder.name)
        cls._runs = iter(range(100))
        cls.port, *ports = free_ports(1 + len(NODES))
        cls.places = {name: f"{LOOPBACK}:{port}" for name, port in zip(NODES, ports, strict=True)}
        own = f"{LOOPBACK}:{cls.port}"
        cls.balancer = BalancerNode(cls._folder / "balancer", "b1", {
            "node": [{"id": name, "kind": "other", "address": place} for name, place in cls.places.items()],
            "nodes": {"poll_seconds": 0.2, "options_hosts": [LOOPBACK], "return_seconds": 0.5},
            "publication": {"publish_seconds": 0.1},
            "redirect": {"udp": [own], "tcp": [own]}}, "t0ken")
        cls.nodes = {name: cls._begun(name) for name in NODES}
        cls.balancer.start()
        cls.addClassCleanup(cls.balancer.stop)

    @classmethod
    def _begun(cls, name: str) -> Sipp:
        port = int(cls.places[name].rpartition(":")[2])
        node = Sipp(B2BUA, cls._folder / f"{name}-{next(cls._runs)}", cls.places[name], port=port, calls=ENDLESS,
                    seconds=600)
        cls.addClassCleanup(node.end)
        node.wait_listening()
        return node

    def setUp(self) -> None:
        for name in NODES:
            if not self.nodes[name].process.running:
                self.nodes[name] = self._begun(name)
        self.wait_for(**dict.fromkeys(NODES, "up"))

    def wait_for(self, **states: str) -> None:
        """Return once the balancer says that the nodes are in these states, and chooses by that."""

        def look() -> bool | None:
            nodes = self.balancer.get("/v1/nodes")["nodes"]
            return {node["id"]: node["state"] for node in nodes} == states or None

        wait_until(look, f"nodes that are {states}")

    def play(self, script: Script, transport: str = "udp", server: int = 0, calls: int = 1) -> None:
        """Let sipp play the whole script, at the balancer or at another server."""
        folder = self._folder / f"{self._testMethodName}-{next(self._runs)}"
        folder.mkdir()
        scenario = folder / "script.xml"
        scenario.write_text(script.xml)
        sipp = Sipp(scenario, folder, f"{LOOPBACK}:{server or self.port}", transport, calls=calls)
        self.addCleanup(sipp.end)
        sipp.check()

    def test_redirected(self) -> None:
        """An INVITE is answered with both nodes, the better one first, over UDP and TCP; tshark is content with it."""
        script = Script("carrier")
        script.invite("sip:+4930123@example.com")
        pattern = f"<sip:[+]4930123@{LOOPBACK}:[0-9]+>;q=1.0.*<sip:[+]4930123@{LOOPBACK}:[0-9]+>;q=0.9"
        script.refused(302, has("Contact", f"<sip:[+]4930123@{LOOPBACK}:[0-9]+>;q=1.0"))
        with Capture([(transport, self.port) for transport in TRANSPORTS], self._folder) as capture:
            for transport in TRANSPORTS:
                self.play(script, transport)
        self.assertEqual((capture.faults(), capture.unread()), ([], []))
        self.assertEqual(capture.sip().count("SIP/2.0 302 Moved Temporarily"), 2)
        sent = capture.rows("sip.Status-Code == 302", "sip.Contact")
        for contacts, in sent:
            self.assertRegex(contacts, pattern)

    def test_alive(self) -> None:
        """A proxy that asks by OPTIONS whether the balancer lives is told so."""
        script = Script("carrier")
        script.request("OPTIONS", f"sip:{LOOPBACK}:{self.port}")
        script.expect(200, has("Allow", "INVITE, ACK, CANCEL, OPTIONS"))
        for transport in TRANSPORTS:
            self.play(script, transport)

    def test_a_dead_node(self) -> None:
        """A node that does not answer gets no calls; without any the answer is 503, until one is back."""
        self.nodes["fs1"].end()
        self.wait_for(fs1="down", fs2="up")
        script = Script("carrier")
        script.invite("sip:+4930123@example.com")
        script.refused(302, has("Contact", f"<sip:[+]4930123@{self.places['fs2']}>;q=1.0"))
        self.play(script, calls=5)
        self.nodes["fs2"].end()
        self.wait_for(fs1="down", fs2="down")
        refused = Script("carrier")
        refused.invite("sip:+4930123@example.com")
        refused.refused(503, has("Retry-After", "[0-9]+"))
        self.play(refused)

    def test_drained(self) -> None:
        """A drained node gets no more calls, and gets some again when that is undone."""
        self.balancer.post("/v1/nodes/fs2/drain")
        self.addCleanup(self.balancer.post, "/v1/nodes/fs2/undrain")
        self.wait_for(fs1="up", fs2="draining")
        wait_until(lambda: self.first_contacts(1) == {self.places["fs1"]} or None, "a choice without fs2")
        self.assertEqual(self.first_contacts(10), {self.places["fs1"]})
        self.balancer.post("/v1/nodes/fs2/undrain")
        self.wait_for(fs1="up", fs2="up")
        wait_until(lambda: self.places["fs2"] in self.first_contacts(5) or None, "a choice with fs2")

    def first_contacts(self, number: int) -> set[str]:
        """Return which nodes stand first in the answers to so many calls."""
        before = self.redirected()
        script = Script("carrier")
        script.invite("sip:+4930123@example.com")
        script.refused(302)
        self.play(script, calls=number)
        after = self.redirected()
        return {self.places[name] for name in NODES if after[name] > before[name]}

    def redirected(self) -> dict[str, float]:
        return {name: self.balancer.metric("rollcall_balancer_redirections_total", node=name) for name in NODES}

    def test_kamailio_follows(self) -> None:
        """A carrier's Kamailio asks the balancer, and has the call set up at the node that it was told first."""
        port, = free_ports(1)
        config = self._folder / "kamailio.cfg"
        config.write_text(PROXY.format(host=LOOPBACK, port=port, balancer=self.port))
        proxy = Process(["kamailio", "-f", str(config), "-DD", "-E", "-m", "32", "-M", "4", "-Y", str(self._folder)],
                        self._folder / "kamailio.log")
        self.addCleanup(proxy.end)
        proxy.wait_until(lambda: _answers(port) or None, "socket")
        before = self.redirected()
        caller = Script("alice", "carrier.example")
        caller.request("INVITE", "sip:+4930123@example.com", f"Contact: {HERE.format(user='alice')}")
        caller.expect(100, optional=True)
        caller.expect(200, has("Contact", f"<sip:node@{LOOPBACK}:[0-9]+>"))
        caller.acknowledge()
        caller.pause(200)
        caller.hang_up()
        self.play(caller, server=port, calls=6)
        after = self.redirected()
        self.assertEqual(sum(after.values()) - sum(before.values()), 6)

    @classmethod
    def tearDownClass(cls) -> None:
        """Judge the log: nothing may have gone wrong in silence."""
        log = cls.balancer.log()
        trouble = [line for line in log.splitlines() if any(word in line for word in TROUBLE)]
        assert not trouble, log[-5000:]


def _answers(port: int) -> bool:
    """Tell from the kernel's table whether a UDP socket has this port."""
    return any(line.split()[1].endswith(f":{port:04X}") for line in Path("/proc/net/udp").read_text().splitlines()[1:])
