"""Writes what the kernels of directors and nodes have to be told, for /etc/sysctl.d.

The kernel's Documentation/networking/ipvs-sysctl.rst and ip-sysctl.rst say what each of them does.
"""

from collections.abc import Iterator

from registrar.distribution.directors.layout import Layout, Role

Setting = tuple[str, str, str]  # why, name, value


def render(layout: Layout, role: Role) -> str:
    """Return a file for /etc/sysctl.d; there may be nothing in it but a sentence."""
    settings: list[Setting] = []
    if role != "node":
        settings += _of_director(layout)
    if role != "director" and layout.spread_by("lvs"):
        settings += _of_node(layout)
    if role == "both" and layout.spread_by("lvs"):
        settings.append(("A backup that is a node, too, must not pass on again what the holder has passed to it.",
                         "net.ipv4.vs.backup_only", "1"))
    lines = [f"# Written by: rollcall sysctl render --role {role}"]
    for why, name, value in settings:
        lines += ([f"# {why}"] if why else []) + [f"{name} = {value}"]
    return "\n".join(lines if settings else [*lines, "# Nothing need be set."]) + "\n"


def _of_director(layout: Layout) -> Iterator[Setting]:
    if layout.spread_by("lvs"):
        yield from _of_lvs(layout)
    if layout.spread_by("haproxy"):
        yield "HAProxy binds virtual addresses that another director has now.", "net.ipv4.ip_nonlocal_bind", "1"
        yield "", "net.ipv6.ip_nonlocal_bind", "1"
    if layout.spread_by("nftables"):
        yield "What phones and nodes send passes through.", "net.ipv4.ip_forward", "1"
        yield "", "net.ipv6.conf.all.forwarding", "1"
        yield ("The flows of a director that has died begin here in their midst.",
               "net.netfilter.nf_conntrack_tcp_loose", "1")


def _of_lvs(layout: Layout) -> Iterator[Setting]:
    yield ("What was with a node that has left is forgotten, so that the phone is reset, and connects again.",
           "net.ipv4.vs.expire_nodest_conn", "1")
    yield ("A phone that comes back from the same port is given to a node that takes new ones.",
           "net.ipv4.vs.conn_reuse_mode", "1")
    if layout.config.scheduler in ("mh", "sh"):
        yield ("A connection that this director has not heard of goes where its hash says, which is where it was.",
               "net.ipv4.vs.sloppy_tcp", "1")
    if layout.config.sync:
        yield ("Connections are told of after 3 packets, then whenever their time-out has moved by 10 s.",
               "net.ipv4.vs.sync_threshold", "3 0")
        yield "", "net.ipv4.vs.sync_refresh_period", "10"


def _of_node(layout: Layout) -> Iterator[Setting]:
    interface = layout.config.interface.replace(".", "/")
    yield ("It has the virtual addresses on lo, and is silent about them on the network.",
           "net.ipv4.conf.all.arp_ignore", "1")
    yield "", "net.ipv4.conf.all.arp_announce", "2"
    yield "", f"net.ipv4.conf.{interface}.arp_ignore", "1"
    yield "", f"net.ipv4.conf.{interface}.arp_announce", "2"
