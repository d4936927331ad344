"""Which digest algorithms a phone is offered: what it can read, and what is held of its password (RFC 8760 §§2.3, 3).

Most phones are offered one algorithm, because they read one challenge at most. Those that choose among several are
offered what their user's hashes allow, and so is everybody who tried an algorithm that there is no hash for.
"""

from collections.abc import Collection, Sequence

EVERYBODY = "*"


class Offers:
    """Decides what stands in challenges.

    Whoever names an unknown user is offered what the known user before him was offered: the challenge does not tell
    who exists.
    """

    def __init__(self, algorithms: Sequence[str], choosing_agents: Sequence[str]) -> None:
        """`algorithms`, the best first; the User-Agent of phones that choose begins with one of `choosing_agents`."""
        self._algorithms = tuple(algorithms)
        self._agents = tuple(agent.lower() for agent in choosing_agents)
        self._everybody_chooses = EVERYBODY in choosing_agents
        self._latest: Collection[str] = self._algorithms

    def chooses(self, agent: str) -> bool:
        """Say whether there is something to choose from for a phone with this User-Agent, and it chooses."""
        return len(self._algorithms) > 1 and (self._everybody_chooses or agent.lower().startswith(self._agents))

    def held_of(self, hashes: Collection[str] | None) -> Collection[str]:
        """Return the algorithms that a user's hashes allow; None for the hashes of an unknown user."""
        if hashes is not None:
            self._latest = tuple([algorithm for algorithm in self._algorithms if algorithm in hashes])
        return self._latest

    def to(self, agent: str, held: Collection[str] | None = None) -> tuple[str, ...]:
        """Return what a phone is offered; `held` is None when it is not known who uses it."""
        algorithms = self._algorithms
        if held is not None:
            # Nobody gets in without any hash, and hears what he would hear with one.
            algorithms = tuple([each for each in algorithms if each in held]) or algorithms
        return algorithms if self.chooses(agent) else algorithms[-1:]
