"""Validators: what each allows and how it says so."""

from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rollcall.ops import allowed
from rollcall.ops.allowed import NotAllowed, Validator

CASES: list[tuple[Callable[[], Validator], list[Any], list[Any]]] = [
    (lambda: allowed.between(1, 5), [1, 5, 2.5], [0, 6, 5.01]),
    (lambda: allowed.at_least(1), [1, 100], [0, 0.99]),
    (lambda: allowed.above(0), [0.001], [0, -1]),
    (lambda: allowed.one_of("a", "b"), ["a"], ["c", ""]),
    (allowed.non_empty, ["x", ("y",)], ["", ()]),
    (lambda: allowed.matching("[0-9]+", "digits"), ["12"], ["12a", "", "1\n"]),
    (allowed.name, ["n1", "node-1.a_b"], ["", "-x", "a b", "x" * 65]),
    (allowed.port, [1, 5060, 65535], [0, 65536, -1]),
    (lambda: allowed.port(zero=True), [0, 65535], [-1]),
    (allowed.address, ["192.0.2.1", "::1"], ["[::1]", "localhost", "192.0.2.256"]),
    (allowed.network, ["192.0.2.0/24", "2001:db8::/32", "192.0.2.7"], ["192.0.2.7/24", "x", "192.0.2.0/33"]),
    (
        allowed.host,
        ["example.com", "example.com.", "localhost", "192.0.2.1", "::1", "_sip._udp.example.com"],
        ["", "a..b", "-a.example", "192.0.2.300", "[::1]", "a b", "x" * 64 + ".com", "a." * 130],
    ),
    (
        allowed.host_and_port,
        ["192.0.2.7:5060", "[2001:db8::7]:5060", "media1.example.com:22222"],
        ["192.0.2.7", "2001:db8::7:5060", "host:0", "host:65536", "host:", ":5060", "[host]:1", "h:५"],
    ),
    (lambda: allowed.each(allowed.address()), [(), ("::1", "192.0.2.1")], [("::1", "x")]),
    (allowed.unique, [(), ("a", "b")], [("a", "b", "a")]),
    (lambda: allowed.unique(len, "lengths"), [("a", "bb")], [("a", "b")]),
]


class AllowedTests(SynchronousTestCase):
    def test_what_is_allowed(self) -> None:
        """Each validator passes what it allows."""
        for make, good, _ in CASES:
            for value in good:
                make()(None, None, value)

    def test_what_is_there_twice(self) -> None:
        """It is named, for of a list of tables nothing else is shown."""
        refused = self.assertRaises(allowed.NotAllowed, allowed.unique(str.lower, "names"), None, None, ("fra", "Fra"))
        self.assertEqual(refused.allowed, "names that differ from one another: more than one is fra")

    def test_what_is_refused(self) -> None:
        """Each validator refuses the rest and says what is allowed."""
        for make, _, bad in CASES:
            for value in bad:
                error = self.assertRaises(NotAllowed, make(), None, None, value)
                self.assertTrue(error.allowed, value)
