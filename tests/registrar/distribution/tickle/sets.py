"""What the tests of tickles share: a Redis that has nothing but sets, and connections that have nothing but ends."""

from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail, succeed

from rollcall.cluster.redis import RedisUnavailable
from rollcall.net.flow import Address, PackedAddress, pack_address


class SetsRedis:
    """Answers at once what can be asked of sets; `asked` has every command."""

    def __init__(self) -> None:
        self.sets: dict[bytes, set[bytes]] = {}
        self.lasting: set[bytes] = set()
        """Keys that expire some time."""
        self.asked: list[tuple[Any, ...]] = []
        self.is_away = False

    def can_ask(self, key: bytes) -> bool:
        """See Redis."""
        return not self.is_away

    def ask(self, key: bytes, *command: bytes | int | str) -> "Deferred[Any]":
        """See Redis."""
        if self.is_away:
            return fail(RedisUnavailable("away"))
        self.asked.append(command)
        name, at, *words = command
        assert at == key
        members = [each if isinstance(each, bytes) else str(each).encode() for each in words]
        return succeed(getattr(self, f"_{bytes(name).decode().lower()}")(key, members))  # type: ignore[arg-type]

    def names(self) -> list[str]:
        """Return which commands were asked, in order."""
        return [command[0].decode() for command in self.asked]

    def _sadd(self, key: bytes, members: list[bytes]) -> int:
        self.sets.setdefault(key, set()).update(members)
        return len(members)

    def _srem(self, key: bytes, members: list[bytes]) -> int:
        self.sets.get(key, set()).difference_update(members)
        if not self.sets.get(key):
            self._del(key, [])
        return len(members)

    def _smembers(self, key: bytes, members: list[bytes]) -> list[bytes]:
        return sorted(self.sets.get(key, ()))

    def _scard(self, key: bytes, members: list[bytes]) -> int:
        return len(self.sets.get(key, ()))

    def _spop(self, key: bytes, members: list[bytes]) -> list[bytes]:
        taken = sorted(self.sets.get(key, ()))[:int(members[0])]
        self._srem(key, taken)
        return taken

    def _del(self, key: bytes, members: list[bytes]) -> int:
        self.lasting.discard(key)
        return int(self.sets.pop(key, None) is not None)

    def _expire(self, key: bytes, members: list[bytes]) -> int:
        self.lasting.add(key)
        return 1


@define(eq=False)
class FakeFlow:
    """A connection as far as it is noted."""

    local: Address
    peer: Address
    came_directly: bool = True
    confirmed: bool = True
    is_open: bool = True
    address: PackedAddress = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.address = pack_address(*self.peer)
