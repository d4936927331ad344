"""Who guesses passwords: failed proofs are counted, and who has failed too often is not listened to for a while."""

from attrs import field, frozen

from rollcall.ops.allowed import above, at_least, each, network


@frozen(kw_only=True)
class BansConfig:
    """[bans]: how many wrong passwords are too many. 0: as many as come.

    What is counted are proofs that failed, never requests: many phones may share an address.
    """

    per_user_and_source: int = field(default=10, validator=at_least(0))
    """Wrong passwords for one user from one IPv4 address or IPv6 /64."""
    per_source: int = field(default=100, validator=at_least(0))
    """Wrong passwords for any users from one IPv4 address or IPv6 /64."""
    per_user: int = field(default=100, validator=at_least(0))
    """Wrong passwords for one user from anywhere."""
    window_seconds: float = field(default=300.0, validator=above(0))
    """Within so long."""
    ban_seconds: float = field(default=600.0, validator=above(0))
    """How long a ban lasts."""
    max_counted: int = field(default=100_000, validator=at_least(1000))
    """Users and sources that are counted at a time; beyond that the longest quiet ones are forgotten."""
    never: tuple[str, ...] = field(default=(), validator=each(network()))
    """Networks that are never banned, such as "192.0.2.0/24"."""
