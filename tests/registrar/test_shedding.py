"""Who is let in while answers take too long: known devices first, calls in any case, and everybody in the end."""

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from registrar.admission import AdmissionConfig
from registrar.avalanche.config import AvalancheConfig
from registrar.records import BindingConfig
from registrar.shedding import Shedding, watch_shedding
from rollcall.sip.message import Response
from tests.registrar.joined import Client, LaterLocation, Registrar

CONTACT = "sip:alice@192.0.2.20:49152"
BOBS = "sip:bob@192.0.2.20:49160"
LATE = 0.4
"""Too late for strangers, and in time for who is known."""
VERY_LATE = 0.8
"""Too late for these, and in time for who refreshes."""
JITTER = 0.1


class SheddingCase(SynchronousTestCase):
    """A registrar that can be told how late it is, alice's phone, which it does not know, and bob's, which it does."""

    takes_short_way = True
    config = AvalancheConfig(start_rate=20.0)
    location: Any = None
    admission: AdmissionConfig | None = None

    def setUp(self) -> None:
        """Join everything."""
        settings = {} if self.location is None else {"location": self.location}
        self.registrar = Registrar(bindings=BindingConfig(expiry_jitter=JITTER), takes_short_way=self.takes_short_way,
                                   admission=self.admission, **settings)
        registrar = self.registrar
        requests: Any = registrar.requests
        self.shedding = Shedding(
            self.config, JITTER, domains=registrar.domains, records=registrar.location.records,
            authentication=requests._registering._authentication, has_left=registrar.guarding.has_left,
            admits=requests._admission.admits,
            answered=registrar.observing.registers_answered, now=registrar.clock.seconds,
            later=registrar.layer.wheel.call_later)
        self.shedding.on_jitter += [requests._registering.spread, requests._short_way.spread]
        registrar.requests.shed_by(self.shedding)
        registrar.observing.bound_first = self.shedding.bound_first
        registrar.observing.register_took = self.shedding.load.answer_took
        watch_shedding(registrar.metrics, self.shedding)
        self.alice = registrar.client("alice")
        self.bob = registrar.client("bob", port=49160)

    def be_late(self, seconds: float, periods: int = 4) -> None:
        """Let those who wait longest wait so long for some periods."""
        for _ in range(periods):
            self.shedding.load.waited(seconds, self.registrar.clock.seconds())
            self.registrar.clock.advance(0.11)

    def ask(self, phone: Client, *contacts: str) -> Response:
        """Return the answer to one REGISTER."""
        phone.send(phone.a_register(*(contacts or (CONTACT,))))
        return phone.flow.take_response()

    def refused(self) -> dict[str, int]:
        """Return who was turned away."""
        return {kind: count for kind, count in self.shedding.refused.items() if count}


class OrderTests(SheddingCase):
    """Who is turned away first, and who last."""

    def test_in_time(self) -> None:
        """While answers are in time nobody is turned away, however many come and whatever the rate is."""
        for _ in range(100):
            self.assertEqual(self.ask(self.alice).status, 401)
            self.alice.move()
        self.be_late(0.2)
        self.assertEqual(self.ask(self.alice).status, 401)
        self.assertEqual(self.refused(), {})

    def test_strangers_first(self) -> None:
        """Somebody without credentials and without a record gets a 503; the next one a later time, as there is room."""
        self.be_late(LATE)
        for phone, seconds in ((self.alice, "1"), (self.bob, "2")):
            answer = self.ask(phone)
            self.assertEqual((answer.status, answer.get("Retry-After")), (503, seconds))
        self.assertEqual(self.refused(), {"unknown": 2})

    def test_who_has_our_nonce(self) -> None:
        """Who was challenged already may answer that while strangers are turned away."""
        self.alice.take_challenge(self.ask(self.alice))
        self.be_late(LATE)
        self.assertEqual(self.ask(self.alice).status, 200)

    def test_foreign_nonce(self) -> None:
        """A nonce that is none of ours makes nobody known."""
        self.alice.take_challenge(self.ask(self.alice))
        self.alice.challenge["nonce"] = "A" * len(self.alice.challenge["nonce"])
        self.be_late(LATE)
        self.assertEqual(self.ask(self.alice).status, 503)

    def test_who_was_here(self) -> None:
        """Who was bound a short while ago is known though he comes without credentials; when it is worse he waits."""
        self.assertEqual(self.bob.register(BOBS).status, 200)
        self.registrar.lose(self.bob.flow)
        self.bob.move(49170)
        self.bob.challenge = {}
        self.be_late(LATE)
        self.assertEqual(self.ask(self.bob, BOBS).status, 401)
        self.be_late(VERY_LATE)
        self.assertEqual(self.ask(self.bob, BOBS).status, 503)
        self.assertEqual(self.refused(), {"known": 1})

    def test_refreshes_last(self) -> None:
        """Who refreshes what is bound over its own connection is answered when all others are turned away."""
        self.assertEqual(self.bob.register(BOBS).status, 200)
        self.be_late(VERY_LATE)
        self.assertEqual(self.ask(self.bob, BOBS).status, 200)
        self.be_late(9 * 0.3)
        self.assertEqual(self.ask(self.bob, BOBS).status, 503)
        self.assertEqual(self.refused(), {"bound": 1})

    def test_calls(self) -> None:
        """Requests of any other kind are none of its business, however late it is."""
        self.assertEqual(self.bob.register(BOBS).status, 200)
        self.be_late(10.0)
        self.alice.cseq += 1
        self.alice.send(self.alice.request("OPTIONS", "sip:example.com"))
        self.assertEqual(self.alice.statuses(), [200])
        self.bob.cseq += 1
        self.bob.send(self.bob.request("INVITE", "sip:nobody@example.com"))
        self.assertNotIn(503, self.bob.statuses())

    def test_other_domains(self) -> None:
        """Who registers elsewhere or nowhere hears at once what is wrong with that."""
        self.be_late(LATE)
        for to in ("sip:alice@example.net", "tel:+15551234"):
            self.alice.send(self.alice.a_register(CONTACT, to=to))
            self.assertIn(self.alice.flow.take_response().status, (400, 404, 401))


class WholeWayOrderTests(OrderTests):
    """The same for phones whose requests all take the whole way."""

    takes_short_way = False


class AppointmentTests(SheddingCase):
    """Nobody is turned away twice who comes when he was asked to."""

    def test_kept(self) -> None:
        """At his time a stranger is challenged and bound, however late it is then."""
        self.be_late(LATE)
        seconds = int(self.ask(self.alice).get("Retry-After") or 0)
        self.registrar.clock.advance(seconds - 0.33)
        self.be_late(10.0)
        self.assertEqual(self.alice.register(CONTACT).status, 200)
        counts = self.registrar.counts("rollcall_avalanche_appointments_total")
        self.assertEqual(counts, {("booked",): 1, ("kept",): 1})

    def test_too_early(self) -> None:
        """Who asks again at once hears when to come, and has still one appointment only."""
        self.be_late(LATE)
        for name in range(40):
            self.ask(self.registrar.client(f"user{name}", port=50000 + name))
        first = self.ask(self.alice).get("Retry-After")
        self.assertEqual([self.ask(self.alice).get("Retry-After") for _ in range(3)], [first] * 3)
        self.assertEqual(self.refused(), {"unknown": 41, "early": 3})
        self.assertEqual(self.shedding.appointments.booked, 41)

    def test_they_differ(self) -> None:
        """Of those who were turned away together few come again together."""
        self.be_late(LATE)
        told = [int(self.ask(self.registrar.client(f"user{name}", port=50000 + name)).get("Retry-After") or 0)
                for name in range(60)]
        self.assertEqual(max(told.count(second) for second in told), 1)

    def test_same_user_elsewhere(self) -> None:
        """Nobody loses his time because somebody else names his user from another host."""
        self.be_late(LATE)
        self.ask(self.registrar.client("alice", host="198.51.100.9"))
        self.ask(self.alice)
        self.assertEqual(self.refused(), {"unknown": 2})

    def test_room_is_kept_free(self) -> None:
        """When answers are in time again newcomers are let in as far as those leave room who have an appointment."""
        self.be_late(LATE)
        for name in range(200):
            self.ask(self.registrar.client(f"user{name}", port=50000 + name))
        self.registrar.clock.advance(0.3)
        self.be_late(0.0)
        self.assertFalse(self.shedding.load.is_late)
        answers = [self.ask(self.registrar.client(f"new{name}", port=51000 + name)).status for name in range(5)]
        self.assertIn(503, answers)

    def test_datagrams(self) -> None:
        """A phone over UDP hears the same, and its repeated request too."""
        phone = self.registrar.client("alice", "UDP")
        self.be_late(LATE)
        self.assertEqual(self.ask(phone).status, 503)
        self.assertEqual(self.ask(phone).status, 503)
        self.assertEqual(self.shedding.appointments.booked, 1)

    def test_repeated_datagram(self) -> None:
        """A datagram that was answered before is answered the same again, whatever others hear by then (§17.2.2)."""
        phone = self.registrar.client("alice", "UDP")
        asked = phone.a_register(CONTACT)
        phone.send(asked)
        self.assertEqual(phone.flow.take_response().status, 401)
        self.be_late(LATE)
        phone.send(asked)
        self.assertEqual(phone.flow.take_response().status, 401)
        self.assertEqual(self.refused(), {})

    def test_no_room(self) -> None:
        """When there is no room for an appointment the phone is asked for some long time, others for another."""
        self.be_late(LATE)
        told = [int(self.ask(self.registrar.client(f"user{name}", port=50000 + name)).get("Retry-After") or 0)
                for name in range(300)]
        self.assertLessEqual(max(told), self.config.max_retry_seconds)
        self.assertGreater(self.shedding.unbooked, 0)


class FloodTests(SheddingCase):
    """Who sends more than admission lets him while others are turned away."""

    admission = AdmissionConfig(requests_per_source=5)

    def test_who_floods(self) -> None:
        """One host gets no more appointments than admission.requests_per_source; each REGISTER is counted once."""
        self.be_late(LATE)
        self.registrar.clock.advance(1.0 - self.registrar.clock.seconds() % 1.0)
        for name in range(20):
            answer = self.ask(self.registrar.client(f"user{name}", port=50000 + name))
            self.assertEqual(answer.status, 503)
        self.assertEqual(self.shedding.appointments.booked, 5)
        self.assertEqual(self.registrar.counted("rollcall_admission_refused_total", kind="beginning",
                                                limit="requests_per_source"), 15)
        self.assertEqual(self.ask(self.registrar.client("alice", host="198.51.100.9")).status, 503)
        self.assertEqual(self.shedding.appointments.booked, 6)


class SlowStoreTests(SheddingCase):
    """Where bindings are kept elsewhere first, the time that takes counts."""

    location = LaterLocation

    def test_slow_answers(self) -> None:
        """Many answers that waited for the store for too long turn strangers away."""
        location: Any = self.registrar.location
        self.alice.take_challenge(self.ask(self.alice))
        self.alice.send(self.alice.a_register(CONTACT))
        location.settle(True)
        self.shedding.load.look(self.registrar.clock.seconds())
        for _ in range(3):
            for _ in range(20):
                self.alice.send(self.alice.a_register(CONTACT))
            self.registrar.clock.advance(LATE)
            location.settle(True)
        self.assertTrue(self.shedding.load.is_late)


class EndTests(SheddingCase):
    """How it begins and ends is told, and by the clock alone."""

    def test_end(self) -> None:
        """When nobody is left to come and nothing is late it ends, though nobody asks any more."""
        changes: list[bool] = []
        self.shedding.on_change.append(changes.append)
        self.be_late(LATE)
        self.ask(self.alice)
        self.registrar.clock.pump([0.25] * 4 * 60)
        self.assertEqual(changes, [True, False])
        self.assertEqual(self.shedding.appointments.missed, 1)
        self.assertEqual(self.ask(self.alice).status, 401)

    def test_pace(self) -> None:
        """Nobody is woken while answers take too long, and then few until those who were turned away have come."""
        self.assertEqual(self.shedding.pace(), self.shedding.rate())
        self.be_late(LATE)
        self.ask(self.alice)
        self.assertEqual(self.shedding.pace(), 0.0)
        self.be_late(0.0)
        self.assertTrue(self.shedding.load.is_shedding)
        self.assertAlmostEqual(self.shedding.pace(), self.shedding.rate() * (1 - self.config.appointments))

    def test_metrics(self) -> None:
        """The state is exported."""
        self.be_late(LATE)
        self.ask(self.alice)
        self.assertEqual(self.registrar.counted("rollcall_avalanche_shedding"), 1)
        self.assertEqual(self.registrar.counted("rollcall_avalanche_refused_total", kind="unknown"), 1)
        self.assertEqual(self.registrar.counted("rollcall_avalanche_waited_for"), 1)
        self.assertAlmostEqual(self.registrar.counted("rollcall_avalanche_wait_seconds"), LATE)
        self.assertEqual(self.registrar.counted("rollcall_avalanche_rate"), self.shedding.rate())

    def test_nobody_comes(self) -> None:
        """When nobody has come for a while nobody waits, as far as is exported."""
        self.be_late(0.2)
        self.registrar.clock.advance(100)
        self.assertEqual(self.registrar.counted("rollcall_avalanche_wait_seconds"), 0)


class DisabledTests(SheddingCase):
    """An operator may have none of it."""

    config = AvalancheConfig(enabled=False)

    def test_nobody_is_turned_away(self) -> None:
        """Whatever happens, everybody is answered as ever."""
        self.be_late(10.0)
        self.assertEqual(self.alice.register(CONTACT).status, 200)


class HerdTests(SheddingCase):
    """Times are granted over a wider range while a herd comes."""

    def spread(self) -> float:
        """Return by which part the shortest of many granted times is shorter than what was asked for."""
        granted = []
        for _ in range(200):
            answer = self.alice.register(CONTACT)
            granted.append(int((answer.get("Contact") or "").rpartition("expires=")[2]))
        return 1 - min(granted) / 3600

    def test_spread(self) -> None:
        """Refreshes are granted shorter times when many were bound at once, and usual ones when that is over."""
        self.alice.register(CONTACT)
        self.assertLessEqual(self.spread(), JITTER)
        for _ in range(100):
            self.shedding.bound_first()
        self.assertGreater(self.spread(), 0.4)
        self.registrar.clock.pump([0.25] * 60)
        self.assertLessEqual(self.spread(), JITTER)


class WholeWayHerdTests(HerdTests):
    """The same by the whole way."""

    takes_short_way = False
