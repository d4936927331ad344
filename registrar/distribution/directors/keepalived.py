"""Writes keepalived.conf (keepalived 2.2, keepalived.conf(5)): who has the virtual addresses, and how LVS spreads.

One instance of VRRP, version 3 (RFC 5798), for each family, both in a group so that they move together. VRRP 3 has no
authentication: RFC 5798 §9 has removed that of RFC 2338, which protected from nothing. A host in the same network that
wants the addresses can take them; who may be in that network is for switches to say.

All directors have the same priority unless `preempt` is set: a backup that hears an advertisement of its own priority
stays one (RFC 5798 §6.4.2), so that who comes back takes nothing away, and `nopreempt`, with which nobody could take
over from a holder that is not ready, is not needed.
"""

from collections.abc import Iterable, Iterator
from math import ceil

from registrar.distribution.directors.check_sip import AGENT_SECONDS
from registrar.distribution.directors.config import DirectorConfig, RealServerConfig
from registrar.distribution.directors.layout import CannotRender, Layout, Role, Service, address_of

GROUP = "SIP"
NOT_READY = 51
"""So much of its priority a holder loses that is not ready: more than any two directors of one rank differ."""

TCP_FIN_SECONDS = 60
UDP_SECONDS = 300
"""How long LVS remembers where a phone's datagrams go; after that "mh" sends them to the same node again."""
TCP_SPARE_SECONDS = 180

Lines = Iterator[str]


def render(layout: Layout, role: Role, name: str) -> str:
    """Return keepalived.conf for the machine of that name. Raises CannotRender."""
    lines = [*_head(layout, role, name), *_global(layout, role, name)]
    if role == "node":
        layout.node(name)
        if not layout.spread_by("lvs"):
            raise CannotRender("nothing is spread by LVS, so keepalived has nothing to do on a node")
        return _text([*lines, *_addresses_of_node(layout)])
    holder = layout.holder(name)
    if role == "director" and not layout.config.directors:
        # Without that a node would hold addresses whatever becomes of its registrar.
        raise CannotRender(f"[directors] directors is empty, so {name} is a node that holds the virtual addresses: "
                           "its role is \"both\"")
    lines += [*_tracked(layout, role, name), *_group(layout, role)]
    for family in layout.families():
        lines += _instance(layout, role, holder, family)
    if role == "both" and layout.spread_by("lvs"):
        layout.node(name)
        lines += _addresses_of_node(layout)
    for service in layout.spread_by("lvs"):
        lines += _virtual_servers(layout, service)
    return _text(lines)


def _head(layout: Layout, role: Role, name: str) -> Lines:
    yield f"# Written by: rollcall keepalived render --role {role} --name {name}"
    if role != "director" and layout.spread_by("lvs"):
        yield "# Without what `rollcall sysctl render` writes this machine would answer ARP for the virtual addresses."
    yield ""


def _global(layout: Layout, role: Role, name: str) -> Lines:
    config = layout.config
    lines = [f"router_id {name}", "vrrp_version 3", f"script_user {config.check_user}", "enable_script_security"]
    if role != "node" and layout.spread_by("lvs"):
        if config.sync:
            # By the connections that the instance's holder sees; the others hear of them.
            lines.append(f"lvs_sync_daemon {config.sync_interface or config.interface} "
                         f"{_instance_name(layout.families()[0])} id {config.sync_id}")
        tcp = layout.idle_seconds + TCP_SPARE_SECONDS
        lines.append(f"lvs_timeouts tcp {tcp} tcpfin {TCP_FIN_SECONDS} udp {UDP_SECONDS}")
    yield from _block("global_defs", lines)


def _addresses_of_node(layout: Layout) -> Lines:
    yield "# What directors pass on is for the virtual addresses: the node has them where nobody asks for them."
    scopes = {4: " scope host", 6: ""}
    yield from _block("static_ipaddress", [
        f"{each.ip}/{each.max_prefixlen} dev lo{scopes[each.version]}" for each in layout.addresses])


# --- VRRP


def _tracked(layout: Layout, role: Role, name: str) -> Lines:
    yield from _block("track_file drained", (f'file "{layout.config.drain_file}"', "weight 0", "init_file 0"))
    for script, weight in _weights(layout, role):
        yield from _block(f"vrrp_script {script}", (
            f'script "{_command(layout, script, name)}"', f"interval {layout.config.check_seconds}",
            f"timeout {_patience(layout)}", f"fall {layout.config.check_fall}", f"rise {layout.config.check_rise}",
            f"weight {weight}"))


def _weights(layout: Layout, role: Role) -> list[tuple[str, int]]:
    """Return what a holder's health depends on, and what it costs to fail; at 0 all of the priority.

    A node that is dead gives the addresses away; one that is drained or not ready does so when another one is better.
    """
    if layout.spread_by("haproxy"):
        return [("haproxy", 0)]
    return [("alive", 0), ("ready", -NOT_READY)] if role == "both" and layout.spread_by("none") else []


def _command(layout: Layout, script: str, name: str) -> str:
    if script == "haproxy":
        # Not pidof: that is a link to killall5, and keepalived runs what a link leads to by its own name.
        return "/usr/bin/pgrep -x haproxy"
    service, node = layout.spread_by("none")[0], layout.node(name)
    agent = layout.agent(node, service.family)
    # A node that is drained closes its listeners in the end; its agent says that it lives.
    alive = f"--alive --quiet --agent {agent}" if agent else "--alive --quiet"
    return layout.check(service, node, alive if script == "alive" else "--quiet")


def _group(layout: Layout, role: Role) -> Lines:
    """Have the instances of both families move together; one alone needs no group."""
    if len(layout.families()) > 1:
        yield f"vrrp_sync_group {GROUP} {{"
        yield from _inner("group", [_instance_name(family) for family in layout.families()])
        yield "    sync_group_tracking_weight"
        yield from _tracking(layout, role)
        yield from ("}", "")


def _tracking(layout: Layout, role: Role) -> Lines:
    yield from _inner("track_file", ["drained"])
    if scripts := [name for name, _ in _weights(layout, role)]:
        yield from _inner("track_script", scripts)


def _instance(layout: Layout, role: Role, holder: DirectorConfig, family: int) -> Lines:
    config = layout.config
    yield f"vrrp_instance {_instance_name(family)} {{"
    yield "    state BACKUP"
    yield f"    interface {config.interface}"
    yield f"    virtual_router_id {config.virtual_router_id}"
    yield f"    priority {holder.priority}"
    yield f"    advert_int {config.advert_seconds:g}"
    others = [address_of(each, family) for each in layout.holders if each != holder]
    if config.unicast and others:
        yield f"    unicast_src_ip {address_of(holder, family)}"
        yield from _inner("unicast_peer", others)
    if len(layout.families()) == 1:
        yield from _tracking(layout, role)
    gateways = [f"{each} dev {config.gateway_interface}" for each in layout.gateways if each.version == family]
    yield from _inner("virtual_ipaddress", [f"{each} dev {config.interface}" for each in layout.of_family(family)]
                      + gateways)
    yield from ("}", "")


def _instance_name(family: int) -> str:
    return f"{GROUP}{family}"


# --- LVS


def _virtual_servers(layout: Layout, service: Service) -> Lines:
    config = layout.config
    for address in layout.of_family(service.family):
        yield f"# {service.transport}"
        yield f"virtual_server {address.ip} {service.port} {{"
        yield f"    delay_loop {config.check_seconds}"
        yield f"    lvs_sched {config.scheduler}"
        if config.scheduler in ("mh", "sh"):
            # Phones behind one NAT differ in their ports; who gets none for its weight of 0 is passed over.
            yield f"    {config.scheduler}-port"
            yield f"    {config.scheduler}-fallback"
        yield "    lvs_method DR"
        yield f"    protocol {service.protocol}"
        yield "    alpha"
        yield f"    quorum {config.quorum}"
        for node in config.nodes:
            yield from _real_server(layout, service, node)
        yield from ("}", "")


def _real_server(layout: Layout, service: Service, node: RealServerConfig) -> Lines:
    """A node that is dead leaves, which ends what it had: without inhibit_on_failure, which would keep it for ever.

    One that is drained has weight 0 and keeps what it has.
    """
    agent = layout.agent(node, service.family)
    more = f"--agent {agent} --weight {node.weight}" if agent else f"--weight {node.weight}"
    yield f"    # {node.name}"
    yield f"    real_server {address_of(node, service.family)} {service.port} {{"
    yield f"        weight {node.weight}"
    yield "        MISC_CHECK {"
    yield f'            misc_path "{layout.check(service, node, more)} --quiet"'
    yield f"            misc_timeout {_patience(layout)}"
    yield "            misc_dynamic"
    yield f"            retry {layout.config.check_fall - 1}"
    yield "            delay_before_retry 1"
    yield from ("        }", "    }")


def _patience(layout: Layout) -> int:
    """Return how long a check may take, in whole seconds; its own time-outs, node's and agent's, come first."""
    return ceil(layout.config.check_timeout_seconds + AGENT_SECONDS) + 1


# --- text


def _block(name: str, lines: Iterable[str]) -> Lines:
    yield f"{name} {{"
    yield from (f"    {line}" for line in lines)
    yield from ("}", "")


def _inner(name: str, lines: Iterable[str]) -> Lines:
    yield f"    {name} {{"
    yield from (f"        {line}" for line in lines)
    yield "    }"


def _text(lines: Iterable[str]) -> str:
    return "\n".join(lines).rstrip("\n") + "\n"
