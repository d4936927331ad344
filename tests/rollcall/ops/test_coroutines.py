"""Tests for rollcall.ops.coroutines."""

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops.coroutines import start


class StartTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.said: list[object] = []
        self.failures: list[Failure] = []

    def test_what_need_not_wait_is_done_at_once(self) -> None:
        """A coroutine that awaits nothing, or what is there already, has ended when start returns."""

        async def speak() -> None:
            self.said.append(await succeed(1))

        start(speak(), self.failures.append)
        self.assertEqual((self.said, self.failures), ([1], []))

    def test_waits_for_each_deferred(self) -> None:
        """A coroutine goes on when what it awaits has fired, and gets the value."""
        first: Deferred[str] = Deferred()
        second: Deferred[str] = Deferred()

        async def speak() -> None:
            self.said.append(await first)
            self.said.append(await second)

        start(speak(), self.failures.append)
        self.assertEqual(self.said, [])
        first.callback("one")
        self.assertEqual(self.said, ["one"])
        second.callback("two")
        self.assertEqual((self.said, self.failures), (["one", "two"], []))

    def test_raises_what_was_awaited(self) -> None:
        """A failure is raised where it was awaited, can be caught there, and is not reported again."""
        waiting: Deferred[str] = Deferred()

        async def speak() -> None:
            try:
                await waiting
            except KeyError as error:
                self.said.append(str(error))

        start(speak(), self.failures.append)
        waiting.errback(Failure(KeyError("gone")))
        self.assertEqual((self.said, self.failures), (["'gone'"], []))

    def test_tells_what_nobody_caught(self) -> None:
        """What a coroutine raises is told, whether it had to wait or not."""
        waiting: Deferred[None] = Deferred()

        async def break_now() -> None:
            raise KeyError("now")

        async def break_later() -> None:
            await waiting
            raise KeyError("later")

        start(break_now(), self.failures.append)
        start(break_later(), self.failures.append)
        waiting.callback(None)
        self.assertEqual([str(failure.value) for failure in self.failures], ["'now'", "'later'"])
