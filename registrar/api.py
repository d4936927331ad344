"""What the admin site says about bindings: `GET /v1/contacts`, for `rollcall contacts` and operators' scripts."""

from collections.abc import Callable
from typing import Any

from registrar.location.contract import LocationStore, Snapshot
from registrar.records import Binding
from rollcall.ops.api import ApiError, Call, Reply, Routes

DEFAULT_PAGE = 100
MAX_PAGE = 1000


class Contacts:
    """Answers with the bindings of one address-of-record, or page by page with all."""

    def __init__(self, location: LocationStore, now: Callable[[], float]) -> None:
        self._location = location
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get("/v1/contacts", self.contacts)

    async def contacts(self, call: Call) -> Reply:
        """Answer `?aor=sip:alice@example.com`, or `?page=0&size=100`; {"contacts": […], "more": false}."""
        aor = call.text("aor")
        if aor is not None:
            if not aor.startswith("sip:"):
                raise ApiError(400, "aor: an address-of-record such as sip:alice@example.com is allowed")
            return Reply({"contacts": self._shown(aor, await self._location.load(aor)), "more": False})
        size = call.number("size", DEFAULT_PAGE, 1, MAX_PAGE)
        page = call.number("page", 0, 0, 1_000_000_000)
        async for number, entries in _numbered(self._location.pages(size)):
            if number == page:
                shown = [contact for aor, snapshot in entries for contact in self._shown(aor, snapshot)]
                return Reply({"contacts": shown, "more": len(entries) == size})
        return Reply({"contacts": [], "more": False})

    def _shown(self, aor: str, snapshot: Snapshot) -> list[dict[str, Any]]:
        now = self._now()
        return [_shown(aor, binding, now) for binding in snapshot.bindings if binding.expires_at > now]


async def _numbered(pages: Any) -> Any:
    number = 0
    async for page in pages:
        yield number, page
        number += 1


def _shown(aor: str, binding: Binding, now: float) -> dict[str, Any]:
    source = binding.source
    return {
        "aor": aor, "contact": binding.contact, "q": binding.q / 1000, "expires_seconds": int(binding.expires_at - now),
        "transport": source.transport, "host": source.host, "port": source.port, "listener": source.listener,
        "node": source.node, "flow": source.flow_id if binding.connection_bound else None, "path": list(binding.path),
        "instance": binding.instance, "reg_id": binding.reg_id, "user_agent": binding.user_agent,
        "call_id": binding.call_id, "cseq": binding.cseq, "registered_at": binding.registered_at,
        "refreshed_at": binding.refreshed_at,
    }
