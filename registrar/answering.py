"""The header fields of the 200 (OK) to a REGISTER.

RFC 3261 §10.3 step 8; RFC 3327 §5.3 (Path); RFC 3608 §6.3 (Service-Route); RFC 5626 §6 (Require, Flow-Timer);
RFC 5627 §5.2 (GRUUs); RFC 5630 §5.2.1 (their scheme).
"""

from email.utils import formatdate
from functools import lru_cache

from registrar.gruu import GruuMaker
from registrar.records import Binding, BindingConfig, Register, Stored

SUPPORTED = "path, outbound"
"""RFC 5627 §5.2: "SHOULD NOT include the "gruu" option tag in the Require or Supported header field"."""

ROUNDING_SECONDS = 0.01
"""A float's sum of now and a time may come out a little smaller."""


def answer_headers(stored: Stored, request: Register, config: BindingConfig, now: float,
                   gruus: GruuMaker | None = None) -> list[tuple[str, str]]:
    """Return the fields that report every current binding and what else the phone has to know.

    With `gruus`, a phone that supports them is given the GRUUs of each instance.
    """
    wanted = gruus if "gruu" in request.supported else None
    headers = [("Contact", _contact(binding, request.aor, now, wanted)) for binding in stored.bindings]
    if request.path:
        headers.append(("Path", ", ".join(request.path)))
    if stored.outbound:
        headers.append(("Require", "outbound"))
        if config.flow_timer_seconds and request.direct and request.source.flow_id:
            headers.append(("Flow-Timer", str(config.flow_timer_seconds)))
    if config.service_route:
        headers.append(("Service-Route", ", ".join(config.service_route)))
    headers.append(("Supported", SUPPORTED))
    headers.append(("Date", sip_date(int(now))))
    return headers


@lru_cache(maxsize=4)
def sip_date(seconds: int) -> str:
    """Return the moment `seconds` after the epoch as in "Sat, 13 Nov 2010 23:29:00 GMT" (RFC 3261 §20.17)."""
    return formatdate(seconds, usegmt=True)


def _contact(binding: Binding, aor: str, now: float, gruus: GruuMaker | None) -> str:
    # "expires=0" would say that it is gone (§10.2.2), so that the last second lasts a little longer.
    remaining = max(1, int(binding.expires_at - now + ROUNDING_SECONDS))
    pieces = [f"<{binding.contact}>;expires={remaining}"]
    if binding.q != 1000:
        pieces.append(f"q={_q(binding.q)}")
    for name, value in binding.params:
        pieces.append(name if value is None else f"{name}={value}")
    if gruus is not None and binding.instance is not None:
        secure = binding.contact[:5].lower() == "sips:"
        pieces.append(f'pub-gruu="{gruus.public(aor, binding.instance, secure)}"')
        pieces.append(f'temp-gruu="{gruus.temporary(aor, binding.instance, binding.generation, secure)}"')
    return ";".join(pieces)


def _q(thousandths: int) -> str:
    """Return e.g. "0.7" for 700."""
    return f"0.{thousandths:03d}".rstrip("0").rstrip(".")
