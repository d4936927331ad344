"""How seldom MySQL is asked: once for each user whom nobody knows yet, and never for those who are known.

What is counted are the statements that the servers themselves have noted.
"""

import socket
from collections import Counter
from time import monotonic
from typing import ClassVar

from tests.cluster.fleet import Fleet
from tests.cluster.mysql_lab import MysqlCase
from tests.cluster.phone_text import Message, Proof, request, taken
from tools.laboratory.filling import LabUser
from tools.laboratory.node import Node

USERS = 1000
AT_A_TIME = 20
GROUP = 50
"""So many users do so at once: more REGISTERs would keep a registrar too busy to wait for Redis."""
MISSED = 0.05
WARM_USERS = 500
REGISTERS = 10_000
REFRESHES_PER_SECOND = 1500.0
ANSWER_SECONDS = 60.0
READ_BYTES = 65536
LOOKUP = "FROM `subscriber` WHERE"
# Beside that: what columns the table has, once for each process; and who was changed, when a registrar has just been
# started or cannot wait for what Redis says of that.
BESIDE = ("SHOW COLUMNS FROM ", "SELECT COALESCE(MIN(id), 1), COALESCE(MAX(id), 0) FROM rollcall_change")


class Caller:
    """One user's connection, over which many REGISTERs are sent before any is answered."""

    def __init__(self, node: Node, user: LabUser, domain: str) -> None:
        self._socket = socket.create_connection(node.tcp, ANSWER_SECONDS)
        self._local = "{}:{}".format(*self._socket.getsockname())
        self._user = user
        self._domain = domain
        self._name = f"{node.name}-{user.username}"
        self._data = bytearray()
        self._messages: list[Message] = []
        self._proof: Proof | None = None

    def ask(self) -> None:
        """Send one REGISTER without a proof, and keep the challenge."""
        self._socket.sendall(self._register(0))
        self._proof = Proof(self._answer(), self._user.username, self._user.password)

    def ask_often(self, times: int) -> None:
        """Send so many with proofs, as one piece."""
        self._socket.sendall(b"".join(self._register(number) for number in range(1, times + 1)))

    def statuses(self, times: int) -> list[int]:
        """Return what they were answered."""
        return [self._answer().status for _ in range(times)]

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _register(self, number: int) -> bytes:
        uri, aor = f"sip:{self._domain}", f"<sip:{self._user.username}@{self._domain}>"
        fields = [
            ("From", f"{aor};tag=t{number}"),
            ("To", aor),
            ("Call-ID", f"{self._name}-{number}"),
            ("CSeq", "1 REGISTER"),
            ("Contact", f"<sip:{self._user.username}@{self._local};transport=tcp>"),
            ("Expires", "600"),
        ]
        if self._proof is not None:
            fields.append(self._proof.field("REGISTER", uri))
        return request("REGISTER", uri, self._local, f"{self._name}n{number}", fields)

    def _answer(self) -> Message:
        while not self._messages:
            data = self._socket.recv(READ_BYTES)
            assert data, f"{self._name}: the registrar has closed the connection"
            self._data += data
            self._messages += [message for message in taken(self._data) if message.status >= 200]
        return self._messages.pop(0)


class LookupCase(MysqlCase):
    """Tells queries for users from others."""

    def lookups(self) -> tuple[Counter[str], int]:
        """Return the queries for users, and how many others there were; those have to be known ones."""
        asked = self.asked()
        others = [text for text in asked if LOOKUP not in text]
        self.assertEqual([text for text in others if not text.startswith(BESIDE)], [])
        return Counter(text for text in asked if LOOKUP in text), len(others)


class ColdTests(LookupCase):
    """Two registrars that have just been started, and have not read who there is."""

    users: ClassVar[int] = USERS
    registrars: ClassVar[int] = 2
    sections: ClassVar[str] = """
    [subscribers]
    warm_up = false
    """

    def test_each_user_is_looked_up_once(self) -> None:
        """20 requests of each of 1,000 users at a time: 1,000 queries. Whoever shares the Redis then needs none."""
        first, second = self.lab.registrars
        self.note_statements()
        seconds = self.check_accepted(first, AT_A_TIME)
        users, others = self.lookups()
        self.assertEqual((len(users), sum(users.values())), (USERS, USERS))
        self.figure(f"cold: {USERS} users × {AT_A_TIME} REGISTERs at a time, {GROUP} users at once, in {seconds:.1f} s:"
                    f" {sum(users.values())} queries for users, {others} for columns and changes")
        self.note_statements()
        seconds = self.check_accepted(second, 1)
        users, others = self.lookups()
        # A moment in which Redis is slow, or was, is one in which the database is asked.
        self.assertLess(sum(users.values()), USERS * MISSED)
        self.figure(f"cold at another registrar, which shares the Redis: {USERS} users in {seconds:.1f} s: "
                    f"{sum(users.values())} queries for users, {others} for columns and changes")

    def check_accepted(self, node: Node, times: int) -> float:
        """Let users ask a registrar so often, group by group; return the seconds from the first proof to the last."""
        callers = [Caller(node, user, self.lab.domain) for user in self.lab.users]
        for caller in callers:
            self.addCleanup(caller.close)
            caller.ask()
        began = monotonic()
        answers: Counter[int] = Counter()
        for first in range(0, len(callers), GROUP):
            group = callers[first:first + GROUP]
            for caller in group:
                caller.ask_often(times)
            answers.update(status for caller in group for status in caller.statuses(times))
        took = monotonic() - began
        self.assertEqual(answers, {200: len(callers) * times})
        return took


class WarmTests(LookupCase):
    """Three registrars whose phones are registered."""

    users: ClassVar[int] = WARM_USERS

    def test_registered_phones_cost_no_query(self) -> None:
        """10,000 REGISTERs with proofs of users who are known: no query at all."""
        fleet = self.fleet()
        fleet.register_all()
        self.note_statements()
        before = self.reads()
        seconds = self.refresh(fleet)
        users, others = self.lookups()
        self.assertEqual((users, self.reads() - before), ({}, 0))
        self.assertLessEqual(others, self.registrars)
        self.assertEqual((fleet.refusals, fleet.unanswered, fleet.endings), ([], [], []))
        self.figure(f"warm: {REGISTERS} REGISTERs with proofs in {seconds:.1f} s: 0 queries for users, {others} others")

    def refresh(self, fleet: Fleet) -> float:
        """Let the phones refresh until so many were answered; return how many seconds that took."""
        wanted = fleet.answers["REGISTER", 200] + REGISTERS
        began = monotonic()
        fleet.refresh(REFRESHES_PER_SECOND)
        fleet.wait(lambda: fleet.answers["REGISTER", 200] >= wanted, f"{REGISTERS} answers", ANSWER_SECONDS)
        took = monotonic() - began
        fleet.refresh(0)
        return took

    def reads(self) -> float:
        """Return how many reads the registrars say that they have asked for users."""
        return sum(node.metric("rollcall_subscriber_lookups_total", level="database") for node in self.lab.registrars)
