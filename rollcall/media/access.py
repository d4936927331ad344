"""Which access group an address belongs to: the carrier and the region of whoever has it.

A group is written "carrier/region"; either may be empty. The operator's own list comes first, for only he knows which
of a carrier's networks are served from where; then databases in MaxMind's format (GeoLite2, DB-IP and others).
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_address, ip_network
from itertools import islice
from pathlib import Path
from typing import Any

import maxminddb
import radix  # type: ignore[import-untyped]
from attrs import field, frozen

from rollcall.media.snapshot import UNKNOWN
from rollcall.ops.allowed import at_least


@frozen(kw_only=True)
class AccessConfig:
    """[access]: what is known of addresses. The same for registrars and balancers."""

    prefix_file: Path | None = None
    """Lines "PREFIX CARRIER REGION"; the longest prefix counts. It comes before the databases."""
    asn_file: Path | None = None
    """A MaxMind-format database of autonomous systems: the carrier is "AS<number>"."""
    country_file: Path | None = None
    """A MaxMind-format database of countries: the region is the country's code, such as DE."""
    remembered: int = field(default=100_000, validator=at_least(0))
    """So many addresses are remembered with their groups."""


class AccessGroups:
    """Looks addresses up in what the configuration names."""

    def __init__(self, config: AccessConfig) -> None:
        """Read the files. Raises ValueError, naming the file and the line, as reload() does."""
        self._config = config
        self._remembered: dict[str, str] = {}
        self._sources = _Sources(config)

    def group(self, host: str) -> str:
        """Return the access group of a numeric address, IPv6 without brackets; UNKNOWN where nothing is known."""
        group = self._remembered.get(host)
        if group is None:
            group = self._sources.group(host)
            if len(self._remembered) >= self._config.remembered:
                # every tenth that came first: one by one would cost more than they are worth
                for old in list(islice(self._remembered, self._config.remembered // 10 + 1)):
                    del self._remembered[old]
            if self._config.remembered:
                self._remembered[host] = group
        return group

    def reload(self) -> None:
        """Read the files again; when one cannot be used, all stays as it was and ValueError is raised."""
        sources = _Sources(self._config)
        self._sources.close()
        self._sources = sources
        self._remembered.clear()


class _Sources:
    """The files of one moment."""

    def __init__(self, config: AccessConfig) -> None:
        self._prefixes = _prefixes(config.prefix_file) if config.prefix_file else radix.Radix()
        self._systems = _database(config.asn_file)
        self._countries = _database(config.country_file)

    def group(self, host: str) -> str:
        address = _numeric(host)
        if not address:
            return UNKNOWN
        node = self._prefixes.search_best(address)
        if node is not None:
            return str(node.data["group"])
        carrier, region = _system(_found(self._systems, address)), _country(_found(self._countries, address))
        return f"{carrier}/{region}" if carrier or region else UNKNOWN

    def close(self) -> None:
        for database in (self._systems, self._countries):
            if database is not None:
                database.close()


def _numeric(host: str) -> str:
    """Return the address as it is looked up, IPv4 without its IPv6 clothes; empty when it is none."""
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address)))  # without a zone
    return str(address)


def _prefixes(file: Path) -> radix.Radix:
    tree = radix.Radix()
    try:
        lines = file.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise ValueError(f"{file}: {_said(problem)}") from problem
    for number, words in _words(lines):
        try:
            prefix, carrier, region = words
            network = str(ip_network(prefix))
            if "/" in carrier + region:
                raise ValueError("'/' may not stand in a carrier or a region")
        except ValueError as problem:
            wanted = problem if len(words) == 3 else "a line is PREFIX CARRIER REGION"
            raise ValueError(f"{file}, line {number}: {wanted}") from problem
        if tree.search_exact(network) is not None:
            raise ValueError(f"{file}, line {number}: {network} stands there already")
        tree.add(network).data["group"] = f"{carrier}/{region}"
    return tree


def _words(lines: Iterable[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if words:
            yield number, words


def _database(file: Path | None) -> maxminddb.Reader | None:
    if file is None:
        return None
    try:
        return maxminddb.open_database(file)
    except (OSError, maxminddb.InvalidDatabaseError) as problem:
        raise ValueError(f"{file}: {_said(problem)}") from problem


def _said(problem: Exception) -> str:
    return (problem.strerror if isinstance(problem, OSError) else None) or str(problem)


def _found(database: maxminddb.Reader | None, address: str) -> dict[str, Any]:
    """Return the record of this address, empty where there is none: an IPv4 database knows no IPv6.

    A file that is damaged may be found out only now, and says nothing of this address then.
    """
    if database is None:
        return {}
    try:
        record = database.get(address)
    except (ValueError, maxminddb.InvalidDatabaseError):
        return {}
    return record if isinstance(record, dict) else {}


def _system(record: dict[str, Any]) -> str:
    number = record.get("autonomous_system_number")
    return f"AS{number}" if isinstance(number, int) else ""


def _country(record: dict[str, Any]) -> str:
    country = record.get("country") or record.get("registered_country")
    code = country.get("iso_code") if isinstance(country, dict) else None
    return code if isinstance(code, str) else ""
