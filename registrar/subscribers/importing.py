"""Taking many users over from elsewhere: what their rows say, and adding them in batches that can be gone on with.

A row says who (username, domain) and either the password in clear text or hashes of it, in the columns that Kamailio
and OpenSIPS have. It is added whole or rejected with a reason.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Literal, Protocol

from attrs import field, frozen

from registrar.auth import Subscriber
from registrar.subscribers.bulk import Bulk
from registrar.subscribers.contract import InvalidSubscriber, checked_domain, checked_username, subscriber_with
from rollcall.sip.digest import HEX_DIGITS

Trust = Literal["password", "hashes"]

# Rows of one transaction: enough that the disk is not what is waited for, few enough that a retry is cheap.
BATCH = 1000

HASH_COLUMNS = ("ha1", "ha1b", "ha1_sha256", "ha1_sha512t256")
SECRET_COLUMNS = ("password", *HASH_COLUMNS)

_HEX = re.compile(r"[0-9a-fA-F]+")
_ALGORITHM = {"ha1_sha256": "SHA-256", "ha1_sha512t256": "SHA-512-256"}


@frozen
class Row:
    """One row as it was read; texts that are not there are empty."""

    position: tuple[int, ...]
    """Where its source goes on behind it."""
    place: str
    """Where somebody finds it: "line 7", "id 7"."""
    username: str = ""
    domain: str = ""
    secrets: Mapping[str, str] = field(factory=dict, repr=False)
    """What stands in SECRET_COLUMNS."""
    problem: str = ""
    """Why it could not even be read."""


@frozen
class Rejected:
    """A row that was not taken, and why."""

    place: str
    username: str
    domain: str
    reason: str


@frozen
class Counts:
    """What has become of the rows so far."""

    read: int = 0
    added: int = 0
    replaced: int = 0
    rejected: int = 0


class Table(Protocol):
    """Where they are added: SubscriberTable, or MysqlTable."""

    def find(self, username: str, domain: str) -> Subscriber | None: ...

    def add_hashed(self, subscribers: Sequence[Subscriber], replace: bool = False) -> Bulk: ...


class Journal(Protocol):
    """What remembers how far it has come, see registrar.subscribers.import_journal."""

    counts: Counts
    is_resumed: bool

    def save(self, position: tuple[int, ...], counts: Counts, rejected: Sequence[Rejected]) -> None: ...


@frozen(kw_only=True)
class Reading:
    """What rows mean."""

    domains: Mapping[str, str]
    """Every domain and alias that is served, in lower case → the domain's own name; empty: any domain is taken."""
    default_domain: str
    """The domain of a row that says none."""
    hash_of_64_digits: str = "SHA-256"
    trust: Trust | None = None
    """Which is right when a row has both a password and hashes of another one; None: such a row is rejected."""

    def subscriber(self, row: Row) -> Subscriber:
        """Return who the row is. Raises InvalidSubscriber with the reason to reject it."""
        if row.problem:
            raise InvalidSubscriber(row.problem)
        username, domain = row.username, row.domain
        if not domain and "@" in username:
            username, _, domain = username.rpartition("@")
        username, said = checked_username(username), checked_domain(domain or self.default_domain)
        password = row.secrets.get("password", "")
        hashed = self._hashed(username, said, row.secrets)
        if not password and hashed is None:
            raise InvalidSubscriber("it has neither a password nor a hash")
        if password and (hashed is None or self.trust != "hashes"):
            return self._with_password(username, said, password, hashed)
        assert hashed is not None
        if self._own_name(said) != said:
            raise InvalidSubscriber(f"its hashes are for {said}, which is only another name of {self._own_name(said)}")
        return hashed

    def _with_password(self, username: str, said: str, password: str, hashed: Subscriber | None) -> Subscriber:
        if hashed is not None and self.trust is None and not _agree(hashed, subscriber_with(username, said, password)):
            raise InvalidSubscriber("its hashes are not those of its password; --trust says which is right")
        return subscriber_with(username, self._own_name(said), password)

    def _own_name(self, domain: str) -> str:
        if not self.domains:
            return domain
        if domain not in self.domains:
            raise InvalidSubscriber(f"{domain} is no domain of this registrar")
        return self.domains[domain]

    def _hashed(self, username: str, domain: str, secrets: Mapping[str, str]) -> Subscriber | None:
        """Return the subscriber with the hashes of the row, None when it has none."""
        forms: dict[str, dict[str, str]] = {"ha1": {}, "ha1b": {}}
        for column in HASH_COLUMNS:
            text = secrets.get(column)
            if text:
                algorithm = self._algorithm(column, text)
                forms["ha1b" if column == "ha1b" else "ha1"].setdefault(algorithm, text.lower())
        # ha1b alone would let in only those who send their username with the domain.
        return Subscriber(username, domain, forms["ha1"], forms["ha1b"]) if forms["ha1"] else None

    def _algorithm(self, column: str, text: str) -> str:
        algorithm = _ALGORITHM.get(column) or ("MD5" if len(text) == HEX_DIGITS["MD5"] else self.hash_of_64_digits)
        if len(text) != HEX_DIGITS[algorithm] or _HEX.fullmatch(text) is None:
            digits = HEX_DIGITS[algorithm] if column in _ALGORITHM else "32 or 64"
            raise InvalidSubscriber(f"{column} is no hash: that has {digits} hexadecimal digits")
        return algorithm


def import_rows(
    rows: Iterable[Row], reading: Reading, table: Table, journal: Journal, update: bool,
    told: Callable[[Row, Counts], None],
) -> Counts:
    """Add all rows and return what became of them. `update` replaces what is known of who is there already.

    After each batch the journal has what was done, and `told` gets the last row. Raises what table and journal raise;
    a later call with the rows behind the journal's position goes on.
    """
    counts, in_doubt = journal.counts, journal.is_resumed
    for batch in _batches(rows):
        counts = _add(batch, counts, reading, table, journal, update, in_doubt)
        in_doubt = False
        told(batch[-1], counts)
    return counts


def _add(
    batch: Sequence[Row], counts: Counts, reading: Reading, table: Table, journal: Journal, update: bool, in_doubt: bool
) -> Counts:
    wanted: list[Subscriber] = []
    places: dict[tuple[str, str], list[str]] = {}
    rejected: list[Rejected] = []
    for row in batch:
        try:
            subscriber = reading.subscriber(row)
        except InvalidSubscriber as error:
            rejected.append(Rejected(row.place, row.username, row.domain, str(error)))
            continue
        wanted.append(subscriber)
        places.setdefault((subscriber.username, subscriber.domain), []).append(row.place)
    bulk = table.add_hashed(wanted, replace=update) if wanted else Bulk(0, 0)
    existing = bulk.existing
    if in_doubt:
        # The run that was ended may have added these without living to say so.
        existing = _not_ours(existing, wanted, table)
    added = bulk.added + len(bulk.existing) - len(existing)
    # Of rows with the same name in one batch it is the later one that found the name taken.
    rejected += [Rejected(places[name].pop(), *name, "exists already") for name in existing]
    rejected += [Rejected(places[username, domain].pop(), username, domain, why)
                 for username, domain, why in bulk.refused]
    order = {row.place: number for number, row in enumerate(batch)}
    rejected.sort(key=lambda each: order[each.place])
    counts = Counts(counts.read + len(batch), counts.added + added, counts.replaced + bulk.replaced,
                    counts.rejected + len(rejected))
    journal.save(batch[-1].position, counts, rejected)
    return counts


def _not_ours(
    existing: Iterable[tuple[str, str]], wanted: Iterable[Subscriber], table: Table
) -> tuple[tuple[str, str], ...]:
    """Return those of `existing` whom the table knows with other hashes than were wanted, or who came twice."""
    first: dict[tuple[str, str], Subscriber] = {}
    for each in wanted:
        first.setdefault((each.username, each.domain), each)
    others = []
    for name in existing:
        mine, found = first.pop(name, None), table.find(*name)
        if mine is None or found is None or not _agree(found, mine):
            others.append(name)
    return tuple(others)


def _agree(one: Subscriber, other: Subscriber) -> bool:
    """Say whether both have hashes of the same password, as far as both have them by the same algorithm."""
    common = one.ha1.keys() & other.ha1.keys()
    return bool(common) and all(one.ha1[each] == other.ha1[each] for each in common)


def _batches(rows: Iterable[Row]) -> Iterator[Sequence[Row]]:
    all_rows = iter(rows)
    while batch := list(islice(all_rows, BATCH)):
        yield batch
