"""What a configuration would do, and what stands in its way: the certificates, their keys, the data directory."""

import os
from datetime import datetime
from pathlib import Path
from typing import Literal

from attrs import frozen

from registrar.command.certificates import belong_together, describe
from registrar.config import RegistrarConfig
from rollcall.net.config import CertificateConfig

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

    @property
    def is_good(self) -> bool:
        """Whether nothing stands in the way; warnings do not."""
        return all(finding.kind != "problem" for finding in self.findings)


def check(config: RegistrarConfig, now: datetime) -> Checked:
    """Return what this configuration would do, and what is wrong with it on this machine."""
    findings: list[Finding] = []
    return Checked(
        tuple(Listening(each.name, each.transport.upper(), each.host, each.port) for each in config.listeners),
        tuple(name for domain in config.domains for name in (domain.name, *domain.aliases)),
        tuple(_check_certificate(each, now, findings) for each in config.tls.certificates),
        _check_data_dir(config.registrar.data_dir, findings),
        config.admin.url,
        tuple(findings),
    )


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
