"""What trials came to: how many were made, how many survived, and what the others said."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Tally:
    """Trials of one kind: `what` was done to what; `facts` are counts worth telling beside."""

    what: str
    tried: int = 0
    faults: list[str] = field(default_factory=list)
    facts: dict[str, int] = field(default_factory=dict)

    @property
    def survived(self) -> int:
        """Trials without a fault."""
        return self.tried - len(self.faults)

    def add(self, fault: str = "", **facts: int) -> None:
        """Counts one trial; `fault` says what went wrong, "" that nothing did."""
        self.tried += 1
        if fault:
            self.faults.append(fault)
        for name, count in facts.items():
            self.facts[name] = self.facts.get(name, 0) + count

    def require_all(self, least: int) -> None:
        """Fails a test unless so many trials at least were made and all survived."""
        assert not self.faults, f"{self.what}: {len(self.faults)} of {self.tried}, first: {self.faults[0]}"
        assert self.tried >= least, f"{self.what}: only {self.tried} trials"


def format_table(tallies: Sequence[Tally]) -> str:
    """A Markdown table of the trials."""
    lines = ["| what is done | survived | beside it |", "|---|---:|---|"]
    for tally in tallies:
        facts = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in tally.facts.items())
        lines.append(f"| {tally.what} | {tally.survived:,} of {tally.tried:,} | {facts} |")
    return "\n".join(lines)
