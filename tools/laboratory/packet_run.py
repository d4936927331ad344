"""One run of the packet bench: real rtpengines, a real proxy and real packets, in a network namespace of its own."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from tests.cluster.namespaces import Namespace
from tools.laboratory.filling import LabUser
from tools.laboratory.kamailio_media import KamailioMedia
from tools.laboratory.lab import DOMAIN, EVERYBODY_FROM_ONE_ADDRESS, Lab
from tools.laboratory.media_call import MediaCall
from tools.laboratory.media_loss import Losses
from tools.laboratory.media_phones import MediaPhones
from tools.laboratory.media_servers import CARRIERS, subscribers
from tools.laboratory.packet_world import CallSeen, Proxy, Run, World, bad_way
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts

END_SECONDS = 60.0


@frozen
class Servers:
    """What phones need to know of a proxy and the nodes behind it."""

    proxy: tuple[str, int]
    users: Sequence[LabUser]
    hosts: Sequence[str]


def run(proxy: Proxy, seed: int, world: World, folder: Path, tell: Callable[[str], None]) -> Run:
    """Let phones call each other through that proxy while one way goes bad and heals."""
    network = Namespace()
    try:
        with network.entered(), _servers(proxy, world, folder) as servers:
            return _measured(proxy, seed, world, servers, tell)
    finally:
        network.close()


def _measured(proxy: Proxy, seed: int, world: World, servers: Servers, tell: Callable[[str], None]) -> Run:
    losses = Losses()
    way = bad_way(seed, servers.hosts)
    phones = MediaPhones(servers.proxy, DOMAIN, subscribers(servers.users), seed=seed, name=f"seed{seed}")
    with phones:
        phones.register_all()
        begun_at = phones.loop.now()
        phones.call_on(world.calls_per_second, world.talk_seconds)
        time.sleep(world.good_seconds)
        tell(f"{len(phones.talking())} calls talk; the way from {way.carrier} to {way.host} goes bad")
        phones.watch_losses()
        losses.set({(CARRIERS[way.carrier], way.host): world.loss})
        went_bad_at = phones.loop.now()
        time.sleep(world.bad_seconds)
        losses.set({})
        healed_at = phones.loop.now()
        first = phones.first_losses.get((way.carrier, way.host))
        tell(f"{len(phones.talking())} calls talk; it is good again")
        time.sleep(world.healed_seconds)
        phones.call_on(0, world.talk_seconds)
        phones.wait_over(seconds=END_SECONDS)
    return Run(
        proxy=proxy, seed=seed, way=way, went_bad_at=went_bad_at - begun_at, healed_at=healed_at - begun_at,
        first_report_at=None if first is None else first - begun_at,
        calls=[_seen(call, begun_at) for call in phones.calls.values()], starved=phones.starved)


def _seen(call: MediaCall, begun_at: float) -> CallSeen:
    return CallSeen(
        begun_at=call.begun_at - begun_at, ended_at=call.ended_at - begun_at,
        carriers=(call.caller.who.carrier, call.callee.who.carrier),
        host=call.nodes[0][1] if call.nodes else "", r=call.r, failed=call.why)


@contextmanager
def _servers(proxy: Proxy, world: World, folder: Path) -> Iterator[Servers]:
    number = world.phones_of_a_carrier * len(CARRIERS)
    if proxy == "kamailio":
        with _kamailio(world, folder) as (kamailio, hosts):
            yield Servers(kamailio, [LabUser(f"user{index}", "") for index in range(1, number + 1)], hosts)
        return
    sections = {"rule": {"policy": proxy}, "every_node": {"capacity": world.capacity}}
    with Lab(folder, 1, "single", number, EVERYBODY_FROM_ONE_ADDRESS, media=world.nodes,
             balancer_sections=sections) as lab:
        yield Servers(lab.tcp[0], lab.users, [node.host for node in lab.media.nodes])


@contextmanager
def _kamailio(world: World, folder: Path) -> Iterator[tuple[tuple[str, int], list[str]]]:
    hosts = own_hosts(world.nodes)
    nodes = [RtpengineProcess(folder / f"media-{number}", f"media-{number}", host, number)
             for number, host in enumerate(hosts, 1)]
    kamailio = KamailioMedia(folder / "kamailio", [node.address for node in nodes])
    try:
        for node in nodes:
            node.start()
        kamailio.start()
        yield kamailio.tcp, hosts
    finally:
        kamailio.stop()
        for node in nodes:
            node.stop()
