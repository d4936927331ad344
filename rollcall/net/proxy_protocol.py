"""The PROXY protocol, version 2: who really connected, told by the load balancer in front of us.

HAProxy's doc/proxy-protocol.txt §2.2. Sans-I/O; only what trusted sources send may be given to it.

    signature[12]  version-and-command[1]  family-and-protocol[1]  length[2]
    source-address  destination-address  source-port[2]  destination-port[2]  TLVs
"""

from ipaddress import ip_address

from attrs import frozen

from rollcall.net.flow import Address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
FIXED_BYTES = 16

# The addresses of IPv6 take 36 bytes; the rest are TLVs, which load balancers keep short.
MAX_LENGTH = 2048

LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP_OVER_IPV4, TCP_OVER_IPV6 = 0x00, 0x11, 0x21
IP_BYTES = {TCP_OVER_IPV4: 4, TCP_OVER_IPV6: 16}


class ProxyError(ValueError):
    """What came is no PROXY protocol v2 header for a TCP connection; says why."""


@frozen
class ProxyHeader:
    """Both ends of the client's connection to the load balancer; None when it speaks for itself (health checks)."""

    source: Address | None
    destination: Address | None


class ProxyHeaderReader:
    """Collects a header from the beginning of a connection."""

    __slots__ = ("_data",)

    def __init__(self) -> None:
        self._data = b""

    def receive_data(self, data: bytes) -> tuple[ProxyHeader, bytes] | None:
        """Return the header and what came after it, or None while it is not whole. Raises ProxyError."""
        self._data += data
        data = self._data
        if not data.startswith(SIGNATURE) and not SIGNATURE.startswith(data):
            raise ProxyError("no PROXY protocol v2 signature")
        if len(data) < FIXED_BYTES:
            return None
        length = int.from_bytes(data[14:16], "big")
        if length > MAX_LENGTH:
            raise ProxyError("a PROXY header longer than 2048 bytes")
        end = FIXED_BYTES + length
        if len(data) < end:
            return None
        self._data = b""
        return _header(data[12], data[13], data[FIXED_BYTES:end]), data[end:]


def _header(command: int, family: int, addresses: bytes) -> ProxyHeader:
    if command == LOCAL:
        return ProxyHeader(None, None)
    if command != PROXY:
        raise ProxyError(f"PROXY version and command {command:#04x}")
    if family == UNSPECIFIED:
        return ProxyHeader(None, None)
    size = IP_BYTES.get(family)
    if size is None:
        raise ProxyError(f"PROXY address family and protocol {family:#04x}")
    if len(addresses) < 2 * size + 4:
        raise ProxyError("a PROXY header too short for its addresses")
    ports = 2 * size
    return ProxyHeader(
        _address(addresses[:size], addresses[ports : ports + 2]),
        _address(addresses[size:ports], addresses[ports + 2 : ports + 4]),
    )


def _address(host: bytes, port: bytes) -> Address:
    # A load balancer that listens to both families tells of ::ffff:192.0.2.7. All of those are in one /64, in which
    # whoever is limited or banned by his network would take everybody with him.
    address = ip_address(host)
    return str(getattr(address, "ipv4_mapped", None) or address), int.from_bytes(port, "big")
