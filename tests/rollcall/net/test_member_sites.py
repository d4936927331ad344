"""Nodes of other sites: what they prove, who of them is a member, and how they are reached."""

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rollcall.net.member_flow import MemberFlow
from rollcall.net.member_handshake import Admission, AnotherLife, Called, Calling, HandshakeFailed, Life
from rollcall.net.members import REPLACED
from tests.rollcall.net.fakes import OK, OPTIONS
from tests.rollcall.net.member_nodes import MemberNode, MembersTestCase

KEY = b"k" * 32
FRA_NODE, AMS_NODE = Life("f1", 5), Life("a1", 7)
"""Each as its own site knows it."""

Refuses = Callable[[Life], str]


def everybody(life: Life) -> str:
    """Refuse nobody."""
    return ""


def fra(wanted: Life, me: Life = FRA_NODE, refuses: Refuses = everybody, site: str = "fra") -> Calling:
    """Return the end of a node at fra that calls one at ams."""
    return Calling(KEY, me, wanted, admission=Admission(site, refuses))


def ams(refuses: Refuses = everybody, me: Life = AMS_NODE) -> Called:
    """Return the end of the node at ams that is called."""
    return Called(KEY, me, admission=Admission("ams", refuses))


def run(caller: Calling, called: Called) -> None:
    """Let both prove who they are."""
    caller.receive_data(called.receive_data(caller.receive_data(called.begin())))


class HandshakeTests(SynchronousTestCase):
    def test_whoever_is_there(self) -> None:
        """A caller that knows a place alone learns who is there, and the called one who calls, from which site."""
        caller, called = fra(Life("", 0, "ams")), ams()
        run(caller, called)
        self.assertEqual((caller.member, called.member), (Life("a1", 7, "ams"), Life("f1", 5, "fra")))
        self.assertEqual(str(caller.member), "a1, epoch 7, of site ams")

    def test_certain_life(self) -> None:
        """One life of a node can be asked for, too; another that is there says which it is."""
        caller, called = fra(Life("a1", 7, "ams")), ams()
        run(caller, called)
        self.assertEqual(caller.member, Life("a1", 7, "ams"))
        caller, called = fra(Life("a1", 6, "ams")), ams()
        refused = self.assertRaises(AnotherLife, called.receive_data, caller.receive_data(called.begin()))
        error = self.assertRaises(AnotherLife, caller.receive_data, refused.reply)
        self.assertEqual(error.there, Life("a1", 7, "ams"))

    def test_other_site(self) -> None:
        """Who looks for one site is not let in at another, nor at a node that knows of none."""
        caller, called = fra(Life("", 0, "lon")), ams()
        problem = self.assertRaises(HandshakeFailed, run, caller, called)
        self.assertIn("looks for site lon", str(problem))
        self.assertRaises(HandshakeFailed, run, fra(Life("", 0, "ams")), Called(KEY, AMS_NODE))
        self.assertRaises(HandshakeFailed, run, fra(Life("", 0, "ams"), site="ams"), ams())

    def test_one_name_twice(self) -> None:
        """A node that has the name of a node of another site is refused by both, and each says why."""
        caller, called = fra(Life("", 0, "ams"), me=Life("a1", 9)), ams()
        refused = self.assertRaises(HandshakeFailed, called.receive_data, caller.receive_data(called.begin()))
        self.assertIn("different names", str(refused))
        self.assertIn("different names", str(self.assertRaises(HandshakeFailed, caller.receive_data, refused.reply)))
        self.assertEqual((caller.member, called.member), (None, None))

    def test_refused(self) -> None:
        """Either end may refuse a node of another site that has proven to be one."""

        def nobody(life: Life) -> str:
            return f"{life.site} is not ours"

        self.assertRaises(HandshakeFailed, run, fra(Life("", 0, "ams")), ams(nobody))
        self.assertRaises(HandshakeFailed, run, fra(Life("", 0, "ams"), refuses=nobody), ams())

    def test_changed_site(self) -> None:
        """The names of both sites are covered by the proof."""
        for at in (5, 6):
            caller, called = fra(Life("", 0, "ams")), ams()
            fields = caller.receive_data(called.begin()).rstrip(b"\n").split(b" ")
            fields[at] = b"bG9u"
            problem = self.assertRaises(HandshakeFailed, called.receive_data, b" ".join(fields) + b"\n")
            self.assertIn("another key", str(problem))

    def test_nobody_named(self) -> None:
        """Within a site a life has to be named, and a site's name has to be one."""
        self.assertRaises(HandshakeFailed, run, Calling(KEY, FRA_NODE, Life("", 0)), Called(KEY, AMS_NODE))
        for name in ("x" * 41, "f\xfc"):
            self.assertRaises(HandshakeFailed, run, fra(Life("", 0, "ams"), site=name), ams())

    def test_not_before(self) -> None:
        """Nodes of one name at two sites are two nodes: neither is an earlier life of the other."""
        self.assertFalse(Life("a1", 6).is_before(Life("a1", 7, "ams")))
        self.assertTrue(Life("a1", 6, "ams").is_before(Life("a1", 7, "ams")))


class ReachTests(MembersTestCase):
    """Over loopback sockets."""

    def of_site(self, site: str, name: str, epoch: int = 1) -> MemberNode:
        """Start a node of a site."""
        node = self.node(name, epoch)
        node.members.join_sites(Admission(site, everybody))
        return node

    def reach(self, here: MemberNode, there: MemberNode, site: str) -> Deferred[MemberFlow]:
        """Reach a node by its address alone."""
        return Deferred.fromCoroutine(here.members.reach(site, *there.local))

    async def test_by_address(self) -> None:
        """A node is reached by its address; requests go both ways, and who knows its life gets the same connection."""
        here, there = self.of_site("fra", "f1", 5), self.of_site("ams", "a1", 7)
        flow = await self.reach(here, there, "ams")
        self.assertEqual((flow.life, there.flows[0].life), (Life("a1", 7, "ams"), Life("f1", 5, "fra")))
        flow.write(OPTIONS)
        message, back = await there.user.messages.get()
        back.write(OK)
        self.assertEqual((message, (await here.user.messages.get())[0]), (OPTIONS, OK))
        self.assertIs(await self.reach(here, there, "ams"), flow)
        self.assertIs(await Deferred.fromCoroutine(here.members.flow("a1", 7, *there.local, site="ams")), flow)
        self.assertIs(await Deferred.fromCoroutine(there.members.flow("f1", 5, *here.local, site="fra")), back)
        self.assertEqual((len(here.flows), len(there.flows)), (1, 1))

    async def test_secure(self) -> None:
        """Sites speak TLS to each other as nodes of one do; the proof covers the connection."""
        here, there = self.tls_node("f1"), self.tls_node("a1")
        for node, site in ((here, "fra"), (there, "ams")):
            node.members.join_sites(Admission(site, everybody))
        flow = await self.reach(here, there, "ams")
        self.assertEqual((flow.secure, flow.life), (True, Life("a1", 1, "ams")))
        flow.write(OPTIONS)
        self.assertEqual((await there.user.messages.get())[0], OPTIONS)

    async def test_not_kept(self) -> None:
        """What our own site's leases say closes no connection with another site, and its end is told apart."""
        here, there = self.of_site("fra", "f1", 5), self.of_site("ams", "a1", 7)
        lost: list[str] = []
        here.members.join_sites(Admission("fra", everybody), lost.append)
        flow = await self.reach(here, there, "ams")
        here.members.keep([])
        self.assertTrue(flow.is_open)
        await there.members.stop()
        await self.until(lambda: not flow.is_open)
        await self.failure(Deferred.fromCoroutine(here.members.flow("a1", 7, *there.local, site="ams")))
        self.assertEqual((here.lost, lost), ([], ["ams"]))

    async def test_begun_anew(self) -> None:
        """A node that was started again is reached in its new life; who asks for the old one hears that it is over."""
        here, there = self.of_site("fra", "f1"), self.of_site("ams", "a1", 7)
        old = await self.reach(here, there, "ams")
        port = there.local[1]
        await there.members.stop()
        await self.until(lambda: not old.is_open)
        again = self.node("a1", 8, port=port)
        again.members.join_sites(Admission("ams", everybody))
        self.assertEqual((await self.reach(here, again, "ams")).epoch, 8)
        why = await self.failure(Deferred.fromCoroutine(here.members.flow("a1", 7, *again.local, site="ams")))
        self.assertIn("there is a1, epoch 8", why)

    async def test_same_name_as_neighbour(self) -> None:
        """A node of another site that has the name of a neighbour does not take its place."""
        here, neighbour = self.of_site("fra", "f1"), self.node("f2", 3)
        here.members.keep([neighbour.way])
        await self.until(lambda: neighbour.life in here.members.connected)
        stranger = self.of_site("ams", "f2", 9)
        await self.reach(stranger, here, "fra")
        await self.until(lambda: Life("f2", 9, "ams") in here.members.connected)
        self.assertIn(neighbour.life, here.members.connected)
        self.assertNotIn(("f2", 3, REPLACED), here.lost)

    async def test_no_sites(self) -> None:
        """Who knows of no other site lets none of its nodes in."""
        here, there = self.of_site("fra", "f1"), self.node("a1")
        await self.failure(Deferred.fromCoroutine(here.members.flow("a1", 1, *there.local, site="ams")))
        self.assertEqual(there.flows, [])
