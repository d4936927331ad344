"""How many reports are taken in a second, from each sender and in all."""

from attrs import define, field

MOST_SENDERS = 1024
"""Senders are the nodes and those in configured networks; beyond so many in a second they share one count."""
OTHERS = ""


@define
class Budget:
    """Time is cut into seconds, and each begins with empty counts."""

    in_all: int
    per_sender: int
    _second: float = -1.0
    _left: int = 0
    _counts: dict[str, int] = field(factory=dict)

    def admits(self, sender: str, now: float, reports: int = 1) -> bool:
        """Count what `sender` brings, unless it is too much; what is refused uses up nothing."""
        second = now // 1
        if second != self._second:
            self._second, self._left = second, self.in_all
            self._counts = {}
        counts = self._counts
        if sender not in counts and len(counts) >= MOST_SENDERS:
            sender = OTHERS
        count = counts.get(sender, 0) + reports
        if count > self.per_sender or reports > self._left:
            return False
        self._left -= reports
        counts[sender] = count
        return True
