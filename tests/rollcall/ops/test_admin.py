"""The admin site: metrics, health, readiness, and where it may listen."""

from urllib.error import URLError
from urllib.request import urlopen

from attrs import frozen
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rollcall.ops.admin import CHECK_SECONDS, AdminConfig, AdminSite
from rollcall.ops.config import ConfigError, loads
from rollcall.ops.metrics import Metrics
from tests.rollcall.ops.asking import Connection, ask, written


def read(url: str) -> bytes:
    """Return what is at this URL."""
    with urlopen(url, timeout=10) as response:
        content: bytes = response.read()
        return content


@frozen(kw_only=True)
class Whole:
    admin: AdminConfig = AdminConfig()


class AdminConfigTests(SynchronousTestCase):
    def test_loopback_by_default(self) -> None:
        """Without a configuration the site is on loopback and needs no token."""
        config = loads("", Whole).admin
        self.assertEqual((config.host, config.token), ("127.0.0.1", None))
        self.assertEqual(config.url, "http://127.0.0.1:8060")
        self.assertEqual(AdminConfig(host="::1", port=1234).url, "http://[::1]:1234")

    def test_elsewhere_only_with_a_token(self) -> None:
        """An address that others can reach needs a token."""
        for host in ("0.0.0.0", "::", "192.0.2.7"):
            error = self.assertRaises(ConfigError, loads, f"admin = {{host = '{host}'}}", Whole)
            self.assertEqual([problem.key for problem in error.problems], ["admin.token"])
            self.assertEqual(loads(f"admin = {{host = '{host}', token = 't0p'}}", Whole).admin.host, host)

    def test_empty_token(self) -> None:
        """An empty token, as from an empty file, protects nothing and is refused."""
        self.assertRaises(ConfigError, loads, "admin = {token = ''}", Whole)


class AdminSiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = MemoryReactorClock()
        self.metrics = Metrics(process=False)
        self.admin = AdminSite(self.clock, AdminConfig(port=8060, token="t0p"), self.metrics)

    def test_metrics(self) -> None:
        """/metrics needs no token and is in the text format of Prometheus."""
        self.metrics.counter("answers_total", "Answers").cell().add(3)
        answered = ask(self.admin.site, "GET", "/metrics")
        self.assertEqual(answered.status, 200)
        self.assertEqual(answered.headers["content-type"], "text/plain; version=0.0.4; charset=utf-8")
        self.assertIn(b"\nanswers_total 3.0\n", answered.content)

    def test_alive(self) -> None:
        """/healthz says yes as long as the process answers."""
        answered = ask(self.admin.site, "GET", "/healthz")
        self.assertEqual((answered.status, answered.json), (200, {"alive": True}))

    def test_ready(self) -> None:
        """/readyz is 200 when every check is content."""

        async def fine() -> None:
            return None

        self.admin.ready_when("location", lambda: None)
        self.admin.ready_when("subscribers", fine)
        answered = ask(self.admin.site, "GET", "/readyz")
        self.assertEqual(answered.status, 200)
        self.assertEqual(answered.json, {"ready": True, "checks": {"location": "ok", "subscribers": "ok"}})

    def test_not_ready(self) -> None:
        """/readyz is 503 with the reasons when a check has one, or fails."""

        async def failing() -> str | None:
            raise OSError("disk full")

        self.admin.ready_when("location", lambda: "still loading")
        self.admin.ready_when("subscribers", failing)
        self.admin.ready_when("flows", lambda: None)
        answered = ask(self.admin.site, "GET", "/readyz")
        self.assertEqual(answered.status, 503)
        self.assertEqual(
            answered.json,
            {
                "ready": False,
                "checks": {
                    "location": "still loading",
                    "subscribers": "the check failed: disk full",
                    "flows": "ok",
                },
            },
        )

    def test_a_check_that_hangs(self) -> None:
        """A check that does not come back in time is a reason too."""

        async def hanging() -> None:
            await Deferred()

        self.admin.ready_when("location", hanging)
        connection = Connection(self.admin.site)
        connection.send(written("GET", "/readyz"))
        self.assertEqual(connection.answers(), [])
        self.clock.advance(CHECK_SECONDS)
        (answered,) = connection.answers()
        self.assertEqual(answered.status, 503)
        self.assertIn("the check failed", answered.json["checks"]["location"])

    def test_routes_of_the_service(self) -> None:
        """What a service adds below /v1 is answered to bearers of the token."""
        self.admin.routes.get("/v1/x", lambda call: [1])
        self.assertEqual(ask(self.admin.site, "GET", "/v1/x").status, 401)
        self.assertEqual(ask(self.admin.site, "GET", "/v1/x", authorization="Bearer t0p").json, [1])

    def test_listens_while_it_runs(self) -> None:
        """The site listens on the configured address from the start on."""
        self.admin.startService()
        ((port, site, _, interface),) = self.clock.tcpServers
        self.assertEqual((port, site, interface), (8060, self.admin.site, "127.0.0.1"))
        self.successResultOf(maybeDeferred(self.admin.stopService))
        self.assertIn("http://127.0.0.1:8060", self.admin.url)


class ListeningTests(TestCase):
    async def test_over_a_socket(self) -> None:
        """A real client on loopback reads the page at the announced URL, until the site stops."""
        from twisted.internet import reactor

        admin = AdminSite(reactor, AdminConfig(port=0), Metrics())
        admin.startService()
        url = f"{admin.url}/metrics"
        try:
            page: bytes = await deferToThread(read, url)
        finally:
            await admin.stopService()
        self.assertIn(b"process_cpu_seconds_total", page)
        await self.assertFailure(deferToThread(read, url), URLError)
