"""What the admin site says about bans, and how one is lifted: `/v1/bans`."""

from collections.abc import Callable
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_pton
from typing import Any

import msgspec

from registrar.bans import NETWORK_BYTES, Ban, Bans, network_of, source_text
from registrar.records import record_key
from registrar.routing import aor_of_name
from rollcall.ops.api import ApiError, Call, Reply, Routes

BANS = "/v1/bans"
LIFT = "/v1/bans/lift"


class LiftWish(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /v1/bans/lift: who is meant."""

    who: str
    """An address such as "192.0.2.7", a /64, or "alice@example.com"."""


class BansListed:
    """Answers who is banned, and lifts bans."""

    def __init__(self, bans: Bans, now: Callable[[], float]) -> None:
        self._bans = bans
        self._now = now

    def mount(self, routes: Routes) -> None:
        """Add what is answered here to the admin site."""
        routes.get(BANS, self.listed)
        routes.delete(BANS, self.lift_named)
        routes.post(LIFT, self.lift)

    def listed(self, call: Call) -> Reply:
        """Answer {"bans": […]}, the ban that ends first at the front.

        `kind` is "pair" (a user from a source), "source" or "user"; what a ban does not name is null.
        """
        now = self._now()
        return Reply({"bans": [as_shown(ban, now) for ban in self._bans.current(now)]})

    def lift(self, call: Call) -> Reply:
        """Forget all bans and counts of {"who": "192.0.2.7"} or {"who": "alice@example.com"}: {"lifted": how many}."""
        return self._lifted(call.body(LiftWish).who)

    def lift_named(self, call: Call) -> Reply:
        """Do the same for `?who=`."""
        return self._lifted(named(call))

    def _lifted(self, who: str) -> Reply:
        user, source = meant(who)
        return Reply({"lifted": self._bans.lift(user, source)})


def named(call: Call) -> str:
    """Return whom a DELETE names. Raises ApiError (400)."""
    who = call.text("who")
    if not who:
        raise ApiError(400, "who: an address or a user such as alice@example.com has to be named")
    return who


def meant(who: str) -> tuple[str, bytes]:
    """Return the user, or the source, that `who` names. Raises ApiError (400)."""
    host = who.removesuffix(f"/{NETWORK_BYTES * 8}").strip("[]")
    try:
        is_four = ip_address(host).version == 4
    except ValueError:
        username, at, domain = who.removeprefix("sip:").rpartition("@")
        if not (username and at and domain):
            raise ApiError(400, "who: an address or a user such as alice@example.com is allowed") from None
        return record_key(aor_of_name(username, domain.lower())).decode("utf-8", "surrogateescape"), b""
    return "", network_of(inet_pton(AF_INET if is_four else AF_INET6, host.partition("%")[0]))


def as_shown(ban: Ban, now: float) -> dict[str, Any]:
    """Return what is told of a ban."""
    return {"kind": ban.kind, "user": ban.user or None, "source": source_text(ban.source) or None,
            "seconds_left": max(0, round(ban.until - now)), "failures": ban.failures}
