"""How long a balancer takes to say over HTTP where a call should go: `python -m tools.measure_select`.

Starts a balancer above three real rtpengines, asks it at a steady rate over CONNECTIONS connections and prints how the
times lie, each from the moment in which its question was due. Both processes go before all others, where they may.
"""

import asyncio
import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import click

from tests.interop.process import LOOPBACK, wait_until
from tools.laboratory.balancer_node import BalancerNode
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

NODES = 3
CONNECTIONS = 20
RATE = 1000.0
SECONDS = 5.0
UP_SECONDS = 30.0
TOKEN = "t0p"
HEAD = (b"POST /v1/select HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n")


class Refused(Exception):
    """An answer that names no node."""


@contextlib.contextmanager
def a_balancer(folder: Path) -> Iterator[BalancerNode]:
    """Run a balancer whose nodes are all up."""
    with contextlib.ExitStack() as ending:
        engines = [RtpengineProcess(folder / f"m{place}", f"m{place}", host, place + 1)
                   for place, host in enumerate(own_hosts(NODES))]
        for engine in engines:
            engine.start()
            ending.callback(engine.kill)
        nodes = [engine.as_node(region="DE", capacity=100_000) for engine in engines]
        balancer = BalancerNode(folder / "b1", "b1", {"node": nodes}, TOKEN)
        balancer.start()
        ending.callback(balancer.stop)
        wait_until(lambda: _are_up(balancer) or None, "nodes that are up", UP_SECONDS)
        yield balancer


def ask_steadily(balancer: BalancerNode, rate: float, seconds: float, name: str) -> list[float]:
    """Return how long each answer took, in seconds, the shortest first. Raises Refused. Call-IDs begin with `name`."""
    with _before_others(balancer.pid), _before_others(0):
        return sorted(asyncio.run(_all_connections(balancer.admin_port, rate, round(rate * seconds), name)))


def at_share(ordered: list[float], share: float) -> float:
    """Return the value that this share of an ordered list does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def shown(ordered: list[float]) -> str:
    """Return how times lie, in milliseconds."""
    median, most = at_share(ordered, 0.5) * 1000, at_share(ordered, 0.99) * 1000
    return f"median {median:.2f} ms, 99 % within {most:.2f} ms, longest {ordered[-1] * 1000:.1f} ms"


async def _all_connections(port: int, rate: float, total: int, name: str) -> list[float]:
    began = perf_counter() + 0.1
    each = [_connection(port, began, rate, range(place, total, CONNECTIONS), name) for place in range(CONNECTIONS)]
    return [seconds for found in await asyncio.gather(*each) for seconds in found]


async def _connection(port: int, began: float, rate: float, numbers: range, name: str) -> list[float]:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    found = []
    for number in numbers:
        due = began + number / rate
        await asyncio.sleep(max(0.0, due - perf_counter()))
        body = json.dumps({"call_id": f"{name}-{number}", "sides": ["x/DE", "y/US"]}).encode()
        writer.write(HEAD % (TOKEN.encode(), len(body)) + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        answer = json.loads(await reader.readexactly(length))
        found.append(perf_counter() - due)
        if not head.startswith(b"HTTP/1.1 200 ") or not answer["node"]:
            raise Refused(f"{head!r} {answer}")
    writer.close()
    await writer.wait_closed()
    return found


@contextlib.contextmanager
def _before_others(pid: int) -> Iterator[None]:
    """Let a process (0: this one) run as if the machine had nothing else to do, where we may say so."""
    try:
        os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))


def _are_up(balancer: BalancerNode) -> bool:
    return [node["state"] for node in balancer.get("/v1/nodes")["nodes"]] == ["up"] * NODES


@click.command(help=(__doc__ or "").partition(":")[0])
@click.option("--rate", type=float, default=RATE, show_default=True, help="questions in a second")
@click.option("--seconds", type=float, default=SECONDS, show_default=True, help="how long")
def main(rate: float, seconds: float) -> None:
    """Measure once and print it."""
    with TemporaryDirectory() as folder, a_balancer(Path(folder)) as balancer:
        times = ask_steadily(balancer, rate, seconds, "measured")
    click.echo(f"POST /v1/select at {rate:g}/s for {seconds:g} s, {CONNECTIONS} connections: {shown(times)}")


if __name__ == "__main__":
    main()
