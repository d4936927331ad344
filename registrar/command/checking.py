"""What a configuration would do, and what stands in its way: certificates, keys, directories, the cluster's secret."""

import os
from datetime import datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Literal

from attrs import evolve, frozen

from registrar.command.certificates import belong_together, describe
from registrar.command.distributed import clashes, unfit, unused
from registrar.config import RegistrarConfig
from registrar.keys import SECRET_BYTES
from rollcall.cluster.config import RedisConfig
from rollcall.media.access import AccessConfig, AccessGroups
from rollcall.net.config import CertificateConfig, ListenerConfig
from rollcall.net.listening import has_no_way_out
from rollcall.sql.config import MysqlConfig

WARNING_DAYS = 21


@frozen
class Finding:
    """Something that is wrong, or will be soon."""

    kind: Literal["problem", "warning"]
    text: str


@frozen
class Listening:
    """What will be listened on."""

    name: str
    transport: str
    host: str
    port: int


@frozen
class Certificate:
    """A certificate that will be shown; without names and date when it cannot be read."""

    file: str
    names: tuple[str, ...] = ()
    not_after: datetime | None = None


@frozen
class Checked:
    """The result."""

    listeners: tuple[Listening, ...]
    domains: tuple[str, ...]
    certificates: tuple[Certificate, ...]
    data_dir: str
    admin: str
    findings: tuple[Finding, ...]
    dns: str = ""
    """Where the name server is asked; empty when there is none."""

    agent: str = ""
    """Where directors ask for the health of this node; empty when they cannot."""

    redis: str = ""
    """Where bindings are shared; empty when they are not."""

    internal: str = ""
    """Where other nodes reach this one; empty when there are none."""

    mysql: str = ""
    """Where users are; empty when they are in a file."""

    media: str = ""
    """Where balancers publish by which media nodes calls are placed; empty when calls go through none."""

    @property
    def is_good(self) -> bool:
        """Whether nothing stands in the way; warnings do not."""
        return all(finding.kind != "problem" for finding in self.findings)


def check(config: RegistrarConfig, now: datetime) -> Checked:
    """Return what this configuration would do, and what is wrong with it on this machine."""
    findings: list[Finding] = []
    checked = Checked(
        tuple(_check_listener(each, findings) for each in config.listeners),
        tuple(name for domain in config.domains for name in (domain.name, *domain.aliases)),
        tuple(_check_certificate(each, now, findings) for each in config.tls.certificates),
        _check_data_dir(config.registrar.data_dir, findings),
        config.admin.url,
        (),
        dns=", ".join(config.dns.listen),
        agent=", ".join(config.health.agent),
    )
    if config.location.kind == "redis":
        checked = _with_cluster(checked, config, now, findings)
    if config.subscribers.kind == "mysql":
        checked = evolve(checked, mysql=_check_mysql(config.mysql, now, findings))
    elif config.mysql != MysqlConfig():
        findings.append(Finding("warning", '[mysql] is not used: users are in a file until [subscribers] says kind = '
                                           '"mysql"'))
    if config.media.enabled:
        checked = evolve(checked, media=_check_media(config, now, findings))
    elif config.access != AccessConfig() and not config.dns.listen:
        findings.append(Finding("warning", "[access] is not used: calls go through media nodes only with [media] "
                                           "enabled = true, and there is no [dns]"))
    if config.media.enabled or config.dns.listen:
        _check_access(config.access, findings)
    _check_distribution(config, findings)
    return evolve(checked, findings=tuple(findings))


def _check_distribution(config: RegistrarConfig, findings: list[Finding]) -> None:
    """Check the name server, the health agent, and what stands before the nodes."""
    mistakes, doubts = unfit(config)
    findings += [Finding("problem", text) for text in (*clashes(config), *mistakes)]
    findings += [Finding("warning", text) for text in (*doubts, *unused(config))]


def _with_cluster(checked: Checked, config: RegistrarConfig, now: datetime, findings: list[Finding]) -> Checked:
    """Check what this node needs to be one of several, and add what is shown of it."""
    redis, cluster = config.redis, config.cluster
    _check_secret(config, findings)
    _check_redis(redis, now, findings)
    if cluster.internal_tls:
        _check_pair(cluster.internal_certificate_file, cluster.internal_key_file, now, findings)
        _check_authority(cluster.internal_authority_file, findings)
    told = cluster.internal_advertise_host or cluster.internal_host
    if _is_loopback(told) and not all(_is_loopback(each.rpartition(":")[0]) for each in redis.addresses):
        findings.append(Finding("warning", f"internal_host is {told}: no node on another machine can reach this one"))
    findings += [Finding("warning", f"[[site]] {site.name} has no members: who is registered there is not found here")
                 for site in config.sites if site.name != cluster.site and not site.members]
    _check_ports(config, findings)
    shown = f"[{told}]" if ":" in told else told
    return evolve(
        checked,
        redis=_shown(redis),
        internal=f"{shown}:{cluster.internal_port}{' (TLS)' if cluster.internal_tls else ''}",
    )


def _check_redis(redis: RedisConfig, now: datetime, findings: list[Finding]) -> None:
    if redis.tls:
        _check_pair(redis.tls_certificate_file, redis.tls_key_file, now, findings)
        _check_authority(redis.tls_authority_file, findings)


def _shown(redis: RedisConfig) -> str:
    return f"{redis.mode} at {', '.join(redis.addresses)}{' (TLS)' if redis.tls else ''}"


def _check_media(config: RegistrarConfig, now: datetime, findings: list[Finding]) -> str:
    """Return where balancers are followed. No server is asked: the registrar starts without any."""
    if config.location.kind != "redis":
        _check_redis(config.redis, now, findings)
    return _shown(config.redis)


def _check_access(access: AccessConfig, findings: list[Finding]) -> None:
    try:
        AccessGroups(access)
    except ValueError as problem:
        findings.append(Finding("problem", f"{problem} ([access])"))


def _check_ports(config: RegistrarConfig, findings: list[Finding]) -> None:
    """See that no internal port, one for each worker, is what something else listens on."""
    taken = {config.admin.port: "admin.port"}
    taken |= {each.port: f"the port of listener {each.name}" for each in config.listeners if each.transport != "udp"}
    first = config.cluster.internal_port
    for worker in range(config.registrar.workers if first else 0):
        if first + worker in taken:
            findings.append(Finding("problem", f"internal_port of worker {worker + 1} is {first + worker}, which is "
                                               f"{taken[first + worker]}, too"))


def _check_mysql(mysql: MysqlConfig, now: datetime, findings: list[Finding]) -> str:
    """Return where users are. No server is asked: the registrar starts without any."""
    if mysql.tls:
        _check_pair(mysql.tls_certificate_file, mysql.tls_key_file, now, findings)
        _check_authority(mysql.tls_authority_file, findings)
    replicas = f", replicas {', '.join(mysql.replicas)}" if mysql.replicas else ""
    return f"database {mysql.database} at {mysql.primary}{replicas}{' (TLS)' if mysql.tls else ''}"


def _check_secret(config: RegistrarConfig, findings: list[Finding]) -> None:
    path = config.path(config.registrar.secret_file, "node.secret")
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        findings.append(Finding("warning", f"{path} (registrar.secret_file) is not there: the one that is made at the "
                                           "start no other node has, and all need the same"))
    except OSError as error:
        findings.append(Finding("problem", f"{path} (registrar.secret_file) cannot be read: {_said(error)}"))
    else:
        if size < SECRET_BYTES:
            findings.append(Finding("problem", f"{path} (registrar.secret_file) holds {size} bytes, a secret has "
                                               f"{SECRET_BYTES} or more"))


def _check_pair(certificate: Path | None, key: Path | None, now: datetime, findings: list[Finding]) -> None:
    if certificate is not None and key is not None:
        _check_certificate(CertificateConfig(certificate_file=certificate, key_file=key), now, findings)


def _check_authority(file: Path | None, findings: list[Finding]) -> None:
    try:
        if file is not None:
            describe(file)
    except (OSError, ValueError) as error:
        findings.append(Finding("problem", f"{file} is no readable certificate of an authority: {_said(error)}"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _check_listener(config: ListenerConfig, findings: list[Finding]) -> Listening:
    if has_no_way_out(config):
        findings.append(Finding("warning", f"no route leads out of this machine: peers of the listener {config.name} "
                                           "are told a loopback address, unless advertise_host says another one"))
    return Listening(config.name, config.transport.upper(), config.host, config.port)


def _check_certificate(config: CertificateConfig, now: datetime, findings: list[Finding]) -> Certificate:
    file = config.certificate_file
    try:
        described = describe(file)
    except (OSError, ValueError) as error:
        findings.append(Finding("problem", f"{file} is no readable certificate: {_said(error)}"))
        return Certificate(str(file))
    try:
        if not belong_together(file, config.key_file):
            findings.append(Finding("problem", f"{config.key_file} is not the key of {file}"))
    except (OSError, ValueError) as error:
        findings.append(Finding("problem", f"{config.key_file} is no readable key: {_said(error)}"))
    days = described.days_left(now)
    if days < 0:
        findings.append(Finding("problem", f"{file} has expired on {described.not_after:%Y-%m-%d}"))
    elif days < WARNING_DAYS:
        findings.append(Finding("warning", f"{file} expires on {described.not_after:%Y-%m-%d}, in {days} days"))
    return Certificate(str(file), described.names, described.not_after)


def _check_data_dir(directory: Path, findings: list[Finding]) -> str:
    there = next(each for each in (directory, *directory.parents) if each.exists())
    if not there.is_dir():
        findings.append(Finding("problem", f"{there} is not a directory"))
    elif not os.access(there, os.W_OK | os.X_OK):
        findings.append(Finding("problem", f"{there} cannot be written to by this user"))
    return str(directory)


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
