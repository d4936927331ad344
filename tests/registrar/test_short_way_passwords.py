"""What the short way of a REGISTER leaves to the whole way because of passwords: offers by user, and bans."""

from registrar.bans import BansConfig
from tests.registrar.joined import DOMAIN, Registrar
from tests.registrar.test_short_way import CONTACT, ShortWayCase

LINPHONE = (("User-Agent", "Linphone-Desktop/5.1"),)
SOURCE = bytes([192, 0, 2, 20])


class PasswordsTests(ShortWayCase):
    with_passwords = True

    def setUp(self) -> None:
        super().setUp()
        self.registrar = Registrar(bans=BansConfig(per_user_and_source=1, per_source=2))
        self.alice = self.registrar.client("alice")

    def fail_proof(self, name: str) -> None:
        """Note a wrong password from where the phones are."""
        bans, now, user = self.registrar.guarding.bans, self.registrar.clock.seconds(), f"{name}@{DOMAIN}"
        self.assertTrue(bans.suspect(user, SOURCE, now))
        bans.fail(user, SOURCE, now)

    def test_choosing_phone(self) -> None:
        """A phone that chooses is asked by the whole way, for its user has to be looked up; any other at once."""
        for name, transport in (("alice", "TCP"), ("bob", "UDP")):
            phone = self.registrar.client(name, transport)
            self.assertIsNone(self.short_answer(phone, CONTACT, headers=LINPHONE), transport)
            answer = self.short_answer(phone, CONTACT)
            assert answer is not None
            self.assertEqual(answer.status, 401)
            answer = phone.register(CONTACT, headers=LINPHONE)
            self.assertEqual(answer.status, 200)

    def test_first_binding_under_a_ban(self) -> None:
        """Whether a first binding is let in under a ban is said by the whole way, and a refresh is as quick as ever."""
        bob = self.registrar.client("bob")
        self.assertEqual(bob.register("sip:bob@192.0.2.20").status, 200)
        self.alice.send(self.alice.request("REGISTER", f"sip:{DOMAIN}", callee=f"<{self.alice.aor}>"))
        self.alice.take_challenge(self.alice.flow.take_response())
        for name in ("alice", "bob"):
            self.fail_proof(name)
        self.assertEqual(len(self.registrar.guarding.bans), 3)
        self.assertIsNone(self.short_answer(self.alice, CONTACT))
        answer = self.short_answer(bob, "sip:bob@192.0.2.20")
        assert answer is not None
        self.assertEqual(answer.status, 200)
        self.registrar.guarding.bans.lift(source=SOURCE)
        answer = self.short_answer(self.alice, CONTACT)
        assert answer is not None
        self.assertEqual(answer.status, 200)
