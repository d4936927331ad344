"""Looks for a message about which the scanner, its twin and the whole parser do not agree (`make fuzz`).

Every message can be made again: the seed is printed, and so is the message when there is a difference.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from random import Random

from rollcall.sip import plain_scanner
from tests.rollcall.sip.registers import a_register, mutated
from tests.rollcall.sip.scanner_oracle import compiled_scanner, differences
from tests.vectors import torture

MOST_MUTATIONS = 3


def messages(random: Random) -> Iterator[tuple[bytes, int]]:
    """Yield data without end, and where in it to begin."""
    others = [*torture.rfc4475().values(), *torture.messages().values()]
    while True:
        data = a_register(random) if random.random() < 0.95 else random.choice(others)
        if random.random() < 0.5:
            for _ in range(random.randint(1, MOST_MUTATIONS)):
                data = mutated(random, data)
        choice = random.random()
        if choice < 0.1:
            data += a_register(random)
        elif choice < 0.2:
            before = random.choice(others) if choice < 0.15 else a_register(random)
            yield before + data, len(before)
            continue
        yield data, 0


def search(seconds: float, seed: int) -> tuple[int, int, list[str]]:
    """Return how many messages were tried, how many of them were usual, and what the first difference is."""
    random = Random(seed)
    tried = usual = 0
    end = time.process_time() + seconds
    for data, start in messages(random):
        found = differences(data, start)
        tried += 1
        if found:
            return tried, usual, [f"seed {seed}, message {tried}, from {start}: {data!r}", *found]
        usual += plain_scanner.scan_register(data, start) is not None
        if time.process_time() >= end:
            break
    return tried, usual, []


def main() -> int:
    """Search for so many CPU seconds; return 1 when there is a difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="of CPU time")
    parser.add_argument("--seed", type=int, default=None)
    options = parser.parse_args()
    seed = time.time_ns() % 2**32 if options.seed is None else options.seed
    if compiled_scanner is None:
        print("The compiled scanner is not there: only its twin is compared with the parser.")
    tried, usual, found = search(options.seconds, seed)
    print(f"seed {seed}: {tried} messages, {usual} of them usual")
    print("\n".join(found) if found else "no difference")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
