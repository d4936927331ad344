"""What an operator can set about virtual addresses and directors."""

from attrs import frozen


@frozen(kw_only=True)
class DirectorsConfig:
    """[directors]: which machines hold the virtual addresses, and spread connections over the nodes."""

    interface: str = "eth0"
    """The network interface that has the virtual addresses."""
