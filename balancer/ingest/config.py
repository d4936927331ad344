"""What an operator can set about the reports that come in."""

from attrs import field, frozen

from rollcall.ops.allowed import (
    NotAllowed,
    above,
    at_least,
    each,
    host_and_port,
    is_address,
    name,
    network,
    non_empty,
    unique,
    where,
)
from rollcall.ops.config import secret

_LISTENED = [
    host_and_port(),
    where(lambda text: is_address(text.rpartition(":")[0].strip("[]")), "an address of this machine and a port, such as"
          " 192.0.2.5:9060 or [::]:9060")]


@frozen(kw_only=True)
class RtcpConfig:
    """[[ingest.rtcp]]: a port that takes plain RTCP, as a node copies it here from its phones."""

    node: str = field(validator=name())
    """The id of the media node whose phones' packets come here: they do not say it themselves."""
    address: str = field(validator=_LISTENED)
    senders: tuple[str, ...] = field(default=("0.0.0.0/0", "::/0"), validator=[non_empty(), each(network())])
    """Copies come with the phones' addresses, so that these are everybody's, unless the network sees to it."""


@frozen(kw_only=True)
class IngestConfig:
    """[ingest]: where reports are taken, from whom, and how many."""

    hep_udp: tuple[str, ...] = field(default=(), validator=[each(*_LISTENED), unique()])
    """Where HEP packets of media nodes and capture agents are taken as datagrams."""
    hep_tcp: tuple[str, ...] = field(default=(), validator=[each(*_LISTENED), unique()])
    """The same over connections."""
    rtcp: tuple[RtcpConfig, ...] = field(default=(), validator=unique(lambda listener: listener.address, "addresses"))
    senders: tuple[str, ...] = field(default=("127.0.0.0/8", "::1/128"), validator=each(network()))
    """Who may send HEP, beside the media nodes themselves."""
    auth_key: str | None = secret(default=None)
    """What HEP packets have to carry (its chunk 14). rtpengine sends none."""
    max_reports_per_second: int = field(default=20_000, validator=at_least(1))
    """Reports beyond that are dropped and counted."""
    max_reports_per_sender: int = field(default=5_000, validator=at_least(1))
    """The same for each who sends, in a second."""
    max_connections: int = field(default=64, validator=at_least(1))
    """Over HEP's TCP ports; one more, and the one that was silent for longest is closed."""
    idle_seconds: float = field(default=86_400.0, validator=above(0))
    """A connection that was silent for so long is closed. A node without calls has nothing to say, and rtpengine waits
    for 30 s before it connects again: dead peers are found by the kernel's keepalive, much earlier."""

    def __attrs_post_init__(self) -> None:
        if self.auth_key == "":
            raise NotAllowed("is empty; leave it out to have none", "auth_key")
