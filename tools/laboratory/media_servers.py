"""The lab's media nodes and balancers: real rtpengines that report to balancers, which publish to the registrars."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tools.laboratory.balancer_node import BalancerNode
from tools.laboratory.media_phone import Subscriber
from tools.laboratory.redis_servers import RedisServers
from tools.laboratory.rtpengine_process import RtpengineProcess, own_hosts
from tools.laboratory.toml import Sections, joined

CARRIERS = {"alpha": "127.201.0.0/16", "beta": "127.202.0.0/16", "gamma": "127.203.0.0/16"}
"""The lab's carriers, by the networks of their phones on loopback."""
LOCAL = {"local": "127.0.0.0/16"}
"""The carrier of phones that have no address of their own, such as baresip."""
REGION = "lab"
PREFIX_FILE = "prefixes.txt"
PHONES_OF_A_NET = 250


class MediaServers:
    """So many rtpengines, and balancers that share their reports through Redis."""

    def __init__(self, folder: Path, nodes: int, balancers: int, redis: RedisServers, token: str,
                 sections: Sections | None = None, outlives: bool = False) -> None:
        """`sections` is what the balancers' configuration says beyond what they need to work together.

        Its "every_node" is what is said of every node, such as its capacity, and its "each_node" what is said of each
        by its name, such as its groups.
        """
        self.folder = folder
        self.prefix_file = folder / PREFIX_FILE
        self._redis = redis
        self._sections = dict(sections or {})
        self._every_node = self._sections.pop("every_node", {})
        self._each_node = self._sections.pop("each_node", {})
        self._token = token
        self._outlives = outlives
        self._hosts = own_hosts(nodes)
        self._numbers = range(1, balancers + 1)
        self.balancers: list[BalancerNode] = []
        self.nodes: list[RtpengineProcess] = []

    @property
    def registrar_sections(self) -> dict[str, Any]:
        """What registrars have to be told."""
        return {"media": {"enabled": True}, "access": {"prefix_file": str(self.prefix_file)}}

    def start(self) -> None:
        """Start all of them and return when all serve."""
        self.folder.mkdir(parents=True, exist_ok=True)
        nets = CARRIERS | LOCAL
        self.prefix_file.write_text("".join(f"{net} {name} {REGION}\n" for name, net in nets.items()))
        self.balancers = [self._balancer(f"balancer-{number}") for number in self._numbers]
        # Each reports to one balancer, as rtpengine can; what that has heard, the others read from Redis.
        self.nodes = [
            RtpengineProcess(self.folder / f"media-{number}", f"media-{number}", host, number,
                             self.balancers[number % len(self.balancers)].hep, outlives=self._outlives)
            for number, host in enumerate(self._hosts, 1)
        ]
        for node in self.nodes:
            node.start()
        for balancer in self.balancers:
            balancer.begin()
        for balancer in self.balancers:
            balancer.wait_ready()

    def stop(self) -> None:
        """End all of them: first the balancers, so that they see no node die."""
        for stops in ([each.stop for each in self.balancers], [each.stop for each in self.nodes]):
            if stops:
                with ThreadPoolExecutor(len(stops)) as pool:
                    list(pool.map(lambda stop: stop(), stops))

    def node(self, host: str) -> RtpengineProcess:
        """Return the rtpengine at this address."""
        return next(node for node in self.nodes if node.host == host)

    def as_json(self) -> dict[str, Any]:
        """Return what the lab's JSON says of them."""
        return {"media": [node.as_json() for node in self.nodes],
                "balancers": [balancer.as_json() for balancer in self.balancers], "carriers": CARRIERS}

    def _balancer(self, name: str) -> BalancerNode:
        own: Mapping[str, Any] = {
            "node": [{"id": f"media-{number}", "address": RtpengineProcess.address_at(host), "capture_id": number,
                      "region": REGION} | self._every_node | self._each_node.get(f"media-{number}", {})
                     for number, host in enumerate(self._hosts, 1)],
            "access": {"prefix_file": str(self.prefix_file)},
            "publication": {"enabled": True},
            "redis": self._redis.settings,
        }
        return BalancerNode(self.folder / name, name, joined(own, self._sections), self._token, self._outlives)


def subscribers(users: Sequence[Any], carriers: Mapping[str, str] | None = None) -> list[Subscriber]:
    """Return the lab's users as phones of its carriers in turn, each with an address of its own."""
    nets = list((carriers or CARRIERS).items())
    found = []
    for index, user in enumerate(users):
        (carrier, net), number = nets[index % len(nets)], index // len(nets)
        first, second, *_ = net.split(".")
        high, low = divmod(number, PHONES_OF_A_NET)
        found.append(Subscriber(user=user.username, password=user.password,
                                host=f"{first}.{second}.{high}.{low + 1}", carrier=carrier))
    return found
