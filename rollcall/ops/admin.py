"""The admin HTTP site of one process: /metrics, /healthz, /readyz and what the services add below /v1.

/healthz says that the process answers; /readyz whether it should get work. Both are open, as is /metrics;
/v1 asks for the bearer token when there is one. Without a token the site binds loopback only.
"""

from collections.abc import Awaitable, Callable, Coroutine
from ipaddress import ip_address
from typing import Any, cast

from attrs import field, frozen
from twisted.application.service import Service
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from rollcall.ops.allowed import NotAllowed, address, between, port
from rollcall.ops.api import Bearer, Call, Reply, Routes
from rollcall.ops.config import secret
from rollcall.ops.metrics import CONTENT_TYPE, Metrics
from rollcall.ops.site import BODY_BYTES, BoundedSite, Pages

IDLE_SECONDS = 60
CHECK_SECONDS = 2

Reason = str | None
Check = Callable[[], Reason | Coroutine[Any, Any, Reason]]


@frozen(kw_only=True)
class AdminConfig:
    """[admin]: where the site listens, and the token that /v1 asks for."""

    host: str = field(default="127.0.0.1", validator=address())
    port: int = field(default=8060, validator=port(zero=True))
    token: str | None = secret(default=None)
    max_body_bytes: int = field(default=BODY_BYTES, validator=between(1024, 16 * 1024 * 1024))

    def __attrs_post_init__(self) -> None:
        if self.token == "":
            raise NotAllowed("is empty; leave it out to have none", "token")
        if self.token is None and not ip_address(self.host).is_loopback:
            raise NotAllowed("is missing; needed because [admin] host is not a loopback address", "token")

    @property
    def url(self) -> str:
        """Where this machine finds the site."""
        return _url(self.host, self.port)


class AdminSite(Service):
    """Listens from startService to stopService. Add to `routes` and `ready_when` before or after."""

    _log = Logger()

    def __init__(self, reactor: Any, config: AdminConfig, metrics: Metrics) -> None:
        self.routes = Routes()
        self._reactor = reactor
        self._config = config
        self._metrics = metrics
        self._checks: dict[str, Check] = {}
        self._port: IListeningPort | None = None
        self.routes.get("/metrics", self._page)
        self.routes.get("/healthz", self._alive)
        self.routes.get("/readyz", self._ready)
        self.site = BoundedSite(
            Pages(self.routes, Bearer(config.token)), config.max_body_bytes, timeout=IDLE_SECONDS, reactor=reactor
        )

    @property
    def url(self) -> str:
        """Where the site is, e.g. "http://127.0.0.1:8060"; after the start with the real port."""
        return _url(
            self._config.host, cast(IPv4Address, self._port.getHost()).port if self._port else self._config.port
        )

    def ready_when(self, name: str, check: Check) -> None:
        """Let /readyz ask `check()`: None when all is well, else the reason why not. It may be async."""
        self._checks[name] = check

    def startService(self) -> None:
        super().startService()
        self._port = self._reactor.listenTCP(self._config.port, self.site, interface=self._config.host)
        self._log.info("admin site at {url}", url=self.url)

    def stopService(self) -> Any:
        super().stopService()
        listening, self._port = self._port, None
        return listening.stopListening() if listening else None

    def _page(self, call: Call) -> Reply | Awaitable[Reply]:
        return Reply(self._metrics.render(), content_type=CONTENT_TYPE)

    def _alive(self, call: Call) -> Reply:
        return Reply({"alive": True})

    async def _ready(self, call: Call) -> Reply:
        reasons = {name: await self._reason(check) for name, check in self._checks.items()}
        ready = not any(reasons.values())
        checks = {name: reason or "ok" for name, reason in reasons.items()}
        return Reply({"ready": ready, "checks": checks}, 200 if ready else 503)

    async def _reason(self, check: Check) -> Reason:
        try:
            reason = check()
            if isinstance(reason, Coroutine):
                reason = await Deferred.fromCoroutine(reason).addTimeout(CHECK_SECONDS, self._reactor)
        except Exception as error:
            return f"the check failed: {error or type(error).__name__}"
        return reason


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
