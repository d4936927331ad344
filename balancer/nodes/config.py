"""What an operator can set about media nodes."""

from typing import Literal

from attrs import field, frozen

from rollcall.media.snapshot import DEFAULT_GROUP, Kind
from rollcall.ops.allowed import (
    NotAllowed,
    above,
    address,
    at_least,
    between,
    each,
    host_and_port,
    name,
    network,
    non_empty,
    unique,
)


@frozen(kw_only=True)
class NodeConfig:
    """[[node]]: one media node as it is configured, or as it has announced itself."""

    id: str = field(validator=name())
    """What it is called in answers, logs and metrics."""
    address: str = field(validator=host_and_port())
    """Where calls for it are sent: the ng port of rtpengine, the SIP port of others."""
    kind: Kind = "rtpengine"
    transport: Literal["udp", "tcp"] = "udp"
    """What it is asked over how it is: by ng, or by OPTIONS."""
    capacity: int = field(default=1000, validator=at_least(1))
    """Calls at once."""
    region: str = ""
    """Where it stands, as in access groups; priors are by it."""
    weight: int = field(default=1, validator=between(1, 1000))
    """Its share of the calls with the policy "weighted"."""
    groups: tuple[str, ...] = field(default=(DEFAULT_GROUP,), validator=[each(name()), unique(what="groups")])
    """The node groups that it is in."""
    draining: bool = False
    """It keeps its calls and gets no new ones."""
    capture_id: int = field(default=0, validator=between(0, 2**32 - 1))
    """What its HEP reports name it by, such as rtpengine's homer-id; 0: nothing."""
    media_hosts: tuple[str, ...] = field(default=(), validator=each(network()))
    """Further addresses or networks that its reports and calls come from."""

    @property
    def host(self) -> str:
        """The host of its address, IPv6 without brackets."""
        return self.address.rpartition(":")[0].removeprefix("[").removesuffix("]")


@frozen(kw_only=True)
class NodesConfig:
    """[nodes]: how media nodes are looked after. All times in seconds."""

    poll_seconds: float = field(default=1.0, validator=above(0))
    """How often each node is asked how it is."""
    answer_seconds: float = field(default=0.5, validator=above(0))
    """How long it may take to answer."""
    again_seconds: float = field(default=0.2, validator=above(0))
    """A node that has not answered is asked again so soon."""
    down_after: int = field(default=3, validator=at_least(1))
    """So many questions without an answer in a row mean that it is down; the first makes it suspect."""
    refused_after: int = field(default=2, validator=at_least(1))
    """The same where its host says that nobody listens there."""
    return_seconds: float = field(default=10.0, validator=at_least(0))
    """A node that was down, or was started again, has to answer for so long before it is as good as others."""
    drained_seconds: float = field(default=10.0, validator=at_least(0))
    """A draining node is empty when it has had neither calls nor packets for so long."""
    lease_seconds: float = field(default=15.0, validator=at_least(1))
    """A node that has announced itself has to do so again within this time, or it gets no new calls."""
    forget_seconds: float = field(default=3600.0, validator=at_least(0))
    """So long after that it is forgotten."""
    max_announced: int = field(default=500, validator=at_least(0))
    """How many nodes may announce themselves; 0: none."""
    load_seconds: float = field(default=5.0, validator=above(0))
    """How long what a node reports of its load, or a registrar of its calls, is believed."""

    options_hosts: tuple[str, ...] = field(default=("0.0.0.0",), validator=[non_empty(), each(address())])
    """Where OPTIONS over UDP leave from: one address for each family, such as "::" beside "0.0.0.0" for IPv6."""

    def __attrs_post_init__(self) -> None:
        if self.refused_after > self.down_after:
            raise NotAllowed("down_after or less: a refusal says more than silence", "refused_after",
                             self.refused_after)
