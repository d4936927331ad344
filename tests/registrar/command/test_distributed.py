"""What `rollcall check` says of [dns], [health], [directors] and [tickle] beside all else."""

from registrar.command.checking import check
from registrar.config import RegistrarConfig
from rollcall.ops.config import load
from tests.registrar.command.running import CommandCase
from tests.registrar.command.test_check import NOW

LISTENERS = """
[[listen]]
name = "tcp"
transport = "tcp"
host = "0.0.0.0"
port = 5070
"""
DIRECTORS = """
[directors]
streams_by = "{streams_by}"
datagrams_by = "none"
addresses = ["192.0.2.10/24"]
directors = [{{ name = "lb1", addresses = ["192.0.2.2"] }}]
nodes = [{nodes}]
"""
NODE = '{ name = "node1", addresses = ["192.0.2.11"] }'


class DistributedTests(CommandCase):
    def findings(self, *more: str) -> list[str]:
        """Return what is found, each as one text, when these sections are added."""
        self.config.write_text(self.config.read_text() + "".join(more))
        return [f"{each.kind}: {each.text}" for each in check(load(self.config, RegistrarConfig), NOW).findings]

    def test_told(self) -> None:
        """The places of the name server and the health agent are shown, and are in the JSON."""
        more = '[dns]\nlisten = ["127.0.0.1:5353"]\n[health]\nagent = ["127.0.0.1:5090"]\n'
        self.assertEqual(self.findings(more), [])
        output = self.run_ok("check")
        self.assertIn("answers at 127.0.0.1:5353", output)
        self.assertIn("ask it for its health at 127.0.0.1:5090", output)
        printed = self.run_json("check")
        self.assertEqual((printed["dns"], printed["agent"]), ("127.0.0.1:5353", "127.0.0.1:5090"))

    def test_ports_taken(self) -> None:
        """Ports that a listener, the admin site or the cluster has are named; another protocol's is free."""
        self.assertEqual(self.findings("""
[dns]
listen = ["127.0.0.1:5060"]
[health]
agent = ["127.0.0.1:8060", "127.0.0.1:5090", "127.0.0.2:8060"]
"""), ["problem: dns.listen: 127.0.0.1 port 5060 (udp) is that of listener udp, too",
       "problem: health.agent: 127.0.0.1 port 8060 (tcp) is that of admin.port, too"])

    def test_all_addresses(self) -> None:
        """A socket for all addresses of a family has the port of each of them, and of no other family's."""
        self.assertEqual(self.findings(LISTENERS, '[health]\nagent = ["192.0.2.11:5070", "[2001:db8::11]:5070"]\n'),
                         ["problem: health.agent: 192.0.2.11 port 5070 (tcp) is that of listener tcp, too"])

    def test_internal_port(self) -> None:
        """The port between nodes is taken, too."""
        found = self.findings('[location]\nkind = "redis"\n[health]\nagent = ["0.0.0.0:5070"]\n')
        self.assertIn("problem: health.agent: 0.0.0.0 port 5070 (tcp) is that of internal_port, too", found)

    def test_directors(self) -> None:
        """What no file could be rendered of is a problem; what would work but badly is a warning."""
        text = DIRECTORS.format(streams_by="lvs", nodes="").replace("directors = ", "# ").replace(
            "[directors]", '[directors]\nvirtual_router_id = 7')
        self.assertIn("problem: [directors] nodes is empty: it names the nodes that phones are spread over",
                      self.findings(LISTENERS, text))

    def test_doubtful_directors(self) -> None:
        """A director whose PROXY headers are not expected is warned of."""
        found = self.findings(LISTENERS, DIRECTORS.format(streams_by="haproxy", nodes=NODE))
        self.assertEqual([each.partition(":")[0] for each in found], ["warning"])
        self.assertIn("proxy_protocol_from", found[0])

    def test_addresses_that_are_elsewhere(self) -> None:
        """What is bound to a virtual address without free_bind would not start: the other machine may have it."""
        listener = LISTENERS.replace("tcp", "virtual", 1).replace("0.0.0.0", "192.0.2.10").replace("5070", "5062")
        directors = DIRECTORS.format(streams_by="lvs", nodes=NODE)
        found = self.findings(LISTENERS, listener, directors, '[dns]\nlisten = ["192.0.2.10:53"]\naddresses = '
                                                              '["192.0.2.10"]\n')
        self.assertEqual([each.split(" without free_bind")[0] for each in found], [
            "warning: [[listen]] virtual is bound to 192.0.2.10", "warning: [dns] listens at 192.0.2.10:53"])
        self.config.write_text(self.config.read_text().replace("port = 5062", "port = 5062\nfree_bind = true").replace(
            "[dns]", "[dns]\nfree_bind = true"))
        self.assertEqual(self.findings(), [])

    def test_not_used(self) -> None:
        """Sections that need several nodes are of no use without Redis."""
        found = self.findings("[rebalance]\nenabled = true\n[tickle]\nenabled = true\n")
        self.assertEqual([each.split(" is not used")[0] for each in found],
                         ["warning: [rebalance]", "warning: [tickle]"])

    def test_socket(self) -> None:
        """The place of the sender of tickles is an absolute path: it is another process, which stands elsewhere."""
        self.config.write_text(self.config.read_text() + '[tickle]\nsocket = "run/tickle.sock"\n')
        self.assertIn('tickle.socket: "run/tickle.sock" is not allowed; allowed: an absolute path',
                      self.run_failing("check"))

    def test_access(self) -> None:
        """The name server uses [access], so it is not called unused, and files that are missing are a problem."""
        self.assertEqual(self.findings('[access]\nprefix_file = "prefixes.txt"\n[dns]\nlisten = ["127.0.0.1:5353"]\n'),
                         [f"problem: {self.directory}/prefixes.txt: No such file or directory ([access])"])
