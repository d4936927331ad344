"""What came of a churn, and what it is judged by."""

from collections.abc import Mapping, Sequence

from attrs import field, frozen

MEMORY_GROWTH_ALLOWED = 0.1
"""Of the first registrar's memory, from the end of the second third to the end. What a call leaves behind goes with its
timer C, after three minutes; how many phones hang on it, and what each failover takes for a moment, makes the rest.
Five minutes show a great leak only: half an hour shows a small one."""


@frozen(kw_only=True)
class Churned:
    """All that may tell of a failure; each sequence in words."""

    registrars_killed: int
    masters_killed: int
    answers: Mapping[str, int]
    """How often which answer came, "REGISTER 200"."""
    moves: int
    """Connections that have ended, by whatever cause."""
    calls: int
    """That were placed while their caller was registered."""
    cut_off: int
    """Of these, those whose caller lost its connection before the answer."""
    failed: Sequence[str]
    """All other calls that have failed."""
    refused: Sequence[str]
    """REGISTERs that were answered neither 200 nor 401, and those that were not answered at all."""
    looks: int
    """How often all bindings were looked at while it went on."""
    lost: Sequence[str]
    """Bindings that were acknowledged and not found in two looks, one after the other."""
    differences: Sequence[str]
    """What Redis, or a registrar, had in the end beside what was acknowledged."""
    trouble: Sequence[str]
    """Lines of the registrars' logs."""
    memory: Sequence[int] = field(repr=False)
    """Of the registrar that lived all the time, in bytes."""

    def lines(self) -> list[str]:
        """Return the figures in sentences."""
        answers = ", ".join(f"{count} × {name}" for name, count in self.answers.items())
        return [
            f"{self.registrars_killed} registrars and {self.masters_killed} masters of Redis were killed",
            f"{self.moves} connections ended; answers: {answers}",
            f"{len(self.failed)} of {self.calls} calls failed; {self.cut_off} callers were cut off before the answer",
            f"{len(self.lost)} acknowledged bindings lost in {self.looks} looks, {len(self.differences)} differences "
            f"in the end; {len(self.refused)} REGISTERs refused",
            f"memory of the registrar that lived: {', '.join(f'{each / 2**20:.1f}' for each in self.memory)} MiB",
        ]


def verdict(churned: Churned) -> list[str]:
    """Return what went wrong, a sentence each; nothing when all was well."""
    found = [f"call failed: {each}" for each in churned.failed]
    found += [f"REGISTER refused: {each}" for each in churned.refused]
    found += [f"lost: {each}" for each in churned.lost]
    found += [f"different in the end: {each}" for each in churned.differences]
    found += [f"logged: {each}" for each in churned.trouble]
    if len(churned.memory) > 2:
        early, late = churned.memory[len(churned.memory) * 2 // 3], churned.memory[-1]
        if late > early * (1 + MEMORY_GROWTH_ALLOWED):
            found.append(f"memory grew from {early / 2**20:.1f} to {late / 2**20:.1f} MiB after the second third")
    if not churned.looks or not churned.calls:
        found.append("nothing was looked at, or nobody was called")
    if not churned.registrars_killed or not churned.masters_killed:
        found.append("no registrar, or no master of Redis, was killed: the run was too short")
    return found
