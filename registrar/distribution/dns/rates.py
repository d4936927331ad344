"""How many answers a network is sent by UDP, where anybody can give somebody else's address as his own.

Each network has a rate for each kind of answer, so that a flood of errors leaves the answers to good questions alone.
Of what is beyond the rate, every so manieth is sent empty and truncated: a true resolver asks again by TCP, and he
whose address was forged gets no more bytes than were sent in his name.
"""

from ipaddress import ip_address, ip_network

from registrar.distribution.dns.config import DnsConfig

# Clients whose network is remembered; a heap of forged addresses costs the others a second look only.
MAX_CLIENTS = 20_000

# Networks that are looked at to find one which is silent before the oldest is forgotten in any case.
TRIES = 8

Row = list[float]
"""When each kind of answer would be due if they were sent evenly (GCRA); at its end how many were not sent."""


class Rates:
    """The rates of all networks. Who answers keeps the rows of its clients, and counts by `step` and `burst`."""

    def __init__(self, config: DnsConfig, kinds: int) -> None:
        """`kinds` is how many kinds of answers there are."""
        self.limited = 0
        self.step = 1 / config.answers_per_second if config.answers_per_second else 0.0
        self.burst = config.burst_seconds
        self._slip = config.slip
        self._kinds = kinds
        self._bits = {4: config.rate_ipv4_bits, 16: config.rate_ipv6_bits}
        self._most = config.max_networks
        self._unlimited = tuple(map(ip_network, config.unlimited_networks))
        self._rows: dict[tuple[int, int], Row] = {}

    def __len__(self) -> int:
        """How many networks are remembered."""
        return len(self._rows)

    def row(self, host: bytes, now: float) -> Row | None:
        """Return the rates of a packed address's network; None when it has no limit."""
        if not self.step:
            return None
        address = ip_address(host)
        if any(address in network for network in self._unlimited):
            return None
        size = len(host)
        network = (size, int(address) >> size * 8 - self._bits[size])
        row = self._rows.get(network)
        if row is None:
            if len(self._rows) >= self._most:
                self._forget(now)
            row = self._rows[network] = [0.0] * (self._kinds + 1)
        return row

    def slips(self, row: Row) -> bool:
        """Count an answer that is beyond the rate, and say whether it is sent truncated."""
        self.limited += 1
        row[-1] += 1
        return bool(self._slip) and not row[-1] % self._slip

    def forget_all(self) -> None:
        """Let every network have its whole rate again; rows that were handed out count no more."""
        self._rows.clear()

    def _forget(self, now: float) -> None:
        """Make room: forget one of the oldest, if possible one that has its whole rate again."""
        for _ in range(TRIES):
            network = next(iter(self._rows))
            row = self._rows.pop(network)
            if max(row[:-1]) <= now:
                return
            self._rows[network] = row  # it is the youngest now
        del self._rows[next(iter(self._rows))]
