"""What a configuration value may be: validators for attrs fields that say what they allow."""

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from ipaddress import ip_address, ip_network
from typing import Any

HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Validator = Callable[[Any, Any, Any], None]


class NotAllowed(ValueError):
    """A value that the configuration may not have.

    Raised by validators, and by __attrs_post_init__ for rules between values: there `key` is the dotted path below
    the section, and `value` what stands there. Several at once go into an ExceptionGroup.
    """

    def __init__(self, allowed: str, key: str = "", value: object = None) -> None:
        super().__init__(allowed)
        self.allowed = allowed
        self.key = key
        self.value = value


def where(accepts: Callable[[Any], bool], allowed: str) -> Validator:
    """Return a validator for values that `accepts` says yes to; `allowed` tells the operator which those are."""

    def validate(instance: object, attribute: object, value: Any) -> None:
        if not accepts(value):
            raise NotAllowed(allowed)

    return validate


def between(low: float, high: float) -> Validator:
    """Allow numbers from `low` to `high`, both included."""
    return where(lambda value: low <= value <= high, f"{low} to {high}")


def at_least(low: float) -> Validator:
    """Allow numbers not below `low`."""
    return where(lambda value: value >= low, f"{low} or more")


def above(low: float) -> Validator:
    """Allow numbers greater than `low`."""
    return where(lambda value: value > low, f"more than {low}")


def one_of(*values: object) -> Validator:
    """Allow these values only."""
    return where(lambda value: value in values, "one of " + ", ".join(str(each) for each in values))


def non_empty() -> Validator:
    """Allow a text or list with something in it."""
    return where(bool, "something: it may not be empty")


def matching(pattern: str, allowed: str) -> Validator:
    """Allow texts that `pattern` matches from end to end."""
    compiled = re.compile(pattern)
    return where(lambda value: compiled.fullmatch(value) is not None, allowed)


def name() -> Validator:
    """Allow a short identifier, as for nodes and groups."""
    return where(lambda value: NAME.fullmatch(value) is not None, "letters, digits, '.', '_' and '-', at most 64")


def port(zero: bool = False) -> Validator:
    """Allow a TCP or UDP port; with `zero` also 0, which lets the system choose."""
    return between(0 if zero else 1, 65535)


def address() -> Validator:
    """Allow an IPv4 or IPv6 address without brackets."""
    return where(is_address, "an IPv4 or IPv6 address")


def zoneless() -> Validator:
    """Allow an address that means the same on every machine: none with a zone, such as fe80::1%eth0."""
    return where(lambda value: "%" not in value, 'an address without a zone ("%")')


def network() -> Validator:
    """Allow a network such as 192.0.2.0/24, or one address."""
    return where(_is_network, "a network such as 192.0.2.0/24 or 2001:db8::/32, without host bits")


def host() -> Validator:
    """Allow a host name or an address without brackets."""
    return where(lambda value: is_address(value) or _is_host_name(value), "a host name or an IP address")


def host_and_port() -> Validator:
    """Allow "host:port"; an IPv6 address stands in brackets."""
    return where(_is_host_and_port, "host:port, such as 192.0.2.7:5060 or [2001:db8::7]:5060")


def each(*validators: Validator) -> Validator:
    """Allow lists whose every item passes all of these."""

    def validate(instance: object, attribute: object, values: Collection[Any]) -> None:
        for value in values:
            for validator in validators:
                validator(instance, attribute, value)

    return validate


def unique(of: Callable[[Any], object] = lambda item: item, what: str = "items") -> Validator:
    """Allow lists in which `of(item)` is never the same twice; `what` names it for the operator."""

    def validate(instance: object, attribute: object, items: Iterable[Any]) -> None:
        twice = [str(key) for key, times in Counter(map(of, items)).items() if times > 1]
        if twice:
            raise NotAllowed(f"{what} that differ from one another: more than one is {', '.join(twice)}")

    return validate


def is_address(text: str) -> bool:
    """Say whether this is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _is_host_name(text: str) -> bool:
    labels = text.removesuffix(".").split(".")
    # RFC 1123 §2.1: names of digits and dots alone are addresses, and this one is none.
    return len(text) <= 253 and not labels[-1].isdigit() and all(HOST_LABEL.fullmatch(label) for label in labels)


def _is_host_and_port(text: str) -> bool:
    left, colon, digits = text.rpartition(":")
    if not (colon and digits.isascii() and digits.isdigit() and 0 < int(digits) < 65536):
        return False
    if left.startswith("[") and left.endswith("]"):
        return is_address(left[1:-1])
    return ":" not in left and (is_address(left) or _is_host_name(left))
