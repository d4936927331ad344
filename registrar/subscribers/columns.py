"""What the table of subscribers is called and what stands in it: by default as Kamailio makes it."""

import re
from typing import Any, Literal

from attrs import field, frozen

_NAME = re.compile(r"[A-Za-z0-9_$]{1,64}")


def _identifier(may_be_empty: bool = False) -> Any:
    def validate(instance: object, attribute: object, value: str) -> None:
        if not (may_be_empty and not value) and _NAME.fullmatch(value) is None:
            raise ValueError("1 to 64 letters, digits, _ and $" + (", or nothing" if may_be_empty else ""))

    return validate


@frozen(kw_only=True, slots=False)  # so that it can be a base beside others
class TableConfig:
    """The names of the table and its columns in MySQL, and what the columns mean.

    Of the columns for hashes those are read that the table has. A hash of 32 hexadecimal digits is one by MD5; what one
    of 64 digits in `ha1_column` or `ha1b_column` is made by, `hash_of_64_digits` says.
    """

    table: str = field(default="subscriber", validator=_identifier())
    username_column: str = field(default="username", validator=_identifier())
    domain_column: str = field(default="domain", validator=_identifier())
    password_column: str = field(default="password", validator=_identifier())
    """Passwords in clear text, which are only looked at with `calculate_ha1`."""
    ha1_column: str = field(default="ha1", validator=_identifier())
    """H(username:domain:password)"""
    ha1b_column: str = field(default="ha1b", validator=_identifier(True))
    """H(username@domain:domain:password); empty: there is none."""
    ha1_sha256_column: str = field(default="ha1_sha256", validator=_identifier(True))
    """OpenSIPS' column of SHA-256; empty: there is none."""
    ha1_sha512t256_column: str = field(default="ha1_sha512t256", validator=_identifier(True))
    """OpenSIPS' column of SHA-512-256; empty: there is none."""
    use_domain: bool = False
    """Whether the same username may be somebody else in another domain; otherwise a username alone says who it is."""
    calculate_ha1: bool = False
    """Whether all hashes are made of the passwords in clear text, where there are such."""
    hash_of_64_digits: Literal["SHA-256", "SHA-512-256"] = "SHA-256"
