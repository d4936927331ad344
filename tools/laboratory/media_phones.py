"""Many phones with real audio in one thread: they register with a SIP proxy and call each other (see media_call)."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import count
from os import getpid
from random import Random
from typing import Self

from tests.cluster.fleet_loop import Loop
from tests.interop.process import InteropError, wait_until
from tools.laboratory.media_call import MediaCall, State
from tools.laboratory.media_line import Paths
from tools.laboratory.media_phone import MediaPhone, Subscriber

_names = count(1)


class MediaPhones:
    """Use it as a context manager: inside, the phones live. Methods may be called from one other thread."""

    def __init__(self, proxy: tuple[str, int], domain: str, who: Iterable[Subscriber], paths: Paths | None = None,
                 seed: int = 1, name: str = "") -> None:
        """`proxy` is where they connect over TCP. The same seed makes the same calls and delays.

        `name` is what Call-IDs begin with, so that they are the same again, too; without it they are not.
        """
        self.proxy = proxy
        self.domain = domain
        self.paths = paths or Paths()
        self.loop = Loop()
        self.phones = [MediaPhone(self, number, each) for number, each in enumerate(who)]
        self.calls: dict[str, MediaCall] = {}
        self.first_losses: dict[tuple[str, str], float] = {}
        """When a phone of a carrier has first reported a loss at a node's host."""
        self.starved = 0
        """Calls that were due when no two phones were free."""
        self._seed = seed
        self._chance = Random(seed)
        self._name = name or f"media{getpid()}n{next(_names)}"
        self._numbers = count(1)
        self._rate = 0.0

    # --- what is asked for

    def register_all(self, rate: float = 100.0, seconds: float = 20.0) -> None:
        """Register all phones at a pace, and return when all are."""
        self.loop.paced(self.phones, rate, MediaPhone.enter)
        self.wait(lambda: all(phone.is_registered for phone in self.phones), "registration of all phones", seconds)

    def call_on(self, rate: float, hold_seconds: tuple[float, float]) -> None:
        """Let free phones call each other from now on, so many in a second; they talk for a time between these two.

        A rate of 0 ends it.
        """
        was_idle, self._rate = not self._rate, rate
        if was_idle and rate:
            self.loop.paced(count(), lambda: self._rate, partial(self._call_somebody, hold_seconds))

    def call_pairs(self, pairs: Iterable[tuple[MediaPhone, MediaPhone]], rate: float,
                   hold_seconds: float) -> list[MediaCall]:
        """Let the first of each pair call the second, so many in a second."""
        made = [self._made(caller, callee, hold_seconds) for caller, callee in pairs]
        self.loop.paced(made, rate, MediaCall.begin)
        return made

    def hang_up(self, calls: Iterable[MediaCall]) -> None:
        """Let calls end that are answered."""
        for call in calls:
            self.loop.do(call.hang_up)

    def talking(self) -> list[MediaCall]:
        """Return the calls that have audio now."""
        return [call for call in list(self.calls.values()) if call.state is State.TALKING]

    def wait_over(self, calls: Sequence[MediaCall] | None = None, seconds: float = 60.0) -> None:
        """Return when these calls, or all, are over."""
        waited = calls if calls is not None else list(self.calls.values())
        self.wait(lambda: all(call.is_over for call in waited), "end of all calls", seconds)

    def wait_talking(self, calls: Iterable[MediaCall], seconds: float = 20.0) -> None:
        """Return when these calls have audio."""
        waited = list(calls)
        self.wait(lambda: all(call.state is State.TALKING for call in waited), "audio of all calls", seconds)

    def wait(self, look: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
        """Return when `look` says so. Raises InteropError with what is known when it does not in time."""

        def found() -> bool | None:
            if self.loop.problem is not None:
                raise InteropError("the phones have broken down") from self.loop.problem
            return look() or None

        try:
            wait_until(found, what, seconds)
        except InteropError as late:
            raise InteropError(f"{late}\n{self}") from self.loop.problem

    # --- what phones and calls ask

    def call_of(self, call_id: str) -> MediaCall | None:
        """Return the call with this Call-ID."""
        return self.calls.get(call_id)

    def reported(self, call: MediaCall, phone: MediaPhone, fraction: int) -> None:
        """A phone has reported so much loss, of 256: the first one of each way that reports any is noted."""
        if fraction:
            self.first_losses.setdefault((phone.who.carrier, call.node), self.loop.now())

    def watch_losses(self) -> None:
        """Forget who has reported losses so far."""
        self.loop.do(self.first_losses.clear)

    def _call_somebody(self, hold_seconds: tuple[float, float], number: int) -> None:
        # Who calls whom and for how long is drawn for each call alone, whatever became of the others.
        chance = Random(f"{self._seed}/call/{number}")
        pair = chance.sample(range(len(self.phones)), 2)
        hold = chance.uniform(*hold_seconds)
        caller = self._free_from(pair[0], None)
        callee = self._free_from(pair[1], caller)
        if caller is None or callee is None:
            self.starved += 1
            return
        self._made(caller, callee, hold).begin()

    def _free_from(self, first: int, other: MediaPhone | None) -> MediaPhone | None:
        """Return the phone of this number, or the next one of its carrier that is free and not the other one."""
        carrier = self.phones[first].who.carrier
        turned = self.phones[first:] + self.phones[:first]
        return next((phone for phone in turned if phone.is_registered and not phone.is_busy and phone is not other
                     and phone.who.carrier == carrier), None)

    def _made(self, caller: MediaPhone, callee: MediaPhone, hold_seconds: float) -> MediaCall:
        number = next(self._numbers)
        made = MediaCall(self, f"{self._name}-{number}-{self._chance.getrandbits(32):08x}", caller, callee,
                         hold_seconds, f"{self._seed}/{number}")
        self.calls[made.id] = made
        return made

    # --- its life

    def start(self) -> None:
        """Begin; nobody connects yet."""
        self.loop.start()

    def stop(self) -> None:
        """Close everything, without a word to anybody."""
        self.loop.stop()
        for phone in self.phones:
            phone.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __str__(self) -> str:
        problems = [f"{phone.who.user}: {problem}" for phone in self.phones for problem in phone.problems]
        failed = [str(call) for call in self.calls.values() if call.state is State.FAILED]
        registered = sum(phone.is_registered for phone in self.phones)
        return (f"{len(self.phones)} phones, {registered} registered, problems {problems[:3]}; {len(self.calls)} "
                f"calls, {len(self.talking())} with audio, {len(failed)} failed: {failed[:3]}")
