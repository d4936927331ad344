"""Answers for clients' subnets, of which each question has thousands: all that differ in the last bytes only share one.

The subnet is nearly always the last thing in a query, cut to /24 or /56 (RFC 7871 §11.1), and the last thing in its
answer. So what is kept is a question without its last bytes and, for each view, the answer without them.
"""

from collections.abc import Callable
from struct import Struct

from registrar.distribution.dns.wire import BITS, SUBNET_OPTION, Query

Entry = tuple[bytes, bytes, int, bytes, int, bytes, bytes]
"""The question's end after its name, the answer's header after the ID, where the name ends, what follows it, the kind,
and header and rest of the truncated answer."""

SIZES = (3, 7)
"""How many bytes of a subnet's address there are nearly always."""

# Each is a name, a type and a way of asking; what a hostile asker adds is forgotten together with the others.
MAX_QUESTIONS = 1024

_OPTION = Struct("!HHHBB")

_ADDRESS_BYTES = {3: BITS[1] // 8, 7: BITS[2] // 8}

Question = tuple[int, bytes, int, dict[str, Entry]]
"""How many bytes of the subnet's address there are, what stands between the name and them, where the name ends, and the
answers by view."""


class SubnetAnswers:
    """Knows the answer to a question for any subnet, once there was one for the same view."""

    def __init__(self) -> None:
        self._questions: dict[bytes, Question] = {}

    def __len__(self) -> int:
        """How many questions are kept."""
        return len(self._questions)

    def find(self, data: bytes, select: Callable[[bytes], str]) -> Entry | None:
        """Return the answer to a query; `select` names the view of an address."""
        for size in SIZES:
            question = self._questions.get(data[2:-size].lower())
            if question is None:
                continue
            expected, between, name_end, answers = question
            if size != expected or data[name_end:-size] != between:
                continue
            prefix = data[-size:]
            entry = answers.get(select(prefix.ljust(_ADDRESS_BYTES[size], b"\0")))
            if entry is not None:
                _, head, _, rest, kind, cut_head, cut_rest = entry
                return b"", head, name_end, rest + prefix, kind, cut_head, cut_rest + prefix
        return None

    def keep(self, data: bytes, query: Query, view: str, entry: Entry) -> bool:
        """Keep an answer, if the query's subnet is where it nearly always is."""
        subnet = query.edns.subnet if query.edns is not None else None
        if subnet is None or len(subnet.prefix) not in SIZES:
            return False
        size = len(subnet.prefix)
        # The first address of such a network has nothing in the rest: what has was malformed.
        option = _OPTION.pack(SUBNET_OPTION, size + 4, subnet.family, subnet.bits, 0)
        if subnet.bits != size * 8 or _ADDRESS_BYTES[size] != BITS[subnet.family] // 8:
            return False
        if data[-size - _OPTION.size:] != option + subnet.prefix:
            return False
        if len(self._questions) >= MAX_QUESTIONS:
            self._questions.clear()
        tail, head, name_end, rest, kind, cut_head, cut_rest = entry
        key, between = data[2:-size].lower(), tail[:-size]
        question = self._questions.get(key)
        if question is None or question[:2] != (size, between):  # types may differ like letters
            question = self._questions[key] = (size, between, name_end, {})
        question[3][view] = (b"", head, name_end, rest[:-size], kind, cut_head, cut_rest[:-size])
        return True
