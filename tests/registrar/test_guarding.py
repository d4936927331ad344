"""Tests of who is not listened to after too many wrong passwords, and who is all the same."""

from functools import partial

from twisted.internet.defer import Deferred
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import provider

from registrar.auth import Accepted, AuthConfig, Authentication, Challenge, StoreUnavailable, Subscriber
from registrar.bans import BansConfig
from registrar.subscribers.memory import MemorySubscribers
from rollcall.sip.headers import parse_authorization
from rollcall.sip.message import Response
from tests.registrar.joined import DOMAIN, Client, Registrar, done

OFFICE, ELSEWHERE = "192.0.2.20", "198.51.100.9"
LIMITS = BansConfig(per_user_and_source=3, per_source=6, per_user=5, ban_seconds=60, window_seconds=100)
REFUSED = (403, "Too Many Wrong Passwords")


class GuardingCase(SynchronousTestCase):
    takes_short_way = True

    def setUp(self) -> None:
        self.registrar = Registrar(bans=LIMITS, takes_short_way=self.takes_short_way)
        self.port = 50_000

    def client(self, name: str = "alice", host: str = OFFICE, transport: str = "TCP") -> Client:
        """Return a phone with the right password, from a port of its own."""
        self.port += 1
        return self.registrar.client(name, transport, host=host, port=self.port)

    def guess(self, name: str = "alice", times: int = 1, host: str = OFFICE, password: str = "guess") -> list[int]:
        """Let somebody try passwords; return what he was answered."""
        guesser = self.client(name, host)
        guesser.password = password
        return [self.try_once(guesser).status for _ in range(times)]

    def try_once(self, guesser: Client) -> Response:
        """Let a phone answer a new challenge with its password."""
        guesser.challenge = {}
        return guesser.register("sip:guesser@203.0.113.1")

    def register(self, phone: Client) -> int:
        return phone.register(f"sip:{phone.name}@{phone.flow.peer[0]}:{phone.flow.peer[1]}").status

    def banned(self) -> list[str]:
        return [ban.kind for ban in self.registrar.guarding.bans.current(self.registrar.clock.seconds())]


class GuardingTests(GuardingCase):
    def test_guesser(self) -> None:
        """After so many wrong passwords a guesser hears no more than that, even for the right one."""
        self.assertEqual(self.guess(times=5), [401, 401, 401, 403, 403])
        refused = self.try_once(self.client())
        self.assertEqual((refused.status, refused.reason), REFUSED)
        self.assertEqual(self.registrar.bound("alice"), [])
        self.assertEqual(self.registrar.counts("rollcall_authentications_total")[("banned",)], 3)

    def test_unknown_user(self) -> None:
        """Who guesses at a user that there is none of hears the same as for one that there is."""
        self.assertEqual(self.guess("nobody", times=5), self.guess(times=5))

    def test_end(self) -> None:
        """When the ban has ended the right password is good again."""
        self.guess(times=4)
        phone = self.client()
        self.assertEqual(self.register(phone), 403)
        self.registrar.clock.advance(60)
        self.assertEqual(self.register(phone), 200)

    def test_registered_over_connection(self) -> None:
        """A phone that is registered stays so whatever is guessed from its address, about itself too."""
        phone = self.client()
        self.assertEqual(self.register(phone), 200)
        self.guess(times=4)
        self.guess("bob", times=4)
        self.assertEqual(self.banned(), ["pair", "pair", "source"])
        self.assertEqual(self.register(phone), 200)
        self.assertEqual(self.register(self.client()), 403)

    def test_registered_in_datagrams(self) -> None:
        """So does one that registers in datagrams, from the same address and port."""
        phone = self.client(transport="UDP")
        self.assertEqual(self.register(phone), 200)
        self.guess(times=4)
        self.assertEqual(self.register(phone), 200)
        self.assertEqual(self.register(self.client(transport="UDP")), 403)

    def test_new_password_over_its_flow(self) -> None:
        """Over the connection of its binding a phone may be given the right password after many wrong ones."""
        phone = self.client()
        self.register(phone)
        right, phone.password = phone.password, "old"
        self.assertEqual([self.try_once(phone).status for _ in range(9)], [401] * 9)
        phone.password = right
        self.assertEqual(self.try_once(phone).status, 200)
        self.assertEqual(self.banned(), ["pair"])

    def test_another_user_over_that_flow(self) -> None:
        """A phone's own connection is no place to guess at other users."""
        phone = self.client("bob")
        self.register(phone)
        guesser = Client(self.registrar, "alice", phone.flow)
        guesser.password = "guess"
        self.assertEqual([self.try_once(guesser).status for _ in range(4)], [401, 401, 401, 403])

    def test_office(self) -> None:
        """From a banned source a user with a binding from that host is let in anew, and no other."""
        phone = self.client("bob")
        self.register(phone)
        for name in ("alice", "carol"):
            self.guess(name, times=3)
        self.assertEqual(self.banned(), ["pair", "pair", "source"])
        self.assertEqual(self.register(self.client("bob")), 200)
        self.assertEqual(self.register(self.client("bob", ELSEWHERE)), 200)
        self.assertEqual(self.guess("dave"), [403])

    def test_link_returns(self) -> None:
        """A phone whose connection has ended comes back to the same banned address, for a while, and nowhere else."""
        phone = self.client("bob")
        self.register(phone)
        for name in ("alice", "carol"):
            self.guess(name, times=3)
        self.registrar.lose(phone.flow)
        self.assertEqual(self.registrar.bound("bob"), [])
        self.assertEqual(self.register(self.client("bob")), 200)
        self.assertEqual(self.guess("dave"), [403])

    def test_link_stays_away(self) -> None:
        """Who has left long ago, or from elsewhere, waits for the end of the ban."""
        limits = BansConfig(per_user_and_source=3, per_source=6, ban_seconds=9000, window_seconds=100)
        self.registrar = Registrar(bans=limits, takes_short_way=self.takes_short_way)
        phones = [self.client("bob"), self.client("dave", ELSEWHERE)]
        for phone in phones:
            self.register(phone)
        for name in ("alice", "carol"):
            self.guess(name, times=3)
        for phone in phones:
            self.registrar.lose(phone.flow)
        self.assertEqual(self.register(self.client("dave")), 403)
        self.registrar.clock.advance(3601)
        self.assertEqual(self.register(self.client("bob")), 403)

    def test_user_from_anywhere(self) -> None:
        """A user who is banned everywhere is let in where he is registered, and nowhere else."""
        self.register(self.client())
        for number in range(3):
            self.guess(times=2, host=f"203.0.113.{number}")
        self.assertEqual(self.banned(), ["user"])
        self.assertEqual(self.register(self.client(host=ELSEWHERE)), 403)
        self.assertEqual(self.register(self.client()), 200)

    def test_lapsed(self) -> None:
        """A binding that has lapsed excuses nobody."""
        phone = self.client("bob", transport="UDP")
        phone.register(f"sip:bob@{OFFICE}", expires=60)
        self.registrar.clock.advance(59)
        for name in ("alice", "carol"):
            self.guess(name, times=3)
        self.registrar.clock.advance(2)
        self.assertEqual(self.guess("bob", password="builder-8"), [403])

    def test_call(self) -> None:
        """Who guesses by calls is banned for calls and registrations; the phone of that user goes on to call."""
        phone = self.client()
        self.register(phone)
        guesser = self.client()
        guesser.password = "guess"
        statuses = [self.call(guesser) for _ in range(5)]
        self.assertEqual(statuses, [407, 407, 407, 403, 403])
        self.assertEqual(self.try_once(guesser).status, 403)
        phone.challenge = {}
        self.assertEqual(self.call(phone), 480)

    def call(self, caller: Client) -> int:
        """Let a phone call bob, answer the challenge, and return the final answer."""
        uri = f"sip:bob@{DOMAIN}"
        caller.cseq += 1
        caller.send(caller.request("MESSAGE", uri, callee=f"<{uri}>"))
        caller.take_challenge(caller.flow.take_response())
        proof = (("Proxy-Authorization", caller.credentials("MESSAGE", uri)),)
        caller.send(caller.request("MESSAGE", uri, callee=f"<{uri}>", headers=proof))
        return caller.flow.take_response().status

    def test_log(self) -> None:
        """Each ban is told once, with the address first and the name last."""
        told: list[str] = []

        @provider(ILogObserver)
        def note(event: LogEvent) -> None:
            if event.get("log_namespace") == "registrar.guarding.Guarding":
                told.append(formatEvent(event))

        globalLogPublisher.addObserver(note)
        self.addCleanup(globalLogPublisher.removeObserver, note)
        for name in ("alice", "bob"):
            self.guess(name, times=9)
        for number in range(2):
            self.guess("carol", times=3, host=f"203.0.113.{number}")
        self.assertEqual(told, [
            f"banned {OFFICE} as one user for 60 s: 3 wrong passwords for alice@{DOMAIN}",
            f"banned {OFFICE} as one user for 60 s: 3 wrong passwords for bob@{DOMAIN}",
            f"banned {OFFICE} for 60 s: 6 wrong passwords",
            f"banned 203.0.113.0 as one user for 60 s: 3 wrong passwords for carol@{DOMAIN}",
            f"banned one user from anywhere for 60 s: 5 wrong passwords for carol@{DOMAIN}",
        ])

    def test_metrics(self) -> None:
        """Prometheus sees who was banned, who is, and how many counts there are."""
        self.guess(times=4)
        self.assertEqual(self.registrar.counts("rollcall_bans_total"), {("pair",): 1})
        self.assertEqual(self.registrar.counts("rollcall_banned"), {("pair",): 1})
        self.assertEqual(self.registrar.counts("rollcall_ban_counts"), {(): 2})
        self.registrar.clock.advance(60)
        self.assertEqual(self.registrar.counts("rollcall_banned"), {})
        self.assertEqual(self.registrar.counts("rollcall_bans_total"), {("pair",): 1})

    def test_bindings_unknown(self) -> None:
        """While it cannot be said whether somebody is registered he is asked to come later, not sent away."""
        self.guess(times=3)
        self.registrar.location.down = True
        self.assertEqual(self.guess(), [503])

    def test_forged_source(self) -> None:
        """Nobody has an office banned by datagrams that seem to come from there: he gets no nonce for them."""
        forged = self.client(transport="UDP")
        for host, transport in ((ELSEWHERE, "UDP"), (ELSEWHERE, "TCP"), (OFFICE, "TCP")):
            guesser = self.client("bob", host=host, transport=transport)
            self.assertEqual(self.register(guesser), 200)
            forged.password = "guess"
            forged.challenge = guesser.challenge
            for _ in range(9):
                answer = forged.register("sip:alice@203.0.113.1")
                self.assertIn("stale=true", answer.get("WWW-Authenticate") or "")
            forged.password = "wonderland-7"
            answer = forged.register("sip:alice@203.0.113.1")
            # Nor does it tell a right guess.
            self.assertEqual((answer.status, self.registrar.bound("alice")), (401, []))
        self.assertEqual((self.banned(), self.registrar.guarding.bans.counted), ([], 0))
        self.assertEqual(self.register(self.client()), 200)

    def test_nonce_of_datagrams(self) -> None:
        """A nonce that came in a datagram is good for datagrams from the same host, and over any connection."""
        phone = self.client(transport="UDP")
        self.assertEqual(self.register(phone), 200)
        for transport, port in (("UDP", 1234), ("TCP", 1235)):
            other = self.registrar.client("alice", transport, host=OFFICE, port=port)
            other.challenge, other.nc = phone.challenge, phone.nc
            self.assertEqual(self.register(other), 200)
            phone.nc = other.nc

    def test_members(self) -> None:
        """What comes from another node was let in there: nothing of it counts, nothing is refused."""
        guarding, now = self.registrar.guarding, self.registrar.clock.seconds()
        self.guess(times=3)
        flow = self.client().flow
        flow.member = "n2"
        for each in (flow, None):
            refused = self.successResultOf(Deferred.fromCoroutine(guarding.refuses("alice", DOMAIN, each, now)))
            self.assertEqual((refused, guarding.suspect("bob", DOMAIN, each, now)), (False, False))


class ManyAtOnceTests(SynchronousTestCase):
    """Somebody sends his guesses all at once, while the store takes its time."""

    def setUp(self) -> None:
        self.registrar = Registrar(bans=LIMITS)
        self.store: list[Deferred[None]] = []
        self.newest: list[Deferred[None]] = []
        self.authentication = Authentication.with_secrets(
            partial(self.wait, self.store), [b"a secret for nonces"], AuthConfig(),
            look_again=partial(self.wait, self.newest), guard=self.registrar.guarding)

    async def wait(self, waiting: "list[Deferred[None]]", username: str, domain: str) -> Subscriber | None:
        """Find a user, once the test lets it."""
        gate: Deferred[None] = Deferred()
        waiting.append(gate)
        await gate
        return await self.registrar.subscribers.find(username, domain)

    def ask(self, password: str) -> "Deferred[Accepted | Challenge]":
        """Let somebody prove this password of alice's."""
        now, client = self.registrar.clock.seconds(), self.registrar.client()
        challenge = self.authentication.ask("", DOMAIN, now)
        client.challenge = parse_authorization(challenge.headers[0][1]).params
        client.password = password
        request = client.a_register("sip:alice@203.0.113.1")
        return Deferred.fromCoroutine(self.authentication.authenticate(request, DOMAIN, now, flow=client.flow))

    def let_pass(self, waiting: "list[Deferred[None]]") -> None:
        gates = waiting[:]
        del waiting[:]
        for gate in gates:
            gate.callback(None)

    def test_slow_store(self) -> None:
        """However many guesses wait for the hash, only so many are looked at; the right one behind them is not."""
        asking = [self.ask(password) for password in (*["guess"] * 9, "wonderland-7")]
        self.let_pass(self.store)
        self.let_pass(self.newest)
        causes = [getattr(self.successResultOf(each), "cause", "accepted") for each in asking]
        self.assertEqual(causes, ["bad_password"] * 3 + ["banned"] * 7)

    def test_slow_second_look(self) -> None:
        """Nor does it help that somebody newer is looked for meanwhile."""
        asking = [self.ask("guess") for _ in range(3)]
        self.let_pass(self.store)
        self.assertEqual(len(self.newest), 3)
        late = self.ask("wonderland-7")
        self.assertEqual(getattr(self.successResultOf(late), "cause", ""), "banned")
        self.let_pass(self.newest)
        self.assertEqual([getattr(self.successResultOf(each), "cause", "") for each in asking], ["bad_password"] * 3)

    def test_new_password(self) -> None:
        """A proof that is right by what is newer counts for nothing."""
        for _ in range(4):
            right, self.registrar.subscribers = self.registrar.subscribers, MemorySubscribers()
            done(self.registrar.subscribers.start())
            asking = self.ask("wonderland-7")
            self.let_pass(self.store)
            self.registrar.subscribers = right
            self.let_pass(self.newest)
            self.assertIsInstance(self.successResultOf(asking), Accepted)
        self.assertEqual(len(self.registrar.guarding.bans), 0)

    def test_store_away(self) -> None:
        """That nobody can be looked up is no wrong password."""
        for _ in range(9):
            asking = self.ask("wonderland-7")
            self.store.pop().errback(StoreUnavailable("no server answers"))
            self.failureResultOf(asking, StoreUnavailable)
        self.assertEqual(self.registrar.guarding.bans.counted, 0)


class GuardingWholeWayTests(GuardingTests):
    """The same where no REGISTER is answered at once."""

    takes_short_way = False
