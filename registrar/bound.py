"""Which addresses-of-record live on a connection: kept on its flow, so that an idle phone costs no entry elsewhere.

What is bound to a flow is nearly always one address-of-record; its record key then stands there without anything around
it, the same object that the record is filed under. A trunk's flow has a set of them.
"""

from registrar.records import aor_of_key
from rollcall.net.flow import Flow


def keys_on(flow: Flow) -> tuple[bytes, ...]:
    """Return the record keys of what is bound to `flow`."""
    bound = flow.bound
    if isinstance(bound, bytes):
        return (bound,)
    return tuple(bound) if isinstance(bound, set) else ()


def tie(flow: Flow, key: bytes) -> None:
    """Take note that a binding of this record lives on `flow`."""
    bound = flow.bound
    if bound is None:
        flow.bound = key
    elif isinstance(bound, set):
        bound.add(key)
    elif bound != key:
        flow.bound = {bound, key}


def untie(flow: Flow, key: bytes) -> None:
    """Take note that none does any more."""
    bound = flow.bound
    if isinstance(bound, set):
        bound.discard(key)
        if not bound:
            flow.bound = None
    elif bound == key:
        flow.bound = None


def let_go(flow: Flow, key: bytes) -> None:
    """Take note that none does any more, and close a flow that has no other use."""
    untie(flow, key)
    if flow.bound is None and not flow.holds:
        flow.close(f"{aor_of_key(key)} is not bound to it any more")
