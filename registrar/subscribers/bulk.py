"""What became of many subscribers that were added together."""

from rollcall.sip.values import frozen

Name = tuple[str, str]
"""Username and domain."""


@frozen
class Bulk:
    """Which of them are in the table now, and which are not."""

    added: int
    replaced: int
    existing: tuple[Name, ...] = ()
    """Who was there already and was left alone."""
    refused: tuple[tuple[str, str, str], ...] = ()
    """Username, domain, and why the table does not take them."""
