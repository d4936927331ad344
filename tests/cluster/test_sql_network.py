"""Access to MySQL over a network that swallows everything, and over TLS; the servers are real where any answer."""

import socket
import tempfile
import time
from contextlib import closing
from pathlib import Path

from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase

from rollcall.sql.config import MysqlConfig
from rollcall.sql.connecting import connect
from rollcall.sql.errors import SqlUnavailable
from tests.cluster.sql_case import LIMIT_SECONDS, SOON_SECONDS, SqlCase, port, reactor
from tests.interop.process import LOOPBACK, free_ports
from tests.rollcall.net.certificates import an_authority
from tools.laboratory import mariadb_process
from tools.laboratory.mariadb_servers import MariadbServers


class BlackHoleTests(SqlCase):
    """A server that takes connections and never says a word, as behind a firewall that has forgotten them."""

    def hole(self) -> str:
        """Return its address."""
        listening = socket.create_server((LOOPBACK, free_ports(1)[0]), backlog=128)
        self.addCleanup(listening.close)
        return f"{LOOPBACK}:{listening.getsockname()[1]}"

    async def test_replica(self) -> None:
        """The others are asked, from the first moment."""
        sql = self.client(replicas=[self.hole()])
        began = time.monotonic()
        self.assertEqual(await sql.read(port), self.primary.port)
        self.assertEqual(await sql.write(port), self.primary.port)
        self.assertLess(time.monotonic() - began, SOON_SECONDS)

    async def test_everything(self) -> None:
        """Everybody hears in time that nothing answers, and the end does not wait for it."""
        sql = self.client(primary=self.hole(), replicas=[self.hole()])
        began = time.monotonic()
        failing = [self.assertFailure(sql.read(port), SqlUnavailable) for _ in range(20)]
        failing += [self.assertFailure(sql.write(port), SqlUnavailable) for _ in range(20)]
        await gatherResults(failing)
        self.assertLess(time.monotonic() - began, LIMIT_SECONDS + SOON_SECONDS)
        began = time.monotonic()
        await sql.stop()
        self.assertLess(time.monotonic() - began, 0.5 + SOON_SECONDS)

    async def test_half_a_greeting(self) -> None:
        """A server that speaks slowly, byte by byte, holds up nobody longer than one that is silent."""
        listening = socket.create_server((LOOPBACK, free_ports(1)[0]))
        self.addCleanup(listening.close)
        listening.setblocking(False)
        sql = self.client(primary=f"{LOOPBACK}:{listening.getsockname()[1]}", replicas=[])
        failing = self.assertFailure(sql.read(port), SqlUnavailable)
        began = time.monotonic()
        accepted: list[socket.socket] = []
        await self.until(lambda: _accept(listening, accepted), "a connection")
        with closing(accepted[0]) as peer:
            while not failing.called and time.monotonic() - began < 5:
                try:
                    peer.send(b"\x50")
                except OSError:
                    break
                await deferLater(reactor, 0.1)
        await failing
        self.assertLess(time.monotonic() - began, LIMIT_SECONDS + SOON_SECONDS)


def _accept(listening: socket.socket, into: list[socket.socket]) -> bool:
    try:
        into.append(listening.accept()[0])
    except BlockingIOError:
        return False
    return True


class TlsTests(SynchronousTestCase):
    """A server with a certificate of the site's own authority."""

    def test_certificates(self) -> None:
        """The connection is encrypted; a certificate of an authority that we do not know ends it."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        authority = an_authority(folder, "mysql-authority")
        issued = authority.issue(LOOPBACK, label="mysql")
        files = (f"--ssl-cert={issued.certificate_file}", f"--ssl-key={issued.key_file}")
        self.patch(mariadb_process, "ARGUMENTS", (*mariadb_process.ARGUMENTS, *files))
        servers = self.enterContext(MariadbServers(folder / "mysql"))
        address = servers.primary.address
        config = MysqlConfig(**servers.settings, tls=True, tls_authority_file=authority.file)
        with connect(config, address) as connection, connection.cursor() as cursor:
            cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
            self.assertTrue(cursor.fetchone()[1])
        with self.assertRaises(SqlUnavailable) as refused:
            connect(MysqlConfig(**servers.settings, tls=True), address)
        self.assertIn("certificate verify failed", str(refused.exception))

    def test_no_certificate(self) -> None:
        """A server without TLS gets no password when TLS is asked for."""
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        servers = self.enterContext(MariadbServers(folder / "mysql"))
        with self.assertRaises(SqlUnavailable) as refused:
            connect(MysqlConfig(**servers.settings, tls=True), servers.primary.address)
        self.assertIn("SSL", str(refused.exception))
