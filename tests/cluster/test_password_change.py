"""A changed password counts at every registrar within a second, though all of them remember the old one."""

from time import monotonic, sleep
from typing import ClassVar

from registrar.subscribers.announcing import fresh_seconds
from rollcall.sql.config import MysqlConfig
from tests.cluster.mysql_lab import MysqlCase
from tests.interop.phone import Phone
from tests.interop.process import wait_until
from tools.laboratory.node import Node

WITHIN_SECONDS = 1.0
POLL_SECONDS = 0.05
LATE_SECONDS = 60
# Without Redis a registrar looks for changes by itself: every second when somebody is looked up.
WITHIN_WITHOUT_REDIS_SECONDS = 2.5
NEW = "another secret"
REFUSED = (401, 403)


class PasswordChangeTests(MysqlCase):
    """Each test changes users of its own, whom all three registrars have in memory, and asks each of them directly."""

    users: ClassVar[int] = 8

    def setUp(self) -> None:
        number = sorted(name for name in dir(self) if name.startswith("test_")).index(self._testMethodName)
        self.user = self.lab.users[number]
        self.phones = [self.phone(node) for node in self.lab.registrars]
        for node, phone in zip(self.lab.registrars, self.phones, strict=True):
            self.assertEqual([phone.register().status, self.status(node), self.status(node)], [200] * 3)

    def phone(self, node: Node, password: str = "") -> Phone:
        """Return a phone of the user that is connected to a registrar."""
        made = Phone("TCP", node.tcp, self.user.username, self.lab.domain, password or self.user.password)
        self.addCleanup(made.close)
        return made

    def status(self, node: Node, password: str = "") -> int:
        """Return what a registrar answers to a REGISTER over a new connection."""
        phone = self.phone(node, password)
        answered = phone.register()
        phone.close()
        return answered.status

    def check_changed(self, how: str, within: float = WITHIN_SECONDS) -> None:
        """Check that the old password fails soon everywhere, and that the new one is right."""
        self.check_old_fails(how, within)
        for node in self.lab.registrars:
            self.assertEqual((self.status(node, NEW), self.status(node, NEW)), (200, 200), node.name)

    def check_old_fails(self, how: str, within: float = WITHIN_SECONDS) -> None:
        """Check that it does so soon everywhere, that it goes on to, and that old connections change nothing of it."""
        began = monotonic()
        took: dict[str, float] = {}
        while len(took) < len(self.lab.registrars):
            for node in self.lab.registrars:
                if node.name not in took and self.status(node) in REFUSED:
                    took[node.name] = monotonic() - began
            self.assertLess(monotonic() - began, 2 * within, f"only {took}")
            sleep(POLL_SECONDS)
        for node, phone in zip(self.lab.registrars, self.phones, strict=True):
            self.assertIn(self.status(node), REFUSED, node.name)
            self.assertIn(phone.register().status, REFUSED, f"{node.name}, over the connection of before")
        self.figure(f"{how}: the old password failed at {len(took)} registrars within "
                    f"{max(took.values()) * 1000:.0f} ms")
        self.assertLess(max(took.values()), within)

    def test_command(self) -> None:
        """`rollcall user passwd`."""
        self.rollcall(self.lab.registrars[0], "user", "passwd", self.user.username, "--password-stdin", says=NEW)
        self.check_changed("rollcall user passwd")

    def test_removal(self) -> None:
        """`rollcall user remove`: no password is right any more."""
        self.rollcall(self.lab.registrars[1], "user", "remove", self.user.username)
        self.check_old_fails("rollcall user remove")

    def test_admin_site(self) -> None:
        """The admin site of one registrar."""
        name = f"{self.user.username}@{self.lab.domain}"
        self.lab.registrars[2].put(f"/v1/users/{name}/password", {"password": NEW})
        self.check_changed("PUT /v1/users/…/password")

    def test_late_replica(self) -> None:
        """What is written is read, although the replica says for a minute what was there before."""
        replica = self.lab.mysql.replicas[0]
        self.lab.mysql.lag(replica, LATE_SECONDS)
        self.addCleanup(self.lab.mysql.lag, replica, 0)
        old = replica.query("SELECT ha1 FROM rollcall.subscriber WHERE username = %s", self.user.username)
        self.rollcall(self.lab.registrars[0], "user", "passwd", self.user.username, "--password-stdin", says=NEW)
        self.check_changed("rollcall user passwd while the replica is late")
        self.assertEqual(replica.query("SELECT ha1 FROM rollcall.subscriber WHERE username = %s", self.user.username),
                         old)

    def test_plain_sql(self) -> None:
        """A change by plain SQL, as kamctl makes it, once `rollcall user forget` has told of it."""
        self.lab.mysql.primary.query(
            "UPDATE rollcall.subscriber SET ha1 = MD5(%s), ha1b = '', ha1_sha256 = '', ha1_sha512t256 = '' "
            "WHERE username = %s", f"{self.user.username}:{self.lab.domain}:{NEW}", self.user.username)
        self.lab.mysql.wait_until_equal()
        self.rollcall(self.lab.registrars[0], "user", "forget", self.user.username)
        self.check_changed("SQL and rollcall user forget")

    def test_without_redis(self) -> None:
        """While Redis is away registrars hear of the change from the database, a little later."""
        server = self.lab.redis.servers[0]
        server.kill()
        self.addCleanup(self.wait_for_redis)
        self.addCleanup(self.lab.redis.restart, 0)
        done = self.rollcall(self.lab.registrars[0], "user", "passwd", self.user.username, "--password-stdin", says=NEW)
        self.assertIn("were not told", done.stderr)
        self.check_changed("rollcall user passwd without Redis", within=WITHIN_WITHOUT_REDIS_SECONDS)

    def test_redis_comes_back(self) -> None:
        """Redis comes back with what it had before the change: the old password fails, also when that is long ago."""
        # What is read at the start lies in no Redis, nor does who was just forgotten.
        self.rollcall(self.lab.registrars[0], "user", "forget", self.user.username)
        sleep(fresh_seconds(MysqlConfig()) + 1)
        self.assertEqual([self.status(node) for node in self.lab.registrars], [200] * 3)
        server = self.lab.redis.servers[0]
        server.ask("SAVE")
        server.kill()
        self.rollcall(self.lab.registrars[0], "user", "passwd", self.user.username, "--password-stdin", says=NEW)
        self.check_changed("rollcall user passwd before Redis came back", within=WITHIN_WITHOUT_REDIS_SECONDS)
        sleep(WITHIN_WITHOUT_REDIS_SECONDS)
        self.lab.redis.restart(0)
        self.wait_for_redis()
        sleep(fresh_seconds(MysqlConfig()) + 1)
        for node in self.lab.registrars:
            self.assertIn(self.status(node), REFUSED, node.name)
            self.assertEqual(self.status(node, NEW), 200, node.name)

    def wait_for_redis(self) -> None:
        """Return when every registrar has it again."""
        wait_until(lambda: all(node.metric("rollcall_redis_up") for node in self.lab.registrars) or None,
                   "Redis at all registrars", 10)
