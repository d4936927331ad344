"""Access to MySQL with a real primary and replica: who is asked, and what happens when the replica is not well."""

import time

from pymysql.err import DataError, IntegrityError, ProgrammingError
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from rollcall.sql.connecting import Connection
from rollcall.sql.errors import SqlUnavailable
from tests.cluster.sql_case import LIMIT_SECONDS, SOON_SECONDS, SqlCase, port, reactor, running
from tests.interop.process import LOOPBACK


class AskingTests(SqlCase):
    """With all servers well."""

    async def test_who_is_asked(self) -> None:
        """The replica is read, the primary when it must be fresh; changes go to the primary."""
        sql = await self.ready()
        self.assertEqual(await sql.read(port), self.replica.port)
        self.assertEqual(await sql.read(port, fresh=True), self.primary.port)
        self.assertEqual(await sql.write(port), self.primary.port)
        self.assertEqual(sql.writer, self.primary.address)
        self.assertIsNone(sql.problem)

    async def test_first_query(self) -> None:
        """What is asked before any server was looked at waits for that."""
        sql = self.client()
        self.assertIsNotNone(sql.problem)
        self.assertEqual(await sql.write(port), self.primary.port)

    async def test_errors(self) -> None:
        """An error of the statement comes as it is, and its whole transaction is rolled back."""
        sql = await self.ready()
        await self.assertFailure(sql.read(running("SELECT * FROM no_such_table")), ProgrammingError)
        await sql.write(running("INSERT INTO seen VALUES (1)"))

        def twice(connection: Connection) -> None:
            running("INSERT INTO seen VALUES (2)")(connection)
            running("INSERT INTO seen VALUES (1)")(connection)

        await self.assertFailure(sql.write(twice), IntegrityError)
        self.assertEqual(self.numbers(self.primary), [1])
        await sql.write(running("DELETE FROM seen"))
        self.assertEqual([sum(state.failures.values()) for state in sql.states], [0, 0])

    async def test_letters(self) -> None:
        """Text is UTF-8 with four bytes where needed, and what does not fit is refused."""
        sql = await self.ready()

        def echo(connection: Connection) -> str:
            with connection.cursor() as cursor:
                cursor.execute("SELECT %s", ("Zoë 🦊",))
                return str(cursor.fetchone()[0])

        self.assertEqual(await sql.read(echo), "Zoë 🦊")
        self.primary.query("CREATE TABLE rollcall.narrow (word VARCHAR(3))")
        await self.assertFailure(sql.write(running("INSERT INTO narrow VALUES ('four')")), DataError)
        self.primary.query("DROP TABLE rollcall.narrow")

    async def test_full(self) -> None:
        """A server with as many as may wait is passed over; when no other has room either, one hears it at once."""
        sql = await self.ready(connections=1, max_waiting=1)
        busy = [sql.read(running("SELECT SLEEP(0.2)")) for _ in range(4)]
        self.assertEqual([state.outstanding for state in sql.states], [2, 2])
        error = await self.assertFailure(sql.read(port), SqlUnavailable)
        self.assertIn("too many", str(error))
        await gatherResults(busy)

    async def test_stop(self) -> None:
        """What was asked before is answered; what is asked later fails."""
        sql = await self.ready()
        last = sql.write(running("SELECT SLEEP(0.1)"))
        await sql.stop()
        self.assertEqual(self.successResultOf(last), 1)
        self.failureResultOf(sql.read(port), SqlUnavailable)


class IdleTests(SqlCase):
    """Servers that close connections which nobody uses."""

    async def test_closed(self) -> None:
        """A read, a fresh one and a change after a quiet night are all answered, though no connection is left."""
        for server in self.servers.servers:
            server.query("SET GLOBAL wait_timeout = 1")
            self.addCleanup(server.query, "SET GLOBAL wait_timeout = 28800")
        sql = await self.ready(check_seconds=0.3)
        for _ in range(2):
            self.assertEqual(await sql.read(port), self.replica.port)
            self.assertEqual(await sql.read(port, fresh=True), self.primary.port)
            self.assertEqual(await sql.write(port), self.primary.port)
            await deferLater(reactor, 1.5)
        self.assertEqual([sum(state.failures.values()) for state in sql.states], [0, 0])


class KilledConnectionTests(SqlCase):
    """The server ends connections, as it does with idle ones, or at an operator's word."""

    async def test_idle(self) -> None:
        """No query fails because the connections had been ended meanwhile."""
        sql = await self.ready()
        await gatherResults([sql.read(running("SELECT SLEEP(0.05)")) for _ in range(8)])
        for server in self.servers.servers:
            self.kill_connections(server)
        reads = [sql.read(port) for _ in range(20)]
        writes = [sql.write(port) for _ in range(20)]
        self.assertLessEqual(set(await gatherResults(reads)), {self.primary.port, self.replica.port})
        self.assertEqual(set(await gatherResults(writes)), {self.primary.port})

    async def test_in_a_read(self) -> None:
        """A read is done once more, elsewhere."""
        sql = await self.ready()

        def slow(connection: Connection) -> int:
            found = port(connection)
            if found == self.replica.port:
                running("SELECT SLEEP(0.4)")(connection)
            return found

        reading = sql.read(slow)
        await deferLater(reactor, 0.1)
        self.kill_connections(self.replica)
        self.assertEqual(await reading, self.primary.port)
        self.assertEqual(self.state(sql, self.replica).failures["read"], 1)

    async def test_in_a_write(self) -> None:
        """A change that was begun is not tried again: whether it was made is not known."""
        sql = await self.ready()
        begun: list[int] = []

        def slow(connection: Connection) -> int:
            begun.append(1)
            return running("SELECT SLEEP(0.4)")(connection)

        writing = sql.write(slow)
        await self.until(lambda: begun, "the write")
        await deferLater(reactor, 0.05)
        self.kill_connections(self.primary)
        error = await self.assertFailure(writing, SqlUnavailable)
        self.assertIn("not known", str(error))
        self.assertEqual(len(begun), 1)


class ReplicaAwayTests(SqlCase):
    """The replica dies, hangs or stands still."""

    async def test_killed(self) -> None:
        """No read fails; the primary is read until the replica is back."""
        sql = await self.ready()
        self.replica.kill()
        self.assertEqual(set(await gatherResults([sql.read(port) for _ in range(20)])), {self.primary.port})
        await self.until(lambda: self.state(sql, self.replica).why, "the replica to be missed")
        self.assertIn("refused", str(self.state(sql, self.replica).why))
        self.replica.start()
        await self.until(lambda: self.state(sql, self.replica).is_fit, "the replica to be fit", sql)
        self.assertEqual(await sql.read(port), self.replica.port)

    async def test_hangs(self) -> None:
        """Those who had asked it are answered by the primary; nobody waits for it after that."""
        sql = await self.ready()
        self.addCleanup(self.replica.resume)
        self.replica.pause()
        began = time.monotonic()
        answers = await gatherResults([sql.read(port) for _ in range(50)])
        took = time.monotonic() - began
        self.assertEqual(set(answers), {self.primary.port})
        self.assertLess(took, LIMIT_SECONDS)
        await self.until(lambda: self.state(sql, self.replica).why, "the replica to be missed")
        began = time.monotonic()
        await gatherResults([sql.read(port) for _ in range(50)])
        self.assertLess(time.monotonic() - began, SOON_SECONDS)
        self.replica.resume()
        await self.until(lambda: self.state(sql, self.replica).is_fit, "the replica to be fit", sql)

    async def test_stands_still(self) -> None:
        """A replica that applies nothing is read only when nobody else answers."""
        sql = await self.ready()
        self.replica.query("STOP SLAVE SQL_THREAD")
        self.addCleanup(self.replica.query, "START SLAVE")
        await self.until(lambda: not self.state(sql, self.replica).is_fit, "the replica to be unfit")
        self.assertIn("stands still", str(self.state(sql, self.replica).why))
        self.assertEqual(await sql.read(port), self.primary.port)

    async def test_behind(self) -> None:
        """One that is too far behind is not read, but when the primary is away, too."""
        sql = await self.ready(max_lag_seconds=1.0)
        self.servers.lag(self.replica, 30)
        self.primary.query("REPLACE INTO rollcall.seen VALUES (77)")
        await self.until(lambda: (self.state(sql, self.replica).lag_seconds or 0.0) > 1, "a lag", sql)
        self.assertEqual(await sql.read(port), self.primary.port)
        self.primary.kill()
        self.assertEqual(await sql.read(port), self.replica.port)
        self.primary.start()
        self.servers.lag(self.replica, 0)
        await self.until(lambda: all(state.is_fit for state in sql.states), "all servers to be fit", sql)
        self.primary.query("DELETE FROM rollcall.seen")

    async def test_heartbeat(self) -> None:
        """By the heartbeat one sees the same."""
        self.primary.query("CREATE TABLE rollcall.rollcall_heartbeat (id TINYINT PRIMARY KEY, at DATETIME(6))")
        self.servers.wait_until_equal()
        sql = await self.ready(lag="heartbeat", max_lag_seconds=1.0)
        self.assertLess(self.state(sql, self.replica).lag_seconds or 0.0, 1)
        self.servers.lag(self.replica, 30)
        await self.until(lambda: (self.state(sql, self.replica).lag_seconds or 0.0) > 1, "a lag", sql)
        self.assertFalse(self.state(sql, self.replica).is_fit)
        self.servers.lag(self.replica, 0)
        await self.until(lambda: self.state(sql, self.replica).is_fit, "the replica to be fit", sql)

    async def test_no_right(self) -> None:
        """Without the right to ask how far it is behind a replica that answers is read."""
        self.primary.query(f"REVOKE REPLICA MONITOR ON *.* FROM {self.servers.user}@%s", LOOPBACK)
        self.servers.wait_until_equal()
        sql = await self.ready()
        self.assertIsNone(self.state(sql, self.replica).lag_seconds)
        self.assertEqual(await sql.read(port), self.replica.port)
        self.primary.query(f"GRANT REPLICA MONITOR ON *.* TO {self.servers.user}@%s", LOOPBACK)
        self.servers.wait_until_equal()
