"""Plain TCP flows on real sockets: those of the flow engine, and those that a Twisted transport carries."""

from rollcall.net.config import EngineConfig
from tests.rollcall.net import stream_contract


class EngineSocketTests(stream_contract.StreamContract):
    engine = EngineConfig()


class WakingEngineSocketTests(stream_contract.StreamContract):
    """Without coalescing, and with the smallest turns: every event is another one's neighbour."""

    engine = EngineConfig(coalesce_ms=0, max_events_per_turn=1, max_accepts_per_turn=1, read_bytes=512)


class TwistedSocketTests(stream_contract.StreamContract):
    engine = EngineConfig(enabled=False)
