"""Real rtpengines for tests, and a real Redis through which registrars learn of them.

What balancers do is not tried with these: the snapshot is put into Redis as their master would.
"""

import time
from itertools import count
from pathlib import Path

from rollcall.media.bencode import decode, encode
from rollcall.media.following import SNAPSHOTS
from rollcall.media.snapshot import MediaNode, NodeState, Snapshot, encode_snapshot
from tests.interop.process import wait_until
from tests.interop.registrar_process import RegistrarProcess
from tools.laboratory.redis_servers import RedisServers
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

SECTIONS = """
[auth]
required = false
[redis]
addresses = ["{address}"]
[media]
enabled = true
left_out_seconds = {left_out_seconds}
"""
LEFT_OUT_SECONDS = 0.5
NODES = 2


class MediaNodes:
    """The rtpengines m1 and m2; calls prefer m1, for m2 is said to have more of them."""

    def __init__(self, folder: Path, options: tuple[str, ...] = ()) -> None:
        """`options` are further arguments of rtpengines."""
        self.all = [RtpengineProcess(folder / f"m{number}", f"m{number}", host, number, options=options)
                    for number, host in enumerate(own_hosts(NODES), 1)]
        self._redis = RedisServers(folder / "redis", "single")
        self._published = count(int(time.time() * 1000))

    @property
    def sections(self) -> str:
        """What a registrar's configuration says of them."""
        return SECTIONS.format(address=self._redis.addresses[0], left_out_seconds=LEFT_OUT_SECONDS)

    def start(self) -> None:
        """Start Redis; the nodes start with `renew`."""
        self._redis.start()

    def stop(self) -> None:
        """End all of it."""
        for node in self.all:
            node.stop()
        self._redis.stop()

    def renew(self, registrar: RegistrarProcess) -> None:
        """Have all nodes up, without calls that a test has left, and the registrar know it."""
        for place, node in enumerate(self.all):
            if node.running and self.calls_of(place):
                node.kill()
            if not node.running:
                node.start()
        self.publish(registrar)

    def publish(self, registrar: RegistrarProcess, *down: str) -> None:
        """Say that all nodes are up but those that are `down`. Return when the registrar knows."""
        nodes = {node.name: MediaNode(
            id=node.name, address=node.address, sessions=500 * place,
            state=NodeState.DOWN if node.name in down else NodeState.UP) for place, node in enumerate(self.all)}
        number = next(self._published)
        data = encode_snapshot(Snapshot(published_at=number / 1000, nodes=nodes))
        identity = f"{number}-0"
        self._redis.command(self._redis.master(), "XADD", SNAPSHOTS, identity, "kind", "whole", "before", "",
                            "whole", identity, "data", data)
        wait_until(lambda: f'"version":"{identity}"' in registrar.get("/v1/media").replace(" ", "") or None,
                   f"snapshot {identity} at the registrar: {registrar.get('/v1/media')}")

    def calls_of(self, place: int) -> int:
        """Return how many calls an rtpengine has."""
        reply = decode(self.all[place].ask(encode({"command": "list", "limit": 1000})))
        assert isinstance(reply, dict)
        calls = reply["calls"]
        assert isinstance(calls, list)
        return len(calls)

    def wait_no_calls(self) -> None:
        """Return once no rtpengine that runs has a call."""
        running = [place for place, node in enumerate(self.all) if node.running]
        wait_until(lambda: not any(self.calls_of(place) for place in running) or None, "end of all calls at the nodes")
