"""Access to MySQL when the real primary is away, takes no writes or lets nobody in, and when a replica is promoted."""

import time

from twisted.internet.task import deferLater

from rollcall.sql.errors import SqlUnavailable
from rollcall.sql.servers import Servers
from tests.cluster.sql_case import LIMIT_SECONDS, POLL_SECONDS, SOON_SECONDS, SqlCase, port, reactor, running
from tests.interop.process import LOOPBACK


class PrimaryAwayTests(SqlCase):
    """The primary dies, hangs or takes no writes."""

    async def test_killed(self) -> None:
        """Reads go on, also fresh ones; writes fail at once and say that nothing was done; then all is well again."""
        sql = await self.ready()
        self.primary.kill()
        await self.until(lambda: self.state(sql, self.primary).why, "the primary to be missed")
        began = time.monotonic()
        self.assertEqual(await sql.read(port), self.replica.port)
        self.assertEqual(await sql.read(port, fresh=True), self.replica.port)
        error = await self.assertFailure(sql.write(port), SqlUnavailable)
        self.assertLess(time.monotonic() - began, SOON_SECONDS)
        self.assertIn("nothing was done", str(error))
        self.assertIsNone(sql.writer)
        self.primary.start()
        await self.until(lambda: sql.writer, "the primary")
        self.assertEqual(await sql.write(port), self.primary.port)

    async def test_hangs(self) -> None:
        """A write to a primary that hangs ends in time."""
        sql = await self.ready()
        self.addCleanup(self.primary.resume)
        self.primary.pause()
        began = time.monotonic()
        await self.assertFailure(sql.write(port), SqlUnavailable)
        self.assertLess(time.monotonic() - began, LIMIT_SECONDS + SOON_SECONDS)
        self.assertEqual(await sql.read(port), self.replica.port)

    async def test_read_only(self) -> None:
        """A primary that takes no writes is read, and who wants to write hears why it cannot be."""
        sql = await self.ready()
        self.addCleanup(self.primary.query, "SET GLOBAL read_only = 0")
        self.primary.query("SET GLOBAL read_only = 1")
        error = await self.assertFailure(sql.write(running("INSERT INTO seen VALUES (5)")), SqlUnavailable)
        self.assertIn("nothing was done", str(error))
        self.assertEqual(await sql.read(port), self.replica.port)
        self.primary.query("SET GLOBAL read_only = 0")
        await self.until(lambda: sql.writer, "the primary")

    async def test_both_away_at_the_start(self) -> None:
        """Nothing that is asked hangs, and everything works once the servers are there."""
        for server in self.servers.servers:
            server.kill()
        sql = self.client()
        await self.assertFailure(sql.read(port), SqlUnavailable)
        await self.assertFailure(sql.write(port), SqlUnavailable)
        self.assertIn(self.primary.address, str(sql.problem))
        for server in self.servers.servers:
            server.start()
        await self.until(lambda: all(state.is_fit for state in sql.states), "all servers to be fit", sql)
        self.assertEqual(await sql.write(port), self.primary.port)

    async def test_wrong_password(self) -> None:
        """It is told that we are not let in, never with what."""
        sql = self.client(password="an-old-secret")
        error = await self.assertFailure(sql.read(port), SqlUnavailable)
        self.assertIn("Access denied", str(error))
        self.assertNotIn("an-old-secret", f"{error}{sql.problem}{sql.states}{error!r}")

    async def test_password_changes(self) -> None:
        """A password that is changed while connections are open does not pass for a server that is well."""
        sql = await self.ready(connections=1)
        await sql.read(port, fresh=True)
        self.primary.query(f"SET PASSWORD FOR {self.servers.user}@%s = PASSWORD('another')", LOOPBACK)
        self.servers.wait_until_equal()
        for server in self.servers.servers:
            self.kill_connections(server)
        await self.until(lambda: not any(state.is_up for state in sql.states), "both to be left out", sql)
        await self.assertFailure(sql.read(port), SqlUnavailable)
        self.primary.query(f"SET PASSWORD FOR {self.servers.user}@%s = PASSWORD(%s)", LOOPBACK, self.servers.password)
        self.servers.wait_until_equal()
        await self.until(lambda: all(state.is_up for state in sql.states), "both to answer", sql)


class PromotionTests(SqlCase):
    """A replica becomes the primary."""

    async def test_promotion(self) -> None:
        """Writes go to the replica once it is promoted, and stay there when the old primary is back."""
        sql = await self.ready()
        self.primary.kill()
        await self.until(lambda: self.state(sql, self.primary).why, "the primary to be missed")
        old, new = self.primary, self.replica
        self.assertIsNone(sql.writer)
        self.servers.promote(new)
        await self.until(lambda: sql.writer == new.address, "the promoted one", sql)
        await sql.write(running("INSERT INTO seen VALUES (3)"))
        self.assertEqual(await sql.read(port, fresh=True), new.port)
        old.start()
        await self.until(lambda: self.state(sql, old).is_writable, "the old primary", sql)
        self.assertEqual(sql.writer, new.address)
        self.servers.rejoin(old)
        await self.until(lambda: not self.state(sql, old).is_writable, "the old primary to be read only", sql)
        self.assertEqual(await sql.write(port), new.port)
        self.assertEqual(await sql.read(port), new.port)


class PlannedPromotionTests(SqlCase):
    """A replica becomes the primary while the old one lives, which was made read only before."""

    async def test_in_the_midst(self) -> None:
        """A write that finds its primary read only is made at the promoted one, once."""
        sql = await self.ready(check_seconds=1.0)
        self.primary.query("SET GLOBAL read_only = 1")
        self.servers.promote(self.replica)
        for each in (self.primary, self.replica):
            self.kill_connections(each)
        await self.assertWritten(sql, 9)
        self.assertEqual(self.numbers(self.primary), [])

    async def assertWritten(self, sql: Servers, number: int) -> None:
        """Write until somebody takes it; then it is at the promoted one."""
        while True:
            try:
                await sql.write(running("INSERT INTO seen VALUES (%s)", number))
            except SqlUnavailable:
                await deferLater(reactor, POLL_SECONDS)
            else:
                break
        self.assertEqual(self.numbers(self.replica), [number])
