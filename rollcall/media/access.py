"""Which access group an address belongs to: the carrier and the region of whoever has it."""

from pathlib import Path

from attrs import field, frozen

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
