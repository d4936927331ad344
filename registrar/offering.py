"""Which digest algorithms a phone is offered: what it can read, and what is held of its password (RFC 8760 §§2.3, 3).

Most phones are offered one algorithm, because they read one challenge at most. Those that choose among several are
offered what their user's hashes allow, and so is everybody who tried an algorithm that there is no hash for.
"""

import hmac
from collections.abc import Collection, Sequence

EVERYBODY = "*"

Forms = tuple[Collection[str], Collection[str]]
"""The algorithms that there are hashes by: of the name alone, and of the name with the domain."""


class Offers:
    """Decides what stands in challenges.

    Of an unknown user the same is held, as it seems, as of some known ones, and always the same: what a challenge
    offers, and which proofs count as wrong, does not tell who exists.
    """

    def __init__(self, algorithms: Sequence[str], choosing_agents: Sequence[str], key: bytes) -> None:
        """`algorithms`, the best first; the User-Agent of phones that choose begins with one of `choosing_agents`.

        Wherever the `key` is the same an unknown user is taken for the same kind of user.
        """
        self._algorithms = tuple(algorithms)
        self._agents = tuple(agent.lower() for agent in choosing_agents)
        self._everybody_chooses = EVERYBODY in choosing_agents
        self._key = key
        # What known users have hashes by. There are few kinds: a table fills the same columns of nearly all rows.
        self._kinds: set[Forms] = set()

    @property
    def know_some(self) -> bool:
        """Whether it is known what at least one user has hashes by; each that `held_of` is asked about is noted."""
        return bool(self._kinds)

    def chooses(self, agent: str) -> bool:
        """Say whether there is something to choose from for a phone with this User-Agent, and it chooses."""
        return len(self._algorithms) > 1 and (self._everybody_chooses or agent.lower().startswith(self._agents))

    def held_of(self, name: str, forms: Forms | None, in_full: bool) -> Collection[str]:
        """Return the algorithms that the hashes of a user allow; `forms` is None of one who is unknown.

        `in_full`: with hashes of the name with the domain.
        """
        if forms is None:
            kind = self._pretended(name)
        else:
            kind = self._held(forms[0]), self._held(forms[1])
            if any(kind):  # else nobody gets in there, and nobody's guesses would count
                self._kinds.add(kind)
        return kind[in_full]

    def _held(self, hashes: Collection[str]) -> tuple[str, ...]:
        return tuple([algorithm for algorithm in self._algorithms if algorithm in hashes])

    def _pretended(self, name: str) -> Forms:
        """Return what an unknown user seems to have: of each name the same, and a new kind changes it for few names."""
        return max(self._kinds, default=(self._algorithms, self._algorithms), key=lambda kind: hmac.digest(
            self._key, f"{kind} {name}".encode("utf-8", "surrogateescape"), "sha256"))

    def to(self, agent: str, held: Collection[str] | None = None) -> tuple[str, ...]:
        """Return what a phone is offered; `held` is None when it is not known who uses it."""
        algorithms = self._algorithms
        if held is not None:
            # Nobody gets in without any hash, and hears what he would hear with one.
            algorithms = tuple([each for each in algorithms if each in held]) or algorithms
        return algorithms if self.chooses(agent) else algorithms[-1:]
